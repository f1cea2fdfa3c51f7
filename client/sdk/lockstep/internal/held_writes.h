// Writes that wait for the authority over their bucket to move: parked without a thread, and resumed when a
// new snapshot is in force or their deadline has come.
//
// Thread-safe. Nothing is called with a lock held.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "lockstep/executor.h"

namespace lockstep::internal {

struct HeldWriteStats {
  uint64_t waiting = 0;
  uint64_t resumed = 0;                           // by a snapshot
  uint64_t expired = 0;                           // by their deadline, Expire or Close
  absl::Duration longest = absl::ZeroDuration();  // of those that have ended
};

class HeldWrites : public std::enable_shared_from_this<HeldWrites> {
 public:
  // `executor` and `clock` must outlive it.
  HeldWrites(Executor* executor, const Clock* clock);

  // Calls `resume(expired)` exactly once: on the executor, or within ResumeAll, Expire or Close, and never
  // within this call. `epoch` is the one that holds the write and `current_epoch` says which one is in force,
  // so that a snapshot that came in between isn't missed. `resume` only passes the word on: it doesn't do the
  // write itself.
  // Returns an id for Expire, never 0.
  uint64_t Park(uint64_t epoch, const std::function<uint64_t()>& current_epoch, absl::Time deadline,
                std::function<void(bool expired)> resume);
  // Ends the wait of one, if it still waits, within this call.
  void Expire(uint64_t id) { Finish(id, /*expired=*/true); }
  // A new snapshot is in force: all of them look again.
  void ResumeAll();
  // From now on everything expires at once.
  void Close();
  HeldWriteStats Stats() const;

 private:
  struct Parked {
    absl::Duration since;  // since boot
    std::function<void(bool)> resume;
  };

  // On the executor after `delay`, unless it has been resumed by then.
  void FinishLater(uint64_t id, absl::Duration delay, bool expired);
  void Finish(uint64_t id, bool expired);
  void FinishAll(bool close);
  void CountEndLocked(const Parked& parked, bool expired) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Executor* const executor_;
  const Clock* const clock_;
  mutable Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Parked> parked_ ABSL_GUARDED_BY(mutex_);
  HeldWriteStats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::internal
