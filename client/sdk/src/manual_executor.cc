#include "lockstep/manual_executor.h"

#include <algorithm>
#include <utility>

namespace lockstep {

void ManualExecutor::Submit(absl::Duration delay, Task task) {
  const absl::Duration due = clock_->SinceBoot() + std::max(delay, absl::ZeroDuration());
  MutexLock lock(&mutex_);
  queue_.emplace(due, std::move(task));
}

int ManualExecutor::RunDue() {
  int ran = 0;
  while (true) {
    Task task;
    {
      MutexLock lock(&mutex_);
      if (queue_.empty() || queue_.begin()->first > clock_->SinceBoot()) return ran;
      task = std::move(queue_.begin()->second);
      queue_.erase(queue_.begin());
    }
    task();
    ++ran;
  }
}

int ManualExecutor::RunAll(int max_tasks) {
  int ran = 0;
  while (ran < max_tasks) {
    absl::Duration wait;
    {
      MutexLock lock(&mutex_);
      if (queue_.empty()) return ran;
      wait = queue_.begin()->first - clock_->SinceBoot();
    }
    if (wait > absl::ZeroDuration()) clock_->Advance(wait);
    ran += RunDue();
  }
  return ran;
}

size_t ManualExecutor::waiting() const {
  MutexLock lock(&mutex_);
  return queue_.size();
}

void ManualExecutor::DropAll() {
  std::multimap<absl::Duration, Task> dropped;  // destroyed outside the lock
  MutexLock lock(&mutex_);
  dropped.swap(queue_);
}

}  // namespace lockstep
