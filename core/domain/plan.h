// The plan of a migration: the steps it takes, what has to be shown before each next one, and what happens
// when a check is breached.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/contract.h"
#include "core/domain/ladder.h"

namespace lockstep::domain {

// What a check measures. A new metric is one enumerator, one row in the metric table below (plan.cc) and its
// evidence (gate.cc).
enum class Metric : uint8_t {
  kMismatchRatio,       // mismatches per comparable comparison, against `budget`
  kErrorRatio,          // errors of reads served by new against those served by old, with `floor`
  kMirrorFailureRatio,  // failed or shed mirror writes per dual write, against `budget`
};

struct MetricRow {
  Metric metric;
  absl::string_view name;  // as in the API: "MISMATCH_RATIO"
  bool takes_budget;       // else it takes a floor
  bool takes_field;        // may be narrowed to one field of the contract
  Stage first_stage;       // before it there is nothing to measure, so that the check could never pass
};

// Rows in the order of the enumerators. The reference stays valid for ever.
const std::array<MetricRow, 3>& MetricTable();
absl::string_view MetricName(Metric metric);

enum class BreachAction : uint8_t { kRollback, kPause, kNotify };

absl::string_view BreachActionName(BreachAction action);

struct Check {
  std::string name;  // unique within the step, e.g. "mismatches"
  Metric metric = Metric::kMismatchRatio;
  // Highest acceptable rate, in (0, 1). 0 for kErrorRatio, which takes a floor instead.
  double budget = 0;
  // kErrorRatio: a rate of the new side below this is acceptable whatever the old side does, in [0, 1).
  // Without one (0) low traffic and a share of 100 % hold the step for long.
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
inline constexpr size_t kMaxExpectedServices = 64;
inline constexpr size_t kMaxCheckNameBytes = 63;

// One thing wrong with a plan (or another input). `path` is the field's path as in the API, e.g.
// "plan.steps[2].weight", so that the CLI can point at the line of the file.
struct Violation {
  std::string path;
  std::string message;
  bool operator==(const Violation&) const = default;
};

// Everything that makes the plan unacceptable; empty = valid. Reports all of it, not only the first.
// A plan starts at DUAL_WRITE, never skips a stage, raises the weight with every further CANARY_READ step,
// certifies budgets above 0 and ends at CANARY_READ at the latest: the write cutover is not available in this
// version. DUAL_WRITE and SHADOW_READ may have several steps each (with other checks or a longer bake time).
std::vector<Violation> ValidatePlan(const MigrationPlan& plan);

// As above, and: the fields that checks name are declared by `contract` and not ignored there.
std::vector<Violation> ValidatePlan(const MigrationPlan& plan, const Contract& contract);

// Acceptable, yet probably not what was meant (no checks on a canary step, no minimum bake, ...).
std::vector<Violation> LintPlan(const MigrationPlan& plan);

}  // namespace lockstep::domain
