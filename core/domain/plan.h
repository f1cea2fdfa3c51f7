// The plan of a migration: the steps it takes, what has to be shown before each next one, and what happens
// when a check is breached.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/contract.h"
#include "core/domain/ladder.h"
#include "core/domain/metric.h"

namespace lockstep::domain {

enum class BreachAction : uint8_t { kRollback, kPause, kNotify };

absl::string_view BreachActionName(BreachAction action);

struct Check {
  std::string name;  // unique within the step, e.g. "mismatches"
  Metric metric = Metric::kMismatchRatio;
  // What a metric doesn't take (MetricRow) is 0 or empty.
  // Highest acceptable rate, in (0, 1).
  double budget = 0;
  // A rate of the new side below this is acceptable whatever the old side does, in [0, 1). Without one (0)
  // low traffic and a share of 100 % hold the step for long.
  double floor = 0;
  // A declared field; empty = any field.
  std::string field;
  // 0.5, 0.95 or 0.99.
  double quantile = 0;
  // The bound of a level, in the metric's own unit.
  double limit = 0;
  // An advisory check is evaluated and shown, and changes nothing.
  bool advisory = false;
  BreachAction on_breach = BreachAction::kRollback;
  bool operator==(const Check&) const = default;
};

struct PlanStep {
  Stage stage = Stage::kOff;
  // CANARY_READ: the read weight; CUTOVER: the write weight; in buckets [0, 100000]. 0 elsewhere.
  uint32_t weight = 0;
  absl::Duration min_bake = absl::ZeroDuration();
  std::vector<Check> checks;
  // A manual step is left by an operator's `advance` only, even when every check passes.
  bool manual = false;
  // A step that has not passed so long after it began, or was resumed, is paused, with what is missing as the
  // reason: a deadline never ships and never reverts anything. Zero = none; else at least min_bake.
  absl::Duration deadline = absl::ZeroDuration();
  bool operator==(const PlanStep&) const = default;
};

// The share of reads that the step has the new side serve, pins apart.
double ReadShareOf(const PlanStep& step);

// Whether the step, whose deadline has been running for `age`, has missed it. False without a deadline.
bool DeadlinePassed(const PlanStep& step, absl::Duration age);

// A service that takes part, and how many instances of it must be enrolled before reads move.
struct ExpectedService {
  std::string service;
  uint32_t min_instances = 1;
  bool operator==(const ExpectedService&) const = default;
};

// What holds a step because the telemetry can't be trusted, whatever it says.
struct TelemetryLimits {
  // Highest share of comparisons that could not be compared, in (0, 1].
  double max_not_comparable = 0.1;
  // The odds of a read being served by the new side may differ from the configured ones by this factor,
  // either way; at least 1. Not looked at while pins move reads.
  double max_share_skew = 3;
  // Without comparisons, or without a word from an instance, for so long the step holds; positive.
  absl::Duration stale_after = absl::Seconds(60);
  bool operator==(const TelemetryLimits&) const = default;
};

// How write authority moves: slice by slice of buckets, whose writes are held meanwhile.
struct CutoverLimits {
  // The widest slice, in buckets: [1, kBucketCount].
  uint32_t slice_weight = 5000;
  // A slice that has not moved after so long is released; in (0, kMaxHold].
  absl::Duration max_hold = absl::Seconds(10);
  bool operator==(const CutoverLimits&) const = default;
};

inline constexpr absl::Duration kMaxHold = absl::Minutes(10);

struct MigrationPlan {
  std::vector<PlanStep> steps;
  // Bound on the probability of rolling back a good migration, and of advancing a bad one; in (0, 0.5].
  double alpha_rollback = 0.01;
  double alpha_advance = 0.01;
  std::vector<ExpectedService> expected_services;
  // After a rollback, `resume` is refused for this long.
  absl::Duration cool_down = absl::ZeroDuration();
  TelemetryLimits telemetry_limits;
  CutoverLimits cutover;
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
// A plan starts at DUAL_WRITE, never skips a stage, raises the weight with every further step of CANARY_READ
// and of CUTOVER, and certifies budgets above 0. CUTOVER comes after a CANARY_READ step at 100 %, NEW_ONLY
// after a CUTOVER step at 100 %. The other stages may have several steps each (with other checks or a longer
// bake time).
std::vector<Violation> ValidatePlan(const MigrationPlan& plan);

// As above, and: the fields that checks name are declared by `contract` and not ignored there.
std::vector<Violation> ValidatePlan(const MigrationPlan& plan, const Contract& contract);

// What an operator knows of the traffic, for LintPlan.
struct TrafficHint {
  double reads_per_second = 0;        // over all instances, > 0
  double comparisons_per_second = 0;  // > 0
  double writes_per_second = 0;       // >= 0; 0 = unknown
};

// Acceptable, yet probably not what was meant (no checks on a canary step, no minimum bake, alpha split over
// too many steps, missing floors, ...); given `traffic`, also what it can't certify within the minimum bake
// times and deadlines.
std::vector<Violation> LintPlan(const MigrationPlan& plan,
                                const std::optional<TrafficHint>& traffic = std::nullopt);

}  // namespace lockstep::domain
