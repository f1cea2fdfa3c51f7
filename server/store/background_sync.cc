#include "server/store/background_sync.h"

#include <utility>

#include "core/base/check.h"

namespace lockstep::store {

BackgroundSync::BackgroundSync(std::function<absl::Status()> sync)
    : sync_(std::move(sync)), thread_([this] { Loop(); }) {}

BackgroundSync::~BackgroundSync() {
  {
    MutexLock lock(&mutex_);
    closing_ = true;
    started_.Signal();
  }
  thread_.join();
}

void BackgroundSync::Start() {
  {
    MutexLock lock(&mutex_);
    LOCKSTEP_CHECK(!pending_, "a sync is started when the one before is done");
    pending_ = true;
  }
  // Not under the lock, which the woken thread takes first.
  started_.Signal();
}

absl::Status BackgroundSync::Wait() {
  MutexLock lock(&mutex_);
  while (pending_) done_.Wait(&mutex_);
  return result_;
}

void BackgroundSync::Loop() {
  mutex_.Lock();
  for (;;) {
    while (!pending_ && !closing_) started_.Wait(&mutex_);
    if (!pending_) break;
    mutex_.Unlock();
    absl::Status result = sync_();
    mutex_.Lock();
    result_ = std::move(result);
    pending_ = false;
    done_.SignalAll();
  }
  mutex_.Unlock();
}

}  // namespace lockstep::store
