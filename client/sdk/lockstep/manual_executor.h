// An executor that runs nothing by itself: tests decide when, on a FakeClock. Part of
// lockstep_client_testing.
//
//   FakeClock clock(absl::FromUnixSeconds(1000));
//   ManualExecutor executor(&clock);
//   ...
//   executor.RunAll();   // moves the clock from task to task until none is left
//
// Thread-safe.
#pragma once

#include <map>

#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "lockstep/executor.h"

namespace lockstep {

class ManualExecutor final : public Executor {
 public:
  // `clock` is not owned.
  explicit ManualExecutor(FakeClock* clock) : clock_(clock) {}

  void Submit(absl::Duration delay, Task task) override;
  // Runs what is due now, including what that submits without delay. Returns how many tasks ran.
  int RunDue();
  // Runs everything, moving the clock forward to each task, but at most `max_tasks`.
  int RunAll(int max_tasks = 10000);
  size_t waiting() const;
  void DropAll();

 private:
  FakeClock* const clock_;
  mutable Mutex mutex_;
  std::multimap<absl::Duration, Task> queue_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep
