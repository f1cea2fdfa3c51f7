#include "core/base/clock.h"

#include "gtest/gtest.h"

namespace lockstep {
namespace {

TEST(ClockTest, TheQuickReadingsOfAFakeClockAreTheOthers) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  clock.Advance(absl::Milliseconds(1999));
  EXPECT_EQ(clock.CoarseUnixSeconds(), 1'700'000'001);
  EXPECT_EQ(absl::Nanoseconds(clock.NanosecondsSinceBoot()), clock.SinceBoot());
}

TEST(ClockTest, TheQuickReadingsOfTheSystemClockLieBetweenOthers) {
  const SystemClock& clock = *SystemClock::Get();
  const absl::Duration before = clock.SinceBoot();
  const absl::Duration quick = absl::Nanoseconds(clock.NanosecondsSinceBoot());
  EXPECT_LE(before, quick);
  EXPECT_LE(quick, clock.SinceBoot());
  // The last tick of the timer may have been in the second before.
  const int64_t earliest = absl::ToUnixSeconds(clock.Now()) - 1;
  const int64_t coarse = clock.CoarseUnixSeconds();
  EXPECT_LE(earliest, coarse);
  EXPECT_LE(coarse, absl::ToUnixSeconds(clock.Now()));
}

}  // namespace
}  // namespace lockstep
