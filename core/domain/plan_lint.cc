// LintPlan: plans that can run, and probably won't decide what was meant, or not in time.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/domain/alpha_spending.h"
#include "core/domain/bucketing.h"
#include "core/domain/gate_words.h"
#include "core/domain/plan.h"
#include "core/domain/plan_findings.h"
#include "core/domain/rate_evidence.h"

namespace lockstep::domain {
namespace {

// From here on a plan is told what splitting an error probability costs: half as many observations again.
constexpr double kCostlySplit = 1.5;

void LintCheck(const PlanStep& step, const Check& check, const std::string& path, Findings& findings) {
  const MetricRow& metric = RowOf(check.metric);
  const bool old_side_is_silent = metric.counts_reads_by_arm && ReadShareOf(step) == 1;
  if (metric.takes_floor) {
    if (check.floor > 0) return;
    findings.Add(old_side_is_silent
                     ? "no floor at a weight of 100 %: the old side serves nothing to compare with, so the "
                       "check cannot pass"
                     : "no floor: with few errors on the old side the check may hold for very long",
                 path, ".floor");
  } else if (old_side_is_silent) {
    findings.Add(absl::StrCat(metric.name,
                              " at a weight of 100 %: the old side serves nothing to compare with, so the "
                              "check cannot pass; leave it out of this step",
                              metric.metric == Metric::kLatency ? ", or use PAIRED_LATENCY" : ""),
                 path, ".metric");
  }
}

void LintBakeBeyondTheWayBack(const PlanStep& step, const std::string& path, Findings& findings) {
  if (step.stage != Stage::kNewOnly || step.min_bake > absl::ZeroDuration()) return;
  findings.Add("none: after it the old side may be dropped", path, ".min_bake");
}

void LintCutover(const MigrationPlan& plan, Findings& findings) {
  const bool cuts_over =
      absl::c_any_of(plan.steps, [](const PlanStep& step) { return step.stage == Stage::kCutover; });
  if (!cuts_over || plan.cutover.slice_weight < kBucketCount) return;
  findings.Add("100 %: all writes are held at once while authority moves; a slice of 5000 (5 %) holds few",
               "plan.cutover.slice_weight");
}

void LintStep(const MigrationPlan& plan, size_t i, Findings& findings) {
  const PlanStep& step = plan.steps[i];
  size_t binding = 0;
  size_t stopping = 0;
  for (size_t j = 0; j < step.checks.size(); ++j) {
    const Check& check = step.checks[j];
    if (!check.advisory) ++binding;
    if (!check.advisory && check.on_breach != BreachAction::kNotify) ++stopping;
    LintCheck(step, check, CheckPath(i, j), findings);
  }
  // From NEW_ONLY on there is next to nothing to check, and nothing to take back.
  if (step.stage > Stage::kCutover) return LintBakeBeyondTheWayBack(step, StepPath(i), findings);
  if (binding == 0) {
    findings.Add(absl::StrCat(step.checks.empty() ? "no checks" : "advisory checks only",
                              ": the step is left as soon as its minimum bake time has passed"),
                 StepPath(i), ".checks");
  } else if (stopping == 0) {
    findings.Add(
        "every check only notifies: a breach holds the step, and nothing takes reads back from a bad new "
        "side",
        StepPath(i), ".checks");
  }
  const bool is_last_chance =
      i + 1 < plan.steps.size() && step.stage <= Stage::kCutover && plan.steps[i + 1].stage > Stage::kCutover;
  if (step.min_bake == absl::ZeroDuration() && is_last_chance) {
    findings.Add(
        "none: the next step, NEW_ONLY, is the point of no return; stay here for as long as a fault may "
        "take to show",
        StepPath(i), ".min_bake");
  } else if (step.min_bake == absl::ZeroDuration()) {
    findings.Add("none: daily or hourly patterns of the traffic may be missed", StepPath(i), ".min_bake");
  }
}

// How evidence of both directions is divided, once that makes the gate noticeably slower.
void LintSplits(const MigrationPlan& plan, Findings& findings) {
  if (plan.steps.empty()) return;
  // At any small budget; the ratio hardly depends on it.
  const auto clean = [&](double alpha) {
    return static_cast<double>(RateEvidence::CleanSampleNeeded(0.001, alpha).value_or(0));
  };
  size_t nulls = 0;
  double least_advance_part = 1;
  for (const TestedNull& null : SpendAlpha(plan)) {
    for (const double part : null.advance_parts) {
      if (part > 0) least_advance_part = std::min(least_advance_part, part);
    }
    if (null.rollback_part > 0) ++nulls;
  }
  // Of a plan with S equal steps; with unequal ones the steps that have the least traffic keep the most.
  const size_t steps = plan.steps.size();
  const double advance_cost =
      clean(plan.alpha_advance / static_cast<double>(steps)) / clean(plan.alpha_advance);
  if (least_advance_part < 1 && advance_cost >= kCostlySplit) {
    findings.Add(
        absl::StrFormat(
            "%d steps share alpha_advance: where their traffic is alike, each of them needs %.1f times the "
            "clean observations of a plan of one step; merge steps, or raise alpha_advance",
            steps, advance_cost),
        "plan.steps");
  }
  // Of equal weights, which differ by a factor of two at most.
  const double rollback_cost = nulls == 0 ? 1
                                          : std::log(static_cast<double>(nulls) / plan.alpha_rollback) /
                                                -std::log(plan.alpha_rollback);
  if (nulls > 1 && rollback_cost >= kCostlySplit) {
    findings.Add(
        absl::StrFormat("%d distinct bounds share alpha_rollback: a single breach needs %.1f times the "
                        "evidence of a plan with one; state the same bound for a metric in every step, or "
                        "check fewer fields and quantiles",
                        nulls, rollback_cost),
        "plan.steps");
  }
}

// What a check needs to pass if nothing is wrong, and how fast it comes.
struct Demand {
  uint64_t observations = 0;
  double per_second = 0;
  absl::string_view what;  // "clean comparisons"
  std::string path;        // of the bound that asks for so many
};

// How many reads of the new side it takes, on average, to show that it is not `lambda` times as often slow as
// the old one, when both are alike: the best single bet of the grid, on the reads beyond the quantile.
double LatencySampleNeeded(const MetricRow& metric, double quantile, double share, double log_threshold) {
  const double odds = metric.advance_lambda * share;
  const double theta = odds / (odds + 1 - share);
  double best = std::numeric_limits<double>::infinity();
  const MixtureGrid& grid = DownGrid();
  for (size_t j = 0; j < grid.size(); ++j) {
    // For one slow read on either side; the bet on none at all is lost with the first slow read of the new
    // side.
    if (grid.factors[j] == 0) continue;
    const double growth = share * grid.log_factors[j] - std::log1p(-theta * (1 - grid.factors[j]));
    if (growth <= 0) continue;
    const double slow_reads = (log_threshold - grid.log_weights[j]) / growth;
    best = std::min(best, slow_reads * share / (1 - quantile));
  }
  return best;
}

std::optional<Demand> DemandOf(const MigrationPlan& plan, size_t i, size_t j, const TrafficHint& traffic) {
  const PlanStep& step = plan.steps[i];
  const Check& check = step.checks[j];
  const MetricRow& metric = RowOf(check.metric);
  const double share = ReadShareOf(step);
  const auto nulls = SpendAlpha(plan);
  const auto null = std::find_if(nulls.begin(), nulls.end(), [&](const TestedNull& tested) {
    return metric.family != MetricFamily::kLevel && NullHypothesis(tested.check) == NullHypothesis(check);
  });
  if (null == nulls.end()) return std::nullopt;  // a level
  const double alpha = plan.alpha_advance * null->advance_parts[i];
  const auto clean = [&](double rate, double alpha, double per_second, absl::string_view what,
                         absl::string_view bound) -> std::optional<Demand> {
    const auto needed = RateEvidence::CleanSampleNeeded(rate, alpha);
    if (!needed.ok() || !(per_second > 0)) return std::nullopt;
    return Demand{*needed, per_second, what, absl::StrCat(CheckPath(i, j), bound)};
  };
  switch (check.metric) {
    case Metric::kMismatchRatio:
      return clean(check.budget, alpha, traffic.comparisons_per_second, "clean comparisons", ".budget");
    case Metric::kMirrorFailureRatio:
      return clean(check.budget, alpha, traffic.writes_per_second, "clean mirror writes", ".budget");
    case Metric::kPairedLatency:
      return clean(metric.fixed_budget, alpha, traffic.comparisons_per_second, "timed pairs", ".metric");
    case Metric::kErrorRatio:
      // Half of the evidence is on the floor; what the ratio adds depends on the old side's errors.
      if (check.floor == 0) return std::nullopt;
      return clean(check.floor, alpha / 2, traffic.reads_per_second * share,
                   "clean reads served by the new side", ".floor");
    case Metric::kPairedErrorRatio:
      if (check.floor == 0) return std::nullopt;
      return clean(check.floor, alpha / 2, traffic.comparisons_per_second, "clean comparisons", ".floor");
    case Metric::kLatency: {
      if (share == 0 || share == 1 || !(traffic.reads_per_second > 0)) return std::nullopt;
      const double needed = LatencySampleNeeded(metric, check.quantile, share, -std::log(alpha));
      if (!std::isfinite(needed)) return std::nullopt;
      return Demand{static_cast<uint64_t>(std::ceil(needed)), traffic.reads_per_second * share,
                    "reads served by the new side", absl::StrCat(CheckPath(i, j), ".quantile")};
    }
    case Metric::kOutstandingRepairs:
    case Metric::kCoverage:
    case Metric::kThroughputShare:
      return std::nullopt;
  }
  return std::nullopt;
}

// Walks the plan as healthy traffic would: a step lasts for its minimum bake time, or until its slowest check
// has what it needs.
void LintTimes(const MigrationPlan& plan, const TrafficHint& traffic, Findings& findings) {
  absl::Duration begin = absl::ZeroDuration();
  std::array<std::optional<absl::Duration>, kMetricCount> measured_since;
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const PlanStep& step = plan.steps[i];
    for (const MetricRow& metric : MetricTable()) {
      auto& since = measured_since[static_cast<size_t>(metric.metric)];
      if (!since.has_value() && step.stage >= metric.first_stage) since = begin;
    }
    absl::Duration end = begin + step.min_bake;
    for (size_t j = 0; j < step.checks.size(); ++j) {
      const std::optional<Demand> demand = DemandOf(plan, i, j, traffic);
      if (!demand.has_value()) continue;
      const absl::Duration needed =
          absl::Seconds(static_cast<double>(demand->observations) / demand->per_second);
      const MetricRow& metric = RowOf(step.checks[j].metric);
      const absl::Duration head_start =
          metric.carries_over ? begin - measured_since[static_cast<size_t>(metric.metric)].value_or(begin)
                              : absl::ZeroDuration();
      const absl::Duration left = needed - head_start;
      if (!step.checks[j].advisory) end = std::max(end, begin + left);
      if (left <= step.min_bake) continue;
      std::string message =
          absl::StrFormat("needs %s %s, which at %.3g/s take %s", CountInWords(demand->observations),
                          demand->what, demand->per_second, DurationInWords(needed));
      if (head_start > absl::ZeroDuration()) {
        absl::StrAppend(&message, ", of which earlier steps give ", DurationInWords(head_start));
      }
      absl::StrAppend(&message, "; min_bake is ", absl::FormatDuration(step.min_bake));
      if (step.deadline == absl::ZeroDuration()) {
        absl::StrAppend(&message, ": the step lasts longer");
      } else if (left > step.deadline) {
        absl::StrAppend(&message, " and the deadline ", absl::FormatDuration(step.deadline),
                        ": the step will be paused before the check can pass");
      } else {
        absl::StrAppend(&message, ": the step lasts longer, within its deadline");
      }
      findings.Add(std::move(message), demand->path);
    }
    begin = end;
  }
}

}  // namespace

std::vector<Violation> LintPlan(const MigrationPlan& plan, const std::optional<TrafficHint>& traffic) {
  Findings findings;
  for (size_t i = 0; i < plan.steps.size(); ++i) LintStep(plan, i, findings);
  if (!plan.steps.empty()) {
    const PlanStep& last = plan.steps.back();
    const std::string weight_path = absl::StrCat(StepPath(plan.steps.size() - 1), ".weight");
    if (last.stage < Stage::kCanaryRead) {
      findings.Add(absl::StrCat("the plan ends at ", StageName(last.stage),
                                ": nothing is ever read from the new side"),
                   "plan.steps");
    } else if (last.stage <= Stage::kCutover && last.weight < kBucketCount) {
      findings.Add(absl::StrCat("the plan ends at a weight of ", last.weight, " of ", kBucketCount,
                                last.stage == Stage::kCanaryRead
                                    ? ": some keys are never read from the new side"
                                    : ": some keys are never written to the new side first"),
                   weight_path);
    }
  }
  LintCutover(plan, findings);
  LintSplits(plan, findings);
  if (traffic.has_value()) LintTimes(plan, *traffic, findings);
  if (plan.expected_services.empty()) {
    findings.Add("none: a service that was forgotten, or writes without the SDK, goes unnoticed",
                 "plan.expected_services");
  }
  return findings.Take();
}

}  // namespace lockstep::domain
