// Points 1, 2, 4, 5 and 7: how often the gate is wrong.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/check.h"
#include "core/domain/records.h"
#include "tests/gate/bar.h"
#include "tests/gate/peer_rules.h"

namespace lockstep::bar {
namespace {

using domain::Check;
using domain::Metric;
using domain::SubjectModel;
using domain::TrafficModel;
using domain::Verdict;

double NormalQuantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

// 2,000 reads a second without anything wrong.
TrafficModel HealthyTraffic(double reads_per_second = 2000) {
  TrafficModel model;
  model.reads_per_second = reads_per_second;
  model.comparison_share = 0.1;
  model.error_rate = 0.001;
  model.latency_median = absl::Milliseconds(20);
  model.new_side = domain::HealthyNewSide(model);
  model.new_side.mismatch_rate = 0.0001;
  return model;
}

size_t CountVerdicts(const Options& options, size_t runs, const TrafficModel& model,
                     const std::shared_ptr<const domain::MigrationPlan>& plan, Verdict verdict,
                     absl::Duration horizon) {
  std::atomic<size_t> found{0};
  ForEachRun(options, runs, model, [&](size_t, domain::TrafficSource* traffic) {
    if (FirstVerdict(plan, verdict, horizon, traffic)) ++found;
  });
  return found;
}

Row AtMost(std::string claim, size_t count, size_t runs, double rate) {
  const size_t allowed = LargestPlausible(runs, rate);
  return {std::move(claim), absl::StrFormat("<= %g %% (%d)", rate * 100, allowed), Percent(count, runs),
          count <= allowed};
}

// One null at its edge: traffic for which it just holds, from either side.
struct Edge {
  std::string null;
  Check check;
  TrafficModel up;    // the worst that is acceptable
  TrafficModel down;  // the best that is not
};

// Factor of the new side's latency at which it exceeds the old side's quantile q, and five histogram buckets
// more, `lambda` times as often.
double LatencyFactorAtEdge(double q, double lambda, double sigma) {
  const double margin = 5 * std::log(1.01 / 0.99);
  return std::exp(margin + sigma * (NormalQuantile(q) - NormalQuantile(1 - lambda * (1 - q))));
}

std::vector<Edge> AllEdges() {
  std::vector<Edge> edges;
  TrafficModel plain;
  plain.reads_per_second = 2000;
  plain.subjects = SubjectModel::kNone;

  TrafficModel compared = plain;
  compared.comparison_share = 1;
  compared.new_side.mismatch_rate = 1e-5;
  edges.push_back({"mismatches, budget 0.001 %",
                   {.name = "c", .metric = Metric::kMismatchRatio, .budget = 1e-5},
                   compared,
                   compared});

  const auto errors = [&](double lambda) {
    TrafficModel model = plain;
    model.error_rate = 0.01;
    model.new_side.error_rate = lambda * model.error_rate;
    return model;
  };
  const domain::MetricRow& ratio = domain::RowOf(Metric::kErrorRatio);
  edges.push_back({"errors, new against old",
                   {.name = "c", .metric = Metric::kErrorRatio},
                   errors(ratio.rollback_lambda),
                   errors(ratio.advance_lambda)});

  const auto paired_errors = [&](double lambda) {
    TrafficModel model = plain;
    model.comparison_share = 0.1;
    model.error_rate = 0.01;
    const double odds = lambda * model.error_rate / (1 - model.error_rate);
    model.new_side.error_rate = odds / (1 + odds);
    return model;
  };
  const domain::MetricRow& paired = domain::RowOf(Metric::kPairedErrorRatio);
  edges.push_back({"errors, paired",
                   {.name = "c", .metric = Metric::kPairedErrorRatio},
                   paired_errors(paired.rollback_lambda),
                   paired_errors(paired.advance_lambda)});

  TrafficModel timed = plain;
  timed.reads_per_second = 200;
  timed.comparison_share = 0.1;
  timed.latency_median = absl::Milliseconds(20);
  timed.new_side.latency_factor = domain::PairedLatency::kTolerance;
  edges.push_back(
      {"latency, paired (sign test)", {.name = "c", .metric = Metric::kPairedLatency}, timed, timed});

  const domain::MetricRow& latency = domain::RowOf(Metric::kLatency);
  for (const double q : {0.5, 0.99}) {
    const auto slower = [&](double lambda) {
      TrafficModel model = plain;
      model.latency_median = absl::Milliseconds(20);
      model.new_side.latency_factor = LatencyFactorAtEdge(q, lambda, model.latency_sigma);
      return model;
    };
    edges.push_back({absl::StrFormat("latency p%g", q * 100),
                     {.name = "c", .metric = Metric::kLatency, .quantile = q},
                     slower(latency.rollback_lambda),
                     slower(latency.advance_lambda)});
  }
  return edges;
}

// What became of A/A traffic under the gate and under the peers' rules.
struct FalseAlarms {
  size_t gate = 0;
  std::vector<std::pair<std::string, size_t>> peers;
};

FalseAlarms CountFalseAlarms(const Options& options, size_t runs, const TrafficModel& model,
                             absl::Duration horizon) {
  const auto plan = CanaryPlan({0.05}, FiveChecks(0));
  FalseAlarms alarms;
  for (const auto& rule : AllPeerRules()) alarms.peers.emplace_back(rule->name(), 0);
  std::mutex mutex;
  ForEachRun(options, runs, model, [&](size_t, domain::TrafficSource* traffic) {
    Watch watch(plan, traffic);
    const auto rules = AllPeerRules();
    bool gate = false;
    std::vector<bool> fired(rules.size());
    while (watch.elapsed() < horizon) {
      gate = watch.Next() == Verdict::kRollBack || gate;
      for (size_t i = 0; i < rules.size(); ++i) {
        fired[i] = fired[i] || rules[i]->RollsBack(watch.bucket());
      }
    }
    const std::lock_guard<std::mutex> lock(mutex);
    alarms.gate += gate ? 1 : 0;
    for (size_t i = 0; i < rules.size(); ++i) alarms.peers[i].second += fired[i] ? 1 : 0;
  });
  return alarms;
}

void AddFalseAlarms(const std::string& claim, const FalseAlarms& alarms, size_t runs, double rate, bool exact,
                    Report* report) {
  const size_t allowed =
      exact ? static_cast<size_t>(rate * static_cast<double>(runs)) : LargestPlausible(runs, rate);
  report->rows.push_back({claim, absl::StrFormat("<= %g %% (%d)", rate * 100, allowed),
                          Percent(alarms.gate, runs), alarms.gate <= allowed});
  for (const auto& [name, count] : alarms.peers) {
    report->rows.push_back({absl::StrCat("  peer: ", name), "", Percent(count, runs), std::nullopt});
  }
}

}  // namespace

Report MeasureCalibration(const Options& options) {
  Report report;
  const size_t runs = options.Runs(20'000, 500);
  constexpr absl::Duration horizon = absl::Hours(1);
  for (const Edge& edge : AllEdges()) {
    const auto plan = CanaryPlan({0.05}, {edge.check});
    report.rows.push_back(AtMost(absl::StrCat(edge.null, ": rolled back at the edge"),
                                 CountVerdicts(options, runs, edge.up, plan, Verdict::kRollBack, horizon),
                                 runs, 0.01));
    report.rows.push_back(AtMost(absl::StrCat(edge.null, ": advanced at the edge"),
                                 CountVerdicts(options, runs, edge.down, plan, Verdict::kAdvance, horizon),
                                 runs, 0.01));
  }
  report.notes = {
      absl::StrFormat("one check, one step of 5 %% of 2,000 reads/s, looked at every 5 s for %s; the number "
                      "in brackets is the "
                      "largest that 1 %% explains (99 %% binomial tolerance)",
                      absl::FormatDuration(horizon))};
  return report;
}

Report MeasureFalseRollbacks(const Options& options) {
  Report report;
  const size_t runs = options.Runs(1'000, 30);
  const absl::Duration horizon = absl::Hours(4);
  TrafficModel swinging = HealthyTraffic();
  swinging.swing_factor = 5;
  const std::pair<std::string, TrafficModel> conditions[] = {
      {"A/A, 2,000 reads/s", HealthyTraffic()},
      {"A/A, 20 reads/s", HealthyTraffic(20)},
      {"A/A, 2,000 reads/s, errors x1 to x5", swinging}};
  for (const auto& [claim, model] : conditions) {
    AddFalseAlarms(claim, CountFalseAlarms(options, runs, model, horizon), runs, 0.005, options.full,
                   &report);
  }
  report.notes = {
      "4 h at 5 % of reads, five checks (mismatches < 0.1 %, 10 % of reads compared, 0.01 % of them differ; "
      "errors; latency p50, p95, p99), errors 0.1 %, judged every 5 s; the swing has a period of 1 h",
      "peers see errors only; their rules and sources are in tests/gate/peer_rules.h"};
  return report;
}

Report MeasureFalseAdvances(const Options& options) {
  Report report;
  const size_t runs = options.Runs(2'000, 100);
  const size_t runs_beyond = options.Runs(1'000, 100);
  TrafficModel model = HealthyTraffic();
  model.latency_median = absl::ZeroDuration();
  model.reads_per_second = 1000;
  struct Claim {
    std::string name;
    Check check;
    double share;
    TrafficModel edge, twice;
  };
  std::vector<Claim> claims;
  TrafficModel differing = model;
  differing.new_side.mismatch_rate = 0.001;
  TrafficModel twice_differing = model;
  twice_differing.new_side.mismatch_rate = 0.002;
  claims.push_back({"mismatches of the budget",
                    {.name = "c", .metric = Metric::kMismatchRatio, .budget = 0.001},
                    0,
                    differing,
                    twice_differing});
  TrafficModel failing = model;
  failing.new_side.error_rate = 0.002;
  TrafficModel twice_failing = model;
  twice_failing.new_side.error_rate = 0.004;
  claims.push_back({"errors of twice the old side's and of the floor",
                    {.name = "c", .metric = Metric::kErrorRatio, .floor = 0.002},
                    0.25,
                    failing,
                    twice_failing});
  for (const Claim& claim : claims) {
    const auto plan = CanaryPlan({claim.share}, {claim.check});
    report.rows.push_back(AtMost(
        absl::StrCat("advanced with ", claim.name),
        CountVerdicts(options, runs, claim.edge, plan, Verdict::kAdvance, absl::Hours(1)), runs, 0.01));
    const size_t beyond =
        CountVerdicts(options, runs_beyond, claim.twice, plan, Verdict::kAdvance, absl::Hours(1));
    report.rows.push_back(
        {absl::StrCat("advanced with twice that"), "0", Percent(beyond, runs_beyond), beyond == 0});
  }
  const TrafficModel quiet = HealthyTraffic(0.2);
  const size_t low_runs = options.Runs(1'000, 100);
  const size_t moved = CountVerdicts(options, low_runs, quiet, CanaryPlan({0.05}, FiveChecks(0)),
                                     Verdict::kAdvance, absl::Hours(4));
  report.rows.push_back({"advanced with 0.2 reads/s in 4 h", "0", Percent(moved, low_runs), moved == 0});
  report.notes = {
      "1 h at 1,000 reads/s; mismatches: 10 % of reads compared, budget 0.1 %; errors: 25 % of "
      "reads, 0.1 % on old, floor 0.2 %"};
  return report;
}

Report MeasureCleanCertificate(const Options&) {
  Report report;
  constexpr double kBudget = 0.0001;
  const Check check = {.name = "c", .metric = Metric::kMismatchRatio, .budget = kBudget};
  const auto comparisons_needed = [&](const std::vector<double>& shares, SubjectModel subjects) {
    const auto plan = CanaryPlan(shares, {check});
    domain::GateEvidence evidence(plan, {.start = absl::UnixEpoch()}, 0);
    uint64_t compared = 0;
    domain::EvaluationContext context;
    while (evidence.EvaluateVerdict(context) != Verdict::kAdvance) {
      domain::WindowStats bucket;
      const uint64_t size = compared < 50'000 ? 100 : 1;
      bucket.comparison(domain::ComparisonOutcome::kMatch) = size;
      for (uint64_t i = 0; i < size && subjects == SubjectModel::kEachAnother; ++i) {
        // A multiplicative hash of the number: well spread, as a sketch wants it.
        uint64_t hash = (compared + i + 1) * 0x9e3779b97f4a7c15u;
        hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93u;
        bucket.subjects.compared.Record(hash ^ (hash >> 32));
      }
      compared += size;
      context.now = absl::UnixEpoch() + static_cast<int64_t>(compared) * domain::kTelemetryBucket;
      const absl::Status added = evidence.AddBucket(context.now, bucket);
      LOCKSTEP_CHECK(added.ok(), std::string(added.message()).c_str());
    }
    return static_cast<double>(compared) * kBudget;
  };
  const auto row = [&](const std::string& claim, double measured, double bar) {
    // The bar has two decimals.
    report.rows.push_back({claim, absl::StrFormat("n r <= %.2f", bar), absl::StrFormat("%.2f", measured),
                           std::round(measured * 100) <= std::round(bar * 100)});
  };
  row("clean comparisons needed, one step", comparisons_needed({0}, SubjectModel::kNone), 5.06);
  row("clean comparisons needed, four steps",
      comparisons_needed({0.01, 0.05, 0.25, 0.5}, SubjectModel::kNone), 6.44);
  report.rows.push_back({"clean distinct subjects needed, one step", "",
                         absl::StrFormat("%.2f", comparisons_needed({0}, SubjectModel::kEachAnother)),
                         std::nullopt});
  report.notes = {"budget 0.01 %; where subjects are known, the sketch's three standard errors come on top"};
  return report;
}

Report MeasureBursts(const Options& options) {
  Report report;
  const size_t runs = options.Runs(1'000, 30);
  TrafficModel bursts = HealthyTraffic();
  bursts.mean_burst = 20;
  AddFalseAlarms("A/A, bursts of mean 20, subjects named",
                 CountFalseAlarms(options, runs, bursts, absl::Hours(4)), runs, 0.01, options.full, &report);
  bursts.names_affected = false;
  AddFalseAlarms("A/A, bursts of mean 20, subjects unknown",
                 CountFalseAlarms(options, runs, bursts, absl::Hours(4)), runs, 0.01, options.full, &report);
  report.notes = {
      "as point 2 at 2,000 reads/s, with the same error rate in bursts of one subject each; 'unknown': only "
      "slots of subjects are reported, so that the dispersion has to be estimated"};
  return report;
}

}  // namespace lockstep::bar
