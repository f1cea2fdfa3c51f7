// Points 3 and 6: how fast the gate is.
#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/check.h"
#include "core/domain/bucketing.h"
#include "core/domain/rehearsal.h"
#include "tests/gate/bar.h"
#include "tests/gate/peer_rules.h"

namespace lockstep::bar {
namespace {

using domain::Check;
using domain::Metric;
using domain::RunState;
using domain::TrafficModel;
using domain::Verdict;

constexpr char kBriefNote[] =
    "brief: medians and percentiles are of few runs, and pass unless these rule the bar out (99 % "
    "confidence)";

struct DetectionCase {
  std::string claim;
  Check check;
  double share;  // 0: SHADOW_READ
  TrafficModel model;
  double median_bar, p95_bar;
  bool peers = false;
};

std::vector<DetectionCase> DetectionCases() {
  TrafficModel errors;
  errors.reads_per_second = 2000;
  errors.error_rate = 0.001;
  errors.new_side.error_rate = 0.005;
  errors.new_side_before_onset = domain::HealthyNewSide(errors);
  TrafficModel late = errors;
  late.onset = absl::Hours(2);
  TrafficModel mismatches;
  mismatches.reads_per_second = 2000;
  mismatches.comparison_share = 0.05;
  mismatches.new_side.mismatch_rate = 0.001;
  TrafficModel slow;
  slow.reads_per_second = 2000;
  slow.latency_median = absl::Milliseconds(20);
  slow.new_side.latency_factor = 1.25;
  const Check error_check = {.name = "c", .metric = Metric::kErrorRatio};
  const Check mismatch_check = {.name = "c", .metric = Metric::kMismatchRatio, .budget = 0.0001};
  const Check latency_check = {.name = "c", .metric = Metric::kLatency, .quantile = 0.5};
  return {{"errors 0.1 to 0.5 %, 5 % of reads", error_check, 0.05, errors, 25, 50, true},
          {"errors 0.1 to 0.5 %, 1 % of reads", error_check, 0.01, errors, 95, 220, true},
          {"errors 0.1 to 0.5 % after 2 h, 5 % of reads", error_check, 0.05, late, 40, 75, false},
          {"mismatches of 10 times the budget", mismatch_check, 0, mismatches, 50, 130, false},
          {"p50 latency +25 %, 50 reads/s on new", latency_check, 0.025, slow, 25, 45, false}};
}

struct PeerDetection {
  std::string name;
  std::vector<double> seconds;  // of the runs in which it rolled back
};

// Seconds from the onset to the end of the bucket after which each rule rolled back. A rollback before the
// onset is none.
struct Detections {
  std::vector<double> gate;
  size_t too_early = 0;
  std::vector<PeerDetection> peers;
};

Detections Detect(const Options& options, size_t runs, const DetectionCase& detection,
                  absl::Duration patience) {
  const auto plan = CanaryPlan({detection.share}, {detection.check});
  Detections result;
  for (const auto& rule : AllPeerRules()) {
    if (detection.peers) result.peers.push_back({rule->name(), {}});
  }
  std::mutex mutex;
  ForEachRun(options, runs, detection.model, [&](size_t, domain::TrafficSource* traffic) {
    Watch watch(plan, traffic);
    std::optional<absl::Duration> gate;
    auto rules = AllPeerRules();
    rules.resize(result.peers.size());
    std::vector<std::optional<absl::Duration>> fired(rules.size());
    const absl::Duration end = detection.model.onset + patience;
    const auto done = [&] {
      return gate && std::all_of(fired.begin(), fired.end(), [](const auto& f) { return f.has_value(); });
    };
    while (watch.elapsed() < end && !done()) {
      if (watch.Next() == Verdict::kRollBack && !gate) gate = watch.elapsed();
      for (size_t i = 0; i < rules.size(); ++i) {
        if (!fired[i] && rules[i]->RollsBack(watch.bucket())) fired[i] = watch.elapsed();
      }
    }
    const std::lock_guard<std::mutex> lock(mutex);
    if (gate && *gate <= detection.model.onset) ++result.too_early;
    if (gate && *gate > detection.model.onset) {
      result.gate.push_back(absl::ToDoubleSeconds(*gate - detection.model.onset));
    }
    for (size_t i = 0; i < fired.size(); ++i) {
      if (fired[i]) result.peers[i].seconds.push_back(absl::ToDoubleSeconds(*fired[i]));
    }
  });
  return result;
}

// How one whole migration went.
struct Outcome {
  RunState state = RunState::kRunning;
  double seconds = 0;
  double excess_errors = 0;
};

// Counts what new got wrong beyond what old would have.
void CountErrors(const TrafficModel& model, const domain::WindowStats& bucket, Outcome* outcome) {
  const domain::ArmStats& arm = bucket.arm(domain::Arm::kNew);
  outcome->excess_errors +=
      static_cast<double>(arm.errors) - model.error_rate * static_cast<double>(arm.requests);
}

// What is still to come when a rollback has been decided at a share of reads, until every instance knows.
double ErrorsToCome(const TrafficModel& model, double share) {
  constexpr double kGraceSeconds = 2;
  return (model.new_side.error_rate - model.error_rate) * model.reads_per_second * share * kGraceSeconds;
}

using Runner = std::function<Outcome(const domain::MigrationPlan&, domain::TrafficSource*)>;
constexpr absl::Duration kHorizon = absl::Hours(12);

// The evidence alone, step by step: a plan whose every step has checks, which the ladder would not allow.
Outcome RunSteps(const domain::MigrationPlan& plan, domain::TrafficSource* traffic) {
  const auto shared = std::make_shared<const domain::MigrationPlan>(plan);
  domain::GateEvidence evidence(shared, {.start = absl::UnixEpoch()}, 0);
  Outcome outcome;
  size_t step = 0;
  absl::Duration began = absl::ZeroDuration();
  while (traffic->elapsed() < kHorizon && outcome.state == RunState::kRunning) {
    const absl::Time start = absl::UnixEpoch() + traffic->elapsed();
    const domain::PlanStep& at = plan.steps[step];
    const domain::WindowStats bucket = traffic->Next(at.stage, at.weight);
    CountErrors(traffic->model(), bucket, &outcome);
    LOCKSTEP_CHECK(evidence.AddBucket(start, bucket).ok(), "simulated counts are valid");
    const double share = static_cast<double>(at.weight) / domain::kBucketCount;
    domain::EvaluationContext context;
    context.now = absl::UnixEpoch() + traffic->elapsed();
    context.step_age = context.deadline_age = traffic->elapsed() - began;
    context.configured_share = share;
    const Verdict verdict = evidence.EvaluateVerdict(context);
    outcome.seconds = absl::ToDoubleSeconds(traffic->elapsed());
    if (verdict == Verdict::kRollBack) {
      outcome.state = RunState::kRolledBack;
      outcome.excess_errors += ErrorsToCome(traffic->model(), share);
    } else if (verdict == Verdict::kAdvance && step + 1 == plan.steps.size()) {
      outcome.state = RunState::kSucceeded;
    } else if (verdict == Verdict::kAdvance) {
      evidence.BeginStep(static_cast<int>(++step), context.now);
      began = traffic->elapsed();
    }
  }
  return outcome;
}

// A whole plan, through a rehearsal.
Outcome RunMigration(const domain::MigrationPlan& plan, domain::TrafficSource* traffic) {
  domain::Rehearsal rehearsal({.full_results = false});
  LOCKSTEP_CHECK(rehearsal.Add(domain::EvidenceHeader{"", plan, {}}, 1).ok(), "the plan is valid");
  domain::RoutingState routing = domain::StateOfStage(plan.steps[0].stage, plan.steps[0].weight);
  Outcome outcome;
  while (traffic->elapsed() < kHorizon && outcome.state == RunState::kRunning) {
    const absl::Time start = absl::UnixEpoch() + traffic->elapsed();
    const domain::WindowStats bucket = traffic->Next(routing.stage, routing.read_weight);
    CountErrors(traffic->model(), bucket, &outcome);
    const auto judged = rehearsal.Add(domain::EvidenceBucket{start, bucket}, 2);
    LOCKSTEP_CHECK(judged.ok(), std::string(judged.status().message()).c_str());
    outcome.state = (*judged)->run_state;
    outcome.seconds = absl::ToDoubleSeconds(traffic->elapsed());
    if (outcome.state == RunState::kRolledBack) {
      const double share = static_cast<double>(routing.read_weight) / domain::kBucketCount;
      outcome.excess_errors += ErrorsToCome(traffic->model(), share);
    }
    routing = rehearsal.migration().published;
  }
  return outcome;
}

struct Outcomes {
  std::vector<double> succeeded_after;
  std::vector<double> rolled_back_after;
  std::vector<double> excess_errors;  // of those rolled back
};

Outcomes RunMany(const Options& options, size_t runs, const TrafficModel& model,
                 const domain::MigrationPlan& plan, const Runner& runner) {
  Outcomes outcomes;
  std::mutex mutex;
  ForEachRun(options, runs, model, [&](size_t, domain::TrafficSource* traffic) {
    const Outcome outcome = runner(plan, traffic);
    const std::lock_guard<std::mutex> lock(mutex);
    if (outcome.state == RunState::kSucceeded) outcomes.succeeded_after.push_back(outcome.seconds);
    if (outcome.state == RunState::kRolledBack) {
      outcomes.rolled_back_after.push_back(outcome.seconds);
      outcomes.excess_errors.push_back(outcome.excess_errors);
    }
  });
  return outcomes;
}

Row DoneRow(const Options& options, std::string claim, const Outcomes& outcomes, size_t runs, double bar) {
  Row row{std::move(claim), bar > 0 ? absl::StrFormat("median <= %.0f s", bar) : "", "never", std::nullopt};
  if (bar > 0) row.passed = false;
  if (outcomes.succeeded_after.empty()) return row;
  const double median = Quantile(outcomes.succeeded_after, 0.5);
  row.measured = absl::StrFormat("median %.0f s, p90 %.0f s; rolled back %d, unfinished %d", median,
                                 Quantile(outcomes.succeeded_after, 0.9), outcomes.rolled_back_after.size(),
                                 runs - outcomes.succeeded_after.size() - outcomes.rolled_back_after.size());
  if (bar > 0) row.passed = QuantileMeets(options, outcomes.succeeded_after, 0.5, bar);
  return row;
}

void AddRollbackRows(const Options& options, const std::string& claim, const Outcomes& outcomes, size_t runs,
                     bool has_bar, Report* report) {
  const size_t rolled_back = outcomes.rolled_back_after.size();
  const auto passed = [&](bool met) { return has_bar ? std::optional<bool>(met) : std::nullopt; };
  report->rows.push_back({absl::StrCat(claim, ": rolled back"), has_bar ? "100 %" : "",
                          Percent(rolled_back, runs), passed(rolled_back == runs)});
  if (rolled_back == 0) return;
  const double median = Quantile(outcomes.excess_errors, 0.5);
  report->rows.push_back(
      {absl::StrCat(claim, ": excess errors until then"), has_bar ? "median <= 10" : "",
       absl::StrFormat("median %.1f, p95 %.1f; after %.0f s, p95 %.0f s", median,
                       Quantile(outcomes.excess_errors, 0.95), Quantile(outcomes.rolled_back_after, 0.5),
                       Quantile(outcomes.rolled_back_after, 0.95)),
       passed(QuantileMeets(options, outcomes.excess_errors, 0.5, 10))});
}

}  // namespace

Report MeasureDetection(const Options& options) {
  Report report;
  for (const DetectionCase& detection : DetectionCases()) {
    const bool late = detection.model.onset > absl::ZeroDuration();
    const size_t all = options.Runs(1'000, late || detection.peers ? 60 : 300);
    const absl::Duration patience = detection.peers ? absl::Hours(1) : absl::Minutes(20);
    const Detections found = Detect(options, all, detection, patience);
    Row row{detection.claim,
            absl::StrFormat("<= %.0f s, p95 <= %.0f s", detection.median_bar, detection.p95_bar), "", false};
    if (found.gate.empty()) {
      row.measured = "never";
    } else {
      const double median = Quantile(found.gate, 0.5), p95 = Quantile(found.gate, 0.95);
      row.measured = absl::StrFormat("%.0f s, p95 %.0f s", median, p95);
      row.passed = QuantileMeets(options, found.gate, 0.5, detection.median_bar) &&
                   QuantileMeets(options, found.gate, 0.95, detection.p95_bar) &&
                   found.gate.size() + found.too_early == all;
    }
    if (found.gate.size() != all) {
      absl::StrAppend(&row.measured, "; missed ", all - found.gate.size() - found.too_early, ", too early ",
                      found.too_early);
    }
    report.rows.push_back(std::move(row));
    for (const PeerDetection& peer : found.peers) {
      report.rows.push_back(
          {absl::StrCat("  peer: ", peer.name), "",
           absl::StrCat("missed ", Percent(all - peer.seconds.size(), all),
                        peer.seconds.empty() ? "" : ", else median " + Seconds(Quantile(peer.seconds, 0.5))),
           std::nullopt});
    }
  }
  report.notes = {
      "one check alone, 2,000 reads/s, every request another subject's; seconds from the onset to the end of "
      "the bucket after which the gate says ROLL_BACK",
      "mismatches: 100 comparisons/s, budget 0.01 %; latency: log-normal with sigma 0.5; peers have 1 h",
      "a run that was rolled back before the onset counts as a false alarm (point 2), not as a miss"};
  if (!options.full) report.notes.push_back(kBriefNote);
  return report;
}

Report MeasureEndToEnd(const Options& options) {
  Report report;
  const size_t runs = options.Runs(1'000, 40);
  TrafficModel healthy;
  healthy.reads_per_second = 2000;
  healthy.comparison_share = 0.1;
  healthy.error_rate = 0.001;
  healthy.latency_median = absl::Milliseconds(20);
  healthy.new_side = domain::HealthyNewSide(healthy);
  TrafficModel failing = healthy;
  failing.new_side.error_rate = 0.005;
  TrafficModel small = healthy;
  small.reads_per_second = 100;
  const std::vector<double> shares = {0.01, 0.05, 0.25, 0.5};

  struct Claim {
    std::string claim;
    const TrafficModel* model;
    double floor;
    double bar;  // of the median time to the end; 0: it has to be rolled back
  };
  const Claim claims[] = {{"errors of 0.5 %", &failing, 0, 0},
                          {"healthy, 2,000 reads/s", &healthy, 0, 3200},
                          {"healthy, 100 reads/s, floor 0.5 %", &small, 0.005, 4300}};
  for (const Claim& claim : claims) {
    const auto checks = FiveChecks(claim.floor);
    const Outcomes four = RunMany(options, runs, *claim.model, *CanaryPlan(shares, checks), RunSteps);
    const Outcomes whole = RunMany(options, runs, *claim.model, WholePlan(shares, checks), RunMigration);
    if (claim.bar > 0) {
      report.rows.push_back(DoneRow(options, claim.claim + ": done", four, runs, claim.bar));
      report.rows.push_back(DoneRow(options, "  the same in a whole plan", whole, runs, 0));
    } else {
      AddRollbackRows(options, claim.claim, four, runs, true, &report);
      AddRollbackRows(options, "  the same in a whole plan", whole, runs, false, &report);
    }
  }
  report.notes = {
      "steps of 1, 5, 25 and 50 % of reads, five checks in each (mismatches < 0.1 %, 10 % of reads compared; "
      "errors; latency p50, p95, p99), no minimum bake; whole plan: DUAL_WRITE and SHADOW_READ without "
      "checks "
      "come first, and the rehearsal moves a migration along",
      "excess: errors on new beyond the old rate until the bucket of the verdict has closed, and 2 s more"};
  if (!options.full) report.notes.push_back(kBriefNote);
  return report;
}

}  // namespace lockstep::bar
