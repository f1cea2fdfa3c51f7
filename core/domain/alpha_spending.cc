#include "core/domain/alpha_spending.h"

#include <algorithm>
#include <numeric>

#include "core/domain/bucketing.h"

namespace lockstep::domain {
namespace {

constexpr double kRareEventsWeight = 2;

double BoundOf(const Check& check) {
  const MetricRow& row = RowOf(check.metric);
  if (row.takes_budget) return check.budget;
  if (row.takes_floor) return check.floor;
  return row.fixed_budget;
}

// In whatever unit; only the ratio between steps counts.
double TrafficAt(const PlanStep& step, const MetricRow& row) {
  const double share = ReadShareOf(step);
  return row.counts_reads_by_arm && share > 0 ? share : 1;
}

}  // namespace

NullHypothesis::NullHypothesis(const Check& check)
    : bound(BoundOf(check)), metric(check.metric), field(check.field), quantile(check.quantile) {}

std::vector<TestedNull> SpendAlpha(const MigrationPlan& plan) {
  std::vector<TestedNull> nulls;
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    for (const Check& check : plan.steps[i].checks) {
      const MetricRow& row = RowOf(check.metric);
      if (row.family == MetricFamily::kLevel) continue;
      auto null = std::find_if(nulls.begin(), nulls.end(), [&](const TestedNull& tested) {
        return NullHypothesis(tested.check) == NullHypothesis(check);
      });
      if (null == nulls.end()) {
        null = nulls.insert(nulls.end(), TestedNull{.check = check});
        null->advance_parts.resize(plan.steps.size());
      }
      null->advance_parts[i] = row.carries_over ? 1 : 1 / TrafficAt(plan.steps[i], row);
      if (!check.advisory) null->rollback_part = row.rare_events ? kRareEventsWeight : 1;
    }
  }
  const double weights =
      std::accumulate(nulls.begin(), nulls.end(), 0.0,
                      [](double sum, const TestedNull& null) { return sum + null.rollback_part; });
  for (TestedNull& null : nulls) {
    if (weights > 0) null.rollback_part /= weights;
    if (RowOf(null.check.metric).carries_over) continue;
    const double sum = std::accumulate(null.advance_parts.begin(), null.advance_parts.end(), 0.0);
    for (double& part : null.advance_parts) part /= sum;
  }
  return nulls;
}

}  // namespace lockstep::domain
