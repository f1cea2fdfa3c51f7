// The metric table: everything the gate can measure. A new metric is one enumerator, one row (metric.cc) and
// its wire case; evidence, verdicts and sentences follow from the row.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "core/domain/ladder.h"
#include "core/domain/rate_evidence.h"
#include "core/domain/window_stats.h"

namespace lockstep::domain {

struct Check;

enum class Metric : uint8_t {
  kMismatchRatio,       // mismatches per comparable comparison
  kErrorRatio,          // errors of reads served by new against those of reads served by old
  kMirrorFailureRatio,  // failed or shed mirror writes per mirror write
  kPairedErrorRatio,    // comparisons in which only new failed against those in which only old did
  kLatency,             // reads slower than a quantile of the old arm's, new against old
  kPairedLatency,       // pairs in which new was slower
  kOutstandingRepairs,  // failed mirror writes not repaired yet
  kCoverage,            // rows copied of the rows to copy
  kThroughputShare,     // observed odds of being served by new, against the configured ones
};
inline constexpr size_t kMetricCount = 9;

// How a metric becomes evidence (docs/gate.md).
enum class MetricFamily : uint8_t {
  kRate,   // events in trials, against a budget
  kRatio,  // events in trials of new against those of old, bucket by bucket
  kLevel,  // a number as it is now: passes or holds, never rolls back
};

// Which of a window's subjects observations belong to. Null where reports don't say.
struct Observation {
  EventCount count;
  const SubjectTrials* trials = nullptr;
  const SubjectEvents* events = nullptr;
  // These are of a wider kind of observations: good for how they cluster over slots, not for who they are.
  bool slots_only = false;
};

struct MetricRow {
  Metric metric;
  absl::string_view name;  // as in the API: "MISMATCH_RATIO"
  MetricFamily family;
  bool takes_budget = false;    // needs a budget in (0, 1)
  bool takes_floor = false;     // may have a floor
  bool takes_field = false;     // may be narrowed to one field of the contract
  bool takes_quantile = false;  // needs a quantile
  bool takes_limit = false;     // kLevel
  double fixed_budget = 0;      // kRate without a budget of its own
  // kRatio: the null of a rollback is "new is at most so many times as bad as old", that of an advance "at
  // least".
  double rollback_lambda = 0;
  double advance_lambda = 0;
  // Doesn't depend on the read share: evidence for advancing carries over from step to step.
  bool carries_over = false;
  bool rare_events = false;  // evidence is scarce: weighs double in the joint evidence (alpha_spending.h)
  bool counts_reads_by_arm = false;  // has nothing to say where only one side serves
  // Before the first and after the last there is nothing to measure, so that the check could never pass.
  Stage first_stage = Stage::kOff;
  Stage last_stage = Stage::kCutover;
  // How it is spoken of.
  absl::string_view rate;      // "the mismatch rate"
  absl::string_view trials;    // "comparisons"
  absl::string_view happened;  // what events did: "differ"
  absl::string_view subjects;  // "records"
  // What a bucket says: of the rate, or of the new arm. Null for kLevel, and for kLatency, whose edges come
  // from the past.
  Observation (*observe)(const WindowStats& window, const Check& check) = nullptr;
  // kRatio: of the old arm.
  Observation (*observe_baseline)(const WindowStats& window, const Check& check) = nullptr;
};

// Rows in the order of the enumerators. The reference stays valid for ever.
const std::array<MetricRow, kMetricCount>& MetricTable();
const MetricRow& RowOf(Metric metric);
absl::string_view MetricName(Metric metric);

// The quantiles that kLatency takes.
inline constexpr std::array<double, 3> kLatencyQuantiles = {0.5, 0.95, 0.99};

}  // namespace lockstep::domain
