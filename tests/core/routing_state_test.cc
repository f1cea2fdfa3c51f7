#include "core/domain/routing_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

TEST(RoutingStateTest, TheStateOfEveryStageIsValid) {
  for (const Stage stage : kAllStages) {
    for (const uint32_t weight : {0u, 1u, kBucketCount}) {
      const RoutingState state = StateOfStage(stage, weight);
      EXPECT_EQ(state.stage, stage);
      EXPECT_TRUE(ValidateRoutingState(state).ok()) << StageName(stage) << ValidateRoutingState(state);
      if (stage == Stage::kCanaryRead) {
        EXPECT_EQ(state.read_weight, weight);
      }
    }
  }
}

// The invariants of the specification, weight by weight, for every stage.
TEST(RoutingStateTest, ExactlyTheStatesOfTheSpecificationAreValid) {
  const uint32_t kWeights[] = {0, 1, 50'000, kBucketCount, kBucketCount + 1};
  int valid = 0;
  for (const Stage stage : kAllStages) {
    for (const uint32_t read : kWeights) {
      for (const uint32_t drain : kWeights) {
        for (const uint32_t write : kWeights) {
          RoutingState state;
          state.stage = stage;
          state.read_weight = read;
          state.drain_weight = drain;
          state.write_weight = write;
          const bool ordered = write <= drain && drain <= read && read <= kBucketCount;
          bool expected = false;
          switch (stage) {
            case Stage::kOff:
            case Stage::kDualWrite:
            case Stage::kShadowRead:
              expected = ordered && read == 0;
              break;
            case Stage::kCanaryRead:
              expected = ordered && drain == 0;
              break;
            case Stage::kCutover:
              expected = ordered && read == kBucketCount;
              break;
            case Stage::kNewOnly:
            case Stage::kComplete:
              expected = ordered && write == kBucketCount;
              break;
          }
          const absl::Status status = ValidateRoutingState(state);
          EXPECT_EQ(status.ok(), expected)
              << StageName(stage) << " " << read << " " << drain << " " << write << " " << status;
          if (!status.ok()) {
            EXPECT_THAT(std::string(status.message()), HasSubstr(StageName(stage)));
          }
          valid += expected ? 1 : 0;
        }
      }
    }
  }
  EXPECT_EQ(valid, 3 + 4 + 10 + 2);
}

TEST(RoutingStateTest, RefusesPinsThatCannotBe) {
  struct Case {
    const char* message;
    Pins pins;
  };
  Pins many_keys;
  for (size_t i = 0; i <= kMaxPinnedKeys; ++i) many_keys.keys[absl::StrCat(i)] = Side::kNew;
  Pins many_rules;
  many_rules.rules.assign(kMaxAttributeRules + 1, {"a", {"b"}, Side::kNew});
  const std::vector<Case> kCases = {
      {"100001 pinned keys", many_keys},
      {"65 attribute rules", many_rules},
      {"1025 bytes", {{{std::string(kMaxKeyBytes + 1, 'k'), Side::kNew}}, {}}},
      {"rule 0 names no attribute", {{}, {{"", {"b"}, Side::kNew}}}},
      {"rule 0 ('a') lists no values", {{}, {{"a", {}, Side::kNew}}}},
  };
  for (const Case& c : kCases) {
    RoutingState state = StateOfStage(Stage::kCanaryRead, 1);
    state.pins = std::make_shared<Pins>(c.pins);
    const absl::Status status = ValidateRoutingState(state);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

TEST(RoutingStateTest, PinsToOldMustBeLiftedBeforeCutoverAndAreNamed) {
  auto pins = std::make_shared<Pins>();
  for (int i = 9; i > 0; --i) pins->keys[absl::StrCat("vip-", i)] = Side::kOld;
  pins->keys["new"] = Side::kNew;
  pins->rules.push_back({"tenant_kind", {"vip"}, Side::kOld});
  for (const Stage stage : kAllStages) {
    RoutingState state = StateOfStage(stage, 1);
    state.pins = pins;
    const absl::Status status = ValidateRoutingState(state);
    EXPECT_EQ(status.ok(), stage < Stage::kCutover) << StageName(stage);
    if (!status.ok()) {
      EXPECT_THAT(std::string(status.message()), HasSubstr("key 'vip-1', key 'vip-2'"));
      EXPECT_THAT(std::string(status.message()), HasSubstr("and 5 more"));
    }
  }
  auto rule_only = std::make_shared<Pins>();
  rule_only->rules = pins->rules;
  RoutingState state = StateOfStage(Stage::kCutover, 0);
  state.pins = rule_only;
  EXPECT_THAT(std::string(ValidateRoutingState(state).message()), HasSubstr("attribute rule 'tenant_kind'"));
}

TEST(RoutingStateTest, RefusesOtherNumbersThatCannotBe) {
  RoutingState state;
  state.generation = 0;
  EXPECT_FALSE(ValidateRoutingState(state).ok());
  state.generation = 1;
  state.comparison_weight = kBucketCount + 1;
  EXPECT_FALSE(ValidateRoutingState(state).ok());
}

TEST(RoutingStateTest, RoutesLikeLeavesOutTheEpochAlone) {
  RoutingState base = StateOfStage(Stage::kCanaryRead, 10);
  RoutingState other = base;
  other.epoch = 7;
  EXPECT_TRUE(base.RoutesLike(other));
  other.pins = std::make_shared<Pins>();  // empty is the same as none
  EXPECT_TRUE(base.RoutesLike(other));
  base.pins = std::make_shared<Pins>(Pins{{{"k", Side::kNew}}, {}});
  EXPECT_FALSE(base.RoutesLike(other));
  other.pins = std::make_shared<Pins>(Pins{{{"k", Side::kNew}}, {}});
  EXPECT_TRUE(base.RoutesLike(other));
  const auto differs = [&](auto change) {
    RoutingState changed = base;
    change(changed);
    return !base.RoutesLike(changed);
  };
  EXPECT_TRUE(differs([](RoutingState& s) { s.stage = Stage::kOff; }));
  EXPECT_TRUE(differs([](RoutingState& s) { s.read_weight = 11; }));
  EXPECT_TRUE(differs([](RoutingState& s) { s.drain_weight = 11; }));
  EXPECT_TRUE(differs([](RoutingState& s) { s.write_weight = 11; }));
  EXPECT_TRUE(differs([](RoutingState& s) { s.generation = 2; }));
  EXPECT_TRUE(differs([](RoutingState& s) { s.comparison_weight = 1; }));
  EXPECT_TRUE(differs([](RoutingState& s) { s.salt_seed = 1; }));
  EXPECT_TRUE(differs([](RoutingState& s) { s.pins = nullptr; }));
}

}  // namespace
}  // namespace lockstep::domain
