#include "client/cli/condition.h"

#include "gtest/gtest.h"

namespace lockstep::cli {
namespace {

// The weight is that of writes in CUTOVER, else that of reads.
v1::Migration At(v1::Stage stage, uint32_t weight, v1::RunState state, bool pending = false) {
  v1::Migration migration;
  migration.mutable_routing()->set_stage(stage);
  migration.mutable_routing()->set_read_weight(stage >= v1::STAGE_CUTOVER ? 100000 : weight);
  if (stage == v1::STAGE_CUTOVER) migration.mutable_routing()->set_write_weight(weight);
  migration.set_run_state(state);
  if (pending) migration.mutable_pending_routing()->set_stage(stage);
  return migration;
}

TEST(ConditionTest, Judges) {
  const v1::Migration kDraft = At(v1::STAGE_OFF, 0, v1::RUN_STATE_DRAFT);
  const v1::Migration kShadow = At(v1::STAGE_SHADOW_READ, 0, v1::RUN_STATE_RUNNING);
  const v1::Migration kCanary = At(v1::STAGE_CANARY_READ, 5000, v1::RUN_STATE_RUNNING);
  const v1::Migration kPaused = At(v1::STAGE_CANARY_READ, 5000, v1::RUN_STATE_PAUSED, true);
  const v1::Migration kBack = At(v1::STAGE_SHADOW_READ, 0, v1::RUN_STATE_ROLLED_BACK);
  const v1::Migration kDone = At(v1::STAGE_CANARY_READ, 100000, v1::RUN_STATE_SUCCEEDED);
  const v1::Migration kCutover = At(v1::STAGE_CUTOVER, 50000, v1::RUN_STATE_RUNNING, true);
  const v1::Migration kBackFromCutover = At(v1::STAGE_CUTOVER, 30000, v1::RUN_STATE_ROLLED_BACK, true);
  const struct {
    const char* condition;
    const v1::Migration& migration;
    Progress progress;
  } kTable[] = {
      {"stage=CANARY_READ", kDraft, Progress::kNotYet},
      {"stage=CANARY_READ", kShadow, Progress::kNotYet},
      {"stage=CANARY_READ", kCanary, Progress::kReached},
      {"stage=canary_read", kDone, Progress::kReached},
      {"stage=SHADOW_READ", kCanary, Progress::kReached},
      {"stage=SHADOW_READ", kBack, Progress::kWillNot},
      {"stage=CANARY_READ", kBack, Progress::kWillNot},
      {"stage=CUTOVER", kDone, Progress::kWillNot},
      {"weight=5%", kCanary, Progress::kReached},
      {"weight=5001", kCanary, Progress::kNotYet},
      {"weight=5%", kBack, Progress::kWillNot},
      {"weight=100%", kCutover, Progress::kReached},
      {"write_weight=50%", kCutover, Progress::kReached},
      {"write_weight=50.001%", kCutover, Progress::kNotYet},
      {"write_weight=0.001%", kCanary, Progress::kNotYet},
      {"write_weight=10%", kBackFromCutover, Progress::kWillNot},
      {"published", kBackFromCutover, Progress::kNotYet},
      {"succeeded", kCanary, Progress::kNotYet},
      {"succeeded", kDone, Progress::kReached},
      {"succeeded", kBack, Progress::kWillNot},
      {"rolled_back", kBack, Progress::kReached},
      {"rolled_back", kCanary, Progress::kNotYet},
      {"rolled_back", kDone, Progress::kWillNot},
      {"paused", kPaused, Progress::kReached},
      {"running", kBack, Progress::kWillNot},
      {"published", kPaused, Progress::kNotYet},
      {"published", kCanary, Progress::kReached},
      {"published", kBack, Progress::kReached},
  };
  for (const auto& row : kTable) {
    const auto condition = ParseCondition(row.condition);
    ASSERT_TRUE(condition.ok()) << condition.status();
    EXPECT_EQ(Judge(*condition, row.migration), row.progress) << row.condition << "\n"
                                                              << row.migration.ShortDebugString();
  }
}

TEST(ConditionTest, RefusesOthers) {
  for (const char* text : {"", "stage", "stage=", "stage=CANARY", "weight=", "weight=200%",
                           "write_weight=", "write_weight=x%", "done", "unspecified"}) {
    EXPECT_FALSE(ParseCondition(text).ok()) << text;
  }
}

}  // namespace
}  // namespace lockstep::cli
