#include "core/domain/gate.h"

#include <cmath>
#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "core/domain/bucketing.h"
#include "core/domain/log_math.h"
#include "core/domain/rate_evidence.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

TEST(GateTest, EveryKindOfVerdictWithItsSentence) {
  struct Case {
    const char* name;
    Check check;
    std::vector<WindowStats> windows;
    Verdict verdict;
    const char* sentence;
  };
  const Case kCases[] = {
      {"no data",
       MismatchCheck(),
       {},
       Verdict::kHold,
       "mismatches: no comparisons yet; needs 5,059 clean ones."},
      {"too few",
       MismatchCheck(),
       {Compared(0, 3'000)},
       Verdict::kHold,
       "mismatches: 0 of 3,000 comparisons differ (0 %, at most 0.17 %), the budget is 0.1 %: needs 2,059 "
       "more clean comparisons, about 4s at this pace."},
      {"clean",
       MismatchCheck(),
       {Compared(0, 5'059)},
       Verdict::kAdvance,
       "mismatches: 0 of 5,059 comparisons differ (0 %, at most 0.1 %), the budget is 0.1 %: passed."},
      {"about the budget",
       MismatchCheck(),
       {Compared(10, 10'000)},
       Verdict::kHold,
       "will not resolve, the rate is about the bound or above it."},
      {"breached",
       MismatchCheck(),
       {Compared(412, 5'000)},
       Verdict::kRollBack,
       "mismatches: 412 of 5,000 comparisons differ (8.2 %, at least "},
      {"field",
       MismatchCheck(0.001, "city"),
       {Compared(412, 5'000)},
       Verdict::kRollBack,
       "differ in 'city' (8.2 %"},
      {"another field",
       MismatchCheck(0.001, "street"),
       {Compared(412, 9'000)},
       Verdict::kAdvance,
       "0 of 9,000"},
      {"mirror",
       MirrorCheck(),
       {Mirrored(60, 40, 900)},
       Verdict::kRollBack,
       "100 of 1,000 mirror writes failed (10 %"},
      {"mirror passes",
       MirrorCheck(),
       {Mirrored(0, 0, 900)},
       Verdict::kAdvance,
       "0 of 900 mirror writes failed"},
      {"mirror, no writes", MirrorCheck(), {Compared(1, 10)}, Verdict::kHold, "no mirror writes yet"},
      {"errors",
       ErrorCheck(),
       {Served(30, 1'000, 5, 9'000)},
       Verdict::kRollBack,
       "errors: 30 of 1,000 reads served by the new side failed (3 %, at least 1.4 %), of those served by "
       "the old side 5 "
       "of 9,000, the floor is 0.5 %: roll back."},
      {"errors below the floor", ErrorCheck(0.1), {Served(30, 1'000, 5, 9'000)}, Verdict::kAdvance, "passed"},
      {"two subjects at most", ErrorCheck(0), {Served(2, 10, 0, 100'000)}, Verdict::kHold, "2 of 10"},
      {"as bad as the old side",
       ErrorCheck(),
       {Served(50, 1'000, 450, 9'000)},
       Verdict::kAdvance,
       "of those served by the old"},
      {"a little worse than the old side",
       ErrorCheck(),
       {Served(14, 200, 450, 9'000)},
       Verdict::kHold,
       "14 of 200"},
      {"clean reads", ErrorCheck(), {Served(0, 2'000, 0, 1'000)}, Verdict::kAdvance, "0 of 2,000 reads"},
      {"no reads",
       ErrorCheck(),
       {Served(0, 0, 3, 1'000)},
       Verdict::kHold,
       "no reads served by the new side yet"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const GateResult result = GateRun(PlanWith({c.check}), c.windows).Evaluate();
    ASSERT_EQ(result.checks.size(), 1u);
    EXPECT_EQ(VerdictName(result.verdict), VerdictName(c.verdict)) << result.sentence;
    EXPECT_EQ(result.checks[0].verdict, c.verdict);
    EXPECT_THAT(result.checks[0].sentence, HasSubstr(c.sentence));
    EXPECT_FALSE(result.sentence.empty());
    EXPECT_FALSE(result.checks[0].null_hypothesis.empty());
  }
}

TEST(GateTest, BoundsAndVerdictsOfBudgetsAgree) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng prng(seed);
  for (int i = 0; i < 2'000; ++i) {
    const double budget = std::pow(10, -1 - 3 * prng.Unit());
    MigrationPlan plan = PlanWith({MismatchCheck(budget), MirrorCheck()});
    plan.steps.push_back(plan.steps[0]);
    const uint64_t comparisons = 1 + prng.Below(20'000);
    const uint64_t mismatches = std::min<uint64_t>(comparisons, prng.Below(20));
    const GateResult result = GateRun(plan, {Compared(mismatches, comparisons)}).Evaluate();
    const CheckResult& check = result.checks[0];
    ASSERT_EQ(check.verdict == Verdict::kAdvance, check.upper <= budget) << check.sentence;
    ASSERT_LE(check.lower, check.estimate);
    ASSERT_GE(check.upper, check.estimate);
    // Half the stake is on "from the first step on", the rest is kept: two steps, and not a minute yet.
    RateEvidence rate;
    ASSERT_TRUE(rate.Add(static_cast<double>(mismatches), static_cast<double>(comparisons)).ok());
    ASSERT_NEAR(check.log_evidence_rollback, LogAddExp(*rate.LogUp(budget), 0) - std::log(2),
                1e-9 * (1 + static_cast<double>(comparisons)));
    ASSERT_EQ(check.log_evidence_rollback >= check.log_threshold_rollback,
              check.verdict == Verdict::kRollBack);
    if (check.verdict != Verdict::kHold || !check.needed_more) continue;
    // What it says it needs is what it needs, to the last comparison.
    for (const uint64_t more : {*check.needed_more - 1, *check.needed_more}) {
      const GateResult later =
          GateRun(plan, {Compared(mismatches, comparisons), Compared(0, more)}).Evaluate();
      ASSERT_EQ(later.checks[0].verdict == Verdict::kAdvance, more == *check.needed_more) << check.sentence;
    }
  }
}

TEST(GateTest, ThresholdsCountChecksAndSteps) {
  MigrationPlan plan = PlanWith({MismatchCheck(), MirrorCheck()});
  Check advisory = ErrorCheck();
  advisory.advisory = true;
  plan.steps[0].checks.push_back(advisory);
  plan.steps.resize(4, plan.steps[0]);
  plan.alpha_rollback = 0.02;
  plan.alpha_advance = 0.05;
  for (const CheckResult& check : GateRun(plan).Evaluate().checks) {
    EXPECT_DOUBLE_EQ(check.log_threshold_rollback, std::log(2 / 0.02));
    EXPECT_DOUBLE_EQ(check.log_threshold_advance,
                     std::log((check.metric == Metric::kMismatchRatio ? 1 : 4) / 0.05));
  }
}

TEST(GateTest, EveryConditionForAnAdvanceIsNeeded) {
  const MigrationPlan plan = PlanWith({MismatchCheck(), MirrorCheck()}, absl::Minutes(10));
  const std::vector<WindowStats> clean = {Compared(0, 10'000), Mirrored(0, 0, 10'000)};
  const Guard guard = {"expected_instances", "1 of 2 expected instances of 'orders' are enrolled."};
  struct Case {
    std::vector<WindowStats> windows;
    absl::Duration age;
    std::vector<Guard> guards;
    Verdict verdict;
    const char* sentence;
  };
  const Case kCases[] = {
      {clean,
       absl::Minutes(10),
       {},
       Verdict::kAdvance,
       "all 2 checks pass and the minimum bake time has passed."},
      {clean,
       absl::Minutes(10) - absl::Milliseconds(1),
       {},
       Verdict::kHold,
       "the step has 1s of its minimum bake time left."},
      {clean,
       absl::Minutes(10),
       {guard},
       Verdict::kHold,
       "1 of 2 expected instances of 'orders' are enrolled."},
      {{clean[0]}, absl::Minutes(10), {}, Verdict::kHold, "mirror: no mirror writes yet"},
      {{clean[1]}, absl::Minutes(1), {guard}, Verdict::kHold, "are enrolled (and 2 more)."},
  };
  for (const Case& c : kCases) {
    const GateResult result = GateRun(plan, c.windows).Evaluate({.step_age = c.age, .open_guards = c.guards});
    EXPECT_EQ(result.verdict, c.verdict) << result.sentence;
    EXPECT_THAT(result.sentence, HasSubstr(c.sentence));
    EXPECT_EQ(result.guards.size(), c.guards.size());
    EXPECT_EQ(result.bake_remaining, std::max(absl::ZeroDuration(), absl::Minutes(10) - c.age));
  }
}

TEST(GateTest, StepsWithoutBindingChecksAdvanceAfterTheirBakeTime) {
  Check advisory = MismatchCheck();
  advisory.advisory = true;
  for (const std::vector<Check>& checks : {std::vector<Check>{}, {advisory}}) {
    const GateRun run(PlanWith(checks, absl::Minutes(1)), {Compared(100, 100)});
    EXPECT_EQ(run.Evaluate({.step_age = absl::Seconds(59)}).verdict, Verdict::kHold);
    EXPECT_EQ(run.Evaluate({.step_age = absl::Seconds(60)}).verdict, Verdict::kAdvance);
  }
}

TEST(GateTest, ARollbackOutranksGuardsAndBakeTime) {
  const GateResult result = GateRun(PlanWith({MismatchCheck()}, absl::Hours(1)), {Compared(100, 1'000)})
                                .Evaluate({.open_guards = {{"stale_telemetry", "no telemetry."}}});
  EXPECT_EQ(result.verdict, Verdict::kRollBack);
  EXPECT_EQ(result.action, BreachAction::kRollback);
  EXPECT_THAT(result.sentence, HasSubstr("roll back."));
}

TEST(GateTest, TheActionIsTheGravestAmongBreachedChecks) {
  struct Case {
    BreachAction mismatches, mirror;
    bool mismatches_breached, mirror_breached;
    std::optional<BreachAction> action;  // nothing: HOLD
  };
  const Case kCases[] = {
      {BreachAction::kRollback, BreachAction::kPause, true, true, BreachAction::kRollback},
      {BreachAction::kPause, BreachAction::kRollback, true, true, BreachAction::kRollback},
      {BreachAction::kPause, BreachAction::kRollback, true, false, BreachAction::kPause},
      {BreachAction::kPause, BreachAction::kNotify, true, true, BreachAction::kPause},
      {BreachAction::kNotify, BreachAction::kRollback, true, false, std::nullopt},
      {BreachAction::kNotify, BreachAction::kNotify, true, true, std::nullopt},
      {BreachAction::kRollback, BreachAction::kRollback, false, false, std::nullopt},
  };
  for (const Case& c : kCases) {
    MigrationPlan plan = PlanWith({MismatchCheck(), MirrorCheck()});
    plan.steps[0].checks[0].on_breach = c.mismatches;
    plan.steps[0].checks[1].on_breach = c.mirror;
    const GateResult result = GateRun(plan, {Compared(c.mismatches_breached ? 100 : 0, 1'000),
                                             Mirrored(c.mirror_breached ? 500 : 0, 0, 100)})
                                  .Evaluate();
    EXPECT_EQ(result.checks[0].verdict == Verdict::kRollBack, c.mismatches_breached);
    EXPECT_EQ(result.checks[1].verdict == Verdict::kRollBack, c.mirror_breached);
    EXPECT_EQ(result.verdict == Verdict::kRollBack, c.action.has_value()) << result.sentence;
    if (c.action) {
      EXPECT_EQ(result.action, *c.action);
    }
  }
}

TEST(GateTest, AdvisoryChecksChangeNothing) {
  MigrationPlan plan = PlanWith({MismatchCheck(), MirrorCheck()});
  plan.steps[0].checks[0].advisory = true;
  const GateResult result = GateRun(plan, {Compared(500, 1'000), Mirrored(0, 0, 10'000)}).Evaluate();
  EXPECT_EQ(result.verdict, Verdict::kAdvance);
  EXPECT_EQ(result.checks[0].verdict, Verdict::kRollBack);
  EXPECT_THAT(result.checks[0].sentence, HasSubstr("advisory only"));
}

// sum of omega_m E_m >= 1 / alpha with omega = 1/2: two checks that are each a little short of a breach of
// their own.
TEST(GateTest, ChecksAreWeighedTogetherForARollback) {
  const MigrationPlan plan = PlanWith({MismatchCheck(0.001), MirrorCheck(0.001)});
  bool joint_only = false;
  for (uint64_t i = 0; i < 400; ++i) {
    const uint64_t k = 5 + i % 10, n = 1'000 + 50 * (i / 10);
    const GateResult result = GateRun(plan, {Compared(k, n), Mirrored(k, 0, n - k)}).Evaluate();
    const double log_mean =
        LogAddExp(result.checks[0].log_evidence_rollback, result.checks[1].log_evidence_rollback) -
        std::log(2);
    EXPECT_EQ(result.verdict == Verdict::kRollBack, log_mean >= std::log(1 / plan.alpha_rollback));
    if (result.verdict == Verdict::kRollBack && result.checks[0].verdict != Verdict::kRollBack) {
      joint_only = true;
      EXPECT_THAT(result.sentence, HasSubstr("all of them together are: roll back"));
      EXPECT_EQ(result.action, BreachAction::kRollback);
    }
  }
  EXPECT_TRUE(joint_only);
}

TEST(GateTest, OnlyEvidenceThatDoesNotDependOnTheShareCarriesOver) {
  MigrationPlan plan = PlanWith({MismatchCheck(), MismatchCheck(0.001, "city"), MirrorCheck(), ErrorCheck()});
  plan.steps.push_back(plan.steps[0]);
  plan.steps[1].checks.push_back(MismatchCheck(0.01, "street"));
  GateRun run(plan,
              {Compared(3, 1'000), Mirrored(1, 1, 98), Served(1, 10, 2, 20), Compared(2, 500, "street")});
  using Counts = std::vector<std::pair<uint64_t, uint64_t>>;
  const auto totals = [&] {
    Counts counts;
    for (const CheckResult& check : run.Evaluate().checks) counts.emplace_back(check.bad, check.total);
    return counts;
  };
  EXPECT_EQ(totals(), (Counts{{5, 1'500}, {3, 1'500}, {2, 100}, {1, 10}}));
  // "street" is checked in the second step only, yet its evidence starts in the first.
  run.BeginStep(1);
  EXPECT_EQ(totals(), (Counts{{5, 1'500}, {3, 1'500}, {0, 0}, {0, 0}, {2, 1'500}}));
  run.Add(Compared(1, 10));
  EXPECT_EQ(totals(), (Counts{{6, 1'510}, {4, 1'510}, {0, 0}, {0, 0}, {2, 1'510}}));
  EXPECT_EQ(run.evidence().step(), 1);
  // A new epoch starts with nothing.
  run = GateRun(plan, {.restarts = 1, .start = run.next_bucket()}, 1);
  EXPECT_EQ(totals(), (Counts{{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}}));
}

TEST(GateTest, WhatIsNotComparableIsNoTrial) {
  WindowStats window = Compared(1, 100);
  window.comparison(ComparisonOutcome::kRaced) = 50;
  window.comparison(ComparisonOutcome::kTimeout) = 50;
  window.comparison(ComparisonOutcome::kMissingInNew) = 7;
  const GateResult result = GateRun(PlanWith({MismatchCheck()}), {window}).Evaluate();
  EXPECT_EQ(result.checks[0].bad, 8u);
  EXPECT_EQ(result.checks[0].total, 107u);
}

TEST(GateTest, AFieldLostAmongTheOthersIsNotClean) {
  WindowStats window;
  window.comparison(ComparisonOutcome::kMismatch) = 200;
  FieldMismatches one;
  one[MismatchKind::kValue] = 100;
  for (size_t i = 0; i < WindowStats::kMaxFields; ++i) {
    ASSERT_TRUE(window.AddFieldMismatches(absl::StrCat("a", i), one).ok());
  }
  ASSERT_TRUE(window.AddFieldMismatches("zip", one).ok());
  const GateResult result = GateRun(PlanWith({MismatchCheck(0.001, "zip")}), {window}).Evaluate();
  EXPECT_EQ(result.checks[0].bad, 100u);
}

TEST(GateTest, CountsThatCannotBeAreRefusedWhole) {
  const MigrationPlan plan = PlanWith({MismatchCheck(), MirrorCheck(), ErrorCheck()});
  GateRun run(plan, {Compared(1, 10)});
  WindowStats too_many_errors = Served(11, 10, 0, 0);
  too_many_errors.comparison(ComparisonOutcome::kMatch) = 5;
  EXPECT_FALSE(run.TryAdd(too_many_errors).ok());
  EXPECT_EQ(run.TryAdd(Compared(0, kMaxCount)).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(run.Evaluate().checks[0].total, 10u);
}

// The same buckets give the same verdicts, bit for bit.
TEST(GateTest, ReplayIsExact) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng prng(seed);
  const MigrationPlan plan = PlanWith({MismatchCheck(), MirrorCheck(), ErrorCheck()});
  GateRun live(plan), replayed(plan);
  for (int i = 0; i < 500; ++i) {
    WindowStats window = Compared(prng.Below(2), 100 + prng.Below(100));
    ASSERT_TRUE(window.Merge(Mirrored(prng.Below(2), prng.Below(2), prng.Below(100))).ok());
    ASSERT_TRUE(
        window.Merge(Served(prng.Below(2), 10 + prng.Below(50), prng.Below(3), 100 + prng.Below(500))).ok());
    ASSERT_TRUE(live.TryAdd(window).ok());
    (void)live.Evaluate();  // looking changes nothing
    ASSERT_TRUE(replayed.TryAdd(window).ok());
  }
  const EvaluationContext context = {.step_age = absl::Minutes(1)};
  const GateResult a = live.Evaluate(context), b = replayed.Evaluate(context);
  EXPECT_EQ(a.sentence, b.sentence);
  for (size_t i = 0; i < a.checks.size(); ++i) {
    EXPECT_EQ(a.checks[i].log_evidence_rollback, b.checks[i].log_evidence_rollback);
    EXPECT_EQ(a.checks[i].log_evidence_advance, b.checks[i].log_evidence_advance);
    EXPECT_EQ(a.checks[i].lower, b.checks[i].lower);
    EXPECT_EQ(a.checks[i].upper, b.checks[i].upper);
    EXPECT_EQ(a.checks[i].verdict, b.checks[i].verdict);
  }
}

}  // namespace
}  // namespace lockstep::domain
