#include "client/examples/cities/mapper.h"

#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

// v1's idea of a tidy code: GeoNames numbers the divisions of most countries, so a code of digits is a
// number.
std::string NumericCode(const std::string& code) {
  for (const char c : code) {
    if (!absl::ascii_isdigit(c)) return code;
  }
  uint64_t number = 0;
  if (!absl::SimpleAtoi(code, &number)) return code;
  return absl::StrCat(number);
}

}  // namespace

absl::StatusOr<CanonicalCity> MapCity(MapperVersion version, const City& city) {
  LOCKSTEP_ASSIGN_OR_RETURN(CanonicalCity mapped, Canonicalize(city));
  switch (version) {
    case MapperVersion::kLosesLeadingZeros:
      mapped.admin1 = NumericCode(mapped.admin1);
      mapped.admin2 = NumericCode(mapped.admin2);
      break;
    case MapperVersion::kCorrect:
      break;
  }
  return mapped;
}

std::optional<MapperVersion> ParseMapperVersion(absl::string_view text) {
  for (const MapperVersion version : {MapperVersion::kLosesLeadingZeros, MapperVersion::kCorrect}) {
    if (text == MapperVersionName(version)) return version;
  }
  return std::nullopt;
}

absl::string_view MapperVersionName(MapperVersion version) {
  switch (version) {
    case MapperVersion::kLosesLeadingZeros:
      return "v1";
    case MapperVersion::kCorrect:
      return "v2";
  }
  return "";
}

}  // namespace lockstep::examples
