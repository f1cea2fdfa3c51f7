// The gate from CUTOVER on: all reads come from the new side, the old one is the shadow and gets the mirror
// writes.
#include <gmock/gmock.h>

#include <vector>

#include "core/domain/bucketing.h"
#include "core/domain/gate.h"
#include "core/domain/transition.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

constexpr int kCanary = 2, kCutover = 3, kNewOnly = 4;  // steps

MigrationPlan PlanToNewOnly(std::vector<Check> at_cutover, std::vector<Check> at_new_only = {}) {
  MigrationPlan plan;
  plan.steps = {{Stage::kDualWrite},
                {Stage::kShadowRead},
                {Stage::kCanaryRead, kBucketCount, absl::ZeroDuration(), {MismatchCheck()}},
                {Stage::kCutover, kBucketCount, absl::ZeroDuration(), std::move(at_cutover)},
                {Stage::kNewOnly, 0, absl::Seconds(30), std::move(at_new_only)}};
  return plan;
}

TEST(GateCutoverTest, EveryMetricThatHasSomethingToSay) {
  const struct {
    const char* name;
    Check check;
    WindowStats window;
    Verdict verdict;
  } kCases[] = {
      {"equal records", MismatchCheck(), Compared(0, 10'000), Verdict::kAdvance},
      {"unequal records", MismatchCheck(), Compared(200, 10'000), Verdict::kRollBack},
      {"mirrors arrive", MirrorCheck(), Mirrored(0, 0, 10'000), Verdict::kAdvance},
      {"mirrors to old fail", MirrorCheck(), Mirrored(500, 0, 9'500), Verdict::kRollBack},
      {"nobody fails", PairedErrorCheck(), PairedFailures(0, 0, 10'000), Verdict::kAdvance},
      {"the served side fails", PairedErrorCheck(), PairedFailures(300, 0, 10'000), Verdict::kRollBack},
      {"the shadow fails", PairedErrorCheck(), PairedFailures(0, 300, 10'000), Verdict::kAdvance},
      {"reads without errors, by the floor", ErrorCheck(), Served(0, 10'000, 0, 0), Verdict::kAdvance},
      // Nothing says that the old side would not have failed, too.
      {"reads with errors", ErrorCheck(), Served(500, 10'000, 0, 0), Verdict::kHold},
      {"no data", MismatchCheck(), WindowStats(), Verdict::kHold},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    const MigrationPlan plan = PlanToNewOnly({test.check});
    ASSERT_TRUE(ValidatePlan(plan).empty());
    GateRun run(plan, EvidenceEpoch{.start = kGateStart}, kCutover);
    for (int bucket = 0; bucket < 5; ++bucket) run.Add(test.window);
    const GateResult result = run.Evaluate();
    EXPECT_EQ(result.verdict, test.verdict) << result.sentence;
    EXPECT_EQ(run.EvaluateVerdict(), test.verdict);
  }
}

// What was compared at CANARY_READ is evidence of the same records.
TEST(GateCutoverTest, MismatchEvidenceCarriesOver) {
  GateRun run(PlanToNewOnly({MismatchCheck()}), EvidenceEpoch{.start = kGateStart}, kCanary);
  for (int bucket = 0; bucket < 5; ++bucket) run.Add(Compared(0, 10'000));
  run.BeginStep(kCutover);
  EXPECT_EQ(run.EvaluateVerdict(), Verdict::kAdvance);
}

TEST(GateCutoverTest, NewOnlyLastsForItsBakeTime) {
  GateRun run(PlanToNewOnly({MismatchCheck()}));
  run.BeginStep(kNewOnly);
  for (const auto& [age, verdict] :
       {std::pair(absl::Seconds(29), Verdict::kHold), std::pair(absl::Seconds(30), Verdict::kAdvance)}) {
    EvaluationContext context;
    context.step_age = age;
    EXPECT_EQ(run.Evaluate(context).verdict, verdict) << age;
  }
}

TEST(GateCutoverTest, ErrorsAtNewOnlyHoldIt) {
  Check errors = ErrorCheck();
  errors.on_breach = BreachAction::kPause;
  GateRun run(PlanToNewOnly({MismatchCheck()}, {errors}));
  ASSERT_TRUE(ValidatePlan(PlanToNewOnly({MismatchCheck()}, {errors})).empty());
  run.BeginStep(kNewOnly);
  EvaluationContext context;
  context.step_age = absl::Minutes(1);
  run.Add(Served(500, 10'000, 0, 0));
  EXPECT_EQ(run.Evaluate(context).verdict, Verdict::kHold);
}

}  // namespace
}  // namespace lockstep::domain
