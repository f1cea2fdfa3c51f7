// What the evidence of one metric costs in one bucket (an update, and the two log evidences that a verdict
// rests on), beside the transcendental calls that its formulas can't avoid:
//
//   ratio  10 + 6 log1p (the null's share depends on the bucket), 10 + 6 exp and 2 log (two mixtures summed)
//   rate   10 + 6 exp and 2 log (what a fixed rate needs of log1p is computed once; the rate is too near its
//          budget for the trend alarm, which watches rates well below theirs)
//
// Both sides run over the same prepared buckets, so that ratios within one run mean something; run.sh takes
// them over many short runs. "Gate" is a whole GateEvidence with one check of the kind: AddBucket, which
// validates, and EvaluateVerdict.
#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "core/domain/gate.h"
#include "core/domain/metric_evidence.h"
#include "core/domain/rate_evidence.h"
#include "core/domain/records.h"
#include "core/domain/traffic_model.h"
#include "tests/support/allocation_counter.h"

namespace lockstep {
namespace {

constexpr size_t kInputs = 64;  // buckets; a power of two
constexpr uint64_t kSeed = 20240607;
constexpr size_t kUp = 10, kDown = 6;  // factors of the two mixtures

enum class Kind { kRatio, kRate };

domain::Check CheckOf(Kind kind) {
  if (kind == Kind::kRatio) return {.name = "errors", .metric = domain::Metric::kErrorRatio};
  return {.name = "mismatches", .metric = domain::Metric::kMismatchRatio, .budget = 0.01};
}

// A healthy canary at 5 % of 2,000 reads a second, errors and mismatches in every bucket.
std::vector<domain::WindowStats> MakeBuckets(domain::SubjectModel subjects) {
  domain::TrafficModel model;
  model.reads_per_second = 2000;
  model.comparison_share = 0.1;
  model.error_rate = 0.01;
  model.new_side = domain::HealthyNewSide(model);
  model.new_side.mismatch_rate = 0.008;
  model.subjects = subjects;
  domain::TrafficSource traffic(model, kSeed);
  std::vector<domain::WindowStats> buckets;
  for (size_t i = 0; i < kInputs; ++i) buckets.push_back(traffic.Next(domain::Stage::kCanaryRead, 5'000));
  return buckets;
}

// Calls `call(start, i)` with the buckets in turn and their event time, and counts what it allocates.
template <typename Call>
void Run(benchmark::State& state, Call&& call) {
  absl::Time start = absl::UnixEpoch();
  size_t i = 0;
  benchmark::DoNotOptimize(call(start, i));  // what the first call sets up is not part of the price
  const uint64_t before = ThreadAllocations();
  for (auto _ : state) {
    i = (i + 1) % kInputs;
    start += domain::kTelemetryBucket;
    benchmark::DoNotOptimize(call(start, i));
  }
  state.counters["allocations"] = benchmark::Counter(static_cast<double>(ThreadAllocations() - before),
                                                     benchmark::Counter::kAvgIterations);
}

void Metric(benchmark::State& state, Kind kind, domain::SubjectModel subjects) {
  const std::vector<domain::WindowStats> buckets = MakeBuckets(subjects);
  const domain::LatencyEdges edges;
  domain::MetricEvidence metric(CheckOf(kind));
  metric.BeginStep(absl::UnixEpoch(), true);
  Run(state, [&](absl::Time start, size_t i) {
    metric.AddBucket(start, buckets[i], edges);
    return metric.LogRollback() + metric.LogAdvance();
  });
}

void Gate(benchmark::State& state, Kind kind, domain::SubjectModel subjects) {
  const std::vector<domain::WindowStats> buckets = MakeBuckets(subjects);
  domain::MigrationPlan plan;
  plan.steps = {{.stage = domain::Stage::kCanaryRead, .weight = 5'000, .checks = {CheckOf(kind)}}};
  domain::GateEvidence evidence(std::make_shared<const domain::MigrationPlan>(std::move(plan)),
                                {.start = absl::UnixEpoch()}, 0);
  domain::EvaluationContext context;
  context.configured_share = 0.05;
  Run(state, [&](absl::Time start, size_t i) {
    LOCKSTEP_CHECK(evidence.AddBucket(start, buckets[i]).ok(), "a valid bucket, later than the one before");
    context.now = start + domain::kTelemetryBucket;
    return evidence.EvaluateVerdict(context);
  });
}

// The calls alone, on arguments as they occur: the null's share of the events is about 5 %.
void Floor(benchmark::State& state, Kind kind) {
  Prng prng(kSeed);
  struct Arguments {
    std::array<double, kUp + kDown> log1p;
    std::array<double, kUp + kDown> exp;
  };
  std::array<Arguments, kInputs> arguments;
  for (Arguments& made : arguments) {
    const double share = 0.04 + 0.02 * prng.Unit();
    for (size_t j = 0; j < kUp; ++j) made.log1p[j] = share * (domain::UpGrid().factors[j] - 1);
    for (size_t j = 0; j < kDown; ++j) made.log1p[kUp + j] = share * (domain::DownGrid().factors[j] - 1);
    for (double& log : made.exp) log = -20 * prng.Unit();
  }
  Run(state, [&](absl::Time, size_t i) {
    double costs = 0;
    std::array<double, 2> sums = {};
    for (size_t j = 0; j < kUp + kDown; ++j) {
      if (kind == Kind::kRatio) costs += std::log1p(arguments[i].log1p[j]);
      sums[j < kUp ? 0 : 1] += std::exp(arguments[i].exp[j]);
    }
    return costs + std::log(sums[0]) + std::log(sums[1]);
  });
}

constexpr auto kUnnamed = domain::SubjectModel::kNone;
constexpr auto kNamed = domain::SubjectModel::kEachAnother;

// In the order in which they are compared: the floor beside what is held against it.
BENCHMARK_CAPTURE(Metric, Ratio, Kind::kRatio, kUnnamed);
BENCHMARK_CAPTURE(Floor, Ratio, Kind::kRatio);
BENCHMARK_CAPTURE(Gate, Ratio, Kind::kRatio, kUnnamed);
BENCHMARK_CAPTURE(Metric, Rate, Kind::kRate, kUnnamed);
BENCHMARK_CAPTURE(Floor, Rate, Kind::kRate);
BENCHMARK_CAPTURE(Gate, Rate, Kind::kRate, kUnnamed);
BENCHMARK_CAPTURE(Gate, RatioSubjects, Kind::kRatio, kNamed);
BENCHMARK_CAPTURE(Gate, RateSubjects, Kind::kRate, kNamed);

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  lockstep::SetLogLevel(lockstep::LogLevel::kWarning);  // standard output is for the figures
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
