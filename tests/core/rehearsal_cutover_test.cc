// Rehearsals and simulations of plans that go on to COMPLETE: write authority moves at once, comparisons go
// on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/bucketing.h"
#include "core/domain/rehearsal.h"
#include "core/domain/traffic_model.h"

namespace lockstep::domain {
namespace {

constexpr uint64_t kSeed = 11;

MigrationPlan FullPlan() {
  const Check mismatches = {.name = "mismatches", .metric = Metric::kMismatchRatio, .budget = 0.01};
  const Check mirror = {.name = "mirror", .metric = Metric::kMirrorFailureRatio, .budget = 0.01};
  MigrationPlan plan;
  plan.steps = {{.stage = Stage::kDualWrite},
                {.stage = Stage::kShadowRead, .checks = {mismatches}},
                {.stage = Stage::kCanaryRead, .weight = kBucketCount, .checks = {mismatches}},
                {.stage = Stage::kCutover, .weight = 5'000, .checks = {mirror}},
                {.stage = Stage::kCutover, .weight = kBucketCount, .checks = {mismatches, mirror}},
                {.stage = Stage::kNewOnly, .min_bake = absl::Seconds(20)},
                {.stage = Stage::kComplete}};
  return plan;
}

TrafficModel Traffic() {
  TrafficModel model;
  model.reads_per_second = 400;
  model.writes_per_second = 400;
  model.comparison_share = 0.5;
  return model;
}

TEST(RehearsalCutoverTest, GoesToTheEndWhenSomebodyAcceptsThePointOfNoReturn) {
  for (const bool somebody : {false, true}) {
    Rehearsal rehearsal({.full_results = false, .advance_manual_steps = somebody});
    ASSERT_TRUE(rehearsal.Add(EvidenceHeader{"", FullPlan(), {}}, 1).ok());
    TrafficSource traffic(Traffic(), kSeed);
    std::vector<std::string> states;
    for (int i = 0; i < 500; ++i) {
      const RoutingState& at = rehearsal.migration().published;
      EvidenceBucket bucket{absl::UnixEpoch() + traffic.elapsed(), traffic.Next(at.stage, at.read_weight)};
      ASSERT_TRUE(rehearsal.Add(std::move(bucket), 2).ok());
      const RoutingState& now = rehearsal.migration().published;
      EXPECT_FALSE(now.drain_weight > now.write_weight) << "nothing is held";
      const std::string state = absl::StrCat(StageName(now.stage), " ", now.write_weight);
      if (states.empty() || states.back() != state) states.push_back(state);
    }
    if (somebody) {
      EXPECT_THAT(states, testing::ElementsAre("SHADOW_READ 0", "CANARY_READ 0", "CUTOVER 5000",
                                               "CUTOVER 100000", "NEW_ONLY 100000", "COMPLETE 100000"));
      EXPECT_EQ(rehearsal.migration().run_state, RunState::kSucceeded);
    } else {
      EXPECT_EQ(states.back(), "CUTOVER 100000");
      EXPECT_EQ(rehearsal.migration().run_state, RunState::kRunning);
      EXPECT_EQ(rehearsal.Evaluate().verdict, Verdict::kAdvance);
    }
  }
}

TEST(RehearsalCutoverTest, BadMirrorsRollCutoverBackToTheOldSide) {
  MigrationPlan plan = FullPlan();
  TrafficModel model = Traffic();
  model.new_side.mirror_failure_rate = 0.2;
  const auto bad = SimulateRuns(plan, model, {.runs = 10, .seed = kSeed});
  ASSERT_TRUE(bad.ok()) << bad.status();
  EXPECT_EQ(bad->until_rollback.runs, 10u);
  EXPECT_EQ(bad->rollbacks_by_check.at("mirror"), 10u);
  EXPECT_EQ(bad->until_step[3].runs, 10u) << "found where it is first looked at";
}

TEST(RehearsalCutoverTest, SimulationsTellHowLongEachStepTakes) {
  const auto healthy = SimulateRuns(FullPlan(), Traffic(), {.runs = 10, .seed = kSeed});
  ASSERT_TRUE(healthy.ok()) << healthy.status();
  EXPECT_EQ(healthy->until_end.runs, 10u);
  for (size_t i = 1; i < healthy->until_step.size(); ++i) {
    EXPECT_EQ(healthy->until_step[i].runs, 10u);
    EXPECT_GE(healthy->until_step[i].median, healthy->until_step[i - 1].median);
  }
  // Nothing is compared there, so that the step lasts for its bake time, in buckets of 5 s.
  EXPECT_EQ(healthy->until_step[6].median - healthy->until_step[5].median, absl::Seconds(20));
}

}  // namespace
}  // namespace lockstep::domain
