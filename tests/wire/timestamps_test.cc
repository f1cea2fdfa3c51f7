#include "core/wire/timestamps.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/base/prng.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

google::protobuf::Timestamp Timestamp(int64_t seconds, int32_t nanos) {
  google::protobuf::Timestamp out;
  out.set_seconds(seconds);
  out.set_nanos(nanos);
  return out;
}

google::protobuf::Duration Duration(int64_t seconds, int32_t nanos) {
  google::protobuf::Duration out;
  out.set_seconds(seconds);
  out.set_nanos(nanos);
  return out;
}

TEST(TimestampTest, RoundTripOverTheWholeRange) {
  Prng prng(5);
  std::vector<google::protobuf::Timestamp> times = {Timestamp(0, 0), Timestamp(-1, 999'999'999),
                                                    Timestamp(-62'135'596'800, 0),
                                                    Timestamp(253'402'300'799, 999'999'999)};
  for (int i = 0; i < 10000; ++i) {
    times.push_back(Timestamp(static_cast<int64_t>(prng.Below(315'537'897'600)) - 62'135'596'800,
                              static_cast<int32_t>(prng.Below(1'000'000'000))));
  }
  for (const auto& time : times) {
    Violations violations;
    const auto back = ToProto(ReadTime(time, FieldPath(), violations));
    ASSERT_TRUE(violations.empty());
    EXPECT_EQ(back.seconds(), time.seconds());
    EXPECT_EQ(back.nanos(), time.nanos());
  }
}

TEST(TimestampTest, RefusesWhatIsNone) {
  for (const auto& [time, why] : std::vector<std::pair<google::protobuf::Timestamp, const char*>>{
           {Timestamp(0, -1), "nanos"},
           {Timestamp(0, 1'000'000'000), "nanos"},
           {Timestamp(-62'135'596'801, 0), "year"},
           {Timestamp(253'402'300'800, 0), "year"},
           {Timestamp(kMin, 0), "year"},
           {Timestamp(kMax, 0), "year"}}) {
    Violations violations;
    const FieldPath root;
    EXPECT_EQ(ReadTime(time, root / "time", violations), absl::InfinitePast());
    EXPECT_THAT(violations.ToStatus(), Refuses("time", why));
  }
}

TEST(TimestampTest, ExtremesBecomeTheNearest) {
  EXPECT_EQ(ToProto(absl::InfiniteFuture()).seconds(), 253'402'300'799);
  EXPECT_EQ(ToProto(absl::InfiniteFuture()).nanos(), 999'999'999);
  EXPECT_EQ(ToProto(absl::InfinitePast()).seconds(), -62'135'596'800);
}

TEST(TimestampTest, UnsetIsInfinitePast) {
  Violations violations;
  EXPECT_EQ(ReadOptionalTime(false, Timestamp(5, -5), FieldPath(), violations), absl::InfinitePast());
  EXPECT_TRUE(violations.empty());
}

TEST(DurationTest, RoundTripOverTheWholeRange) {
  Prng prng(6);
  std::vector<google::protobuf::Duration> durations = {Duration(0, 0), Duration(0, -1), Duration(-1, 0),
                                                       Duration(315'576'000'000, 0),
                                                       Duration(-315'576'000'000, 0)};
  for (int i = 0; i < 10000; ++i) {
    const int sign = prng.Below(2) == 0 ? 1 : -1;
    durations.push_back(Duration(sign * static_cast<int64_t>(prng.Below(315'576'000'000)),
                                 sign * static_cast<int32_t>(prng.Below(1'000'000'000))));
  }
  for (const auto& duration : durations) {
    Violations violations;
    const auto back = ToProto(ReadDuration(duration, FieldPath(), violations));
    ASSERT_TRUE(violations.empty());
    EXPECT_EQ(back.seconds(), duration.seconds());
    EXPECT_EQ(back.nanos(), duration.nanos());
  }
}

TEST(DurationTest, RefusesWhatIsNone) {
  for (const auto& [duration, why] : std::vector<std::pair<google::protobuf::Duration, const char*>>{
           {Duration(0, 1'000'000'000), "nanos"},
           {Duration(0, -1'000'000'000), "nanos"},
           {Duration(0, std::numeric_limits<int32_t>::min()), "nanos"},
           {Duration(1, -1), "sign"},
           {Duration(-1, 1), "sign"},
           {Duration(315'576'000'001, 0), "10000 years"},
           {Duration(kMin, 0), "10000 years"},
           {Duration(kMax, 999'999'999), "10000 years"}}) {
    Violations violations;
    const FieldPath root;
    EXPECT_EQ(ReadDuration(duration, root / "d", violations), absl::ZeroDuration());
    EXPECT_THAT(violations.ToStatus(), Refuses("d", why));
  }
}

TEST(DurationTest, PeriodsAreNotNegative) {
  Violations violations;
  const FieldPath root;
  EXPECT_EQ(ReadPeriod(Duration(3, 0), root / "d", violations), absl::Seconds(3));
  EXPECT_EQ(ReadPeriod(Duration(0, -1), root / "d", violations), absl::ZeroDuration());
  EXPECT_THAT(violations.ToStatus(), Refuses("d", "negative"));
}

TEST(DurationTest, ExtremesBecomeTheNearest) {
  EXPECT_EQ(ToProto(absl::InfiniteDuration()).seconds(), 315'576'000'000);
  EXPECT_EQ(ToProto(-absl::InfiniteDuration()).seconds(), -315'576'000'000);
}

}  // namespace
}  // namespace lockstep::wire
