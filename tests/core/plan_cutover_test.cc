// Plans that move write authority and go on to the end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "core/domain/alpha_spending.h"
#include "core/domain/bucketing.h"
#include "core/domain/plan.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

Check Mismatches() { return {.name = "mismatches", .metric = Metric::kMismatchRatio, .budget = 0.001}; }
Check Mirror() { return {.name = "mirror", .metric = Metric::kMirrorFailureRatio, .budget = 0.01}; }
Check Errors(BreachAction on_breach = BreachAction::kRollback) {
  return {.name = "errors", .metric = Metric::kErrorRatio, .floor = 0.005, .on_breach = on_breach};
}

// Steps 0 DUAL_WRITE, 1 SHADOW_READ, 2 CANARY_READ, 3 and 4 CUTOVER, 5 NEW_ONLY, 6 COMPLETE.
MigrationPlan FullPlan() {
  const absl::Duration bake = absl::Minutes(1);
  MigrationPlan plan;
  plan.steps = {{Stage::kDualWrite, 0, bake, {Mirror()}},
                {Stage::kShadowRead, 0, bake, {Mismatches(), Mirror()}},
                {Stage::kCanaryRead, kBucketCount, bake, {Mismatches(), Errors()}},
                {Stage::kCutover, 5'000, bake, {Mismatches(), Mirror()}},
                {Stage::kCutover, kBucketCount, bake, {Mismatches(), Mirror(), Errors()}},
                {Stage::kNewOnly, 0, bake, {Errors(BreachAction::kPause)}},
                {Stage::kComplete}};
  plan.expected_services = {{"orders", 2}};
  return plan;
}

struct PlanCase {
  const char* name;
  std::function<void(MigrationPlan&)> change;
  const char* path;
  const char* message;
};

std::vector<std::string> Shown(const std::vector<Violation>& violations) {
  std::vector<std::string> shown;
  for (const Violation& violation : violations) shown.push_back(violation.path + ": " + violation.message);
  return shown;
}

TEST(CutoverPlanTest, GoesToTheEnd) {
  EXPECT_THAT(Shown(ValidatePlan(FullPlan())), IsEmpty());
  EXPECT_THAT(Shown(LintPlan(FullPlan())), IsEmpty());
  for (const size_t steps : {4u, 5u, 6u}) {  // it may end anywhere
    MigrationPlan plan = FullPlan();
    plan.steps.resize(steps);
    EXPECT_THAT(Shown(ValidatePlan(plan)), IsEmpty()) << steps;
  }
  MigrationPlan limits = FullPlan();
  limits.cutover = {.slice_weight = 1, .max_hold = kMaxHold};
  EXPECT_THAT(Shown(ValidatePlan(limits)), IsEmpty());
}

TEST(CutoverPlanTest, EveryFaultHasItsPathAndReason) {
  const std::vector<PlanCase> kCases = {
      {"reads not whole", [](auto& p) { p.steps[2].weight = 50'000; }, "plan.steps[3].stage",
       "CUTOVER after CANARY_READ with a weight of 50000: all reads come from the new side before it; add a "
       "CANARY_READ step at 100000"},
      {"writes not whole", [](auto& p) { p.steps[4].weight = 99'999; }, "plan.steps[5].stage",
       "NEW_ONLY after CUTOVER with a weight of 99999: all writes go to the new side first before it"},
      {"skips CUTOVER", [](auto& p) { p.steps.erase(p.steps.begin() + 3, p.steps.begin() + 5); },
       "plan.steps[3].stage", "skips CUTOVER"},
      {"skips NEW_ONLY", [](auto& p) { p.steps.erase(p.steps.begin() + 5); }, "plan.steps[5].stage",
       "COMPLETE after CUTOVER skips NEW_ONLY"},
      {"falling weights",
       [](auto& p) {
         p.steps.insert(p.steps.begin() + 3, PlanStep{Stage::kCutover, 6'000});
       },
       "plan.steps[4].weight", "5000 after 6000"},
      {"equal weights", [](auto& p) { p.steps.insert(p.steps.begin() + 3, p.steps[3]); },
       "plan.steps[4].weight", "also the weight"},
      {"weight 0", [](auto& p) { p.steps[3].weight = 0; }, "plan.steps[3].weight", "0: a CUTOVER step"},
      {"weight of NEW_ONLY", [](auto& p) { p.steps[5].weight = kBucketCount; }, "plan.steps[5].weight",
       "100000 at NEW_ONLY: only CANARY_READ and CUTOVER have one"},
      {"latency of one side",
       [](auto& p) {
         p.steps[3].checks.push_back({.name = "latency", .metric = Metric::kLatency, .quantile = 0.95});
       },
       "plan.steps[3].checks[2].metric",
       "LATENCY has nothing to measure at CUTOVER and would never pass; use it up "
       "to CANARY_READ"},
      {"share of one side",
       [](auto& p) {
         p.steps[3].checks.push_back({.name = "share", .metric = Metric::kThroughputShare, .limit = 2});
       },
       "plan.steps[3].checks[2].metric", "up to CANARY_READ"},
      {"errors of one side", [](auto& p) { p.steps[4].checks[2].floor = 0; }, "plan.steps[4].checks[2].floor",
       "pass by its floor only"},
      {"mismatches without comparisons",
       [](auto& p) {
         p.steps[5].checks = {Mismatches()};
         p.steps[5].checks[0].on_breach = BreachAction::kPause;
       },
       "plan.steps[5].checks[0].metric", "MISMATCH_RATIO has nothing to measure at NEW_ONLY"},
      {"no way back", [](auto& p) { p.steps[5].checks = {Errors()}; }, "plan.steps[5].checks[0].on_breach",
       "there is no way back from there; use PAUSE or NOTIFY"},
      {"errors at COMPLETE", [](auto& p) { p.steps[6].checks = {Errors(BreachAction::kPause)}; },
       "plan.steps[6].checks[0].metric", "nothing to measure at COMPLETE"},
      {"no slice", [](auto& p) { p.cutover.slice_weight = 0; }, "plan.cutover.slice_weight", "[1, 100000]"},
      {"slice beyond all", [](auto& p) { p.cutover.slice_weight = kBucketCount + 1; },
       "plan.cutover.slice_weight", "100001"},
      {"no hold", [](auto& p) { p.cutover.max_hold = absl::ZeroDuration(); }, "plan.cutover.max_hold",
       "(0, 10m]"},
      {"long hold", [](auto& p) { p.cutover.max_hold = kMaxHold + absl::Nanoseconds(1); },
       "plan.cutover.max_hold", "writes of the slice wait"},
  };
  for (const PlanCase& c : kCases) {
    SCOPED_TRACE(c.name);
    MigrationPlan plan = FullPlan();
    c.change(plan);
    const std::vector<Violation> violations = ValidatePlan(plan);
    ASSERT_EQ(violations.size(), 1u) << testing::PrintToString(Shown(violations));
    EXPECT_EQ(violations[0].path, c.path);
    EXPECT_THAT(violations[0].message, HasSubstr(c.message));
  }
}

TEST(CutoverPlanTest, LintPointsAtWhatWasProbablyNotMeant) {
  const std::vector<PlanCase> kCases = {
      {"no bake before the point of no return", [](auto& p) { p.steps[4].min_bake = absl::ZeroDuration(); },
       "plan.steps[4].min_bake", "point of no return"},
      {"no bake before that", [](auto& p) { p.steps[3].min_bake = absl::ZeroDuration(); },
       "plan.steps[3].min_bake", "daily or hourly patterns"},
      {"no bake before the old side may go", [](auto& p) { p.steps[5].min_bake = absl::ZeroDuration(); },
       "plan.steps[5].min_bake", "the old side may be dropped"},
      {"everything at once", [](auto& p) { p.cutover.slice_weight = kBucketCount; },
       "plan.cutover.slice_weight", "all writes are held at once"},
      {"unchecked cutover", [](auto& p) { p.steps[3].checks.clear(); }, "plan.steps[3].checks", "no checks"},
      {"ends within CUTOVER", [](auto& p) { p.steps.resize(4); }, "plan.steps[3].weight",
       "some keys are never written to the new side first"},
  };
  for (const PlanCase& c : kCases) {
    SCOPED_TRACE(c.name);
    MigrationPlan plan = FullPlan();
    c.change(plan);
    EXPECT_THAT(Shown(ValidatePlan(plan)), IsEmpty());
    const std::vector<Violation> warnings = LintPlan(plan);
    ASSERT_EQ(warnings.size(), 1u) << testing::PrintToString(Shown(warnings));
    EXPECT_EQ(warnings[0].path, c.path);
    EXPECT_THAT(warnings[0].message, HasSubstr(c.message));
  }
  MigrationPlan reads_only = FullPlan();
  reads_only.steps.resize(3);
  reads_only.cutover.slice_weight = kBucketCount;
  EXPECT_THAT(Shown(LintPlan(reads_only)), IsEmpty()) << "no slice is ever moved";
}

// The write weight of a CUTOVER step is not its share of reads.
TEST(CutoverPlanTest, AllReadsComeFromNew) {
  MigrationPlan plan = FullPlan();
  plan.steps[3].checks.push_back(Errors());
  const double kShares[] = {0, 0, 1, 1, 1, 1, 1};
  for (size_t i = 0; i < plan.steps.size(); ++i) EXPECT_EQ(ReadShareOf(plan.steps[i]), kShares[i]) << i;
  for (const TestedNull& null : SpendAlpha(plan)) {
    if (null.check.metric != Metric::kErrorRatio) continue;
    for (const size_t step : {3u, 4u, 5u}) EXPECT_EQ(null.advance_parts[step], null.advance_parts[2]) << step;
  }
}

TEST(CutoverPlanTest, DeadlinePasses) {
  PlanStep step = {Stage::kCutover, 5'000};
  EXPECT_FALSE(DeadlinePassed(step, absl::InfiniteDuration()));
  step.deadline = absl::Minutes(5);
  EXPECT_FALSE(DeadlinePassed(step, absl::Minutes(5) - absl::Nanoseconds(1)));
  EXPECT_TRUE(DeadlinePassed(step, absl::Minutes(5)));
}

}  // namespace
}  // namespace lockstep::domain
