#include "core/domain/metric.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/domain/plan.h"

namespace lockstep::domain {
namespace {

Observation Mismatches(const WindowStats& window, const Check& check) {
  const uint64_t mismatches = window.mismatches();
  Observation observed{.count = {mismatches, mismatches + window.CountOf(OutcomeKind::kClean)},
                       .trials = &window.subjects.compared,
                       .events = &window.subjects.mismatched};
  if (check.field.empty()) return observed;
  // With more fields than a window keeps, this one may be among the others: what is not known to be clean is
  // not counted as clean. Whose records differ in one field is not reported: the dispersion of all
  // mismatches stands in for it.
  auto counts = window.fields().find(check.field);
  if (counts == window.fields().end()) counts = window.fields().find(WindowStats::kOtherFields);
  const uint64_t events = counts == window.fields().end() ? 0 : counts->second.total();
  observed.count.events = std::min(events, mismatches);
  observed.slots_only = true;
  return observed;
}

Observation MirrorFailures(const WindowStats& window, const Check&) {
  return {
      .count = {window.writes.mirror_failed + window.writes.mirror_shed, window.writes.mirror_attempts()}};
}

Observation ErrorsOf(const WindowStats& window, Arm arm) {
  const ArmStats& stats = window.arm(arm);
  const auto index = static_cast<size_t>(arm);
  return {.count = {stats.errors, stats.requests},
          .trials = &window.subjects.reads[index],
          .events = &window.subjects.errors[index]};
}
Observation NewErrors(const WindowStats& window, const Check&) { return ErrorsOf(window, Arm::kNew); }
Observation OldErrors(const WindowStats& window, const Check&) { return ErrorsOf(window, Arm::kOld); }

// Both sides were asked in every comparison that ended, so with equal trials the ratio test is the paired
// one: given a discordant pair, new is the side that failed with probability lambda / (1 + lambda).
Observation NewFailedOnly(const WindowStats& window, const Check&) {
  return {.count = {window.paired_errors.new_only, window.compared()},
          .trials = &window.subjects.compared,
          .events = &window.subjects.new_failed_only};
}
Observation OldFailedOnly(const WindowStats& window, const Check&) {
  return {.count = {window.paired_errors.old_only, window.compared()},
          .trials = &window.subjects.compared,
          .events = &window.subjects.old_failed_only};
}

Observation SlowerPairs(const WindowStats& window, const Check&) {
  const PairedLatency& pairs = window.paired_latency;
  return {.count = {pairs.slower, pairs.slower + pairs.not_slower}};
}

}  // namespace

const std::array<MetricRow, kMetricCount>& MetricTable() {
  // Rolling back needs evidence that new is 1.1 times as bad as old, advancing that it is not twice as bad:
  // between the two the gate has no opinion, so that it need not tell apart what can't be told apart. Latency
  // has its margin in the edges.
  static constexpr std::array<MetricRow, kMetricCount> kMetrics = {{
      {.metric = Metric::kMismatchRatio,
       .name = "MISMATCH_RATIO",
       .family = MetricFamily::kRate,
       .takes_budget = true,
       .takes_field = true,
       .carries_over = true,
       .rare_events = true,
       .first_stage = Stage::kShadowRead,
       .rate = "the mismatch rate",
       .trials = "comparisons",
       .happened = "differ",
       .subjects = "records",
       .observe = Mismatches},
      {.metric = Metric::kErrorRatio,
       .name = "ERROR_RATIO",
       .family = MetricFamily::kRatio,
       .takes_floor = true,
       .rollback_lambda = 1.1,
       .advance_lambda = 2,
       .rare_events = true,
       .counts_reads_by_arm = true,
       .first_stage = Stage::kCanaryRead,
       .last_stage = Stage::kNewOnly,
       .rate = "the error rate",
       .trials = "reads served by the new side",
       .happened = "failed",
       .subjects = "subjects",
       .observe = NewErrors,
       .observe_baseline = OldErrors},
      {.metric = Metric::kMirrorFailureRatio,
       .name = "MIRROR_FAILURE_RATIO",
       .family = MetricFamily::kRate,
       .takes_budget = true,
       .rare_events = true,
       .first_stage = Stage::kDualWrite,
       .rate = "the rate of failed mirror writes",
       .trials = "mirror writes",
       .happened = "failed",
       .subjects = "records",
       .observe = MirrorFailures},
      {.metric = Metric::kPairedErrorRatio,
       .name = "PAIRED_ERROR_RATIO",
       .family = MetricFamily::kRatio,
       .takes_floor = true,
       .rollback_lambda = 1.1,
       .advance_lambda = 2,
       .carries_over = true,
       .rare_events = true,
       .first_stage = Stage::kShadowRead,
       .rate = "the rate of reads that only the new side fails",
       .trials = "comparisons",
       .happened = "failed on the new side alone",
       .subjects = "records",
       .observe = NewFailedOnly,
       .observe_baseline = OldFailedOnly},
      {.metric = Metric::kLatency,
       .name = "LATENCY",
       .family = MetricFamily::kRatio,
       .takes_quantile = true,
       .rollback_lambda = 1,
       .advance_lambda = 1.5,
       .counts_reads_by_arm = true,
       .first_stage = Stage::kCanaryRead,
       .last_stage = Stage::kCanaryRead,
       .rate = "the share of slow reads",
       .trials = "reads served by the new side",
       .happened = "took over 10.5 % longer than the old side's",
       .subjects = "subjects"},
      {.metric = Metric::kPairedLatency,
       .name = "PAIRED_LATENCY",
       .family = MetricFamily::kRate,
       .fixed_budget = 0.5,
       .first_stage = Stage::kShadowRead,
       .rate = "the share of pairs in which the new side is over 10 % slower",
       .trials = "timed pairs of reads",
       .happened = "were over 10 % slower on the new side",
       .subjects = "records",
       .observe = SlowerPairs},
      {.metric = Metric::kOutstandingRepairs,
       .name = "OUTSTANDING_REPAIRS",
       .family = MetricFamily::kLevel,
       .takes_limit = true,
       .first_stage = Stage::kDualWrite},
      {.metric = Metric::kCoverage,
       .name = "COVERAGE",
       .family = MetricFamily::kLevel,
       .takes_limit = true,
       .first_stage = Stage::kDualWrite},
      {.metric = Metric::kThroughputShare,
       .name = "THROUGHPUT_SHARE",
       .family = MetricFamily::kLevel,
       .takes_limit = true,
       .counts_reads_by_arm = true,
       .first_stage = Stage::kCanaryRead,
       .last_stage = Stage::kCanaryRead},
  }};
  return kMetrics;
}

const MetricRow& RowOf(Metric metric) {
  const auto index = static_cast<size_t>(metric);
  LOCKSTEP_CHECK(index < MetricTable().size(), "not an enumerator of Metric");
  return MetricTable()[index];
}

absl::string_view MetricName(Metric metric) { return RowOf(metric).name; }

}  // namespace lockstep::domain
