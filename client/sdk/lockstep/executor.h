// Where the SDK runs what must not hold up a request: shadow reads, settling, repairs, asynchronous calls.
//
// The default is a small thread pool. A service with an executor of its own wraps it in this interface.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"

namespace lockstep {

// Thread-safe.
class Executor {
 public:
  // Called at most once. Move-only; for a pool that copies its tasks put it into a shared_ptr.
  using Task = absl::AnyInvocable<void()>;
  virtual ~Executor() = default;
  // Runs `task` after about `delay` (>= 0). Never runs it within the call. Unbounded: callers bound what they
  // submit. A task that will never run (the executor has stopped) is destroyed, which releases what it holds.
  virtual void Submit(absl::Duration delay, Task task) = 0;
};

// A fixed number of threads over one queue ordered by time.
class ThreadPoolExecutor final : public Executor {
 public:
  explicit ThreadPoolExecutor(int threads);
  // As Stop.
  ~ThreadPoolExecutor() override;
  void Submit(absl::Duration delay, Task task) override;
  // Waits for running tasks, destroys the queued ones, refuses new ones. Idempotent. Not from a task of its
  // own.
  void Stop();

 private:
  void Run();

  Mutex mutex_;
  CondVar wake_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  // By due time since boot; equal times in order of submission.
  std::multimap<absl::Duration, Task> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace lockstep
