// Input at the edge of what can be: whatever is counted, every number is a number and every verdict has its
// sentence.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/gate.h"
#include "core/domain/log_math.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

constexpr uint64_t kTrillion = 1'000'000'000'000;

// Every metric, with and without what it may take.
std::vector<Check> AllChecks() {
  std::vector<Check> checks = {MismatchCheck(),
                               MismatchCheck(1e-9),
                               MismatchCheck(.999),
                               MismatchCheck(.001, "city"),
                               ErrorCheck(0),
                               ErrorCheck(.005),
                               PairedErrorCheck(0),
                               PairedErrorCheck(.005),
                               MirrorCheck(),
                               LatencyCheck(.5),
                               LatencyCheck(.95),
                               LatencyCheck(.99),
                               PairedLatencyCheck(),
                               LevelCheck(Metric::kOutstandingRepairs, 0),
                               LevelCheck(Metric::kCoverage, 1),
                               LevelCheck(Metric::kThroughputShare, 1)};
  for (size_t i = 0; i < checks.size(); ++i) checks[i].name = absl::StrCat("check", i);
  return checks;
}

// Everything that can be counted `n` times, with `bad` of them bad on the new side, `old_bad` on the old one.
WindowStats Everything(uint64_t n, uint64_t bad, uint64_t old_bad, uint64_t new_reads, uint64_t old_reads) {
  WindowStats window = Compared(bad, n);
  window.arm(Arm::kNew).requests = new_reads;
  window.arm(Arm::kNew).errors = std::min(bad, new_reads);
  window.arm(Arm::kOld).requests = old_reads;
  window.arm(Arm::kOld).errors = std::min(old_bad, old_reads);
  window.arm(Arm::kNew).latency.RecordBucket(700, new_reads);  // one cell each
  window.arm(Arm::kOld).latency.RecordBucket(500, old_reads);
  window.writes.mirror_ok = n - bad;
  window.writes.mirror_failed = bad;
  window.paired_errors.new_only = bad / 2;
  window.paired_errors.old_only = std::min(n, old_bad) / 2;
  window.paired_latency = {.slower = bad, .not_slower = n - bad};
  return window;
}

void ExpectNumbersAndWords(const GateResult& result) {
  const auto number = [](double value, const char* what) {
    EXPECT_TRUE(std::isfinite(value)) << what << " is " << value;
  };
  // Too few subjects are no evidence at all: -infinity is the logarithm of that.
  const auto evidence = [](double value, const char* what) {
    EXPECT_TRUE(std::isfinite(value) || value == -std::numeric_limits<double>::infinity())
        << what << " is " << value;
  };
  evidence(result.log_evidence_rollback, "log_evidence_rollback");
  number(result.log_threshold_rollback, "log_threshold_rollback");
  EXPECT_FALSE(result.sentence.empty());
  for (const Guard& guard : result.guards) EXPECT_FALSE(guard.sentence.empty());
  for (const CheckResult& check : result.checks) {
    SCOPED_TRACE(absl::StrCat(check.check, " ", MetricName(check.metric)));
    const bool level = RowOf(check.metric).family == MetricFamily::kLevel;
    for (double value :
         {check.estimate, check.lower, check.upper, check.budget, check.quantile, check.dispersion})
      number(value, "a number of the check");
    evidence(check.log_evidence_rollback, "log_evidence_rollback");
    number(check.log_evidence_advance, "log_evidence_advance");
    number(check.log_threshold_rollback, "log_threshold_rollback");
    number(check.log_threshold_advance, "log_threshold_advance");
    EXPECT_GE(check.dispersion, 1);
    EXPECT_LE(check.lower, check.estimate);
    EXPECT_GE(check.upper, check.estimate);
    if (check.eta) {
      EXPECT_GE(*check.eta, absl::ZeroDuration());
      EXPECT_LT(*check.eta, absl::InfiniteDuration());
    }
    EXPECT_EQ(check.null_hypothesis.empty(), level);
    EXPECT_THAT(check.sentence, testing::StartsWith(absl::StrCat(check.check, ": ")));
    EXPECT_THAT(check.sentence, testing::EndsWith("."));
    for (const char* wrong : {"nan", "inf", "  ", ",,", "e+", "-0"}) {
      EXPECT_THAT(check.sentence, testing::Not(testing::HasSubstr(wrong)));
    }
  }
}

TEST(GateDegenerateTest, EveryNumberIsANumber) {
  const struct {
    const char* name;
    WindowStats window;
  } kCases[] = {
      {"no traffic", {}},
      {"all fails on both arms", Everything(1'000, 1'000, 1'000, 1'000, 1'000)},
      {"all fails on new", Everything(1'000, 1'000, 0, 1'000, 1'000)},
      {"all fails on old", Everything(1'000, 0, 1'000, 1'000, 1'000)},
      {"nothing fails", Everything(1'000, 0, 0, 1'000, 1'000)},
      {"zero old traffic", Everything(1'000, 100, 0, 1'000, 0)},
      {"zero new traffic", Everything(1'000, 100, 100, 0, 1'000)},
      {"one of everything", Everything(1, 1, 1, 1, 1)},
      {"a clean one of everything", Everything(1, 0, 0, 1, 1)},
      {"10^12, clean", Everything(kTrillion, 0, 0, kTrillion, kTrillion)},
      {"10^12, all bad", Everything(kTrillion, kTrillion, kTrillion, kTrillion, kTrillion)},
      {"10^12, all bad on new", Everything(kTrillion, kTrillion, 0, kTrillion, kTrillion)},
      {"10^12, one bad", Everything(kTrillion, 1, 1, kTrillion, kTrillion)},
      {"10^12 against one", Everything(kTrillion, kTrillion, 1, kTrillion, 1)},
      {"one against 10^12", Everything(kTrillion, 1, kTrillion, 1, kTrillion)},
      {"as many as can be", Everything(kMaxCount, 0, 0, kMaxCount - 1, 1)},
      {"as many as can be, all bad", Everything(kMaxCount, kMaxCount, 0, kMaxCount - 1, 1)},
  };
  for (const double alpha : {.5, .01, 1e-300}) {
    for (const uint32_t restarts : {0u, 5u, 4'000'000'000u}) {
      MigrationPlan plan = PlanWith(AllChecks());
      plan.steps.push_back(plan.steps[0]);
      plan.alpha_rollback = plan.alpha_advance = alpha;
      for (const auto& test : kCases) {
        SCOPED_TRACE(absl::StrCat(test.name, ", alpha ", alpha, ", restarts ", restarts));
        ASSERT_TRUE(test.window.Validate().ok()) << test.window.Validate();
        for (const bool with_past : {false, true}) {
          GateRun run(plan, EvidenceEpoch{.restarts = restarts, .start = kGateStart});
          ExpectNumbersAndWords(run.Evaluate());
          // Edges for latency.
          if (with_past) run.Add(Timed({1, 2, 3}, std::vector<double>(100, 1)));
          const absl::Status added = run.TryAdd(test.window);
          if (!added.ok()) {
            // "As many as can be" and one more.
            EXPECT_TRUE(with_past && added.code() == absl::StatusCode::kOutOfRange) << added;
          }
          ExpectNumbersAndWords(run.Evaluate());
          ExpectNumbersAndWords(run.Evaluate({.configured_share = .05}));
          EXPECT_EQ(run.Evaluate().verdict, run.EvaluateVerdict());
          run.Add({});
          run.BeginStep(1);
          ExpectNumbersAndWords(run.Evaluate());
          run.Pass(absl::Hours(48));
          run.Add({});
          ExpectNumbersAndWords(run.Evaluate());
        }
      }
    }
  }
}

TEST(GateDegenerateTest, LevelsAtTheirEnds) {
  constexpr uint64_t kAll = ~uint64_t{0};
  MigrationPlan plan = PlanWith(AllChecks());
  for (const uint64_t a : {uint64_t{0}, uint64_t{1}, kMaxCount, kAll}) {
    for (const uint64_t b : {uint64_t{0}, uint64_t{1}, kMaxCount, kAll}) {
      for (const double share : {1e-300, .5, std::nextafter(1., 0.)}) {
        ExpectNumbersAndWords(GateRun(plan, {Served(0, 1'000, 0, 0)})
                                  .Evaluate({.step_age = absl::InfiniteDuration(),
                                             .deadline_age = absl::InfiniteDuration(),
                                             .repairs = {a, b},
                                             .backfill = {a, b},
                                             .configured_share = share}));
      }
    }
  }
}

// Sums that can't be held are refused before anything of the bucket is added.
TEST(GateDegenerateTest, ABucketIsRefusedWhole) {
  const MigrationPlan plan = PlanWith(AllChecks());
  const WindowStats some = Everything(1'000, 3, 2, 500, 600);
  WindowStats all_at_most = Everything(kMaxCount, 0, 0, kMaxCount, kMaxCount);
  for (uint64_t& outcome : all_at_most.comparisons) outcome = kMaxCount;
  all_at_most.writes = {kMaxCount, kMaxCount, kMaxCount, kMaxCount, kMaxCount};
  WindowStats more_errors = Served(11, 10, 0, 0), more_latencies = some, more_pairs = some;
  more_latencies.arm(Arm::kOld).latency.RecordBucket(3, 1);
  more_pairs.paired_errors.new_only = 2'000;
  WindowStats many_fields = some;
  FieldMismatches one;
  one[MismatchKind::kValue] = 4;
  ASSERT_TRUE(many_fields.AddFieldMismatches("zip", one).ok());
  const struct {
    const char* name;
    WindowStats window;
    absl::StatusCode code;
  } kCases[] = {
      {"every count at the largest", all_at_most, absl::StatusCode::kInvalidArgument},
      {"comparisons", Compared(0, kMaxCount), absl::StatusCode::kOutOfRange},
      {"reads", Served(0, kMaxCount, 0, 0), absl::StatusCode::kOutOfRange},
      {"reads of both arms together", Served(0, kMaxCount / 2, 0, kMaxCount / 2),
       absl::StatusCode::kOutOfRange},
      {"mirror writes", Mirrored(0, 0, kMaxCount), absl::StatusCode::kOutOfRange},
      {"above the largest", Compared(0, kMaxCount + 1), absl::StatusCode::kOutOfRange},
      {"more errors than reads", more_errors, absl::StatusCode::kInvalidArgument},
      {"more latencies than reads", more_latencies, absl::StatusCode::kInvalidArgument},
      {"more pairs than comparisons", more_pairs, absl::StatusCode::kInvalidArgument},
      {"more mismatches of a field than there are", many_fields, absl::StatusCode::kInvalidArgument},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    GateRun run(plan, {some}), untouched(plan, {some});
    const absl::Status added = run.TryAdd(test.window);
    EXPECT_FALSE(added.ok());
    if (test.window.comparisons[0] != kMaxCount || test.code != absl::StatusCode::kInvalidArgument) {
      EXPECT_EQ(added.code(), test.code) << added;
    }
    // The next one is taken as if nothing had been.
    run.Add(some);
    untouched.Add(some);
    const GateResult a = run.Evaluate(), b = untouched.Evaluate();
    EXPECT_EQ(a.sentence, b.sentence);
    for (size_t i = 0; i < a.checks.size(); ++i) {
      EXPECT_EQ(a.checks[i].total, b.checks[i].total);
      EXPECT_EQ(a.checks[i].sentence, b.checks[i].sentence);
      EXPECT_EQ(a.checks[i].log_evidence_rollback, b.checks[i].log_evidence_rollback);
      EXPECT_EQ(a.checks[i].log_evidence_advance, b.checks[i].log_evidence_advance);
    }
  }
}

// Latencies of one period are bounded over steps, too.
TEST(GateDegenerateTest, LatenciesOverSteps) {
  MigrationPlan plan = PlanWith({MismatchCheck()});
  plan.steps.push_back(plan.steps[0]);
  GateRun run(plan);
  WindowStats most = Served(0, 0, 0, kMaxCount);
  most.arm(Arm::kOld).latency.RecordBucket(500, kMaxCount);
  run.Add(most);
  run.BeginStep(1);
  EXPECT_EQ(run.TryAdd(most).code(), absl::StatusCode::kOutOfRange);
}

TEST(GateDegenerateTest, BucketsOutOfOrderAreRefused) {
  GateRun run(PlanWith({MismatchCheck()}), {Compared(0, 10), Compared(0, 10)});
  const absl::Time last = run.next_bucket() - kTelemetryBucket;
  for (const absl::Time start :
       {last, last - kTelemetryBucket, kGateStart - absl::Hours(1), absl::InfinitePast()}) {
    EXPECT_EQ(run.evidence().AddBucket(start, Compared(0, 10)).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_THAT(std::string(run.evidence().AddBucket(last, Compared(0, 10)).message()),
              testing::HasSubstr("is not later than the one before"));
  EXPECT_EQ(run.Evaluate().checks[0].total, 20u);
  EXPECT_TRUE(run.evidence().AddBucket(last + kTelemetryBucket, Compared(0, 10)).ok());
}

}  // namespace
}  // namespace lockstep::domain
