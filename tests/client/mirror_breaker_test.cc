// The breaker as a table of events in time, and the cap.
#include "lockstep/internal/mirror_breaker.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace lockstep::internal {
namespace {

using domain::Side;

TEST(MirrorBreakerTest, OpensProbesAndCloses) {
  // f: a failure, s: a success, each at its time in tenths of a second; +: allowed, -: not.
  struct Event {
    char what;
    int at;
  };
  struct Case {
    const char* name;
    std::vector<Event> events;
  };
  const std::vector<Case> cases = {
      {"below the limit it stays closed", {{'f', 0}, {'f', 0}, {'+', 0}, {'+', 0}}},
      {"a success between failures starts over",
       {{'f', 0}, {'f', 0}, {'s', 0}, {'f', 0}, {'f', 0}, {'+', 0}}},
      {"three in a row open it", {{'f', 0}, {'f', 0}, {'f', 0}, {'-', 0}, {'-', 9}}},
      {"one probe for each interval",
       {{'f', 0}, {'f', 0}, {'f', 0}, {'+', 10}, {'-', 10}, {'-', 19}, {'+', 20}, {'-', 29}}},
      {"a failed probe leaves it open",
       {{'f', 0}, {'f', 0}, {'f', 0}, {'+', 10}, {'f', 11}, {'-', 19}, {'+', 20}}},
      {"a probe that succeeds closes it",
       {{'f', 0}, {'f', 0}, {'f', 0}, {'+', 10}, {'s', 11}, {'+', 11}, {'+', 11}}},
      {"late failures don't put the probe off",
       {{'f', 0}, {'f', 0}, {'f', 0}, {'f', 9}, {'f', 9}, {'+', 10}}},
      {"after closing it needs three again",
       {{'f', 0}, {'f', 0}, {'f', 0}, {'s', 1}, {'f', 2}, {'f', 2}, {'+', 2}, {'f', 2}, {'-', 2}}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    MirrorBreaker breaker(3, absl::Seconds(1));
    for (size_t i = 0; i < c.events.size(); ++i) {
      SCOPED_TRACE(i);
      const absl::Duration now = absl::Hours(1) + c.events[i].at * absl::Milliseconds(100);
      switch (c.events[i].what) {
        case 'f':
          breaker.OnFailure(now);
          break;
        case 's':
          breaker.OnSuccess();
          break;
        default:
          EXPECT_EQ(breaker.Allow(now), c.events[i].what == '+');
      }
    }
  }
}

TEST(MirrorGateTest, OnlyWhatSpeaksOfSicknessCounts) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "x");
    SCOPED_TRACE(status.ToString());
    MirrorGate gate(1, absl::Seconds(1), 10);
    ASSERT_TRUE(gate.Enter(Side::kNew, absl::ZeroDuration()).ok());
    gate.Leave(Side::kNew, status, absl::ZeroDuration());
    EXPECT_EQ(gate.IsSick(Side::kNew), SpeaksOfSickness(status));
    EXPECT_EQ(gate.Enter(Side::kNew, absl::ZeroDuration()).ok(), !SpeaksOfSickness(status));
    EXPECT_TRUE(gate.Enter(Side::kOld, absl::ZeroDuration()).ok()) << "each side has its own";
  }
}

TEST(MirrorGateTest, CapCountsBothSidesAndIsGivenBack) {
  MirrorGate gate(1, absl::Seconds(1), 2);
  EXPECT_TRUE(gate.Enter(Side::kNew, absl::ZeroDuration()).ok());
  EXPECT_TRUE(gate.Enter(Side::kOld, absl::ZeroDuration()).ok());
  const absl::Status full = gate.Enter(Side::kNew, absl::ZeroDuration());
  EXPECT_TRUE(absl::IsUnavailable(full));
  EXPECT_TRUE(absl::StrContains(full.message(), "max_mirrors_in_flight")) << full;
  gate.Leave(Side::kOld, absl::OkStatus(), absl::ZeroDuration());
  EXPECT_TRUE(gate.Enter(Side::kNew, absl::ZeroDuration()).ok());
  gate.Leave(Side::kNew, absl::UnavailableError("down"), absl::ZeroDuration());
  // Refused by the breaker: that takes no place.
  for (int i = 0; i < 5; ++i) {
    const absl::Status sick = gate.Enter(Side::kNew, absl::Milliseconds(10));
    EXPECT_TRUE(absl::IsUnavailable(sick));
    EXPECT_TRUE(absl::StrContains(sick.message(), "breaker has been open for 10ms")) << sick;
  }
  EXPECT_EQ(gate.in_flight(), 1);
}

}  // namespace
}  // namespace lockstep::internal
