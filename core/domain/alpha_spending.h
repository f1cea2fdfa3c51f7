// How the two error probabilities of a plan are divided among what is tested. Each is a union bound: the
// parts add up to 1.
//
// For a rollback, over the distinct nulls of the plan's binding checks: the weights of a mean of e-values. A
// null whose events are rare (errors, mismatches) gets twice the weight of one about durations, where
// evidence is plenty.
//
// For an advance, for each null over the steps that test it, because every step is another chance to pass
// though bad: in inverse proportion to the traffic that the step gives the metric, which minimises the time a
// healthy migration takes in all. (With part a_i of alpha and n_i observations a second, step i takes about
// ln(1/(a_i alpha))/n_i; the sum is least where a_i is proportional to 1/n_i.) A null whose evidence carries
// over from step to step is tested once, by one process: it has all of it.
#pragma once

#include <vector>

#include "core/domain/plan.h"

namespace lockstep::domain {

// What tells two nulls apart.
struct NullHypothesis {
  // Of a check that is no level.
  explicit NullHypothesis(const Check& check);
  // The bound that counts: budget, fixed budget or floor (0: none).
  double bound = 0;
  Metric metric;
  std::string field;
  double quantile;
  bool operator==(const NullHypothesis&) const = default;
};

struct TestedNull {
  Check check;  // the first one that tests it
  // Of alpha_rollback; 0 if only advisory checks test it, which are judged as if they had the smallest weight
  // there is.
  double rollback_part = 0;
  // Of alpha_advance, by step of the plan; 0 where it is not tested.
  std::vector<double> advance_parts;
  bool TestedAt(int step) const { return advance_parts[static_cast<size_t>(step)] > 0; }
};

// The nulls of a valid plan, in the order in which they first come.
std::vector<TestedNull> SpendAlpha(const MigrationPlan& plan);

}  // namespace lockstep::domain
