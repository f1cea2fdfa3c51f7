#include "core/domain/plan.h"

#include <cmath>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/domain/bucketing.h"

namespace lockstep::domain {
namespace {

// Collects violations; paths are built from the parts given.
class Findings {
 public:
  template <typename... PathParts>
  void Add(std::string message, const PathParts&... path) {
    violations_.push_back({absl::StrCat(path...), std::move(message)});
  }
  std::vector<Violation> Take() { return std::move(violations_); }

 private:
  std::vector<Violation> violations_;
};

std::string StepPath(size_t step) { return absl::StrCat("plan.steps[", step, "]"); }
std::string CheckPath(size_t step, size_t check) {
  return absl::StrCat(StepPath(step), ".checks[", check, "]");
}

// False for NaN, so that every comparison with a bound refuses it.
bool InOpenUnit(double x) { return x > 0 && x < 1; }

void ValidateAlpha(double alpha, absl::string_view path, Findings& findings) {
  if (alpha > 0 && alpha <= 0.5) return;
  findings.Add(absl::StrCat(alpha, " is not in (0, 0.5]: the probability of a wrong verdict, usually 0.01"),
               path);
}

// The stage of a step against the one before it (OFF before the first).
void ValidateStage(const MigrationPlan& plan, size_t i, Findings& findings) {
  const Stage stage = plan.steps[i].stage;
  const Stage previous = i == 0 ? Stage::kOff : plan.steps[i - 1].stage;
  const auto wrong = [&](std::string message) { findings.Add(std::move(message), StepPath(i), ".stage"); };
  if (stage == Stage::kOff) return wrong("OFF is where a migration begins, not a step; start at DUAL_WRITE");
  if (stage > Stage::kCanaryRead) {
    return wrong(
        absl::StrCat(StageName(stage), " is not available in this version; CANARY_READ is the last stage"));
  }
  if (stage < previous) {
    return wrong(absl::StrCat(StageName(stage), " after ", StageName(previous), ": a plan never goes back"));
  }
  // A predecessor that is itself out of range has been reported; its successors need no second message.
  if (static_cast<int>(stage) > static_cast<int>(previous) + 1) {
    const Stage missing = static_cast<Stage>(static_cast<int>(previous) + 1);
    wrong(absl::StrCat(StageName(stage),
                       i == 0 ? " as the first step" : absl::StrCat(" after ", StageName(previous)),
                       " skips ", StageName(missing), "; add a step for it"));
  }
}

void ValidateWeight(const MigrationPlan& plan, size_t i, Findings& findings) {
  const PlanStep& step = plan.steps[i];
  const auto wrong = [&](std::string message) { findings.Add(std::move(message), StepPath(i), ".weight"); };
  if (step.stage != Stage::kCanaryRead) {
    if (step.weight != 0)
      wrong(absl::StrCat(step.weight, " at ", StageName(step.stage), ": only CANARY_READ has one"));
    return;
  }
  if (step.weight == 0)
    return wrong("0: a CANARY_READ step must read some share of the keys from the new side");
  if (step.weight > kBucketCount) {
    return wrong(absl::StrCat(step.weight, " is more than ", kBucketCount, " (100 %)"));
  }
  if (i == 0 || plan.steps[i - 1].stage != Stage::kCanaryRead) return;
  const uint32_t previous = plan.steps[i - 1].weight;
  if (step.weight < previous) wrong(absl::StrCat(step.weight, " after ", previous, ": weights never fall"));
  if (step.weight == previous) {
    wrong(absl::StrCat(step.weight, " is also the weight of the step before; merge the two or raise it"));
  }
}

void ValidateCheck(const PlanStep& step, const Check& check, const std::string& path, Findings& findings) {
  const MetricRow& metric = MetricTable()[static_cast<size_t>(check.metric)];
  if (check.name.empty()) findings.Add("is empty; every check needs a name", path, ".name");
  if (check.name.size() > kMaxCheckNameBytes) {
    findings.Add(
        absl::StrCat("has ", check.name.size(), " bytes; at most ", kMaxCheckNameBytes, " are allowed"), path,
        ".name");
  }
  if (metric.takes_budget) {
    if (check.budget == 0) {
      findings.Add(
          "0 cannot be certified by any number of observations; state the highest acceptable rate, such as "
          "0.0001",
          path, ".budget");
    } else if (!InOpenUnit(check.budget)) {
      findings.Add(absl::StrCat(check.budget, " is not in (0, 1): a budget is a rate, 0.001 means 0.1 %"),
                   path, ".budget");
    }
    if (check.floor != 0)
      findings.Add(absl::StrCat(metric.name, " takes a budget and no floor"), path, ".floor");
  } else {
    if (check.budget != 0)
      findings.Add(absl::StrCat(metric.name, " takes a floor and no budget"), path, ".budget");
    if (check.floor != 0 && !InOpenUnit(check.floor)) {
      findings.Add(absl::StrCat(check.floor, " is not in [0, 1): a floor is a rate, 0.005 means 0.5 %"), path,
                   ".floor");
    }
  }
  if (!check.field.empty() && !metric.takes_field) {
    findings.Add(absl::StrCat(metric.name, " cannot be narrowed to a field"), path, ".field");
  }
  if (step.stage < metric.first_stage && step.stage != Stage::kOff) {
    findings.Add(absl::StrCat(metric.name, " has nothing to measure at ", StageName(step.stage),
                              " and would never pass; use it from ", StageName(metric.first_stage), " on"),
                 path, ".metric");
  }
}

void ValidateStep(const MigrationPlan& plan, size_t i, Findings& findings) {
  const PlanStep& step = plan.steps[i];
  ValidateStage(plan, i, findings);
  ValidateWeight(plan, i, findings);
  if (step.min_bake < absl::ZeroDuration() || step.min_bake == absl::InfiniteDuration()) {
    findings.Add(absl::StrCat(absl::FormatDuration(step.min_bake), " must be finite and not negative"),
                 StepPath(i), ".min_bake");
  }
  if (step.checks.size() > kMaxChecksPerStep) {
    findings.Add(absl::StrCat(step.checks.size(), " checks; at most ", kMaxChecksPerStep, " are allowed"),
                 StepPath(i), ".checks");
  }
  absl::flat_hash_set<absl::string_view> names;
  for (size_t j = 0; j < step.checks.size(); ++j) {
    const Check& check = step.checks[j];
    ValidateCheck(step, check, CheckPath(i, j), findings);
    if (!check.name.empty() && !names.insert(check.name).second) {
      findings.Add(absl::StrCat("'", check.name, "' is used twice in this step"), CheckPath(i, j), ".name");
    }
  }
}

void ValidateExpectedServices(const MigrationPlan& plan, Findings& findings) {
  if (plan.expected_services.size() > kMaxExpectedServices) {
    findings.Add(absl::StrCat(plan.expected_services.size(), " services; at most ", kMaxExpectedServices,
                              " are allowed"),
                 "plan.expected_services");
  }
  absl::flat_hash_set<absl::string_view> services;
  for (size_t i = 0; i < plan.expected_services.size(); ++i) {
    const ExpectedService& expected = plan.expected_services[i];
    const std::string path = absl::StrCat("plan.expected_services[", i, "]");
    if (expected.service.empty()) {
      findings.Add("is empty; name the service as its instances enrol", path, ".service");
    } else if (!services.insert(expected.service).second) {
      findings.Add(absl::StrCat("'", expected.service, "' is listed twice"), path, ".service");
    }
    if (expected.min_instances == 0) {
      findings.Add("0: leave the service out if none of its instances is needed", path, ".min_instances");
    }
  }
}

void LintStep(const MigrationPlan& plan, size_t i, Findings& findings) {
  const PlanStep& step = plan.steps[i];
  size_t binding = 0;
  for (size_t j = 0; j < step.checks.size(); ++j) {
    const Check& check = step.checks[j];
    if (!check.advisory) ++binding;
    if (check.metric != Metric::kErrorRatio || check.floor > 0) continue;
    findings.Add(step.weight == kBucketCount
                     ? "no floor at a weight of 100 %: the old side serves nothing to compare with, so the "
                       "check cannot pass"
                     : "no floor: with few errors on the old side the check may hold for very long",
                 CheckPath(i, j), ".floor");
  }
  if (binding == 0) {
    findings.Add(absl::StrCat(step.checks.empty() ? "no checks" : "advisory checks only",
                              ": the step is left as soon as its minimum bake time has passed"),
                 StepPath(i), ".checks");
  }
  if (step.min_bake == absl::ZeroDuration()) {
    findings.Add("none: daily or hourly patterns of the traffic may be missed", StepPath(i), ".min_bake");
  }
}

}  // namespace

const std::array<MetricRow, 3>& MetricTable() {
  static constexpr std::array<MetricRow, 3> kMetrics = {{
      {.metric = Metric::kMismatchRatio,
       .name = "MISMATCH_RATIO",
       .takes_budget = true,
       .takes_field = true,
       .first_stage = Stage::kShadowRead},
      {.metric = Metric::kErrorRatio,
       .name = "ERROR_RATIO",
       .takes_budget = false,
       .takes_field = false,
       .first_stage = Stage::kCanaryRead},
      {.metric = Metric::kMirrorFailureRatio,
       .name = "MIRROR_FAILURE_RATIO",
       .takes_budget = true,
       .takes_field = false,
       .first_stage = Stage::kDualWrite},
  }};
  return kMetrics;
}

absl::string_view MetricName(Metric metric) {
  const auto index = static_cast<size_t>(metric);
  LOCKSTEP_CHECK(index < MetricTable().size(), "not an enumerator of Metric");
  return MetricTable()[index].name;
}

absl::string_view BreachActionName(BreachAction action) {
  switch (action) {
    case BreachAction::kRollback:
      return "ROLLBACK";
    case BreachAction::kPause:
      return "PAUSE";
    case BreachAction::kNotify:
      return "NOTIFY";
  }
  return "";
}

std::vector<Violation> ValidatePlan(const MigrationPlan& plan) {
  Findings findings;
  if (plan.steps.empty()) findings.Add("is empty; a plan has at least one step, DUAL_WRITE", "plan.steps");
  if (plan.steps.size() > kMaxPlanSteps) {
    findings.Add(absl::StrCat(plan.steps.size(), " steps; at most ", kMaxPlanSteps, " are allowed"),
                 "plan.steps");
  }
  for (size_t i = 0; i < plan.steps.size(); ++i) ValidateStep(plan, i, findings);
  ValidateAlpha(plan.alpha_rollback, "plan.alpha_rollback", findings);
  ValidateAlpha(plan.alpha_advance, "plan.alpha_advance", findings);
  ValidateExpectedServices(plan, findings);
  if (plan.cool_down < absl::ZeroDuration() || plan.cool_down == absl::InfiniteDuration()) {
    findings.Add(absl::StrCat(absl::FormatDuration(plan.cool_down), " must be finite and not negative"),
                 "plan.cool_down");
  }
  return findings.Take();
}

std::vector<Violation> ValidatePlan(const MigrationPlan& plan, const Contract& contract) {
  std::vector<Violation> violations = ValidatePlan(plan);
  absl::flat_hash_map<absl::string_view, bool> ignored;
  for (const FieldRule& field : contract.fields) ignored.emplace(field.path, field.ignore);
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    for (size_t j = 0; j < plan.steps[i].checks.size(); ++j) {
      const std::string& field = plan.steps[i].checks[j].field;
      if (field.empty()) continue;
      const auto declared = ignored.find(field);
      if (declared == ignored.end()) {
        violations.push_back({absl::StrCat(CheckPath(i, j), ".field"),
                              absl::StrCat("'", field, "' is not a field of the contract")});
      } else if (declared->second) {
        violations.push_back({absl::StrCat(CheckPath(i, j), ".field"),
                              absl::StrCat("the contract ignores '", field, "': it never mismatches")});
      }
    }
  }
  return violations;
}

std::vector<Violation> LintPlan(const MigrationPlan& plan) {
  Findings findings;
  for (size_t i = 0; i < plan.steps.size(); ++i) LintStep(plan, i, findings);
  if (!plan.steps.empty()) {
    const PlanStep& last = plan.steps.back();
    if (last.stage != Stage::kCanaryRead) {
      findings.Add(absl::StrCat("the plan ends at ", StageName(last.stage),
                                ": nothing is ever read from the new side"),
                   "plan.steps");
    } else if (last.weight < kBucketCount) {
      findings.Add(absl::StrCat("the plan ends at a weight of ", last.weight, " of ", kBucketCount,
                                ": some keys are never read from the new side"),
                   StepPath(plan.steps.size() - 1), ".weight");
    }
  }
  if (plan.expected_services.empty()) {
    findings.Add("none: a service that was forgotten, or writes without the SDK, goes unnoticed",
                 "plan.expected_services");
  }
  return findings.Take();
}

}  // namespace lockstep::domain
