// The rule every mirror write follows: apply only what is newer.
//
// Mirror writes may arrive late, twice, and in any order, from any instance. They are harmless exactly when
// each store compares the version it holds for the record with the one that comes in, in the same atomic step
// as the write, and keeps the newer. A delete is a write too: it leaves a tombstone that keeps its version,
// so that a late write of an older row can't bring the record back. Tombstones may go only when the migration
// is COMPLETE.
//
// Versions are minted by the authoritative side: they must rise with every write of one record (a column
// incremented in the same transaction, a commit sequence number, a hybrid logical clock); they need not be
// dense, nor comparable between records. A wall clock is not good enough.
//
// In SQL, one statement for rows and tombstones alike (`deleted` is 1 for a tombstone, whose other columns
// are null):
//
//   INSERT INTO orders_new (id, customer, total_cents, deleted, version) VALUES (?1, ?2, ?3, ?4, ?5)
//   ON CONFLICT (id) DO UPDATE SET
//     customer = excluded.customer, total_cents = excluded.total_cents,
//     deleted = excluded.deleted, version = excluded.version
//   WHERE excluded.version > orders_new.version;
//
// No row changed means that the store had the same or a newer state: that is success, not an error.
#pragma once

#include <cstdint>
#include <optional>

namespace lockstep {

using Version = int64_t;

// Whether a mirror write with `incoming` must be applied over what the store holds (none: no row and no
// tombstone). An equal version is a repeat and is not applied.
constexpr bool ShouldApply(std::optional<Version> current, Version incoming) {
  return !current.has_value() || incoming > *current;
}

enum class ApplyResult { kApplied, kOlderIgnored };

// For stores whose callbacks can hold a record exclusively (a lock, a transaction, a compare-and-swap loop):
// calls `apply()` when `incoming` is newer than `current`. The exclusion must cover reading `current` and
// `apply`.
//
//   absl::MutexLock lock(&row.mutex);
//   return ApplyIfNewer(row.version, version, [&] { row.value = value; row.version = version; });
template <typename Apply>
ApplyResult ApplyIfNewer(std::optional<Version> current, Version incoming, Apply&& apply) {
  if (!ShouldApply(current, incoming)) return ApplyResult::kOlderIgnored;
  apply();
  return ApplyResult::kApplied;
}

}  // namespace lockstep
