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

TEST(PlanTest, MetricsAreInTheOrderOfTheEnumerators) {
  for (size_t i = 0; i < MetricTable().size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(MetricTable()[i].metric), i);
    EXPECT_EQ(MetricName(MetricTable()[i].metric), MetricTable()[i].name);
  }
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
      {"CUTOVER", [](auto& p) { p.steps.push_back({Stage::kCutover}); }, "plan.steps[4].stage",
       "CUTOVER is not available in this version"},
      {"NEW_ONLY", [](auto& p) { p.steps.push_back({Stage::kNewOnly}); }, "plan.steps[4].stage",
       "not available"},
      {"COMPLETE", [](auto& p) { p.steps.push_back({Stage::kComplete}); }, "plan.steps[4].stage",
       "not available"},
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
      {"floor of a budget metric", [](auto& p) { p.steps[1].checks[0].floor = 0.1; },
       "plan.steps[1].checks[0].floor", "no floor"},
      {"budget of a floor metric", [](auto& p) { p.steps[2].checks[1].budget = 0.1; },
       "plan.steps[2].checks[1].budget", "no budget"},
      {"floor 1", [](auto& p) { p.steps[2].checks[1].floor = 1; }, "plan.steps[2].checks[1].floor", "[0, 1)"},
      {"negative floor", [](auto& p) { p.steps[2].checks[1].floor = -1; }, "plan.steps[2].checks[1].floor",
       "[0, 1)"},
      {"floor NaN", [](auto& p) { p.steps[2].checks[1].floor = std::nan(""); },
       "plan.steps[2].checks[1].floor", "nan"},
      {"field of errors", [](auto& p) { p.steps[2].checks[1].field = "x"; }, "plan.steps[2].checks[1].field",
       "narrowed"},
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

}  // namespace
}  // namespace lockstep::domain
