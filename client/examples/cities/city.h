// The records of the cities example and the one form in which its two sides are compared.
//
// The old side keeps a row as the source has it: flat, coordinates as text. The new side keeps it normalised.
// Neither can be compared with the other byte by byte, so both are brought to the canonical form first:
//   * name: Unicode NFC, otherwise unchanged;
//   * latitude and longitude: IEEE doubles, the nearest to the decimal text ("47" and "47.0" are equal);
//   * country and admin codes: text, exactly as in the source ("06" is not "6", "" means none).
// Two rows are the same city exactly when their canonical forms are equal, without any tolerance: both sides
// read the same decimal text, and SQLite stores doubles unchanged.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep::examples {

// A row of the source and of the old side. `id` is a surrogate key (dataset.h), always positive.
struct City {
  int64_t id = 0;
  std::string name;
  std::string lat;  // decimal degrees, [-90, 90]
  std::string lng;  // decimal degrees, [-180, 180]
  std::string country;
  std::string admin1;
  std::string admin2;

  // Equal text in every field; see CanonicalCity for equal meaning.
  bool operator==(const City&) const = default;
};

// The canonical form; also a row of the new side with its region joined in.
struct CanonicalCity {
  int64_t id = 0;
  std::string name;
  double lat = 0;
  double lng = 0;
  std::string country;
  std::string admin1;
  std::string admin2;

  bool operator==(const CanonicalCity&) const = default;
};

// What a version-guarded write of either side has done: an older state than the stored one changes nothing.
enum class ApplyResult { kApplied, kOlderIgnored };

// INVALID_ARGUMENT, naming the city's id, the field and its text, when the name is not UTF-8 or a coordinate
// is not a number in its range.
absl::StatusOr<CanonicalCity> Canonicalize(const City& city);

// The way back: coordinates as the shortest decimal text that reads as the same double.
// Canonicalize(ToLegacy(c)) equals c for every valid c.
City ToLegacy(const CanonicalCity& city);

// INVALID_ARGUMENT when `text` is not UTF-8.
absl::StatusOr<std::string> ToNfc(absl::string_view text);

// The names of the fields in which the two differ, in declaration order; empty when they are equal.
std::vector<std::string> DifferingFields(const CanonicalCity& a, const CanonicalCity& b);

}  // namespace lockstep::examples
