#include "core/domain/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "core/domain/bucketing.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

Check Mismatches(double budget = 0.001, const std::string& field = "") {
  return {.name = field.empty() ? "mismatches" : field,
          .metric = Metric::kMismatchRatio,
          .budget = budget,
          .field = field};
}
Check Errors(double floor = 0.005) {
  return {.name = "errors", .metric = Metric::kErrorRatio, .floor = floor};
}
Check Mirror(double budget = 0.01) {
  return {.name = "mirror", .metric = Metric::kMirrorFailureRatio, .budget = budget};
}

// One step with these checks, at CANARY_READ.
MigrationPlan PlanWith(std::vector<Check> checks, absl::Duration min_bake = absl::ZeroDuration()) {
  MigrationPlan plan;
  plan.steps = {{Stage::kCanaryRead, 5'000, min_bake, std::move(checks)}};
  return plan;
}

WindowStats Compared(uint64_t mismatches, uint64_t comparisons, const std::string& field = "city") {
  WindowStats window;
  window.comparison(ComparisonOutcome::kMismatch) = mismatches;
  window.comparison(ComparisonOutcome::kMatch) = comparisons - mismatches;
  FieldMismatches by_kind;
  by_kind[MismatchKind::kValue] = mismatches;
  if (mismatches > 0) {
    EXPECT_TRUE(window.AddFieldMismatches(field, by_kind).ok());
  }
  return window;
}

WindowStats Served(uint64_t new_errors, uint64_t new_reads, uint64_t old_errors, uint64_t old_reads) {
  WindowStats window;
  window.arm(Arm::kNew).errors = new_errors;
  window.arm(Arm::kNew).requests = new_reads;
  window.arm(Arm::kOld).errors = old_errors;
  window.arm(Arm::kOld).requests = old_reads;
  return window;
}

WindowStats Mirrored(uint64_t failed, uint64_t shed, uint64_t ok) {
  WindowStats window;
  window.writes.mirror_failed = failed;
  window.writes.mirror_shed = shed;
  window.writes.mirror_ok = ok;
  return window;
}

StepEvidence EvidenceOf(const MigrationPlan& plan, const std::vector<WindowStats>& windows, int step = 0,
                        const StepEvidence* previous = nullptr) {
  StepEvidence evidence(plan, step, previous);
  for (const WindowStats& window : windows) EXPECT_TRUE(evidence.AddBucket(window).ok());
  return evidence;
}

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
       Mismatches(),
       {},
       Verdict::kHold,
       "mismatches: no comparisons yet; needs 5,059 clean ones."},
      {"too few",
       Mismatches(),
       {Compared(0, 3'000)},
       Verdict::kHold,
       "mismatches: 0 of 3,000 comparisons differ (0 %, at most 0.17 %), the budget is 0.1 %: needs 2,059 "
       "more clean "
       "comparisons."},
      {"clean",
       Mismatches(),
       {Compared(0, 5'059)},
       Verdict::kAdvance,
       "mismatches: 0 of 5,059 comparisons differ (0 %, at most 0.1 %), the budget is 0.1 %: passed."},
      {"about the budget",
       Mismatches(),
       {Compared(10, 10'000)},
       Verdict::kHold,
       "will not resolve, the rate is about the bound or above it."},
      {"breached",
       Mismatches(),
       {Compared(412, 5'000)},
       Verdict::kRollBack,
       "mismatches: 412 of 5,000 comparisons differ (8.2 %, at least "},
      {"field",
       Mismatches(0.001, "city"),
       {Compared(412, 5'000)},
       Verdict::kRollBack,
       "differ in 'city' (8.2 %"},
      {"another field", Mismatches(0.001, "street"), {Compared(412, 9'000)}, Verdict::kAdvance, "0 of 9,000"},
      {"mirror",
       Mirror(),
       {Mirrored(60, 40, 900)},
       Verdict::kRollBack,
       "100 of 1,000 mirror writes failed (10 %"},
      {"mirror passes", Mirror(), {Mirrored(0, 0, 900)}, Verdict::kAdvance, "0 of 900 mirror writes failed"},
      {"mirror, no writes", Mirror(), {Compared(1, 10)}, Verdict::kHold, "no mirror writes yet"},
      {"errors",
       Errors(),
       {Served(30, 1'000, 5, 9'000)},
       Verdict::kRollBack,
       "errors: 30 of 1,000 reads served by the new side failed (3 %, at least 1.4 %), of those served by "
       "the old side 5 "
       "of 9,000, the floor is 0.5 %: roll back."},
      {"errors below the floor", Errors(0.1), {Served(30, 1'000, 5, 9'000)}, Verdict::kAdvance, "passed"},
      {"two subjects at most", Errors(0), {Served(2, 10, 0, 100'000)}, Verdict::kHold, "2 of 10"},
      {"as bad as the old side",
       Errors(),
       {Served(50, 1'000, 450, 9'000)},
       Verdict::kAdvance,
       "of those served by the old"},
      {"a little worse than the old side",
       Errors(),
       {Served(14, 200, 450, 9'000)},
       Verdict::kHold,
       "14 of 200"},
      {"clean reads", Errors(), {Served(0, 2'000, 0, 1'000)}, Verdict::kAdvance, "0 of 2,000 reads"},
      {"no reads", Errors(), {Served(0, 0, 3, 1'000)}, Verdict::kHold, "no reads served by the new side yet"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const GateResult result = EvidenceOf(PlanWith({c.check}), c.windows).Evaluate(absl::ZeroDuration(), {});
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
    MigrationPlan plan = PlanWith({Mismatches(budget), Mirror()});
    plan.steps.push_back(plan.steps[0]);
    const uint64_t comparisons = 1 + prng.Below(20'000);
    const uint64_t mismatches = std::min<uint64_t>(comparisons, prng.Below(20));
    const GateResult result = EvidenceOf(plan, {Compared(mismatches, comparisons)}).Evaluate({}, {});
    const CheckResult& check = result.checks[0];
    ASSERT_EQ(check.verdict == Verdict::kRollBack, check.lower >= budget) << check.sentence;
    ASSERT_EQ(check.verdict == Verdict::kAdvance, check.upper <= budget) << check.sentence;
    ASSERT_LE(check.lower, check.estimate);
    ASSERT_GE(check.upper, check.estimate);
    ASSERT_EQ(check.log_evidence_rollback >= check.log_threshold_rollback,
              check.verdict == Verdict::kRollBack);
    if (check.verdict != Verdict::kHold || !check.needed_more) continue;
    // What it says it needs is what it needs, to the last comparison.
    for (const uint64_t more : {*check.needed_more - 1, *check.needed_more}) {
      const GateResult later =
          EvidenceOf(plan, {Compared(mismatches, comparisons), Compared(0, more)}).Evaluate({}, {});
      ASSERT_EQ(later.checks[0].verdict == Verdict::kAdvance, more == *check.needed_more) << check.sentence;
    }
  }
}

TEST(GateTest, ThresholdsCountChecksAndSteps) {
  MigrationPlan plan = PlanWith({Mismatches(), Mirror()});
  Check advisory = Errors();
  advisory.advisory = true;
  plan.steps[0].checks.push_back(advisory);
  plan.steps.resize(4, plan.steps[0]);
  plan.alpha_rollback = 0.02;
  plan.alpha_advance = 0.05;
  for (const CheckResult& check : EvidenceOf(plan, {}).Evaluate({}, {}).checks) {
    EXPECT_DOUBLE_EQ(check.log_threshold_rollback, std::log(2 / 0.02));
    EXPECT_DOUBLE_EQ(check.log_threshold_advance, std::log(4 / 0.05));
  }
}

TEST(GateTest, EveryConditionForAnAdvanceIsNeeded) {
  const MigrationPlan plan = PlanWith({Mismatches(), Mirror()}, absl::Minutes(10));
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
    const GateResult result = EvidenceOf(plan, c.windows).Evaluate(c.age, c.guards);
    EXPECT_EQ(result.verdict, c.verdict) << result.sentence;
    EXPECT_THAT(result.sentence, HasSubstr(c.sentence));
    EXPECT_EQ(result.guards.size(), c.guards.size());
    EXPECT_EQ(result.bake_remaining, std::max(absl::ZeroDuration(), absl::Minutes(10) - c.age));
  }
}

TEST(GateTest, StepsWithoutBindingChecksAdvanceAfterTheirBakeTime) {
  Check advisory = Mismatches();
  advisory.advisory = true;
  for (const std::vector<Check>& checks : {std::vector<Check>{}, {advisory}}) {
    const StepEvidence evidence = EvidenceOf(PlanWith(checks, absl::Minutes(1)), {Compared(100, 100)});
    EXPECT_EQ(evidence.Evaluate(absl::Seconds(59), {}).verdict, Verdict::kHold);
    EXPECT_EQ(evidence.Evaluate(absl::Seconds(60), {}).verdict, Verdict::kAdvance);
  }
}

TEST(GateTest, ARollbackOutranksGuardsAndBakeTime) {
  const GateResult result = EvidenceOf(PlanWith({Mismatches()}, absl::Hours(1)), {Compared(100, 1'000)})
                                .Evaluate(absl::ZeroDuration(), {{"stale_telemetry", "no telemetry."}});
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
    MigrationPlan plan = PlanWith({Mismatches(), Mirror()});
    plan.steps[0].checks[0].on_breach = c.mismatches;
    plan.steps[0].checks[1].on_breach = c.mirror;
    const GateResult result = EvidenceOf(plan, {Compared(c.mismatches_breached ? 100 : 0, 1'000),
                                                Mirrored(c.mirror_breached ? 500 : 0, 0, 100)})
                                  .Evaluate({}, {});
    EXPECT_EQ(result.checks[0].verdict == Verdict::kRollBack, c.mismatches_breached);
    EXPECT_EQ(result.checks[1].verdict == Verdict::kRollBack, c.mirror_breached);
    EXPECT_EQ(result.verdict == Verdict::kRollBack, c.action.has_value()) << result.sentence;
    if (c.action) {
      EXPECT_EQ(result.action, *c.action);
    }
  }
}

TEST(GateTest, AdvisoryChecksChangeNothing) {
  MigrationPlan plan = PlanWith({Mismatches(), Mirror()});
  plan.steps[0].checks[0].advisory = true;
  const GateResult result = EvidenceOf(plan, {Compared(500, 1'000), Mirrored(0, 0, 10'000)}).Evaluate({}, {});
  EXPECT_EQ(result.verdict, Verdict::kAdvance);
  EXPECT_EQ(result.checks[0].verdict, Verdict::kRollBack);
  EXPECT_THAT(result.checks[0].sentence, HasSubstr("advisory only"));
}

// sum of omega_m E_m >= 1 / alpha with omega = 1/2: two checks that are each a little short of a breach of
// their own.
TEST(GateTest, ChecksAreWeighedTogetherForARollback) {
  const MigrationPlan plan = PlanWith({Mismatches(0.001), Mirror(0.001)});
  bool joint_only = false;
  for (uint64_t k = 1; k < 40 && !joint_only; ++k) {
    const GateResult result =
        EvidenceOf(plan, {Compared(k, 2'000), Mirrored(k, 0, 2'000 - k)}).Evaluate({}, {});
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

TEST(GateTest, OnlyMismatchEvidenceCarriesOver) {
  MigrationPlan plan = PlanWith({Mismatches(), Mismatches(0.001, "city"), Mirror(), Errors()});
  plan.steps.push_back(plan.steps[0]);
  plan.steps[1].checks.push_back(Mismatches(0.01, "street"));
  const StepEvidence first = EvidenceOf(
      plan, {Compared(3, 1'000), Mirrored(1, 1, 98), Served(1, 10, 2, 20), Compared(2, 500, "street")});
  const auto totals = [](const StepEvidence& evidence) {
    std::vector<std::pair<uint64_t, uint64_t>> counts;
    for (const CheckResult& check : evidence.Evaluate({}, {}).checks)
      counts.emplace_back(check.bad, check.total);
    return counts;
  };
  using Counts = std::vector<std::pair<uint64_t, uint64_t>>;
  EXPECT_EQ(totals(first), (Counts{{5, 1'500}, {3, 1'500}, {2, 100}, {1, 10}}));
  // "street" is checked in the second step only, yet its evidence starts in the first.
  EXPECT_EQ(totals(EvidenceOf(plan, {}, 1, &first)),
            (Counts{{5, 1'500}, {3, 1'500}, {0, 0}, {0, 0}, {2, 1'500}}));
  EXPECT_EQ(totals(EvidenceOf(plan, {Compared(1, 10)}, 1, &first)),
            (Counts{{6, 1'510}, {4, 1'510}, {0, 0}, {0, 0}, {2, 1'510}}));
  EXPECT_EQ(totals(EvidenceOf(plan, {}, 1, nullptr)), (Counts{{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}}));
}

TEST(GateTest, WhatIsNotComparableIsNoTrial) {
  WindowStats window = Compared(1, 100);
  window.comparison(ComparisonOutcome::kRaced) = 50;
  window.comparison(ComparisonOutcome::kTimeout) = 50;
  window.comparison(ComparisonOutcome::kMissingInNew) = 7;
  const GateResult result = EvidenceOf(PlanWith({Mismatches()}), {window}).Evaluate({}, {});
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
  const GateResult result = EvidenceOf(PlanWith({Mismatches(0.001, "zip")}), {window}).Evaluate({}, {});
  EXPECT_EQ(result.checks[0].bad, 100u);
}

TEST(GateTest, CountsThatCannotBeAreRefusedWhole) {
  const MigrationPlan plan = PlanWith({Mismatches(), Mirror(), Errors()});
  StepEvidence evidence = EvidenceOf(plan, {Compared(1, 10)});
  WindowStats too_many_errors = Served(11, 10, 0, 0);
  too_many_errors.comparison(ComparisonOutcome::kMatch) = 5;
  EXPECT_FALSE(evidence.AddBucket(too_many_errors).ok());
  EXPECT_EQ(evidence.AddBucket(Compared(0, kMaxCount)).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(evidence.Evaluate({}, {}).checks[0].total, 10u);
}

// The same buckets give the same verdicts, bit for bit.
TEST(GateTest, ReplayIsExact) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng prng(seed);
  const MigrationPlan plan = PlanWith({Mismatches(), Mirror(), Errors()});
  StepEvidence live(plan, 0, nullptr), replayed(plan, 0, nullptr);
  for (int i = 0; i < 500; ++i) {
    WindowStats window = Compared(prng.Below(2), 100 + prng.Below(100));
    ASSERT_TRUE(window.Merge(Mirrored(prng.Below(2), prng.Below(2), prng.Below(100))).ok());
    ASSERT_TRUE(
        window.Merge(Served(prng.Below(2), 10 + prng.Below(50), prng.Below(3), 100 + prng.Below(500))).ok());
    ASSERT_TRUE(live.AddBucket(window).ok());
    (void)live.Evaluate({}, {});  // looking changes nothing
    ASSERT_TRUE(replayed.AddBucket(window).ok());
  }
  const GateResult a = live.Evaluate(absl::Minutes(1), {}), b = replayed.Evaluate(absl::Minutes(1), {});
  EXPECT_EQ(a.sentence, b.sentence);
  for (size_t i = 0; i < a.checks.size(); ++i) {
    EXPECT_EQ(a.checks[i].log_evidence_rollback, b.checks[i].log_evidence_rollback);
    EXPECT_EQ(a.checks[i].log_evidence_advance, b.checks[i].log_evidence_advance);
    EXPECT_EQ(a.checks[i].lower, b.checks[i].lower);
    EXPECT_EQ(a.checks[i].upper, b.checks[i].upper);
    EXPECT_EQ(a.checks[i].verdict, b.checks[i].verdict);
  }
}

// A good migration at the edge of its null, looked at after every bucket: at most alpha of the lives are
// rolled back.
TEST(GateTest, GoodMigrationsAreRarelyRolledBack) {
  constexpr uint64_t kSeed = 20240607;
  constexpr int kLives = 400;
  const MigrationPlan plan = PlanWith({Mismatches(0.01), Errors()});
  Prng prng(kSeed);
  const auto binomial = [&](uint64_t n, double p) {
    uint64_t k = 0;
    for (uint64_t i = 0; i < n; ++i) k += prng.Unit() < p ? 1 : 0;
    return k;
  };
  int rolled_back = 0;
  for (int life = 0; life < kLives; ++life) {
    StepEvidence evidence(plan, 0, nullptr);
    for (int bucket = 0; bucket < 40; ++bucket) {
      ASSERT_TRUE(evidence.AddBucket(Compared(binomial(50, 0.01), 50)).ok());
      ASSERT_TRUE(evidence.AddBucket(Served(binomial(20, 0.02), 20, binomial(80, 0.02), 80)).ok());
      if (evidence.Evaluate({}, {}).verdict == Verdict::kRollBack) {
        ++rolled_back;
        break;
      }
    }
  }
  // alpha = 0.01; 99 % of binomial(400, 0.01) is at most 9.
  EXPECT_LE(rolled_back, 9) << "seed " << kSeed;
}

}  // namespace
}  // namespace lockstep::domain
