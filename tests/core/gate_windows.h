// Checks, plans of one step, windows of 5 s, and a gate that is fed with them: for the tests of the gate.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/domain/records.h"
#include "gtest/gtest.h"

namespace lockstep::domain {

// 22:13:20 UTC.
inline const absl::Time kGateStart = absl::FromUnixSeconds(1'700'000'000);

inline Check MismatchCheck(double budget = 0.001, const std::string& field = "") {
  return {.name = field.empty() ? "mismatches" : field,
          .metric = Metric::kMismatchRatio,
          .budget = budget,
          .field = field};
}
inline Check ErrorCheck(double floor = 0.005) {
  return {.name = "errors", .metric = Metric::kErrorRatio, .floor = floor};
}
inline Check PairedErrorCheck(double floor = 0.005) {
  return {.name = "paired_errors", .metric = Metric::kPairedErrorRatio, .floor = floor};
}
inline Check MirrorCheck(double budget = 0.01) {
  return {.name = "mirror", .metric = Metric::kMirrorFailureRatio, .budget = budget};
}
inline Check LatencyCheck(double quantile = 0.95) {
  return {.name = "latency", .metric = Metric::kLatency, .quantile = quantile};
}
inline Check PairedLatencyCheck() { return {.name = "paired_latency", .metric = Metric::kPairedLatency}; }
inline Check LevelCheck(Metric metric, double limit) {
  return {.name = "level", .metric = metric, .limit = limit};
}

// One step with these checks, at CANARY_READ.
inline MigrationPlan PlanWith(std::vector<Check> checks, absl::Duration min_bake = absl::ZeroDuration()) {
  MigrationPlan plan;
  plan.steps = {{Stage::kCanaryRead, 5'000, min_bake, std::move(checks)}};
  return plan;
}

inline WindowStats Compared(uint64_t mismatches, uint64_t comparisons, absl::string_view field = "city") {
  WindowStats window;
  window.comparison(ComparisonOutcome::kMismatch) = mismatches;
  window.comparison(ComparisonOutcome::kMatch) = comparisons - mismatches;
  FieldMismatches by_kind;
  by_kind[MismatchKind::kValue] = mismatches;
  EXPECT_TRUE(window.AddFieldMismatches(field, by_kind).ok());
  return window;
}

inline WindowStats Served(uint64_t new_errors, uint64_t new_reads, uint64_t old_errors, uint64_t old_reads) {
  WindowStats window;
  window.arm(Arm::kNew).errors = new_errors;
  window.arm(Arm::kNew).requests = new_reads;
  window.arm(Arm::kOld).errors = old_errors;
  window.arm(Arm::kOld).requests = old_reads;
  return window;
}

inline WindowStats Mirrored(uint64_t failed, uint64_t shed, uint64_t ok) {
  WindowStats window;
  window.writes.mirror_failed = failed;
  window.writes.mirror_shed = shed;
  window.writes.mirror_ok = ok;
  return window;
}

inline WindowStats PairedFailures(uint64_t new_only, uint64_t old_only, uint64_t comparisons) {
  WindowStats window;
  window.comparison(ComparisonOutcome::kMatch) = comparisons - new_only - old_only;
  window.comparison(ComparisonOutcome::kErrorInNew) = new_only;
  window.comparison(ComparisonOutcome::kErrorInOld) = old_only;
  window.paired_errors = {.new_only = new_only, .old_only = old_only};
  return window;
}

inline WindowStats TimedPairs(uint64_t slower, uint64_t not_slower) {
  WindowStats window;
  window.comparison(ComparisonOutcome::kMatch) = slower + not_slower;
  window.paired_latency = {.slower = slower, .not_slower = not_slower};
  return window;
}

// Reads that each took so many milliseconds.
inline WindowStats Timed(const std::vector<double>& new_ms, const std::vector<double>& old_ms) {
  WindowStats window = Served(0, new_ms.size(), 0, old_ms.size());
  for (double ms : new_ms) window.arm(Arm::kNew).latency.Record(static_cast<uint64_t>(ms * 1e6));
  for (double ms : old_ms) window.arm(Arm::kOld).latency.Record(static_cast<uint64_t>(ms * 1e6));
  return window;
}

// A gate that is fed with one bucket after the other.
class GateRun {
 public:
  explicit GateRun(const MigrationPlan& plan, EvidenceEpoch epoch = {.start = kGateStart}, int step = 0)
      : next_bucket_(epoch.start), evidence_(std::make_shared<const MigrationPlan>(plan), epoch, step) {}
  GateRun(const MigrationPlan& plan, const std::vector<WindowStats>& windows) : GateRun(plan) {
    for (const WindowStats& window : windows) Add(window);
  }

  void Add(const WindowStats& window) {
    const absl::Status added = TryAdd(window);
    EXPECT_TRUE(added.ok()) << added;
  }
  absl::Status TryAdd(const WindowStats& window) {
    const absl::Status added = evidence_.AddBucket(next_bucket_, window);
    if (added.ok()) next_bucket_ += kTelemetryBucket;
    return added;
  }
  void BeginStep(int step) { evidence_.BeginStep(step, next_bucket_); }
  // Without buckets.
  void Pass(absl::Duration time) { next_bucket_ += time; }

  GateResult Evaluate(const EvaluationContext& context = {}) const { return evidence_.Evaluate(context); }
  Verdict EvaluateVerdict(const EvaluationContext& context = {}) const {
    return evidence_.EvaluateVerdict(context);
  }
  absl::Time next_bucket() const { return next_bucket_; }
  GateEvidence& evidence() { return evidence_; }

 private:
  absl::Time next_bucket_;
  GateEvidence evidence_;
};

}  // namespace lockstep::domain
