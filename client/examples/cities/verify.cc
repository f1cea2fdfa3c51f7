#include "client/examples/cities/verify.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

constexpr int kPageRows = 2000;

void AddLine(std::vector<std::string>* lines, std::string line) {
  if (lines->size() < kMaxDifferences) lines->push_back(std::move(line));
}

std::string FieldText(const CanonicalCity& city, absl::string_view field) {
  const City text = ToLegacy(city);
  if (field == "name") return JsonQuote(text.name);
  if (field == "lat") return text.lat;
  if (field == "lng") return text.lng;
  if (field == "country") return JsonQuote(text.country);
  if (field == "admin1") return JsonQuote(text.admin1);
  if (field == "admin2") return JsonQuote(text.admin2);
  return absl::StrCat(city.id);
}

// Merges the expected rows with the stored ones; both come by ascending id.
class Comparison {
 public:
  explicit Comparison(absl::Span<const City> expected) : expected_(expected) {
    report_.rows_expected = static_cast<int64_t>(expected.size());
  }

  // One stored row; not OK means that it has no canonical form.
  absl::Status Add(int64_t id, const absl::StatusOr<CanonicalCity>& stored) {
    PassMissing(id);
    if (next_ == expected_.size() || expected_[next_].id != id) {
      ++report_.rows_unexpected;
      AddLine(&report_.first_differences, absl::StrCat("city ", id, ": is there, want none"));
      return absl::OkStatus();
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const CanonicalCity want, Canonicalize(expected_[next_++]));
    if (!stored.ok()) {
      ++report_.rows_different;
      AddLine(&report_.first_differences, std::string(stored.status().message()));
      return absl::OkStatus();
    }
    const std::vector<std::string> fields = DifferingFields(*stored, want);
    if (fields.empty()) {
      ++report_.rows_equal;
      return absl::OkStatus();
    }
    ++report_.rows_different;
    std::string line = absl::StrCat("city ", id, ":");
    for (const std::string& field : fields) {
      absl::StrAppend(&line, line.back() == ':' ? " " : ", ", field, " is ", FieldText(*stored, field),
                      ", want ", FieldText(want, field));
    }
    AddLine(&report_.first_differences, std::move(line));
    return absl::OkStatus();
  }

  DatasetReport Finish() {
    PassMissing(std::numeric_limits<int64_t>::max());
    return std::move(report_);
  }

 private:
  // Expected rows below `id` were not stored.
  void PassMissing(int64_t id) {
    for (; next_ < expected_.size() && expected_[next_].id < id; ++next_) {
      ++report_.rows_missing;
      AddLine(&report_.first_differences, absl::StrCat("city ", expected_[next_].id, ": is missing"));
    }
  }

  const absl::Span<const City> expected_;
  size_t next_ = 0;
  DatasetReport report_;
};

// Version and life of a stored row.
struct RowState {
  int64_t version = 0;
  bool deleted = false;
};

bool Holds(const std::optional<RowState>& row, const Ack& ack) {
  if (!row.has_value() || row->version < ack.version) return false;
  return row->version > ack.version || row->deleted == ack.deleted;
}

std::string Describe(const std::optional<RowState>& row) {
  if (!row.has_value()) return "no row";
  return absl::StrCat("version ", row->version, row->deleted ? " deleted" : "");
}

// `acks` by ascending id and version, no two equal.
absl::Status CheckConsistent(const std::vector<Ack>& acks) {
  const auto contradiction = std::adjacent_find(acks.begin(), acks.end(), [](const Ack& a, const Ack& b) {
    return a.id == b.id && a.version == b.version;
  });
  if (contradiction == acks.end()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("city ", contradiction->id, ": version ", contradiction->version,
                                          " was acknowledged as put and as delete"));
}

}  // namespace

absl::StatusOr<DatasetReport> VerifyModern(ModernStore& store, absl::Span<const City> expected) {
  Comparison comparison(expected);
  int64_t last_id = 0;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<ModernRow> rows, store.Scan(last_id, kPageRows));
    if (rows.empty()) return comparison.Finish();
    for (const ModernRow& row : rows) {
      if (row.city.has_value()) LOCKSTEP_RETURN_IF_ERROR(comparison.Add(row.id, *row.city));
    }
    last_id = rows.back().id;
  }
}

absl::StatusOr<DatasetReport> VerifyLegacy(LegacyStore& store, absl::Span<const City> expected) {
  Comparison comparison(expected);
  int64_t last_id = 0;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<LegacyRow> rows,
                              store.Scan(last_id, std::numeric_limits<int64_t>::max(), kPageRows));
    if (rows.empty()) return comparison.Finish();
    for (const LegacyRow& row : rows) {
      if (row.city.has_value()) LOCKSTEP_RETURN_IF_ERROR(comparison.Add(row.id, Canonicalize(*row.city)));
    }
    last_id = rows.back().id;
  }
}

absl::StatusOr<AckReport> VerifyAcks(std::vector<Ack> acks, LegacyStore& legacy, ModernStore& modern,
                                     WrittenTo written_to) {
  std::sort(acks.begin(), acks.end(), [](const Ack& a, const Ack& b) {
    return std::tie(a.id, a.version, a.deleted) < std::tie(b.id, b.version, b.deleted);
  });
  // A service that crashed between its log and its user acknowledges again after the retry.
  acks.erase(std::unique(acks.begin(), acks.end()), acks.end());
  LOCKSTEP_RETURN_IF_ERROR(CheckConsistent(acks));
  AckReport report{.acked_writes = static_cast<int64_t>(acks.size())};
  int64_t read_id = 0;
  std::optional<RowState> in_legacy;
  std::optional<RowState> in_modern;
  for (const Ack& ack : acks) {
    if (ack.id != read_id) {
      read_id = ack.id;
      LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<LegacyRow> old_row, legacy.Read(ack.id));
      LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<ModernRow> new_row, modern.Read(ack.id));
      in_legacy.reset();
      in_modern.reset();
      if (old_row.has_value()) in_legacy = RowState{old_row->version, !old_row->city.has_value()};
      if (new_row.has_value()) in_modern = RowState{new_row->stamp.version, !new_row->city.has_value()};
    }
    const bool in_old = written_to == WrittenTo::kNew || Holds(in_legacy, ack);
    if (in_old && Holds(in_modern, ack)) continue;
    ++report.lost_writes;
    AddLine(&report.first_lost,
            absl::StrCat("city ", ack.id, ": acknowledged ", ack.deleted ? "delete" : "put", " at version ",
                         ack.version, "; old side has ", Describe(in_legacy), ", new side has ",
                         Describe(in_modern)));
  }
  return report;
}

}  // namespace lockstep::examples
