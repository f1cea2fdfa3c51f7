#include "core/domain/plan.h"

#include <cmath>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/check.h"
#include "core/domain/bucketing.h"
#include "core/domain/log_math.h"
#include "core/domain/plan_findings.h"

namespace lockstep::domain {
namespace {

// False for NaN, so that every comparison with a bound refuses it.
bool InOpenUnit(double x) { return x > 0 && x < 1; }

void ValidateAlpha(double alpha, absl::string_view path, Findings& findings) {
  if (alpha > 0 && alpha <= 0.5) return;
  findings.Add(absl::StrCat(alpha, " is not in (0, 0.5]: the probability of a wrong verdict, usually 0.01"),
               path);
}

bool HasWeight(Stage stage) { return stage == Stage::kCanaryRead || stage == Stage::kCutover; }

// The stage of a step against the one before it (OFF before the first).
void ValidateStage(const MigrationPlan& plan, size_t i, Findings& findings) {
  const Stage stage = plan.steps[i].stage;
  const Stage previous = i == 0 ? Stage::kOff : plan.steps[i - 1].stage;
  const auto wrong = [&](std::string message) { findings.Add(std::move(message), StepPath(i), ".stage"); };
  if (stage == Stage::kOff) return wrong("OFF is where a migration begins, not a step; start at DUAL_WRITE");
  if (stage < previous) {
    return wrong(absl::StrCat(StageName(stage), " after ", StageName(previous), ": a plan never goes back"));
  }
  // A predecessor that is itself out of range has been reported; its successors need no second message.
  if (static_cast<int>(stage) > static_cast<int>(previous) + 1) {
    const Stage missing = static_cast<Stage>(static_cast<int>(previous) + 1);
    wrong(absl::StrCat(StageName(stage),
                       i == 0 ? " as the first step" : absl::StrCat(" after ", StageName(previous)),
                       " skips ", StageName(missing), "; add a step for it"));
    return;
  }
  // Both have to be whole before the next stage builds on them.
  if (i == 0 || stage == previous || !HasWeight(previous) || plan.steps[i - 1].weight >= kBucketCount) return;
  wrong(absl::StrCat(StageName(stage), " after ", StageName(previous), " with a weight of ",
                     plan.steps[i - 1].weight, ": ",
                     previous == Stage::kCanaryRead ? "all reads come from the new side"
                                                    : "all writes go to the new side first",
                     " before it; add a ", StageName(previous), " step at ", kBucketCount));
}

void ValidateWeight(const MigrationPlan& plan, size_t i, Findings& findings) {
  const PlanStep& step = plan.steps[i];
  const auto wrong = [&](std::string message) { findings.Add(std::move(message), StepPath(i), ".weight"); };
  if (!HasWeight(step.stage)) {
    if (step.weight != 0)
      wrong(absl::StrCat(step.weight, " at ", StageName(step.stage),
                         ": only CANARY_READ and CUTOVER have one"));
    return;
  }
  if (step.weight == 0) {
    return wrong(step.stage == Stage::kCanaryRead
                     ? "0: a CANARY_READ step must read some share of the keys from the new side"
                     : "0: a CUTOVER step must write some share of the keys to the new side first");
  }
  if (step.weight > kBucketCount) {
    return wrong(absl::StrCat(step.weight, " is more than ", kBucketCount, " (100 %)"));
  }
  if (i == 0 || plan.steps[i - 1].stage != step.stage) return;
  const uint32_t previous = plan.steps[i - 1].weight;
  if (step.weight < previous) wrong(absl::StrCat(step.weight, " after ", previous, ": weights never fall"));
  if (step.weight == previous) {
    wrong(absl::StrCat(step.weight, " is also the weight of the step before; merge the two or raise it"));
  }
}

// What a check of this metric states: "a budget and a field".
std::string WhatItTakes(const MetricRow& metric) {
  std::vector<absl::string_view> taken;
  if (metric.takes_budget) taken.push_back("a budget");
  if (metric.takes_floor) taken.push_back("a floor");
  if (metric.takes_field) taken.push_back("a field");
  if (metric.takes_quantile) taken.push_back("a quantile");
  if (metric.takes_limit) taken.push_back("a limit");
  return taken.empty() ? "no bound of its own" : absl::StrJoin(taken, " and ");
}

void ValidateBudget(const Check& check, const std::string& path, Findings& findings) {
  if (check.budget == 0) {
    findings.Add(
        "0 cannot be certified by any number of observations; state the highest acceptable rate, such as "
        "0.0001",
        path, ".budget");
  } else if (!InOpenUnit(check.budget)) {
    findings.Add(absl::StrCat(check.budget, " is not in (0, 1): a budget is a rate, 0.001 means 0.1 %"), path,
                 ".budget");
  }
}

void ValidateFloor(const Check& check, const std::string& path, Findings& findings) {
  if (check.floor == 0 || InOpenUnit(check.floor)) return;
  findings.Add(absl::StrCat(check.floor, " is not in [0, 1): a floor is a rate, 0.005 means 0.5 %"), path,
               ".floor");
}

void ValidateQuantile(const Check& check, const std::string& path, Findings& findings) {
  if (absl::c_linear_search(kLatencyQuantiles, check.quantile)) return;
  findings.Add(absl::StrCat(check.quantile == 0 ? "is missing" : absl::StrCat(check.quantile),
                            ": the quantile is one of ", absl::StrJoin(kLatencyQuantiles, ", ")),
               path, ".quantile");
}

void ValidateLimit(const Check& check, const std::string& path, Findings& findings) {
  const double limit = check.limit;
  const auto wrong = [&](absl::string_view why) {
    findings.Add(absl::StrCat(limit, " ", why), path, ".limit");
  };
  switch (check.metric) {
    case Metric::kOutstandingRepairs:
      if (!(limit >= 0 && limit <= static_cast<double>(kMaxCount) && std::floor(limit) == limit)) {
        wrong("is not a whole number from 0 on: the limit is how many repairs may be outstanding");
      }
      return;
    case Metric::kCoverage:
      if (!(limit > 0 && limit <= 1)) {
        wrong("is not in (0, 1]: the limit is the share of the rows that must have been copied, 1 for all");
      }
      return;
    case Metric::kThroughputShare:
      if (!(limit > 1 && std::isfinite(limit))) {
        wrong(
            "is not above 1: the limit is a factor by which the share of the new side may be off, such as "
            "1.5");
      }
      return;
    case Metric::kMismatchRatio:
    case Metric::kErrorRatio:
    case Metric::kMirrorFailureRatio:
    case Metric::kPairedErrorRatio:
    case Metric::kLatency:
    case Metric::kPairedLatency:
      LOCKSTEP_CHECK(false, "a metric with a limit needs its range here");
  }
}

void ValidateBounds(const Check& check, const std::string& path, Findings& findings) {
  const MetricRow& metric = RowOf(check.metric);
  const auto refuse = [&](absl::string_view bound) {
    findings.Add(absl::StrCat(metric.name, " takes ", WhatItTakes(metric), ", and no ", bound), path, ".",
                 bound);
  };
  if (metric.takes_budget) {
    ValidateBudget(check, path, findings);
  } else if (check.budget != 0) {
    refuse("budget");
  }
  if (metric.takes_floor) {
    ValidateFloor(check, path, findings);
  } else if (check.floor != 0) {
    refuse("floor");
  }
  if (!metric.takes_field && !check.field.empty()) refuse("field");
  if (metric.takes_quantile) {
    ValidateQuantile(check, path, findings);
  } else if (check.quantile != 0) {
    refuse("quantile");
  }
  if (metric.takes_limit) {
    ValidateLimit(check, path, findings);
  } else if (check.limit != 0) {
    refuse("limit");
  }
}

void ValidateCheck(const PlanStep& step, const Check& check, const std::string& path, Findings& findings) {
  const MetricRow& metric = RowOf(check.metric);
  if (check.name.empty()) findings.Add("is empty; every check needs a name", path, ".name");
  if (check.name.size() > kMaxCheckNameBytes) {
    findings.Add(
        absl::StrCat("has ", check.name.size(), " bytes; at most ", kMaxCheckNameBytes, " are allowed"), path,
        ".name");
  }
  ValidateBounds(check, path, findings);
  if (step.stage < metric.first_stage && step.stage != Stage::kOff) {
    findings.Add(absl::StrCat(metric.name, " has nothing to measure at ", StageName(step.stage),
                              " and would never pass; use it from ", StageName(metric.first_stage), " on"),
                 path, ".metric");
  }
  if (step.stage > metric.last_stage) {
    findings.Add(absl::StrCat(metric.name, " has nothing to measure at ", StageName(step.stage),
                              " and would never pass; use it up to ", StageName(metric.last_stage)),
                 path, ".metric");
  } else if (step.stage > Stage::kCanaryRead && metric.counts_reads_by_arm && check.floor == 0) {
    findings.Add(absl::StrCat("is missing: at ", StageName(step.stage),
                              " the old side serves nothing to compare with, so that the check can pass by "
                              "its floor only"),
                 path, ".floor");
  }
  if (step.stage == Stage::kNewOnly && check.on_breach == BreachAction::kRollback) {
    findings.Add("ROLLBACK at NEW_ONLY: there is no way back from there; use PAUSE or NOTIFY", path,
                 ".on_breach");
  }
}

void ValidateTimes(const PlanStep& step, const std::string& path, Findings& findings) {
  const bool bake_is_valid =
      step.min_bake >= absl::ZeroDuration() && step.min_bake != absl::InfiniteDuration();
  if (!bake_is_valid) {
    findings.Add(absl::StrCat(absl::FormatDuration(step.min_bake), " must be finite and not negative"), path,
                 ".min_bake");
  }
  if (step.deadline < absl::ZeroDuration() || step.deadline == absl::InfiniteDuration()) {
    findings.Add(absl::StrCat(absl::FormatDuration(step.deadline),
                              " must be finite and not negative; leave it out for no deadline"),
                 path, ".deadline");
  } else if (bake_is_valid && step.deadline != absl::ZeroDuration() && step.deadline < step.min_bake) {
    findings.Add(absl::StrCat(absl::FormatDuration(step.deadline), " is before the end of min_bake, ",
                              absl::FormatDuration(step.min_bake), ": the step could never pass in time"),
                 path, ".deadline");
  }
}

void ValidateTelemetryLimits(const TelemetryLimits& limits, Findings& findings) {
  const auto wrong = [&](absl::string_view field, std::string message) {
    findings.Add(std::move(message), "plan.telemetry_limits.", field);
  };
  if (!(limits.max_not_comparable > 0 && limits.max_not_comparable <= 1)) {
    wrong("max_not_comparable",
          absl::StrCat(limits.max_not_comparable, " is not in (0, 1]: it is a share, 0.1 means 10 %"));
  }
  if (!(limits.max_share_skew >= 1 && std::isfinite(limits.max_share_skew))) {
    wrong("max_share_skew", absl::StrCat(limits.max_share_skew, " is not a factor from 1 on, such as 3"));
  }
  if (limits.stale_after <= absl::ZeroDuration() || limits.stale_after == absl::InfiniteDuration()) {
    wrong("stale_after",
          absl::StrCat(absl::FormatDuration(limits.stale_after), " must be finite and above zero"));
  }
}

void ValidateCutoverLimits(const CutoverLimits& limits, Findings& findings) {
  if (limits.slice_weight == 0 || limits.slice_weight > kBucketCount) {
    findings.Add(absl::StrCat(limits.slice_weight, " is not in [1, ", kBucketCount,
                              "]: the widest slice, in buckets of 0.001 %"),
                 "plan.cutover.slice_weight");
  }
  if (limits.max_hold <= absl::ZeroDuration() || limits.max_hold > kMaxHold) {
    findings.Add(absl::StrCat(absl::FormatDuration(limits.max_hold), " is not in (0, ",
                              absl::FormatDuration(kMaxHold), "]: writes of the slice wait for so long"),
                 "plan.cutover.max_hold");
  }
}

void ValidateStep(const MigrationPlan& plan, size_t i, Findings& findings) {
  const PlanStep& step = plan.steps[i];
  ValidateStage(plan, i, findings);
  ValidateWeight(plan, i, findings);
  ValidateTimes(step, StepPath(i), findings);
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

}  // namespace

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

bool DeadlinePassed(const PlanStep& step, absl::Duration age) {
  return step.deadline > absl::ZeroDuration() && age >= step.deadline;
}

double ReadShareOf(const PlanStep& step) {
  if (step.stage == Stage::kCanaryRead) return static_cast<double>(step.weight) / kBucketCount;
  return step.stage > Stage::kCanaryRead ? 1 : 0;
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
  ValidateTelemetryLimits(plan.telemetry_limits, findings);
  ValidateCutoverLimits(plan.cutover, findings);
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

}  // namespace lockstep::domain
