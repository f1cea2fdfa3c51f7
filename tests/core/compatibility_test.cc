#include "core/domain/compatibility.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

RoutingState Cutover(uint32_t write_weight, uint32_t drain_weight) {
  RoutingState state = StateOfStage(Stage::kCutover, 0);
  state.write_weight = write_weight;
  state.drain_weight = drain_weight;
  return state;
}

// The states that matter: every stage, and CUTOVER in all of its shapes.
std::vector<RoutingState> States() {
  std::vector<RoutingState> states;
  for (const Stage stage : kAllStages) {
    for (const uint32_t weight : {0u, 1u, 50'000u, kBucketCount}) {
      if (stage == Stage::kCanaryRead || weight == 0) states.push_back(StateOfStage(stage, weight));
    }
  }
  for (const uint32_t drain : {0u, 1u, 30'000u, 60'000u, kBucketCount - 1, kBucketCount}) {
    for (const uint32_t write : {0u, 1u, 30'000u, 60'000u, kBucketCount - 1, kBucketCount}) {
      if (write <= drain) states.push_back(Cutover(write, drain));
    }
  }
  return states;
}

// The modes themselves are proven in interleaving_test.cc.
TEST(CompatibilityTest, ReasonsAreGivenExactlyForPairsThatMayNotCoexist) {
  for (int i = 0; i < kBucketModeCount; ++i) {
    for (int j = 0; j < kBucketModeCount; ++j) {
      const auto a = static_cast<BucketMode>(i), b = static_cast<BucketMode>(j);
      EXPECT_EQ(MayCoexist(a, b), WhyNotCoexist(a, b).empty());
      EXPECT_EQ(MayCoexist(a, b), MayCoexist(b, a));
      if (i == j) {
        EXPECT_TRUE(MayCoexist(a, b));
      }
    }
  }
}

TEST(CompatibilityTest, StatesAreJudgedAsTheirBucketsOneByOne) {
  const std::vector<RoutingState> states = States();
  for (const RoutingState& a : states) {
    EXPECT_TRUE(ValidateRoutingState(a).ok());
    for (const RoutingState& b : states) {
      std::optional<uint32_t> first;
      for (uint32_t bucket = 0; bucket < kBucketCount && !first; ++bucket) {
        if (!MayCoexist(ModeOfBucket(a, bucket), ModeOfBucket(b, bucket))) first = bucket;
      }
      const auto found = FindIncompatibility(a, b);
      ASSERT_EQ(found.has_value(), first.has_value());
      if (found.has_value()) {
        EXPECT_EQ(found->bucket, *first);
        EXPECT_EQ(found->mode_a, ModeOfBucket(a, found->bucket));
        EXPECT_EQ(found->mode_b, ModeOfBucket(b, found->bucket));
      }
    }
  }
}

TEST(CompatibilityTest, EveryRollbackFromDualWriteToCanaryReadPublishesAtOnce) {
  std::vector<RoutingState> states;
  for (const Stage stage : {Stage::kDualWrite, Stage::kShadowRead}) states.push_back(StateOfStage(stage, 0));
  for (const uint32_t weight : {0u, 1u, kBucketCount})
    states.push_back(StateOfStage(Stage::kCanaryRead, weight));
  for (const RoutingState& a : states) {
    for (const RoutingState& b : states) EXPECT_TRUE(MayCoexist(a, b));
  }
}

TEST(CompatibilityTest, OneStageUpOrDownIsAlwaysPossible) {
  for (size_t i = 1; i < kAllStages.size(); ++i) {
    const Stage from = kAllStages[i - 1], to = kAllStages[i];
    const RoutingState low =
        from == Stage::kCutover ? Cutover(kBucketCount, kBucketCount) : StateOfStage(from, kBucketCount);
    EXPECT_TRUE(MayCoexist(low, StateOfStage(to, 0))) << StageName(from) << " and " << StageName(to);
  }
}

TEST(CompatibilityTest, WriteAuthorityMovesThroughAHeldSliceOnly) {
  EXPECT_TRUE(MayCoexist(Cutover(0, 0), Cutover(0, 10)));
  EXPECT_TRUE(MayCoexist(Cutover(0, 10), Cutover(10, 10)));
  EXPECT_TRUE(MayCoexist(Cutover(10, 10), Cutover(10, 20)));
  EXPECT_FALSE(MayCoexist(Cutover(0, 0), Cutover(10, 10)));
  EXPECT_FALSE(MayCoexist(Cutover(10, 10), StateOfStage(Stage::kCanaryRead, kBucketCount)));
  const auto found = FindIncompatibility(Cutover(10, 20), Cutover(15, 15));
  ASSERT_FALSE(
      found.has_value());  // 10 to 14 are held in one and moved in the other, 15 to 19 held and untouched
  const auto collision = FindIncompatibility(Cutover(10, 20), Cutover(30, 30));
  ASSERT_TRUE(collision.has_value());
  EXPECT_EQ(collision->bucket, 20u);
  EXPECT_EQ(collision->ToString().substr(0, 61),
            "bucket 20 is CANARY in one state and CUTOVER in the other: th");
}

TEST(CompatibilityTest, NewOnlyNeedsEveryBucketMoved) {
  EXPECT_TRUE(MayCoexist(Cutover(kBucketCount, kBucketCount), StateOfStage(Stage::kNewOnly, 0)));
  const auto found =
      FindIncompatibility(Cutover(kBucketCount - 1, kBucketCount), StateOfStage(Stage::kNewOnly, 0));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->bucket, kBucketCount - 1);
  EXPECT_THAT(found->ToString(), HasSubstr("DRAIN"));
}

}  // namespace
}  // namespace lockstep::domain
