#include "core/base/clock.h"

#include <time.h>

#include "absl/time/clock.h"

namespace lockstep {
namespace {

constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

timespec Read(clockid_t id) {
  timespec ts;
  clock_gettime(id, &ts);
  return ts;
}

int64_t ToNanoseconds(const timespec& ts) { return int64_t{ts.tv_sec} * kNanosecondsPerSecond + ts.tv_nsec; }

}  // namespace

int64_t Clock::NanosecondsSinceBoot() const { return absl::ToInt64Nanoseconds(SinceBoot()); }
absl::Time Clock::CoarseNow() const { return Now(); }
int64_t Clock::CoarseUnixSeconds() const { return absl::ToUnixSeconds(Now()); }
int64_t Clock::CoarseNanoseconds() const { return NanosecondsSinceBoot(); }

absl::Time SystemClock::Now() const { return absl::Now(); }

absl::Duration SystemClock::SinceBoot() const { return absl::DurationFromTimespec(Read(CLOCK_BOOTTIME)); }

int64_t SystemClock::NanosecondsSinceBoot() const { return ToNanoseconds(Read(CLOCK_BOOTTIME)); }

// The coarse clocks are what the last tick of the kernel's timer left in memory.
absl::Time SystemClock::CoarseNow() const { return absl::TimeFromTimespec(Read(CLOCK_REALTIME_COARSE)); }

int64_t SystemClock::CoarseUnixSeconds() const { return Read(CLOCK_REALTIME_COARSE).tv_sec; }

int64_t SystemClock::CoarseNanoseconds() const { return ToNanoseconds(Read(CLOCK_MONOTONIC_COARSE)); }

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
