#include "core/domain/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "absl/strings/str_cat.h"
#include "core/domain/bucketing.h"

namespace lockstep::domain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Check Mismatches(double budget = 0.001) {
  return {.name = "mismatches", .metric = Metric::kMismatchRatio, .budget = budget};
}
Check Errors(double floor = 0.005) {
  return {.name = "errors", .metric = Metric::kErrorRatio, .floor = floor};
}
Check Mirror() { return {.name = "mirror", .metric = Metric::kMirrorFailureRatio, .budget = 0.01}; }

// Steps 0 DUAL_WRITE, 1 SHADOW_READ, 2 and 3 CANARY_READ.
MigrationPlan ValidPlan() {
  MigrationPlan plan;
  plan.steps = {{Stage::kDualWrite, 0, absl::Minutes(1), {Mirror()}},
                {Stage::kShadowRead, 0, absl::Minutes(1), {Mismatches(), Mirror()}},
                {Stage::kCanaryRead, 1'000, absl::Minutes(1), {Mismatches(), Errors()}},
                {Stage::kCanaryRead, kBucketCount, absl::Minutes(1), {Mismatches(), Errors()}}};
  plan.expected_services = {{"orders", 2}};
  return plan;
}

std::vector<std::string> Paths(const std::vector<Violation>& violations) {
  std::vector<std::string> paths;
  for (const Violation& violation : violations) paths.push_back(violation.path);
  return paths;
}

// A check that is valid for any metric; what the metric takes is set, the rest is not.
Check ValidCheckOf(Metric metric) {
  const MetricRow& row = RowOf(metric);
  Check check{.name = "check", .metric = metric};
  if (row.takes_budget) check.budget = 0.001;
  if (row.takes_floor) check.floor = 0.005;
  if (row.takes_quantile) check.quantile = 0.95;
  if (row.takes_limit) check.limit = metric == Metric::kThroughputShare ? 1.5 : 1;
  return check;
}

// ValidPlan() whose step at 1 % has this check only.
MigrationPlan PlanWith(Check check) {
  MigrationPlan plan = ValidPlan();
  plan.steps[2].checks = {std::move(check)};
  return plan;
}

TEST(ValidatePlanTest, AcceptsPlansThatCanRun) {
  EXPECT_THAT(Paths(ValidatePlan(ValidPlan())), IsEmpty());
  EXPECT_THAT(Paths(LintPlan(ValidPlan())), IsEmpty());
  MigrationPlan short_plan;
  short_plan.steps = {{Stage::kDualWrite}};
  EXPECT_THAT(Paths(ValidatePlan(short_plan)), IsEmpty());
  MigrationPlan repeated = ValidPlan();
  repeated.steps.insert(repeated.steps.begin() + 1, repeated.steps[1]);  // SHADOW_READ twice
  repeated.steps.insert(repeated.steps.begin(), repeated.steps[0]);      // DUAL_WRITE twice
  EXPECT_THAT(Paths(ValidatePlan(repeated)), IsEmpty());
  MigrationPlan limits = ValidPlan();
  limits.alpha_rollback = limits.alpha_advance = 0.5;
  limits.steps[2].weight = 1;
  EXPECT_THAT(Paths(ValidatePlan(limits)), IsEmpty());
}

struct PlanCase {
  const char* name;
  std::function<void(MigrationPlan&)> change;
  const char* path;
  const char* message;
};

TEST(ValidatePlanTest, EveryFaultHasItsPathAndReason) {
  const std::vector<PlanCase> kCases = {
      {"empty", [](auto& p) { p.steps.clear(); }, "plan.steps", "is empty"},
      {"too many steps", [](auto& p) { p.steps.insert(p.steps.begin(), 61, p.steps[0]); }, "plan.steps",
       "65 steps"},
      {"skips DUAL_WRITE", [](auto& p) { p.steps.erase(p.steps.begin()); }, "plan.steps[0].stage",
       "SHADOW_READ as the first step skips DUAL_WRITE"},
      {"skips SHADOW_READ", [](auto& p) { p.steps.erase(p.steps.begin() + 1); }, "plan.steps[1].stage",
       "CANARY_READ after DUAL_WRITE skips SHADOW_READ"},
      {"goes back", [](auto& p) { p.steps.push_back({Stage::kShadowRead}); }, "plan.steps[4].stage",
       "SHADOW_READ after CANARY_READ"},
      {"OFF as a step", [](auto& p) { p.steps.insert(p.steps.begin(), PlanStep{Stage::kOff}); },
       "plan.steps[0].stage", "start at DUAL_WRITE"},
      {"NEW_ONLY", [](auto& p) { p.steps.push_back({Stage::kNewOnly}); }, "plan.steps[4].stage",
       "NEW_ONLY after CANARY_READ skips CUTOVER"},
      {"falling weights", [](auto& p) { p.steps[3].weight = 999; }, "plan.steps[3].weight", "999 after 1000"},
      {"equal weights", [](auto& p) { p.steps[3].weight = 1000; }, "plan.steps[3].weight", "also the weight"},
      {"weight 0", [](auto& p) { p.steps[2].weight = 0; }, "plan.steps[2].weight", "0: a CANARY_READ step"},
      {"weight over 100 %", [](auto& p) { p.steps[3].weight = kBucketCount + 1; }, "plan.steps[3].weight",
       "100001 is more than 100000"},
      {"weight elsewhere", [](auto& p) { p.steps[1].weight = 5; }, "plan.steps[1].weight",
       "only CANARY_READ"},
      {"negative bake", [](auto& p) { p.steps[1].min_bake = -absl::Seconds(1); }, "plan.steps[1].min_bake",
       "-1s"},
      {"endless bake", [](auto& p) { p.steps[1].min_bake = absl::InfiniteDuration(); },
       "plan.steps[1].min_bake", "inf"},
      {"too many checks",
       [](auto& p) {
         p.steps[1].checks.clear();
         for (size_t i = 0; i <= kMaxChecksPerStep; ++i) {
           p.steps[1].checks.push_back(Mismatches());
           p.steps[1].checks.back().name = absl::StrCat(i);
         }
       },
       "plan.steps[1].checks", "33 checks"},
      {"unnamed check", [](auto& p) { p.steps[1].checks[1].name = ""; }, "plan.steps[1].checks[1].name",
       "is empty"},
      {"long name", [](auto& p) { p.steps[1].checks[1].name = std::string(64, 'x'); },
       "plan.steps[1].checks[1].name", "64 bytes"},
      {"duplicate name", [](auto& p) { p.steps[1].checks[1].name = "mismatches"; },
       "plan.steps[1].checks[1].name", "used twice"},
      {"budget 0", [](auto& p) { p.steps[1].checks[0].budget = 0; }, "plan.steps[1].checks[0].budget",
       "cannot be certified"},
      {"negative budget", [](auto& p) { p.steps[1].checks[0].budget = -0.1; },
       "plan.steps[1].checks[0].budget", "-0.1"},
      {"budget 1", [](auto& p) { p.steps[1].checks[0].budget = 1; }, "plan.steps[1].checks[0].budget",
       "(0, 1)"},
      {"budget NaN", [](auto& p) { p.steps[1].checks[0].budget = std::nan(""); },
       "plan.steps[1].checks[0].budget", "nan"},
      {"floor 1", [](auto& p) { p.steps[2].checks[1].floor = 1; }, "plan.steps[2].checks[1].floor", "[0, 1)"},
      {"negative floor", [](auto& p) { p.steps[2].checks[1].floor = -1; }, "plan.steps[2].checks[1].floor",
       "[0, 1)"},
      {"floor NaN", [](auto& p) { p.steps[2].checks[1].floor = std::nan(""); },
       "plan.steps[2].checks[1].floor", "nan"},
      {"negative deadline", [](auto& p) { p.steps[1].deadline = -absl::Seconds(1); },
       "plan.steps[1].deadline", "-1s"},
      {"endless deadline", [](auto& p) { p.steps[1].deadline = absl::InfiniteDuration(); },
       "plan.steps[1].deadline", "leave it out"},
      {"deadline within the bake", [](auto& p) { p.steps[1].deadline = absl::Seconds(59); },
       "plan.steps[1].deadline", "59s is before the end of min_bake, 1m"},
      {"nothing comparable allowed", [](auto& p) { p.telemetry_limits.max_not_comparable = 0; },
       "plan.telemetry_limits.max_not_comparable", "(0, 1]"},
      {"more than all", [](auto& p) { p.telemetry_limits.max_not_comparable = 1.1; },
       "plan.telemetry_limits.max_not_comparable", "1.1"},
      {"not comparable NaN", [](auto& p) { p.telemetry_limits.max_not_comparable = std::nan(""); },
       "plan.telemetry_limits.max_not_comparable", "nan"},
      {"skew below 1", [](auto& p) { p.telemetry_limits.max_share_skew = 0.5; },
       "plan.telemetry_limits.max_share_skew", "0.5"},
      {"skew infinite", [](auto& p) { p.telemetry_limits.max_share_skew = HUGE_VAL; },
       "plan.telemetry_limits.max_share_skew", "inf"},
      {"stale at once", [](auto& p) { p.telemetry_limits.stale_after = absl::ZeroDuration(); },
       "plan.telemetry_limits.stale_after", "above zero"},
      {"never stale", [](auto& p) { p.telemetry_limits.stale_after = absl::InfiniteDuration(); },
       "plan.telemetry_limits.stale_after", "inf"},
      {"mismatches before comparisons", [](auto& p) { p.steps[0].checks = {Mismatches()}; },
       "plan.steps[0].checks[0].metric", "nothing to measure at DUAL_WRITE"},
      {"errors before canary", [](auto& p) { p.steps[1].checks.push_back(Errors()); },
       "plan.steps[1].checks[2].metric", "from CANARY_READ on"},
      {"alpha 0", [](auto& p) { p.alpha_rollback = 0; }, "plan.alpha_rollback", "(0, 0.5]"},
      {"alpha 0.6", [](auto& p) { p.alpha_advance = 0.6; }, "plan.alpha_advance", "0.6"},
      {"alpha NaN", [](auto& p) { p.alpha_advance = std::nan(""); }, "plan.alpha_advance", "nan"},
      {"nameless service", [](auto& p) { p.expected_services[0].service = ""; },
       "plan.expected_services[0].service", "is empty"},
      {"service twice",
       [](auto& p) {
         p.expected_services.push_back({"orders", 1});
       },
       "plan.expected_services[1].service", "twice"},
      {"no instances", [](auto& p) { p.expected_services[0].min_instances = 0; },
       "plan.expected_services[0].min_instances", "0"},
      {"too many services",
       [](auto& p) {
         for (size_t i = 0; i < kMaxExpectedServices; ++i)
           p.expected_services.push_back({absl::StrCat(i), 1});
       },
       "plan.expected_services", "65 services"},
      {"negative cool-down", [](auto& p) { p.cool_down = -absl::Seconds(1); }, "plan.cool_down", "-1s"},
  };
  for (const PlanCase& c : kCases) {
    SCOPED_TRACE(c.name);
    MigrationPlan plan = ValidPlan();
    c.change(plan);
    const std::vector<Violation> violations = ValidatePlan(plan);
    ASSERT_EQ(violations.size(), 1u) << ::testing::PrintToString(Paths(violations));
    EXPECT_EQ(violations[0].path, c.path);
    EXPECT_THAT(violations[0].message, HasSubstr(c.message));
  }
}

// Every metric against everything a check can state: what the row takes is accepted, the rest is refused, and
// the message says what the metric takes.
TEST(ValidatePlanTest, ChecksStateWhatTheirMetricTakes) {
  const struct {
    const char* bound;
    std::function<void(Check&)> set;
    bool MetricRow::*taken;
  } kBounds[] = {
      {"budget", [](Check& c) { c.budget = 0.001; }, &MetricRow::takes_budget},
      {"floor", [](Check& c) { c.floor = 0.001; }, &MetricRow::takes_floor},
      {"field", [](Check& c) { c.field = "city"; }, &MetricRow::takes_field},
      {"quantile", [](Check& c) { c.quantile = 0.99; }, &MetricRow::takes_quantile},
  };
  for (const MetricRow& row : MetricTable()) {
    SCOPED_TRACE(std::string(row.name));
    EXPECT_THAT(Paths(ValidatePlan(PlanWith(ValidCheckOf(row.metric)))), IsEmpty());
    for (const auto& bound : kBounds) {
      SCOPED_TRACE(bound.bound);
      Check check = ValidCheckOf(row.metric);
      bound.set(check);
      const std::vector<Violation> violations = ValidatePlan(PlanWith(check));
      if (row.*bound.taken) {
        EXPECT_THAT(Paths(violations), IsEmpty());
        continue;
      }
      ASSERT_THAT(Paths(violations), ElementsAre(absl::StrCat("plan.steps[2].checks[0].", bound.bound)));
      EXPECT_THAT(violations[0].message, HasSubstr(absl::StrCat(row.name, " takes ")));
      EXPECT_THAT(violations[0].message, HasSubstr(absl::StrCat("and no ", bound.bound)));
    }
    if (row.takes_limit) continue;
    Check check = ValidCheckOf(row.metric);
    check.limit = 1;
    EXPECT_THAT(Paths(ValidatePlan(PlanWith(check))), ElementsAre("plan.steps[2].checks[0].limit"));
  }
}

TEST(ValidatePlanTest, LimitsAndQuantilesHaveTheirRanges) {
  const double kNan = std::nan("");
  const struct {
    Metric metric;
    double value;
    bool valid;
  } kLimits[] = {
      {Metric::kOutstandingRepairs, 0, true},
      {Metric::kOutstandingRepairs, 10, true},
      {Metric::kOutstandingRepairs, -1, false},
      {Metric::kOutstandingRepairs, 0.5, false},
      {Metric::kOutstandingRepairs, HUGE_VAL, false},
      {Metric::kOutstandingRepairs, kNan, false},
      {Metric::kCoverage, 1, true},
      {Metric::kCoverage, 0.999, true},
      {Metric::kCoverage, 0, false},
      {Metric::kCoverage, 1.001, false},
      {Metric::kCoverage, kNan, false},
      {Metric::kThroughputShare, 1.01, true},
      {Metric::kThroughputShare, 1, false},
      {Metric::kThroughputShare, 0, false},
      {Metric::kThroughputShare, HUGE_VAL, false},
      {Metric::kThroughputShare, kNan, false},
  };
  for (const auto& row : kLimits) {
    SCOPED_TRACE(absl::StrCat(MetricName(row.metric), " ", row.value));
    Check check = ValidCheckOf(row.metric);
    check.limit = row.value;
    const auto paths = Paths(ValidatePlan(PlanWith(check)));
    if (row.valid) {
      EXPECT_THAT(paths, IsEmpty());
    } else {
      EXPECT_THAT(paths, ElementsAre("plan.steps[2].checks[0].limit"));
    }
  }
  for (const double quantile : {0.5, 0.95, 0.99, 0.0, 0.9, 1.0, kNan}) {
    SCOPED_TRACE(quantile);
    Check check = ValidCheckOf(Metric::kLatency);
    check.quantile = quantile;
    const auto violations = ValidatePlan(PlanWith(check));
    const bool valid = quantile == 0.5 || quantile == 0.95 || quantile == 0.99;
    ASSERT_EQ(violations.size(), valid ? 0u : 1u);
    if (valid) continue;
    EXPECT_EQ(violations[0].path, "plan.steps[2].checks[0].quantile");
    EXPECT_THAT(violations[0].message, HasSubstr("one of 0.5, 0.95, 0.99"));
  }
}

TEST(ValidatePlanTest, ReportsAllFaultsAtOnce) {
  MigrationPlan plan = ValidPlan();
  plan.steps[0].stage = Stage::kShadowRead;
  plan.steps[1].checks[0].budget = 0;
  plan.steps[3].weight = 10;
  plan.alpha_advance = 2;
  EXPECT_THAT(Paths(ValidatePlan(plan)), ElementsAre("plan.steps[0].stage", "plan.steps[1].checks[0].budget",
                                                     "plan.steps[3].weight", "plan.alpha_advance"));
}

TEST(ValidatePlanTest, FieldsMustBeDeclaredAndCompared) {
  MigrationPlan plan = ValidPlan();
  Check by_field = Mismatches();
  for (const char* field : {"city", "ignored", "unknown"}) {
    by_field.name = by_field.field = field;
    plan.steps[1].checks.push_back(by_field);
  }
  const Contract contract = {{{.path = "city"}, {.path = "ignored", .ignore = true}}};
  EXPECT_THAT(Paths(ValidatePlan(plan)), IsEmpty());
  EXPECT_THAT(Paths(ValidatePlan(plan, contract)),
              ElementsAre("plan.steps[1].checks[3].field", "plan.steps[1].checks[4].field"));
}

TEST(LintPlanTest, PointsAtWhatWasProbablyNotMeant) {
  const std::vector<PlanCase> kCases = {
      {"no checks", [](auto& p) { p.steps[2].checks.clear(); }, "plan.steps[2].checks", "no checks"},
      {"advisory only",
       [](auto& p) {
         for (Check& check : p.steps[2].checks) check.advisory = true;
       },
       "plan.steps[2].checks", "advisory checks only"},
      {"no bake", [](auto& p) { p.steps[1].min_bake = absl::ZeroDuration(); }, "plan.steps[1].min_bake",
       "none"},
      {"no floor", [](auto& p) { p.steps[2].checks[1].floor = 0; }, "plan.steps[2].checks[1].floor",
       "very long"},
      {"no floor at 100 %", [](auto& p) { p.steps[3].checks[1].floor = 0; }, "plan.steps[3].checks[1].floor",
       "cannot pass"},
      {"ends early", [](auto& p) { p.steps.resize(2); }, "plan.steps", "ends at SHADOW_READ"},
      {"ends below 100 %", [](auto& p) { p.steps.pop_back(); }, "plan.steps[2].weight", "1000 of 100000"},
      {"nobody expected", [](auto& p) { p.expected_services.clear(); }, "plan.expected_services",
       "unnoticed"},
      {"no floor of paired errors",
       [](auto& p) {
         p.steps[3].checks[1].metric = Metric::kPairedErrorRatio;
         p.steps[3].checks[1].floor = 0;
       },
       "plan.steps[3].checks[1].floor", "very long"},
      {"latency at 100 %", [](auto& p) { p.steps[3].checks.push_back(ValidCheckOf(Metric::kLatency)); },
       "plan.steps[3].checks[2].metric", "cannot pass"},
      {"share at 100 %", [](auto& p) { p.steps[3].checks.push_back(ValidCheckOf(Metric::kThroughputShare)); },
       "plan.steps[3].checks[2].metric", "leave it out"},
      {"notifies only",
       [](auto& p) {
         for (Check& check : p.steps[1].checks) check.on_breach = BreachAction::kNotify;
       },
       "plan.steps[1].checks", "only notifies"},
      {"many steps",
       [](auto& p) {
         for (uint32_t weight = 1; weight <= 11; ++weight) {
           PlanStep step = p.steps[2];
           step.weight = weight;
           p.steps.insert(p.steps.begin() + 1 + weight, step);
         }
       },
       "plan.steps",
       "15 steps share alpha_advance: where their traffic is alike, each of them needs 1.5 times"},
      {"many bounds",
       [](auto& p) {
         for (int i = 0; i < 7; ++i) {
           Check check = Mismatches();
           check.name = check.field = absl::StrCat("field", i);
           p.steps[2].checks.push_back(check);
         }
       },
       "plan.steps", "10 distinct bounds share alpha_rollback: a single breach needs 1.5 times"},
  };
  for (const PlanCase& c : kCases) {
    SCOPED_TRACE(c.name);
    MigrationPlan plan = ValidPlan();
    c.change(plan);
    EXPECT_THAT(Paths(ValidatePlan(plan)), IsEmpty());
    const std::vector<Violation> warnings = LintPlan(plan);
    ASSERT_EQ(warnings.size(), 1u) << ::testing::PrintToString(Paths(warnings));
    EXPECT_EQ(warnings[0].path, c.path);
    EXPECT_THAT(warnings[0].message, HasSubstr(c.message));
  }
}

struct TrafficCase {
  const char* name;
  std::function<void(MigrationPlan&)> change;
  TrafficHint traffic;
  std::vector<std::string> findings;  // "path: part of the message"
};

// A clean certificate takes a little less than ln(2 S / alpha) / r observations: S = 4 and alpha = 0.01 make
// about 6.5 / r.
TEST(LintPlanTest, SaysWhatTheTrafficCannotCertify) {
  const TrafficHint kBusy = {
      .reads_per_second = 1e5, .comparisons_per_second = 1e4, .writes_per_second = 1e4};
  const auto at = [&](double reads, double comparisons, double writes) {
    return TrafficHint{reads, comparisons, writes};
  };
  const std::vector<TrafficCase> kCases = {
      {"all in time", [](auto&) {}, kBusy, {}},
      {"slow comparisons hold the first step that needs them, and the next ones have a head start",
       [](auto&) {},
       at(1e5, 40, 1e4),
       {"plan.steps[1].checks[0].budget: needs 5,059 clean comparisons, which at 40/s take 2m7s; min_bake "
        "is 1m: "
        "the step lasts longer"}},
      {"deadline too short",
       [](auto& p) { p.steps[1].deadline = absl::Seconds(120); },
       at(1e5, 40, 1e4),
       {"plan.steps[1].checks[0].budget: needs 5,059 clean comparisons, which at 40/s take 2m7s; min_bake "
        "is 1m and "
        "the deadline 2m: the step will be paused before the check can pass"}},
      {"deadline long enough",
       [](auto& p) { p.steps[1].deadline = absl::Minutes(5); },
       at(1e5, 40, 1e4),
       {"plan.steps[1].checks[0].budget: needs 5,059 clean comparisons, which at 40/s take 2m7s; min_bake "
        "is 1m: "
        "the step lasts longer, within its deadline"}},
      {"an advisory check holds nothing, yet is told; carried-over evidence counts",
       [](auto& p) { p.steps[1].checks[0].advisory = true; },
       at(1e5, 40, 1e4),
       {"plan.steps[1].checks[0].budget: needs 5,059",
        "plan.steps[2].checks[0].budget: needs 5,059 clean "
        "comparisons, which at 40/s take 2m7s, of which earlier steps give 1m; min_bake is 1m: the step "
        "lasts"}},
      {"few reads at 1 %",
       [](auto&) {},
       at(1000, 1e4, 1e4),
       {"plan.steps[2].checks[1].floor: needs 1,155 clean reads served by the new side, which at 10/s take "
        "1m56s"}},
      {"few writes",
       [](auto&) {},
       at(1e5, 1e4, 4),
       {"plan.steps[0].checks[0].budget: needs 575 clean mirror writes, which at 4/s take 2m24s",
        "plan.steps[1].checks[1].budget: needs 575 clean mirror writes"}},
      {"unknown writes", [](auto&) {}, at(1e5, 1e4, 0), {}},
      {"latency",
       [](auto& p) { p.steps[2].checks.push_back(ValidCheckOf(Metric::kLatency)); },
       at(2000, 1e4, 1e4),
       {"plan.steps[2].checks[2].quantile: needs 1,"}},
  };
  for (const TrafficCase& c : kCases) {
    SCOPED_TRACE(c.name);
    MigrationPlan plan = ValidPlan();
    c.change(plan);
    ASSERT_THAT(Paths(ValidatePlan(plan)), IsEmpty());
    std::vector<std::string> found;
    for (const Violation& warning : LintPlan(plan, c.traffic)) {
      found.push_back(absl::StrCat(warning.path, ": ", warning.message));
    }
    ASSERT_EQ(found.size(), c.findings.size()) << ::testing::PrintToString(found);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_THAT(found[i], HasSubstr(c.findings[i]));
  }
}

}  // namespace
}  // namespace lockstep::domain
