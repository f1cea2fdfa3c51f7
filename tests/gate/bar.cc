#include "tests/gate/bar.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/check.h"
#include "core/domain/bucketing.h"
#include "core/domain/records.h"

namespace lockstep::bar {

using domain::Check;
using domain::Metric;
using domain::Stage;

void ForEachRun(const Options& options, size_t runs, const domain::TrafficModel& model,
                const std::function<void(size_t run, domain::TrafficSource* traffic)>& body) {
  std::atomic<size_t> next{0};
  const auto work = [&] {
    domain::TrafficSource traffic(model, 0);
    for (size_t run = next++; run < runs; run = next++) {
      traffic.Restart(options.seed * 1'000'003 + run);
      body(run, &traffic);
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < options.threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}

Watch::Watch(std::shared_ptr<const domain::MigrationPlan> plan, domain::TrafficSource* traffic)
    : plan_(std::move(plan)),
      traffic_(traffic),
      evidence_(plan_, {.restarts = 0, .declared_fields = 0, .start = absl::UnixEpoch()}, 0) {
  const domain::PlanStep& step = plan_->steps[0];
  if (step.stage == Stage::kCanaryRead && step.weight > 0 && step.weight < domain::kBucketCount) {
    context_.configured_share = static_cast<double>(step.weight) / domain::kBucketCount;
  }
}

domain::Verdict Watch::Next() {
  const domain::PlanStep& step = plan_->steps[0];
  const absl::Time start = absl::UnixEpoch() + traffic_->elapsed();
  bucket_ = traffic_->Next(step.stage, step.weight);
  const absl::Status added = evidence_.AddBucket(start, bucket_);
  LOCKSTEP_CHECK(added.ok(), std::string(added.message()).c_str());
  context_.now = start + domain::kTelemetryBucket;
  context_.step_age = context_.deadline_age = traffic_->elapsed();
  return evidence_.EvaluateVerdict(context_);
}

std::optional<absl::Duration> FirstVerdict(const std::shared_ptr<const domain::MigrationPlan>& plan,
                                           domain::Verdict verdict, absl::Duration horizon,
                                           domain::TrafficSource* traffic) {
  Watch watch(plan, traffic);
  while (watch.elapsed() < horizon) {
    if (watch.Next() == verdict) return watch.elapsed();
  }
  return std::nullopt;
}

namespace {

std::vector<domain::PlanStep> CanarySteps(const std::vector<double>& shares,
                                          const std::vector<Check>& checks) {
  std::vector<domain::PlanStep> steps;
  for (const double share : shares) {
    domain::PlanStep step;
    step.stage = share > 0 ? Stage::kCanaryRead : Stage::kShadowRead;
    step.weight = static_cast<uint32_t>(std::lround(share * domain::kBucketCount));
    step.checks = checks;
    steps.push_back(std::move(step));
  }
  return steps;
}

}  // namespace

std::shared_ptr<const domain::MigrationPlan> CanaryPlan(const std::vector<double>& shares,
                                                        const std::vector<Check>& checks) {
  domain::MigrationPlan plan;
  plan.steps = CanarySteps(shares, checks);
  return std::make_shared<const domain::MigrationPlan>(std::move(plan));
}

domain::MigrationPlan WholePlan(const std::vector<double>& shares, const std::vector<Check>& checks) {
  domain::MigrationPlan plan;
  plan.steps = CanarySteps(shares, checks);
  plan.steps.insert(plan.steps.begin(), {{.stage = Stage::kDualWrite}, {.stage = Stage::kShadowRead}});
  return plan;
}

std::vector<Check> FiveChecks(double error_floor) {
  return {{.name = "mismatches", .metric = Metric::kMismatchRatio, .budget = 0.001},
          {.name = "errors", .metric = Metric::kErrorRatio, .floor = error_floor},
          {.name = "latency-p50", .metric = Metric::kLatency, .quantile = 0.5},
          {.name = "latency-p95", .metric = Metric::kLatency, .quantile = 0.95},
          {.name = "latency-p99", .metric = Metric::kLatency, .quantile = 0.99}};
}

namespace {

// Smallest k with P(X <= k) >= `probability`, X binomial.
size_t BinomialQuantile(size_t trials, double rate, double probability) {
  const auto n = static_cast<double>(trials);
  double below = 0;
  for (size_t k = 0; k <= trials; ++k) {
    const auto x = static_cast<double>(k);
    below += std::exp(std::lgamma(n + 1) - std::lgamma(x + 1) - std::lgamma(n - x + 1) + x * std::log(rate) +
                      (n - x) * std::log1p(-rate));
    if (below >= probability) return k;
  }
  return trials;
}

}  // namespace

size_t LargestPlausible(size_t runs, double rate) { return BinomialQuantile(runs, rate, 0.99); }

bool QuantileMeets(const Options& options, std::vector<double> values, double q, double bar) {
  if (options.full) return Quantile(std::move(values), q) <= bar;
  // Fewer than r values are below the quantile in 1 % of all cases at most.
  const size_t rank = BinomialQuantile(values.size(), q, 0.01);
  std::sort(values.begin(), values.end());
  return values[std::max<size_t>(rank, 1) - 1] <= bar;
}

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(values.size())));
  return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

std::string Percent(size_t part, size_t whole) {
  return absl::StrFormat("%.2f %% (%d of %d)", 100.0 * static_cast<double>(part) / static_cast<double>(whole),
                         part, whole);
}

std::string Seconds(double seconds) { return absl::StrFormat("%.0f s", seconds); }

}  // namespace lockstep::bar
