#include "client/examples/cities/city.h"

#include <utf8proc.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

// `bound` is the largest allowed magnitude, in degrees.
absl::StatusOr<double> ParseCoordinate(int64_t id, absl::string_view field, absl::string_view text,
                                       double bound) {
  double degrees = 0;
  const char* const end = text.data() + text.size();
  const auto [parsed_to, error] = std::from_chars(text.data(), end, degrees);
  // The negated comparison also refuses NaN, which from_chars accepts.
  if (error != std::errc() || parsed_to != end || !(degrees >= -bound && degrees <= bound)) {
    return absl::InvalidArgumentError(absl::StrCat("city ", id, ": ", field, " is ", JsonQuote(text),
                                                   ", want decimal degrees in [-", bound, ", ", bound, "]"));
  }
  return degrees;
}

std::string ShortestDecimal(double value) {
  std::array<char, 32> buffer;
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  if (error == std::errc()) return std::string(buffer.data(), end);
  // Too small for fixed notation in 32 characters, as 1e-40 is; the general form always fits.
  const auto general = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  LOCKSTEP_CHECK(general.ec == std::errc(), "a double has at most 24 characters");
  return std::string(buffer.data(), general.ptr);
}

}  // namespace

absl::StatusOr<std::string> ToNfc(absl::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t length = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
      &composed, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  if (length < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(JsonQuote(text), " has no NFC form: ", utf8proc_errmsg(length)));
  }
  return std::string(reinterpret_cast<const char*>(composed), static_cast<size_t>(length));
}

absl::StatusOr<CanonicalCity> Canonicalize(const City& city) {
  CanonicalCity out{.id = city.id, .country = city.country, .admin1 = city.admin1, .admin2 = city.admin2};
  auto name = ToNfc(city.name);
  if (!name.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("city ", city.id, ": name ", name.status().message()));
  }
  out.name = *std::move(name);
  LOCKSTEP_ASSIGN_OR_RETURN(out.lat, ParseCoordinate(city.id, "lat", city.lat, 90));
  LOCKSTEP_ASSIGN_OR_RETURN(out.lng, ParseCoordinate(city.id, "lng", city.lng, 180));
  return out;
}

City ToLegacy(const CanonicalCity& city) {
  return City{.id = city.id,
              .name = city.name,
              .lat = ShortestDecimal(city.lat),
              .lng = ShortestDecimal(city.lng),
              .country = city.country,
              .admin1 = city.admin1,
              .admin2 = city.admin2};
}

std::vector<std::string> DifferingFields(const CanonicalCity& a, const CanonicalCity& b) {
  std::vector<std::string> fields;
  const auto note = [&fields](bool equal, const char* field) {
    if (!equal) fields.emplace_back(field);
  };
  note(a.id == b.id, "id");
  note(a.name == b.name, "name");
  note(a.lat == b.lat, "lat");
  note(a.lng == b.lng, "lng");
  note(a.country == b.country, "country");
  note(a.admin1 == b.admin1, "admin1");
  note(a.admin2 == b.admin2, "admin2");
  return fields;
}

}  // namespace lockstep::examples
