// Every way between any two states of a grid, against the compatibility matrix and what each bucket may do.
#include "core/domain/next_hop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/bucketing.h"
#include "core/domain/compatibility.h"

namespace lockstep::domain {
namespace {

constexpr uint32_t kUnit = 25'000;
constexpr uint32_t kSlices[] = {kUnit, 2 * kUnit, kBucketCount};
// A forward or a reverse slice of every unit takes two hops; then the way in and out of the ladder's ends.
constexpr int kMostHops = 2 * 4 + 5;

RoutingState State(Stage stage, uint32_t read, uint32_t drain, uint32_t write) {
  RoutingState state = StateOfStage(stage, read);
  if (stage == Stage::kCutover) {
    state.drain_weight = drain;
    state.write_weight = write;
  }
  state.generation = 3;
  state.salt_seed = 7;
  state.epoch = 12;
  return state;
}

// Weights in multiples of kUnit; held ones too.
std::vector<RoutingState> AllStates() {
  std::vector<RoutingState> states;
  for (const Stage stage : kAllStages) {
    if (stage != Stage::kCanaryRead && stage != Stage::kCutover) states.push_back(State(stage, 0, 0, 0));
  }
  for (uint32_t weight = 0; weight <= kBucketCount; weight += kUnit) {
    states.push_back(State(Stage::kCanaryRead, weight, 0, 0));
    for (uint32_t write = 0; write <= weight; write += kUnit) {
      states.push_back(State(Stage::kCutover, kBucketCount, weight, write));
    }
  }
  return states;
}

std::string Show(const RoutingState& state) {
  return absl::StrCat(StageName(state.stage), " read ", state.read_weight, " drain ", state.drain_weight,
                      " write ", state.write_weight);
}

bool HoldsBucket(const RoutingState& state, uint32_t bucket) {
  return bucket >= state.write_weight && bucket < state.drain_weight;
}

// The side whose answer is the truth for a bucket that is not held.
Side AuthorityOf(const RoutingState& state, uint32_t bucket) {
  return bucket < state.write_weight ? Side::kNew : Side::kOld;
}

bool WritesOld(Stage stage) { return stage <= Stage::kCutover; }

uint32_t Held(const RoutingState& state) { return state.drain_weight - state.write_weight; }

void CheckWay(const RoutingState& from, const RoutingState& goal, uint32_t slice) {
  std::vector<RoutingState> way = {from};
  for (int hops = 0; hops <= kMostHops; ++hops) {
    const std::optional<RoutingState> hop = NextHop(way.back(), goal, slice);
    ASSERT_TRUE(hop.has_value());
    SCOPED_TRACE(testing::Message() << "hop " << hops << ": " << Show(*hop));
    const RoutingState& before = way.back();
    EXPECT_EQ(hop->epoch, 0u);
    ASSERT_TRUE(ValidateRoutingState(*hop).ok()) << ValidateRoutingState(*hop);
    // Whoever acknowledged the state before may still act on it when the hop is published.
    ASSERT_TRUE(MayCoexist(before, *hop)) << FindIncompatibility(before, *hop)->ToString();
    if (BeginsToHold(before, *hop) && !hop->RoutesLike(goal)) {
      EXPECT_LE(Held(*hop), slice);
    }
    for (uint32_t bucket = 0; bucket < kBucketCount; bucket += kUnit) {
      if (HoldsBucket(before, bucket) || HoldsBucket(*hop, bucket) || before.stage == Stage::kOff) continue;
      EXPECT_EQ(AuthorityOf(before, bucket), AuthorityOf(*hop, bucket))
          << "not held before it moved: " << bucket;
    }
    way.push_back(*hop);
    if (hop->RoutesLike(goal)) return;
  }
  FAIL() << "no end after " << kMostHops << " hops";
}

TEST(NextHopTest, EveryWayIsSafeAndEnds) {
  int ways = 0;
  for (const RoutingState& from : AllStates()) {
    for (const RoutingState& goal : AllStates()) {
      for (const uint32_t slice : kSlices) {
        SCOPED_TRACE(testing::Message() << Show(from) << " to " << Show(goal) << " in slices of " << slice);
        if (!WritesOld(from.stage) && WritesOld(goal.stage)) {
          EXPECT_FALSE(NextHop(from, goal, slice).has_value());
          continue;
        }
        CheckWay(from, goal, slice);
        ASSERT_FALSE(testing::Test::HasFailure());
        ++ways;
      }
    }
  }
  EXPECT_GT(ways, 1'500);
}

std::vector<std::string> Way(RoutingState from, const RoutingState& goal, uint32_t slice) {
  std::vector<std::string> hops;
  while (!from.RoutesLike(goal) && hops.size() < 20) {
    from = *NextHop(from, goal, slice);
    hops.push_back(from.stage == Stage::kCutover
                       ? absl::StrCat("write ", from.write_weight / 1000, " drain ", from.drain_weight / 1000)
                       : std::string(StageName(from.stage)));
  }
  return hops;
}

// The examples of next_hop.h.
TEST(NextHopTest, MovesAuthoritySliceBySlice) {
  const RoutingState canary = State(Stage::kCanaryRead, kBucketCount, 0, 0);
  const RoutingState some = State(Stage::kCutover, kBucketCount, 15'000, 15'000);
  EXPECT_THAT(Way(canary, some, 10'000), testing::ElementsAre("write 0 drain 10", "write 10 drain 10",
                                                              "write 10 drain 15", "write 15 drain 15"));
  EXPECT_THAT(Way(some, State(Stage::kCanaryRead, 0, 0, 0), 10'000),
              testing::ElementsAre("write 5 drain 15", "write 5 drain 5", "write 0 drain 5", "CANARY_READ"));
  EXPECT_THAT(Way(some, State(Stage::kOff, 0, 0, 0), kBucketCount),
              testing::ElementsAre("write 0 drain 15", "DUAL_WRITE", "OFF"));
  EXPECT_THAT(Way(State(Stage::kCutover, kBucketCount, kBucketCount, kBucketCount),
                  State(Stage::kComplete, 0, 0, 0), 10'000),
              testing::ElementsAre("NEW_ONLY", "COMPLETE"));
  EXPECT_THAT(Way(canary, State(Stage::kOff, 0, 0, 0), 10'000), testing::ElementsAre("DUAL_WRITE", "OFF"));
}

// Turning round in the middle of a slice gives up the hold before it takes anything back.
TEST(NextHopTest, TurnsRound) {
  EXPECT_THAT(
      Way(State(Stage::kCutover, kBucketCount, 20'000, 10'000), State(Stage::kCanaryRead, 0, 0, 0), 10'000),
      testing::ElementsAre("write 10 drain 10", "write 0 drain 10", "CANARY_READ"));
  EXPECT_THAT(Way(State(Stage::kCutover, kBucketCount, 20'000, 10'000),
                  State(Stage::kCutover, kBucketCount, 10'000, 10'000), 10'000),
              testing::ElementsAre("write 10 drain 10"));
}

// OFF begins a generation, and pins to old must not be in CUTOVER: neither applies before its state is
// reached.
TEST(NextHopTest, HopsKeepGenerationAndPinsUntilTheGoal) {
  RoutingState from = State(Stage::kCutover, kBucketCount, 50'000, 50'000);
  Pins valid;
  valid.keys["vip"] = Side::kNew;
  from.pins = std::make_shared<const Pins>(valid);
  RoutingState goal = State(Stage::kOff, 0, 0, 0);
  goal.generation = from.generation + 1;
  Pins to_old;
  to_old.keys["vip"] = Side::kOld;
  goal.pins = std::make_shared<const Pins>(to_old);
  RoutingState at = from;
  while (!at.RoutesLike(goal)) {
    at = *NextHop(at, goal, kUnit);
    ASSERT_TRUE(ValidateRoutingState(at).ok()) << Show(at) << ": " << ValidateRoutingState(at);
    EXPECT_EQ(at.generation, at.stage == Stage::kOff ? goal.generation : from.generation);
    EXPECT_EQ(at.pins, at.stage == Stage::kCutover ? from.pins : goal.pins);
  }
}

TEST(NextHopTest, AHoldBeginsWhereSomeBucketIsNewlyHeld) {
  for (const RoutingState& from : AllStates()) {
    for (const RoutingState& to : AllStates()) {
      bool begins = false;
      for (uint32_t bucket = 0; bucket < kBucketCount; bucket += kUnit) {
        begins = begins || (HoldsBucket(to, bucket) && !HoldsBucket(from, bucket));
      }
      EXPECT_EQ(BeginsToHold(from, to), begins) << Show(from) << " to " << Show(to);
    }
    bool holds = false;
    for (uint32_t bucket = 0; bucket < kBucketCount; bucket += kUnit)
      holds = holds || HoldsBucket(from, bucket);
    EXPECT_EQ(HoldsWrites(from), holds) << Show(from);
  }
}

// Whichever way a slice was going, giving it up leaves authority with the side that had it.
TEST(NextHopTest, ReleaseGivesASliceBackToWhoeverHadIt) {
  int released = 0;
  for (uint32_t write = 0; write <= kBucketCount; write += kUnit) {
    const RoutingState from = State(Stage::kCutover, kBucketCount, write, write);
    for (uint32_t wanted = 0; wanted <= kBucketCount; wanted += kUnit) {
      const RoutingState goal = wanted == 0 ? State(Stage::kCanaryRead, 0, 0, 0)
                                            : State(Stage::kCutover, kBucketCount, wanted, wanted);
      const std::optional<RoutingState> hop = NextHop(from, goal, kUnit);
      if (!BeginsToHold(from, *hop)) continue;
      EXPECT_EQ(AuthorityOfHeld(*hop, goal), wanted > write ? Side::kOld : Side::kNew);
      const RoutingState back = Released(*hop, AuthorityOfHeld(*hop, goal));
      EXPECT_TRUE(back.RoutesLike(from)) << Show(back) << " instead of " << Show(from);
      EXPECT_EQ(back.epoch, 0u);
      ++released;
    }
  }
  EXPECT_EQ(released, 20);
}

}  // namespace
}  // namespace lockstep::domain
