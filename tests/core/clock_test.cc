#include "core/base/clock.h"

#include "gtest/gtest.h"

namespace lockstep {
namespace {

TEST(ClockTest, TheQuickReadingsOfAFakeClockAreTheOthers) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  clock.Advance(absl::Milliseconds(1999));
  EXPECT_EQ(clock.CoarseNow(), clock.Now());
  EXPECT_EQ(clock.CoarseUnixSeconds(), 1'700'000'001);
  EXPECT_EQ(clock.CoarseNanoseconds(), clock.NanosecondsSinceBoot());
  EXPECT_EQ(absl::Nanoseconds(clock.NanosecondsSinceBoot()), clock.SinceBoot());
}

TEST(ClockTest, TheQuickReadingsOfTheSystemClockLieBetweenOthers) {
  const SystemClock& clock = *SystemClock::Get();
  const absl::Duration before = clock.SinceBoot();
  const absl::Duration quick = absl::Nanoseconds(clock.NanosecondsSinceBoot());
  EXPECT_LE(before, quick);
  EXPECT_LE(quick, clock.SinceBoot());
  const absl::Time earliest = clock.Now() - Clock::kCoarseness;
  const absl::Time coarse = clock.CoarseNow();
  const int64_t coarse_seconds = clock.CoarseUnixSeconds();
  const absl::Time latest = clock.Now();
  EXPECT_LE(earliest, coarse);
  EXPECT_LE(coarse, latest);
  EXPECT_LE(absl::ToUnixSeconds(earliest), coarse_seconds);
  EXPECT_LE(coarse_seconds, absl::ToUnixSeconds(latest));
}

TEST(ClockTest, CoarseIntervalsAreOffByLittle) {
  const SystemClock& clock = *SystemClock::Get();
  const int64_t coarse_start = clock.CoarseNanoseconds();
  const absl::Duration start = clock.SinceBoot();
  while (clock.SinceBoot() - start < 3 * Clock::kCoarseness) {
  }
  EXPECT_GE(absl::Nanoseconds(clock.CoarseNanoseconds() - coarse_start), 2 * Clock::kCoarseness);
}

}  // namespace
}  // namespace lockstep
