// Copies the old side into the new one through a mapper: a plain loop over id ranges whose writes carry the
// version they read. It may run beside live writes, be stopped, be started again from anywhere or run twice:
// a row that a live write has brought further is left alone (modern_store.h).
//
// It may start only when no service writes the old side alone any more; else such a write could be missed for
// good. After a mapping bug has been fixed and every service runs the fixed mapper, the same loop with that
// mapper rewrites what the old mapper wrote.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/examples/cities/legacy_store.h"
#include "client/examples/cities/mapper.h"
#include "client/examples/cities/modern_store.h"
#include "core/base/clock.h"

namespace lockstep::examples {

struct BackfillProgress {
  int64_t rows_read = 0;  // tombstones included
  int64_t rows_applied = 0;
  int64_t rows_newer = 0;                   // the new side was as new already, or newer
  int64_t rows_refused = 0;                 // the mapper could not map them; nothing was written
  int64_t last_id = 0;                      // every row up to this id is done; where to go on
  bool stopped = false;                     // by the stop flag
  std::vector<std::string> first_refusals;  // at most 5 messages of the mapper
};

struct BackfillOptions {
  MapperVersion mapper = MapperVersion::kCorrect;
  // Ids to copy, both included.
  int64_t first_id = 1;
  int64_t last_id = std::numeric_limits<int64_t>::max();
  int batch_rows = 500;        // rows in one transaction of the new side; at least 1
  double rows_per_second = 0;  // upper bound on the average rate; 0 means none
  // Read between batches and while waiting for the rate; may be null.
  const std::atomic<bool>* stop = nullptr;
  // Called after every batch, on the calling thread; may be empty.
  std::function<void(const BackfillProgress&)> on_progress;
  // Time for the rate, not owned, and how to let it pass.
  const Clock* clock = SystemClock::Get();
  std::function<void(absl::Duration)> sleep = absl::SleepFor;
};

// Blocks until done, stopped or failed. On an error of a store, batches before it stay applied; go on from
// the `last_id` of the latest progress.
absl::StatusOr<BackfillProgress> Backfill(LegacyStore& legacy, ModernStore& modern,
                                          const BackfillOptions& options);

}  // namespace lockstep::examples
