// What holds over a whole evidence epoch: error bounds through many steps, thresholds, joint nulls, verdicts
// that agree, copies.
#include <cmath>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "core/domain/gate.h"
#include "core/domain/log_math.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

constexpr uint64_t kSeed = 20240607;

MigrationPlan PlanOfSteps(int steps, const std::vector<Check>& checks) {
  MigrationPlan plan = PlanWith(checks);
  plan.steps.resize(static_cast<size_t>(steps), plan.steps[0]);
  return plan;
}

uint64_t Draw(std::mt19937_64& random, double rate, uint64_t trials) {
  return std::binomial_distribution<uint64_t>(trials, rate)(random);
}

// A good migration at the edge of all its nulls, through eight steps and a resumed one, looked at after every
// bucket: at most alpha of the lives are rolled back.
TEST(GateEpochTest, GoodMigrationsAreRarelyRolledBack) {
  constexpr int kSteps = 8;
  const struct {
    const char* name;
    std::vector<Check> checks;
    int lives;
  } kCases[] = {
      {"one null", {MismatchCheck(.01)}, 3'000},
      {"four nulls", {MismatchCheck(.01), ErrorCheck(0), MirrorCheck(.02), PairedLatencyCheck()}, 2'000},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(absl::StrCat(test.name, ", seed ", kSeed));
    const MigrationPlan plan = PlanOfSteps(kSteps, test.checks);
    std::mt19937_64 random(kSeed);
    int rolled_back = 0;
    for (int life = 0; life < test.lives; ++life) {
      GateRun run(plan);
      bool breached = false;
      for (int step = 0; step <= kSteps && !breached; ++step) {
        if (step > 0) run.BeginStep(std::min(step, kSteps - 1));
        for (int bucket = 0; bucket < 20 && !breached; ++bucket) {
          WindowStats window = Compared(Draw(random, .01, 50), 50);
          if (test.checks.size() > 1) {
            const WindowStats reads = Served(Draw(random, .022, 20), 20, Draw(random, .02, 80), 80);
            window.arms = reads.arms;
            window.writes.mirror_failed = Draw(random, .02, 30);
            window.writes.mirror_ok = 30 - window.writes.mirror_failed;
            window.paired_latency.slower = Draw(random, .5, 10);
            window.paired_latency.not_slower = 10 - window.paired_latency.slower;
          }
          run.Add(window);
          breached = run.EvaluateVerdict() == Verdict::kRollBack;
        }
      }
      rolled_back += breached;
    }
    EXPECT_LE(rolled_back, test.lives / 100);
  }
}

TEST(GateEpochTest, EveryRestartHalvesTheErrorProbabilities) {
  MigrationPlan plan = PlanOfSteps(4, {MismatchCheck(), MirrorCheck()});
  plan.alpha_rollback = .02;
  plan.alpha_advance = .05;
  for (const uint32_t restarts : {0u, 1u, 2u, 7u}) {
    SCOPED_TRACE(restarts);
    const GateRun run(plan, EvidenceEpoch{.restarts = restarts, .start = kGateStart});
    const GateResult result = run.Evaluate();
    const double spent = std::pow(2, restarts);
    EXPECT_EQ(result.evidence_restarts, restarts);
    EXPECT_NEAR(result.log_threshold_rollback, std::log(spent / .02), 1e-12);
    for (const CheckResult& check : result.checks) {
      EXPECT_NEAR(check.log_threshold_rollback, std::log(2 * spent / .02), 1e-12);
      // Mismatch evidence carries over: it is tested once.
      const double steps = check.metric == Metric::kMismatchRatio ? 1 : 4;
      EXPECT_NEAR(check.log_threshold_advance, std::log(steps * spent / .05), 1e-12);
    }
  }
  // What passes in the first epoch takes more in the second.
  const WindowStats window = Compared(0, *RateEvidence::CleanSampleNeeded(.001, .01));
  for (const uint32_t restarts : {0u, 1u}) {
    GateRun run(PlanWith({MismatchCheck()}), EvidenceEpoch{.restarts = restarts, .start = kGateStart});
    run.Add(window);
    EXPECT_EQ(run.EvaluateVerdict(), restarts == 0 ? Verdict::kAdvance : Verdict::kHold);
  }
}

// M counts the distinct nulls of all binding checks of the plan.
TEST(GateEpochTest, NullsAreCountedOnce) {
  Check advisory = MirrorCheck();
  advisory.advisory = true;
  const struct {
    const char* name;
    std::vector<std::vector<Check>> steps;
    double nulls;
  } kCases[] = {
      {"one in every step", {{MismatchCheck()}, {MismatchCheck()}, {MismatchCheck()}}, 1},
      {"another bound", {{MismatchCheck(.1)}, {MismatchCheck(.2)}}, 2},
      {"another field", {{MismatchCheck(.1)}, {MismatchCheck(.1, "a"), MismatchCheck(.1, "b")}}, 3},
      {"another quantile", {{LatencyCheck(.5), LatencyCheck(.95)}, {LatencyCheck(.95)}}, 2},
      {"of later steps", {{MismatchCheck()}, {ErrorCheck()}, {MirrorCheck()}}, 3},
      {"not the advisory ones", {{MismatchCheck(), advisory}, {advisory}}, 1},
      {"but if they bind elsewhere", {{MismatchCheck(), advisory}, {MirrorCheck()}}, 2},
      {"not the levels", {{MismatchCheck(), LevelCheck(Metric::kCoverage, 1)}}, 1},
      {"none", {{LevelCheck(Metric::kCoverage, 1)}}, 1},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    MigrationPlan plan;
    for (const auto& checks : test.steps) plan.steps.push_back({Stage::kCanaryRead, 5'000, {}, checks});
    const GateResult result = GateRun(plan).Evaluate();
    EXPECT_NEAR(result.log_threshold_rollback, std::log(100), 1e-12);
    for (const CheckResult& check : result.checks) {
      if (RowOf(check.metric).family == MetricFamily::kLevel) continue;
      EXPECT_NEAR(check.log_threshold_rollback, std::log(100 * test.nulls), 1e-12);
    }
  }
}

// Two checks of one null have one e-value between them, and the evidence of checks of other steps is not
// asked.
TEST(GateEpochTest, JointEvidenceIsOverTheNullsOfTheStep) {
  Check twice = MismatchCheck();
  twice.name = "again";
  MigrationPlan plan = PlanWith({MismatchCheck(), twice});
  plan.steps.push_back({Stage::kCanaryRead, 6'000, {}, {MirrorCheck()}});
  GateRun run(plan, {Compared(20, 1'000)});
  const GateResult result = run.Evaluate();
  EXPECT_EQ(result.checks[0].log_evidence_rollback, result.checks[1].log_evidence_rollback);
  EXPECT_NEAR(result.log_evidence_rollback, result.checks[0].log_evidence_rollback - std::log(2), 1e-12);
  EXPECT_EQ(result.verdict, Verdict::kRollBack);
  run.BeginStep(1);
  run.Add(Mirrored(0, 0, 10'000));
  EXPECT_EQ(run.Evaluate().verdict, Verdict::kAdvance) << run.Evaluate().sentence;
}

// A step that tests a null anew is a bet on a rise at that moment: an old rise below the threshold stays, and
// the new bet finds one sooner than the minutes would.
TEST(GateEpochTest, AStepIsABetAndNotANewTest) {
  MigrationPlan one = PlanOfSteps(1, {MismatchCheck()}), four = PlanOfSteps(4, {MismatchCheck()});
  const auto buckets_until_rollback = [](GateRun run, bool new_step) {
    for (int bucket = 0; bucket < 1'000; ++bucket) run.Add(Compared(0, 500));
    if (new_step) run.BeginStep(1);
    int bucket = 0;
    for (; run.EvaluateVerdict() != Verdict::kRollBack; ++bucket) run.Add(Compared(2, 500));
    return bucket;
  };
  EXPECT_LT(buckets_until_rollback(GateRun(four), true), buckets_until_rollback(GateRun(one), false));

  GateRun run(four, {Compared(5, 1'000)});
  const double before = run.Evaluate().checks[0].log_evidence_rollback;
  run.BeginStep(1);
  EXPECT_NEAR(run.Evaluate().checks[0].log_evidence_rollback, before, 1e-12);
}

WindowStats AnyWindow(Prng& prng) {
  const auto any = [&](uint64_t most) { return prng.Below(most + 1); };
  const uint64_t scale = uint64_t{1} << prng.Below(16);
  const uint64_t comparisons = any(scale);
  WindowStats window =
      Compared(prng.Below(3) == 0 ? any(comparisons) : std::min<uint64_t>(comparisons, any(2)), comparisons);
  window.comparison(ComparisonOutcome::kTimeout) = prng.Below(8) == 0 ? any(scale) : 0;
  window.arm(Arm::kNew).requests = any(scale);
  window.arm(Arm::kOld).requests = any(4 * scale);
  for (Arm arm : {Arm::kNew, Arm::kOld}) {
    ArmStats& stats = window.arm(arm);
    stats.errors = std::min(stats.requests, prng.Below(4) == 0 ? any(stats.requests) : any(3));
    for (uint64_t i = 0; i < std::min<uint64_t>(stats.requests, 20); ++i) {
      stats.latency.Record(1'000 << prng.Below(arm == Arm::kNew ? 12 : 11));
    }
    for (uint64_t i = 0; i < std::min<uint64_t>(stats.requests, any(30)); ++i) {
      window.subjects.reads[static_cast<size_t>(arm)].Record(prng.Below(200) * 0x9e3779b97f4a7c15);
    }
    for (uint64_t i = 0; i < std::min<uint64_t>(stats.errors, any(5)); ++i) {
      const uint64_t subject = prng.Below(200);
      window.subjects.errors[static_cast<size_t>(arm)].Record(subject * 0x9e3779b97f4a7c15, subject);
    }
  }
  window.writes = {.mirror_ok = any(scale), .mirror_failed = any(prng.Below(4) == 0 ? scale : 1)};
  const uint64_t half = window.compared() / 2;
  window.paired_errors = {any(std::min<uint64_t>(half, 4)), any(std::min<uint64_t>(half, 4))};
  window.paired_latency = {any(half), any(half)};
  return window;
}

// Explaining a verdict does not change it.
TEST(GateEpochTest, EvaluateVerdictIsTheVerdictOfEvaluate) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng prng(seed);
  const std::vector<Check> kinds = {MismatchCheck(.01),
                                    MismatchCheck(.05, "city"),
                                    ErrorCheck(.01),
                                    ErrorCheck(0),
                                    PairedErrorCheck(.02),
                                    MirrorCheck(.02),
                                    LatencyCheck(.5),
                                    LatencyCheck(.99),
                                    PairedLatencyCheck(),
                                    LevelCheck(Metric::kOutstandingRepairs, 3),
                                    LevelCheck(Metric::kCoverage, .5),
                                    LevelCheck(Metric::kThroughputShare, 4)};
  std::array<int, 3> seen = {};
  for (int run_number = 0; run_number < 800; ++run_number) {
    MigrationPlan plan;
    for (uint64_t step = 0; step < 1 + prng.Below(3); ++step) {
      PlanStep& planned = plan.steps.emplace_back();
      planned.min_bake = absl::Seconds(static_cast<int64_t>(prng.Below(2) * prng.Below(60)));
      for (uint64_t check = prng.Below(4); check > 0; --check) {
        planned.checks.push_back(kinds[prng.Below(kinds.size())]);
        planned.checks.back().advisory = prng.Below(4) == 0;
        planned.checks.back().on_breach = static_cast<BreachAction>(prng.Below(3));
      }
    }
    plan.alpha_rollback = plan.alpha_advance = prng.Below(2) == 0 ? .01 : .3;
    plan.telemetry_limits.max_share_skew = 100;
    plan.telemetry_limits.max_not_comparable = prng.Below(2) == 0 ? 1 : .2;
    GateRun run(plan, EvidenceEpoch{.restarts = static_cast<uint32_t>(prng.Below(3)), .start = kGateStart});
    for (int bucket = 0; bucket < 10; ++bucket) {
      if (prng.Below(5) == 0) run.BeginStep(static_cast<int>(prng.Below(plan.steps.size())));
      if (prng.Below(5) == 0) run.Pass(absl::Minutes(static_cast<int64_t>(prng.Below(100))));
      run.Add(AnyWindow(prng));
      EvaluationContext context = {.step_age = absl::Seconds(static_cast<int64_t>(prng.Below(90))),
                                   .deadline_age = absl::Seconds(static_cast<int64_t>(prng.Below(90))),
                                   .repairs = {prng.Below(6), prng.Below(3)},
                                   .backfill = {prng.Below(10), prng.Below(10)}};
      if (prng.Below(2) == 0) context.configured_share = .01 + .98 * prng.Unit();
      if (prng.Below(6) == 0) context.open_guards.push_back({"stale_telemetry", "no telemetry."});
      const GateResult result = run.Evaluate(context);
      ASSERT_EQ(result.verdict, run.EvaluateVerdict(context)) << result.sentence;
      ASSERT_FALSE(result.sentence.empty());
      ++seen[static_cast<size_t>(result.verdict)];
    }
  }
  for (int count : seen) EXPECT_GT(count, 400);
}

TEST(GateEpochTest, CopiesAreIndependent) {
  const MigrationPlan plan = PlanOfSteps(2, {MismatchCheck(), ErrorCheck()});
  GateRun original(plan, {Compared(1, 1'000), Served(1, 100, 1, 900)});
  const GateResult before = original.Evaluate();
  GateRun copy = original;
  copy.BeginStep(1);
  copy.Add(Compared(400, 1'000));
  EXPECT_EQ(copy.Evaluate().verdict, Verdict::kRollBack);
  EXPECT_EQ(original.evidence().step(), 0);
  const GateResult after = original.Evaluate();
  EXPECT_EQ(after.sentence, before.sentence);
  EXPECT_EQ(after.checks[0].total, before.checks[0].total);
  EXPECT_EQ(after.checks[0].log_evidence_rollback, before.checks[0].log_evidence_rollback);
  // And from there on both go the same way.
  copy = original;
  for (GateRun* run : {&copy, &original}) run->Add(Compared(0, 5'000));
  EXPECT_EQ(copy.Evaluate().sentence, original.Evaluate().sentence);
  GateRun moved = std::move(copy);
  EXPECT_EQ(moved.Evaluate().sentence, original.Evaluate().sentence);
}

}  // namespace
}  // namespace lockstep::domain
