// Mirror writes that failed and must still reach the other side.
//
// Bounded and in memory: it lives as long as the process, and Client::Shutdown reports what is left. Repairs
// run one at a time on the client's executor, each with its own back-off, so that one row the mirror refuses
// does not hold up the others and a sick side is not flooded.
//
// While a repair is outstanding, the epoch it was queued under is held: the client doesn't acknowledge a
// later one. What was queued and what was done is counted, each repair once however often it is tried; one
// that is dropped, here or with the process, stays counted as outstanding, because its record is still wrong.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/base/prng.h"
#include "lockstep/executor.h"
#include "lockstep/telemetry.h"

namespace lockstep::internal {

enum class RepairOutcome : uint8_t {
  kDone,
  kObsolete,  // the migration no longer mirrors to that side: nothing to repair; counts as done
  kRetry,
};

struct Repair {
  Attribution attribution;  // of the write that the mirror missed
  absl::Duration backoff_initial;
  absl::Duration backoff_max;
  // One attempt; may block up to its own deadline.
  std::function<RepairOutcome()> attempt;
};

class RepairQueue : public std::enable_shared_from_this<RepairQueue> {
 public:
  // `executor`, `clock` and `telemetry` must outlive the queue's tasks.
  RepairQueue(size_t capacity, Executor* executor, const Clock* clock, TelemetryRecorder* telemetry,
              uint64_t seed);

  // False, and nothing is kept, when the queue is full or closed.
  bool Add(Repair repair);
  size_t outstanding() const;
  // Oldest epoch held by a repair of the migration.
  std::optional<uint64_t> OldestEpoch(uint32_t migration_index) const;
  // Repairs that found no place.
  uint64_t refused() const;
  // Makes every waiting repair due now; used when draining.
  void Hasten();
  // Drops what waits and refuses more; one under way ends by itself. Returns how many were dropped.
  size_t Close();

 private:
  struct Item {
    Repair repair;
    int attempts = 0;
  };

  void ScheduleLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const Repair& repair) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunDue();

  const size_t capacity_;
  Executor* const executor_;
  const Clock* const clock_;
  TelemetryRecorder* const telemetry_;
  mutable Mutex mutex_;
  Prng prng_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  size_t outstanding_ ABSL_GUARDED_BY(mutex_) = 0;  // waiting and running
  uint64_t refused_ ABSL_GUARDED_BY(mutex_) = 0;
  // When the earliest scheduled wake-up is due; later ones find nothing and end.
  std::optional<absl::Duration> wake_at_ ABSL_GUARDED_BY(mutex_);
  std::multimap<absl::Duration, Item> waiting_ ABSL_GUARDED_BY(mutex_);  // by due time since boot
  std::map<uint32_t, std::map<uint64_t, size_t>> held_
      ABSL_GUARDED_BY(mutex_);  // migration -> epoch -> repairs
};

}  // namespace lockstep::internal
