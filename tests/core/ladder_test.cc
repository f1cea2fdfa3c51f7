#include "core/domain/ladder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::domain {
namespace {

TEST(LadderTest, RowsAreInTheOrderOfTheStages) {
  for (const Stage stage : kAllStages) {
    EXPECT_EQ(LadderRowOf(stage).stage, stage);
    EXPECT_EQ(ParseStage(StageName(stage)), stage);
    EXPECT_FALSE(LadderRowOf(stage).summary.empty());
  }
}

TEST(LadderTest, MatchesTheTableOfTheSpecification) {
  struct Expected {
    Stage stage;
    const char* name;
    bool writes_old, writes_new, may_serve_new, compares;
    std::optional<Stage> roll_back_to;
  };
  const Expected kExpected[] = {
      {Stage::kOff, "OFF", true, false, false, false, std::nullopt},
      {Stage::kDualWrite, "DUAL_WRITE", true, true, false, false, Stage::kOff},
      {Stage::kShadowRead, "SHADOW_READ", true, true, false, true, Stage::kDualWrite},
      {Stage::kCanaryRead, "CANARY_READ", true, true, true, true, Stage::kShadowRead},
      {Stage::kCutover, "CUTOVER", true, true, true, true, Stage::kCanaryRead},
      {Stage::kNewOnly, "NEW_ONLY", false, true, true, false, std::nullopt},
      {Stage::kComplete, "COMPLETE", false, true, true, false, std::nullopt},
  };
  for (const Expected& expected : kExpected) {
    SCOPED_TRACE(expected.name);
    const LadderRow& row = LadderRowOf(expected.stage);
    EXPECT_EQ(row.name, expected.name);
    EXPECT_EQ(row.writes_old, expected.writes_old);
    EXPECT_EQ(row.writes_new, expected.writes_new);
    EXPECT_EQ(row.may_serve_new, expected.may_serve_new);
    EXPECT_EQ(row.compares, expected.compares);
    EXPECT_EQ(row.roll_back_to, expected.roll_back_to);
  }
}

TEST(LadderTest, UnknownNamesAreNotAStage) {
  for (const char* name : {"", "off", "OFF ", "STAGE_OFF", "DUALWRITE"})
    EXPECT_EQ(ParseStage(name), std::nullopt) << name;
}

}  // namespace
}  // namespace lockstep::domain
