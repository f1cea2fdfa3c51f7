#include "server/store/background_sync.h"

#include <pthread.h>
#include <sched.h>

#include <utility>

#include "core/base/check.h"

namespace lockstep::store {
namespace {

// Whether this thread, when it is woken, lets the running one go on until that blocks or has used up its
// turn. Only where nobody has chosen another policy for the process.
class PatientWaking {
 public:
  PatientWaking() : allowed_(sched_getscheduler(0) == SCHED_OTHER) {}
  void Set(bool patient) const {
    const sched_param no_priority = {};
    if (allowed_) pthread_setschedparam(pthread_self(), patient ? SCHED_BATCH : SCHED_OTHER, &no_priority);
  }

 private:
  const bool allowed_;
};

}  // namespace

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
    LOCKSTEP_CHECK(state_ == State::kDone, "a sync is started when the one before is done");
    state_ = State::kStarted;
  }
  // Not under the lock, which the woken thread takes first.
  started_.Signal();
}

absl::Status BackgroundSync::Wait() {
  MutexLock lock(&mutex_);
  if (state_ == State::kStarted) Run();  // sooner than the thread's turn comes
  while (state_ != State::kDone) done_.Wait(&mutex_);
  return result_;
}

void BackgroundSync::Run() {
  state_ = State::kRunning;
  mutex_.Unlock();
  absl::Status result = sync_();
  mutex_.Lock();
  result_ = std::move(result);
  state_ = State::kDone;
  done_.SignalAll();
}

void BackgroundSync::Loop() {
  // Waking at once would take the CPU from whoever called Start, in the middle of its answer: measured, that
  // costs the answer as much as half a sync. But once it runs, a sync blocks several times, and on a busy
  // machine it would wait for a turn after each, with the next caller waiting for it.
  const PatientWaking waking;
  mutex_.Lock();
  for (;;) {
    waking.Set(true);
    while (state_ != State::kStarted && !closing_) started_.Wait(&mutex_);
    if (state_ != State::kStarted) break;
    waking.Set(false);
    Run();
  }
  mutex_.Unlock();
}

}  // namespace lockstep::store
