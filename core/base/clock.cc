#include "core/base/clock.h"

#include <time.h>

#include "absl/time/clock.h"

namespace lockstep {
namespace {

constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

}  // namespace

int64_t Clock::CoarseUnixSeconds() const { return absl::ToUnixSeconds(Now()); }
int64_t Clock::NanosecondsSinceBoot() const { return absl::ToInt64Nanoseconds(SinceBoot()); }

absl::Time SystemClock::Now() const { return absl::Now(); }

absl::Duration SystemClock::SinceBoot() const {
  timespec ts;
  clock_gettime(CLOCK_BOOTTIME, &ts);
  return absl::DurationFromTimespec(ts);
}

int64_t SystemClock::CoarseUnixSeconds() const {
  timespec ts;
  clock_gettime(CLOCK_REALTIME_COARSE, &ts);  // what the last tick of the kernel's timer left in memory
  return ts.tv_sec;
}

int64_t SystemClock::NanosecondsSinceBoot() const {
  timespec ts;
  clock_gettime(CLOCK_BOOTTIME, &ts);
  return int64_t{ts.tv_sec} * kNanosecondsPerSecond + ts.tv_nsec;
}

SystemClock* SystemClock::Get() {
  static SystemClock* const clock = new SystemClock;
  return clock;
}

absl::Time FakeClock::Now() const {
  MutexLock lock(&mutex_);
  return now_;
}

absl::Duration FakeClock::SinceBoot() const {
  MutexLock lock(&mutex_);
  return since_boot_;
}

void FakeClock::Advance(absl::Duration by) {
  MutexLock lock(&mutex_);
  now_ += by;
  since_boot_ += by;
}

}  // namespace lockstep
