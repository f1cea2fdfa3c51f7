// How a row of the old side becomes a row of the new one. Two releases of the same mapping, as a real
// deployment has them; a service runs one of them, chosen by a flag.
//
// Pure and thread-safe.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/examples/cities/city.h"

namespace lockstep::examples {

// The value is stored with each row of the new side, so that a later release may rewrite what an earlier one
// wrote (modern_store.h). Released values are never reused.
enum class MapperVersion {
  // "v1". Takes admin codes that look like numbers for numbers: "06" becomes "6", "007" becomes "7".
  kLosesLeadingZeros = 1,
  // "v2". Keeps admin codes as the text they are.
  kCorrect = 2,
};

// INVALID_ARGUMENT as of Canonicalize.
absl::StatusOr<CanonicalCity> MapCity(MapperVersion version, const City& city);

// "v1" and "v2"; nothing else parses.
std::optional<MapperVersion> ParseMapperVersion(absl::string_view text);
absl::string_view MapperVersionName(MapperVersion version);

}  // namespace lockstep::examples
