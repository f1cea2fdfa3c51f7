// What the gate reports besides verdicts on rates: levels, guards, suspect fields, deadlines, onsets and what
// is missing.
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "core/domain/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(GateReportTest, Levels) {
  struct Case {
    const char* name;
    Check check;
    WindowStats window;
    EvaluationContext context;
    bool passed;
    const char* sentence;
  };
  const Check repairs = LevelCheck(Metric::kOutstandingRepairs, 10),
              none = LevelCheck(Metric::kOutstandingRepairs, 0);
  const Check coverage = LevelCheck(Metric::kCoverage, 0.99), all = LevelCheck(Metric::kCoverage, 1);
  const Check share = LevelCheck(Metric::kThroughputShare, 1.5);
  const auto backfilled = [](uint64_t to_copy, uint64_t copied) {
    return EvaluationContext{.backfill = {to_copy, copied}};
  };
  const auto repaired = [](uint64_t queued, uint64_t done) {
    return EvaluationContext{.repairs = {queued, done}};
  };
  const auto configured = [](double s) { return EvaluationContext{.configured_share = s}; };
  const Case kCases[] = {
      {"nothing to repair",
       none,
       {},
       {},
       true,
       "level: 0 failed mirror writes are not repaired yet, at most 0 may be: passed."},
      {"one to repair",
       none,
       {},
       repaired(5'000, 4'999),
       false,
       "level: 1 failed mirror writes are not repaired yet, at most 0 may be: hold."},
      {"at the limit",
       repairs,
       {},
       repaired(12, 2),
       true,
       "10 failed mirror writes are not repaired yet, at most 10"},
      {"above the limit", repairs, {}, repaired(13, 2), false, "11 failed mirror writes"},
      {"more done than queued", none, {}, repaired(2, 3), true, "level: 0 failed"},
      {"no backfill", coverage, {}, {}, false, "level: no backfill has reported rows to copy: hold."},
      {"half",
       coverage,
       {},
       backfilled(2'000, 1'000),
       false,
       "level: 1,000 of 2,000 rows are copied (50 %), 99 % must be: hold."},
      {"just enough",
       coverage,
       {},
       backfilled(1'000, 990),
       true,
       "level: 990 of 1,000 rows are copied (99 %), 99 % must be: passed."},
      {"one short of all", all, {}, backfilled(1'000, 999), false, "(99.9 %), 100 % must be: hold."},
      {"all", all, {}, backfilled(1'000, 1'000), true, "1,000 of 1,000 rows are copied (100 %)"},
      {"more than all", all, {}, backfilled(1'000, 1'001), true, "1,000 of 1,000 rows"},
      {"too few reads", share, Served(0, 50, 0, 949), configured(.05), false,
       "level: 999 reads in this step; the share is compared from 1,000 on, where the weight alone decides: "
       "hold."},
      {"not configured by the weight alone",
       share,
       Served(0, 500, 0, 9'500),
       {},
       false,
       "the weight alone decides"},
      {"as configured", share, Served(0, 500, 0, 9'500), configured(.05), true,
       "level: 500 of 10,000 reads were served by the new side, whose odds are off the configured ones by a "
       "factor of 1, "
       "at most 1.5 may be: passed."},
      {"too many", share, Served(0, 800, 0, 9'200), configured(.05), false,
       "by a factor of 1.65, at most 1.5"},
      {"too few", share, Served(0, 300, 0, 9'700), configured(.05), false, "by a factor of 1.7, at most 1.5"},
      {"none at all", share, Served(0, 0, 0, 10'000), configured(.05), false, "0 of 10,000 reads"},
      {"all of them", share, Served(0, 10'000, 0, 0), configured(.05), false, "10,000 of 10,000 reads"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    MigrationPlan plan = PlanWith({c.check});
    plan.telemetry_limits.max_share_skew = 1e9;
    const GateRun run(plan, {c.window});
    const GateResult result = run.Evaluate(c.context);
    EXPECT_EQ(result.verdict, c.passed ? Verdict::kAdvance : Verdict::kHold);
    EXPECT_EQ(result.checks[0].verdict, result.verdict);
    EXPECT_EQ(run.EvaluateVerdict(c.context), result.verdict);
    EXPECT_THAT(result.checks[0].sentence, HasSubstr(c.sentence));
    EXPECT_EQ(result.checks[0].null_hypothesis, "");
    EXPECT_EQ(result.checks[0].budget, c.check.limit);
    if (!c.passed) {
      EXPECT_EQ(result.sentence, result.checks[0].sentence);
    }
  }
}

// A level never rolls back, and has no part in the error probabilities of the others.
TEST(GateReportTest, LevelsAreNoTests) {
  MigrationPlan with = PlanWith({MismatchCheck(), LevelCheck(Metric::kCoverage, 1)}),
                without = PlanWith({MismatchCheck()});
  const GateResult result = GateRun(with, {Compared(0, 10'000)}).Evaluate();
  EXPECT_EQ(result.log_threshold_rollback, GateRun(without).Evaluate().log_threshold_rollback);
  EXPECT_EQ(result.checks[0].log_threshold_rollback,
            GateRun(without).Evaluate().checks[0].log_threshold_rollback);
  EXPECT_EQ(result.verdict, Verdict::kHold);
  EXPECT_THAT(result.sentence, HasSubstr("no backfill has reported"));
}

TEST(GateReportTest, ShareGuardAtItsLimit) {
  // Odds of 1 to 19 are configured; half a read is added to both sides.
  const struct {
    uint64_t new_reads, old_reads;
    std::optional<double> configured;
    bool open;
  } kCases[] = {
      {50, 949, .05, false},
      {150, 849, .05, false},  // 999 reads say nothing
      {150, 850, .05, true},
      {500, 9'500, .05, false},
      {1'363, 8'637, .05, false},  // odds times 2.998
      {1'364, 8'636, .05, true},   // times 3.001
      {172, 9'828, .05, false},    // divided by 2.9987
      {171, 9'829, .05, true},     // divided by 3.02
      {0, 10'000, .05, true},
      {10'000, 0, .05, true},
      {0, 10'000, std::nullopt, false},  // pins move reads
      {9'999, 1, .999, true},
      {9'990, 10, .999, false},
  };
  const MigrationPlan plan = PlanWith({LevelCheck(Metric::kOutstandingRepairs, 0)});
  for (const auto& test : kCases) {
    SCOPED_TRACE(absl::StrCat(test.new_reads, " of ", test.new_reads + test.old_reads));
    GateRun run(plan, {Served(0, test.new_reads, 0, test.old_reads)});
    const EvaluationContext context = {.configured_share = test.configured};
    const GateResult result = run.Evaluate(context);
    EXPECT_EQ(result.verdict, test.open ? Verdict::kHold : Verdict::kAdvance) << result.sentence;
    EXPECT_EQ(run.EvaluateVerdict(context), result.verdict);
    ASSERT_EQ(result.guards.size(), test.open ? 1u : 0u);
    if (test.open) {
      EXPECT_EQ(result.guards[0].name, "share");
      EXPECT_EQ(result.sentence, result.guards[0].sentence);
    }
    // It is about the present step.
    run.BeginStep(0);
    EXPECT_THAT(run.Evaluate(context).guards, IsEmpty());
  }
  EXPECT_EQ(GateRun(plan, {Served(0, 1'364, 0, 8'636)}).Evaluate({.configured_share = .05}).sentence,
            "the new side served 1,364 of 10,000 reads (13.6 %) in this step, but 5 % are configured: some "
            "instance may "
            "not follow the routing.");
}

TEST(GateReportTest, NotComparableGuardAtItsLimit) {
  const struct {
    double limit;
    uint64_t not_comparable, comparable;
    bool open;
  } kCases[] = {
      {.1, 99, 0, false},  // 99 comparisons say nothing
      {.1, 100, 0, true},       {.1, 10, 90, false},  {.1, 11, 89, true},    {.1, 1'000, 9'000, false},
      {.1, 1'001, 8'999, true}, {1, 1'000, 0, false}, {.001, 1, 999, false}, {.001, 2, 998, true},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(absl::StrCat(test.not_comparable, " besides ", test.comparable, ", limit ", test.limit));
    MigrationPlan plan = PlanWith({});
    plan.telemetry_limits.max_not_comparable = test.limit;
    for (ComparisonOutcome outcome : {ComparisonOutcome::kRaced, ComparisonOutcome::kTimeout,
                                      ComparisonOutcome::kErrorInNew, ComparisonOutcome::kErrorInOld}) {
      WindowStats window = Compared(0, test.comparable);
      window.comparison(outcome) = test.not_comparable;
      GateRun run(plan, {window});
      const GateResult result = run.Evaluate();
      EXPECT_EQ(result.verdict, test.open ? Verdict::kHold : Verdict::kAdvance) << result.sentence;
      EXPECT_EQ(run.EvaluateVerdict(), result.verdict);
      ASSERT_EQ(result.guards.size(), test.open ? 1u : 0u);
      if (test.open) {
        EXPECT_EQ(result.guards[0].name, "not_comparable");
      }
    }
  }
  WindowStats window = Compared(0, 8'999);
  window.comparison(ComparisonOutcome::kTimeout) = 1'001;
  EXPECT_EQ(GateRun(PlanWith({}), {window}).Evaluate().sentence,
            "1,001 of 10,000 comparisons in this step could not be made (errors, timeouts, races), at most "
            "10 % may be.");
}

TEST(GateReportTest, SuspectFields) {
  using Fields = std::vector<std::pair<std::string, uint64_t>>;
  const struct {
    const char* name;
    Fields fields;  // of 10,000 comparisons, against 0.1 %
    uint32_t declared;
    std::vector<std::string> suspects;
  } kCases[] = {
      {"none differs", {}, 5, {}},
      {"about the budget", {{"a", 10}, {"b", 11}}, 5, {}},
      {"one", {{"a", 10}, {"city", 200}}, 5, {"city"}},
      {"worst first", {{"a", 100}, {"b", 300}, {"c", 200}, {"d", 5}}, 5, {"b", "c", "a"}},
      // ln E of 29 is about 8.3: enough for one of 10 fields, ln(10 / 0.05) = 5.3, not for one of 10^9.
      {"few are declared", {{"a", 29}}, 10, {"a"}},
      {"many are declared", {{"a", 29}}, 1'000'000'000, {}},
      {"more found than declared", {{"a", 100}, {"b", 100}}, 0, {"a", "b"}},
      {"the others have no name", {{std::string(WindowStats::kOtherFields), 300}}, 5, {}},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    const MigrationPlan plan = PlanWith({MismatchCheck(.9), MismatchCheck(.001, "zip")});
    GateRun run(plan, EvidenceEpoch{.declared_fields = test.declared, .start = kGateStart});
    WindowStats window;
    window.comparison(ComparisonOutcome::kMismatch) = 500;
    window.comparison(ComparisonOutcome::kMatch) = 9'500;
    for (const auto& [field, count] : test.fields) {
      FieldMismatches by_kind;
      by_kind[MismatchKind::kValue] = count;
      ASSERT_TRUE(window.AddFieldMismatches(field, by_kind).ok());
    }
    run.Add(window);
    EXPECT_EQ(run.Evaluate().suspect_fields, test.suspects);
  }
  // Nobody asked about mismatches; and of one record, hundreds of times.
  EXPECT_THAT(GateRun(PlanWith({MirrorCheck()}), {Compared(500, 1'000)}).Evaluate().suspect_fields,
              IsEmpty());
  WindowStats one_record = Compared(500, 10'000);
  for (size_t slot = 0; slot < SlotCounts::kSlots; ++slot) one_record.subjects.compared.slots.Add(slot, 150);
  one_record.subjects.mismatched.slots.Add(3, 500);
  EXPECT_THAT(GateRun(PlanWith({MismatchCheck()}), {one_record}).Evaluate().suspect_fields, IsEmpty());
}

TEST(GateReportTest, Deadlines) {
  MigrationPlan plan = PlanWith({MismatchCheck()}, absl::Minutes(1));
  plan.steps[0].deadline = absl::Hours(1);
  const struct {
    const char* name;
    WindowStats window;
    absl::Duration deadline, age;
    bool passed;
    const char* sentence;
  } kCases[] = {
      {"before", Compared(0, 100), absl::Hours(1), absl::Hours(1) - absl::Nanoseconds(1), false,
       "mismatches: 0 of 100"},
      {"at", Compared(0, 100), absl::Hours(1), absl::Hours(1), true,
       "the step has not passed within its deadline of 1h: mismatches: 0 of 100 comparisons differ"},
      {"none", Compared(0, 100), absl::ZeroDuration(), absl::Hours(100), false, "mismatches: 0 of 100"},
      {"passes after it", Compared(0, 10'000), absl::Hours(1), absl::Hours(2), true, "the check passes and"},
      {"breached after it", Compared(500, 10'000), absl::Hours(1), absl::Hours(2), true, "roll back."},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    plan.steps[0].deadline = test.deadline;
    const GateResult result =
        GateRun(plan, {test.window}).Evaluate({.step_age = absl::Hours(2), .deadline_age = test.age});
    EXPECT_EQ(result.deadline_passed, test.passed);
    EXPECT_THAT(result.sentence, HasSubstr(test.sentence));
  }
}

// Hours of clean traffic, then a rise: the sentence says since when, and what was counted since.
TEST(GateReportTest, OnsetAfterHoursOfCleanTraffic) {
  GateRun run(PlanWith({MismatchCheck()}));
  for (int bucket = 0; bucket < 2 * 720; ++bucket) run.Add(Compared(0, 500));
  EXPECT_EQ(run.Evaluate().verdict, Verdict::kAdvance);
  EXPECT_EQ(run.Evaluate().checks[0].onset, std::nullopt);
  const absl::Time onset = run.next_bucket();
  while (run.EvaluateVerdict() != Verdict::kRollBack) run.Add(Compared(5, 500));
  EXPECT_LE(run.next_bucket() - onset, absl::Minutes(1));
  const GateResult result = run.Evaluate();
  EXPECT_EQ(result.checks[0].onset, onset);
  EXPECT_THAT(result.sentence, HasSubstr("; since 00:13:20 UTC it is "));
  const auto buckets = (run.next_bucket() - onset) / kTelemetryBucket;
  EXPECT_THAT(result.sentence, HasSubstr(absl::StrCat(" it is ", 5 * buckets, " of ")));
  EXPECT_THAT(result.sentence, HasSubstr(": roll back."));
  // From the start on there is no need to say so.
  GateRun at_once(PlanWith({MismatchCheck()}), {Compared(50, 500)});
  EXPECT_THAT(at_once.Evaluate().sentence, Not(HasSubstr("since")));
  EXPECT_EQ(at_once.Evaluate().checks[0].onset, kGateStart);
}

TEST(GateReportTest, WhatIsMissingAndForHowLong) {
  const struct {
    const char* name;
    Check check;
    WindowStats window;  // in each of 12 buckets
    std::optional<uint64_t> needed;
    std::optional<absl::Duration> eta;
    bool will_not_resolve;
    const char* sentence;
  } kCases[] = {
      {"clean", MismatchCheck(), Compared(0, 200), 2'659, absl::Seconds(67), false,
       "needs 2,659 more clean comparisons, about 1m7s at this pace."},
      {"nothing",
       MismatchCheck(),
       {},
       5'059,
       std::nullopt,
       false,
       "no comparisons yet; needs 5,059 clean ones."},
      {"about the budget", MismatchCheck(.01), Compared(2, 200), std::nullopt, std::nullopt, true,
       ": will not resolve, the rate is about the bound or above it."},
      {"twice the old side", ErrorCheck(0), Served(8, 100, 4, 100), std::nullopt, std::nullopt, true,
       ": will not resolve, the rate is about 2 times the old side's or more."},
      {"above the floor, no old side", ErrorCheck(.005), Served(8, 100, 0, 0), std::nullopt, std::nullopt,
       true, ": will not pass, the rate is above the bound."},
      {"no floor, no old side", ErrorCheck(0), Served(1, 20, 0, 0), std::nullopt, std::nullopt, false,
       ": not certain yet."},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    const GateRun run(PlanWith({test.check}), std::vector<WindowStats>(12, test.window));
    const CheckResult check = run.Evaluate().checks[0];
    EXPECT_EQ(check.needed_more, test.needed);
    EXPECT_EQ(check.eta.has_value(), test.eta.has_value());
    if (test.eta && check.eta) {
      EXPECT_LE(*check.eta, *test.eta);
      EXPECT_GT(*check.eta, *test.eta - absl::Seconds(1));
    }
    EXPECT_EQ(check.will_not_resolve, test.will_not_resolve);
    EXPECT_THAT(check.sentence, HasSubstr(test.sentence));
  }
  // With subjects it is them that are needed.
  Prng prng(1);
  WindowStats window = Compared(0, 1'000);
  for (int i = 0; i < 1'000; ++i) window.subjects.compared.Record(prng.Next());
  const CheckResult check = GateRun(PlanWith({MismatchCheck()}), {window}).Evaluate().checks[0];
  EXPECT_NEAR(static_cast<double>(check.distinct_subjects), 1'000, 50);
  EXPECT_THAT(check.sentence, HasSubstr("more clean records, about "));
  EXPECT_THAT(check.sentence, HasSubstr("0 of 1,000 comparisons differ, those of 0 of "));
}

// A rise within the budget holds the step, and says so.
TEST(GateReportTest, ARisingRateHolds) {
  GateRun run(PlanWith({MismatchCheck(.05)}));
  for (int bucket = 0; bucket < 800; ++bucket) run.Add(Compared(1, 1'000));
  ASSERT_EQ(run.EvaluateVerdict(), Verdict::kAdvance);
  for (int bucket = 0; bucket < 60; ++bucket) run.Add(Compared(8, 1'000));
  const GateResult result = run.Evaluate();
  EXPECT_EQ(result.verdict, Verdict::kHold);
  EXPECT_EQ(run.EvaluateVerdict(), Verdict::kHold);
  EXPECT_TRUE(result.checks[0].rising);
  EXPECT_THAT(result.sentence,
              HasSubstr(": holds, because the rate has risen since the first hour of the step, still "
                        "within the budget."));
  EXPECT_LT(result.checks[0].log_evidence_rollback, 0);
}

}  // namespace
}  // namespace lockstep::domain
