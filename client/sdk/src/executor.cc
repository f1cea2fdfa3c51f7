#include "lockstep/executor.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"

namespace lockstep {

ThreadPoolExecutor::ThreadPoolExecutor(int threads) {
  LOCKSTEP_CHECK(threads > 0, "a pool needs at least one thread");
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

ThreadPoolExecutor::~ThreadPoolExecutor() { Stop(); }

void ThreadPoolExecutor::Submit(absl::Duration delay, Task task) {
  {
    MutexLock lock(&mutex_);
    if (!stopped_) {
      queue_.emplace(SystemClock::Get()->SinceBoot() + std::max(delay, absl::ZeroDuration()),
                     std::move(task));
      wake_.Signal();
      return;
    }
  }
  // Refused: `task` is destroyed on return, outside the lock, because its destructor may call out.
}

void ThreadPoolExecutor::Stop() {
  std::multimap<absl::Duration, Task> dropped;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    dropped.swap(queue_);
    wake_.SignalAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void ThreadPoolExecutor::Run() {
  mutex_.Lock();
  while (!stopped_) {
    if (queue_.empty()) {
      wake_.Wait(&mutex_);
      continue;
    }
    const absl::Duration wait = queue_.begin()->first - SystemClock::Get()->SinceBoot();
    if (wait > absl::ZeroDuration()) {
      wake_.WaitFor(&mutex_, absl::ToChronoNanoseconds(wait));
      continue;
    }
    Task task = std::move(queue_.begin()->second);
    queue_.erase(queue_.begin());
    mutex_.Unlock();
    task();
    task = nullptr;
    mutex_.Lock();
  }
  mutex_.Unlock();
}

}  // namespace lockstep
