// What a run must have achieved: both databases hold the expected data (after NEW_ONLY: the new one does),
// and nothing that was acknowledged is lost.
//
// The databases are read in pages, so nobody may write meanwhile. Errors are those of the stores; differences
// are not errors but part of the reports.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/examples/cities/ack_log.h"
#include "client/examples/cities/city.h"
#include "client/examples/cities/legacy_store.h"
#include "client/examples/cities/modern_store.h"

namespace lockstep::examples {

// Reports list at most this many differences.
inline constexpr size_t kMaxDifferences = 10;

struct DatasetReport {
  int64_t rows_expected = 0;
  int64_t rows_equal = 0;
  int64_t rows_different = 0;   // there, but not as expected
  int64_t rows_missing = 0;     // expected, but not there or deleted
  int64_t rows_unexpected = 0;  // there, but not expected
  // "city 17: admin1 is \"6\", want \"06\"", by ascending id.
  std::vector<std::string> first_differences;

  bool Clean() const { return rows_equal == rows_expected && rows_unexpected == 0; }
};

// Compares row by row, in both directions, in the canonical form. `expected` is by ascending id, in which no
// id repeats; INVALID_ARGUMENT when one of its rows has no canonical form.
absl::StatusOr<DatasetReport> VerifyModern(ModernStore& store, absl::Span<const City> expected);
// The same for the old side; a stored row without a canonical form is a difference.
absl::StatusOr<DatasetReport> VerifyLegacy(LegacyStore& store, absl::Span<const City> expected);

// Where acknowledged writes must be: from NEW_ONLY on the old side no longer gets them.
enum class WrittenTo { kBoth, kNew };

struct AckReport {
  int64_t acked_writes = 0;  // distinct (id, version)
  // Acknowledged, but not there: the row is missing, older, or at the same version but deleted where it
  // should not be, or the other way round.
  int64_t lost_writes = 0;
  std::vector<std::string> first_lost;  // by ascending id and version
};

// `acks` in any order, of all services. DATA_LOSS when two acknowledgements contradict each other: one
// version of a row given to a put and to a delete. (Two rows may have the same version: either side mints its
// own.)
absl::StatusOr<AckReport> VerifyAcks(std::vector<Ack> acks, LegacyStore& legacy, ModernStore& modern,
                                     WrittenTo written_to = WrittenTo::kBoth);

}  // namespace lockstep::examples
