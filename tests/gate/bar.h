// The bar of the gate: claims about its error rates and its speed, each measured on the production code over
// seeded simulated traffic, and held against a number. docs/gate.md says what the claims mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/domain/plan.h"
#include "core/domain/traffic_model.h"

namespace lockstep::bar {

struct Options {
  bool full = false;  // the numbers of runs that the bar asks for; otherwise as many as CI has time for
  uint64_t seed = 1;
  size_t threads = 1;

  size_t Runs(size_t in_full, size_t in_brief) const { return full ? in_full : in_brief; }
};

// One line of the table.
struct Row {
  std::string claim;
  std::string bar;  // what is demanded; empty = for information
  std::string measured;
  std::optional<bool> passed;  // nothing = for information
};

// What one point of the bar comes to. Notes say how it was interpreted.
struct Report {
  std::vector<Row> rows;
  std::vector<std::string> notes;
};

Report MeasureCalibration(const Options& options);       // point 1
Report MeasureFalseRollbacks(const Options& options);    // point 2, with the peers' rules
Report MeasureDetection(const Options& options);         // point 3, with the peers' rules
Report MeasureFalseAdvances(const Options& options);     // point 4
Report MeasureCleanCertificate(const Options& options);  // point 5
Report MeasureEndToEnd(const Options& options);          // point 6
Report MeasureBursts(const Options& options);            // point 7
Report MeasureReplay(const Options& options);  // point 8; its other half is tests/bench/gate_benchmark.cc

// Calls body(run, traffic) for run = 0, 1, ..., runs - 1, on several threads. `traffic` is a source of
// `model` that stands at the start of the run's own seed, options.seed * 1,000,003 + run.
void ForEachRun(const Options& options, size_t runs, const domain::TrafficModel& model,
                const std::function<void(size_t run, domain::TrafficSource* traffic)>& body);

// The evidence of the first step of a plan over simulated traffic, judged after every bucket.
class Watch {
 public:
  Watch(std::shared_ptr<const domain::MigrationPlan> plan, domain::TrafficSource* traffic);

  // Adds the next bucket.
  domain::Verdict Next();
  const domain::WindowStats& bucket() const { return bucket_; }
  absl::Duration elapsed() const { return traffic_->elapsed(); }
  domain::GateResult Evaluate() const { return evidence_.Evaluate(context_); }

 private:
  std::shared_ptr<const domain::MigrationPlan> plan_;
  domain::TrafficSource* traffic_;
  domain::GateEvidence evidence_;
  domain::EvaluationContext context_;
  domain::WindowStats bucket_;
};

// When the first step of `plan` first came to `verdict`; nothing within the horizon.
std::optional<absl::Duration> FirstVerdict(const std::shared_ptr<const domain::MigrationPlan>& plan,
                                           domain::Verdict verdict, absl::Duration horizon,
                                           domain::TrafficSource* traffic);

// Plans of steps with a CANARY_READ share each and the same checks, preceded by nothing: the bar looks at the
// evidence alone. Shares in (0, 1); 0 = SHADOW_READ.
std::shared_ptr<const domain::MigrationPlan> CanaryPlan(const std::vector<double>& shares,
                                                        const std::vector<domain::Check>& checks);
// A plan that the ladder allows: DUAL_WRITE and SHADOW_READ without checks, then the shares.
domain::MigrationPlan WholePlan(const std::vector<double>& shares, const std::vector<domain::Check>& checks);

// Mismatches below 0.1 %, errors, and latency p50, p95, p99.
std::vector<domain::Check> FiveChecks(double error_floor);

// Largest number of events in `runs` that an event probability of at most `rate` exceeds in 1 % of all cases
// at most.
size_t LargestPlausible(size_t runs, double rate);

// By nearest rank; `values` is not empty.
double Quantile(std::vector<double> values, double q);
// Whether the quantile is at most `bar`: as measured with the full number of runs; in brief, whether fewer
// runs leave it possible (the lower end of the quantile's 99 % confidence interval, an order statistic).
bool QuantileMeets(const Options& options, std::vector<double> values, double q, double bar);

std::string Percent(size_t part, size_t whole);  // "0.43 % (86 of 20000)"
std::string Seconds(double seconds);             // "25 s"

}  // namespace lockstep::bar
