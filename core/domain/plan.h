// The plan of a migration: the steps it takes, what has to be shown before each next one, and what happens
// when a check is breached.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/ladder.h"

namespace lockstep::domain {

// What a check measures. A new metric is one enumerator and one row in the metric table (metric.h).
enum class Metric : uint8_t {
  kMismatchRatio,       // mismatches per comparable comparison, against `budget`
  kErrorRatio,          // errors of reads served by new against those served by old, with `floor`
  kMirrorFailureRatio,  // failed or shed mirror writes per dual write, against `budget`
};

enum class BreachAction : uint8_t { kRollback, kPause, kNotify };

absl::string_view BreachActionName(BreachAction action);

struct Check {
  std::string name;      // unique within the step, e.g. "mismatches"
  Metric metric = Metric::kMismatchRatio;
  // Highest acceptable rate, in (0, 1). Ratio metrics do not use it.
  double budget = 0;
  // Ratio metrics: a rate of the new side below this is acceptable whatever the old side does, in [0, 1).
  double floor = 0;
  // kMismatchRatio only: a declared field; empty = any field.
  std::string field;
  // An advisory check is evaluated and shown, and changes nothing.
  bool advisory = false;
  BreachAction on_breach = BreachAction::kRollback;
  bool operator==(const Check&) const = default;
};

struct PlanStep {
  Stage stage = Stage::kOff;
  // read_weight of the step, in buckets [0, 100000]; CANARY_READ only, 0 elsewhere.
  uint32_t weight = 0;
  absl::Duration min_bake = absl::ZeroDuration();
  std::vector<Check> checks;
  // A manual step is left by an operator's `advance` only, even when every check passes.
  bool manual = false;
  bool operator==(const PlanStep&) const = default;
};

// A service that takes part, and how many instances of it must be enrolled before reads move.
struct ExpectedService {
  std::string service;
  uint32_t min_instances = 1;
  bool operator==(const ExpectedService&) const = default;
};

struct MigrationPlan {
  std::vector<PlanStep> steps;
  // Bound on the probability of rolling back a good migration, and of advancing a bad one; in (0, 0.5].
  double alpha_rollback = 0.01;
  double alpha_advance = 0.01;
  std::vector<ExpectedService> expected_services;
  // After a rollback, `resume` is refused for this long.
  absl::Duration cool_down = absl::ZeroDuration();
  bool operator==(const MigrationPlan&) const = default;
};

inline constexpr size_t kMaxPlanSteps = 64;
inline constexpr size_t kMaxChecksPerStep = 32;

// One thing wrong with a plan (or another input). `path` is the field's path as in the API, e.g.
// "plan.steps[2].weight", so that the CLI can point at the line of the file.
struct Violation {
  std::string path;
  std::string message;
  bool operator==(const Violation&) const = default;
};

// Everything that makes the plan unacceptable; empty = valid. Reports all of it, not only the first.
// A plan starts at DUAL_WRITE, never skips a stage, never lowers a weight, certifies budgets above 0 and ends at
// CANARY_READ at the latest: the write cutover is not available in this version.
std::vector<Violation> ValidatePlan(const MigrationPlan& plan);

// Acceptable, yet probably not what was meant (no checks on a canary step, no minimum bake, ...).
std::vector<Violation> LintPlan(const MigrationPlan& plan);

}  // namespace lockstep::domain
