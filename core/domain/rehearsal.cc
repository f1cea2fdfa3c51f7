#include "core/domain/rehearsal.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/bucketing.h"
#include "core/domain/log_math.h"
#include "core/domain/records.h"

namespace lockstep::domain {
namespace {

bool OnBucketEdge(absl::Time time) {
  return absl::FromUnixSeconds(0) + absl::Floor(time - absl::UnixEpoch(), kTelemetryBucket) == time;
}

std::string Show(absl::Time time) { return absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone()); }

absl::Status CheckOnBucketEdge(absl::string_view what, absl::Time start) {
  if (OnBucketEdge(start)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " starts at ", Show(start),
                                                 "; buckets start at multiples of ",
                                                 absl::FormatDuration(kTelemetryBucket)));
}

absl::Status CheckPlan(const MigrationPlan& plan) {
  const std::vector<Violation> violations = ValidatePlan(plan);
  if (violations.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the plan is not valid: ", violations[0].path, ": ", violations[0].message,
                   violations.size() == 1 ? "" : absl::StrCat(" (and ", violations.size() - 1, " more)")));
}

// Whether breaches of some checks are only announced, which may happen beside any verdict.
bool HasNotifyingChecks(const MigrationPlan& plan) {
  for (const PlanStep& step : plan.steps) {
    for (const Check& check : step.checks) {
      if (check.on_breach == BreachAction::kNotify) return true;
    }
  }
  return false;
}

absl::Status AtLine(size_t line_number, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("line ", line_number, ": ", status.message()));
}

// Name of the check that speaks for a rollback: the one with most evidence beyond its own threshold.
std::string BreachedCheck(const GateResult& result) {
  const CheckResult* worst = nullptr;
  const auto excess = [](const CheckResult& check) {
    return check.log_evidence_rollback - check.log_threshold_rollback;
  };
  for (const CheckResult& check : result.checks) {
    if (check.advisory || check.log_threshold_rollback == 0) continue;
    if (worst == nullptr || excess(check) > excess(*worst)) worst = &check;
  }
  return worst == nullptr ? "" : worst->check;
}

// What one simulated run adds to a summary.
struct SimulationTally {
  std::vector<std::vector<absl::Duration>> until_step;
  std::vector<absl::Duration> until_end;
  std::vector<absl::Duration> until_rollback;
  std::vector<uint64_t> reads_until_rollback;  // served by the new side
  std::vector<uint64_t> errors_until_rollback;
};

// By nearest rank; 0 without counts.
uint64_t MedianOf(std::vector<uint64_t> counts) {
  if (counts.empty()) return 0;
  std::sort(counts.begin(), counts.end());
  return counts[(counts.size() - 1) / 2];
}

// One run, until nothing moves it any more or the horizon.
absl::Status SimulateRun(const MigrationPlan& plan, const SimulationOptions& options, TrafficSource* traffic,
                         SimulationTally* tally, SimulationSummary* summary) {
  Rehearsal rehearsal({.full_results = false, .advance_manual_steps = options.advance_manual_steps});
  LOCKSTEP_RETURN_IF_ERROR(rehearsal.Add(EvidenceHeader{"", plan, {}}, 1).status());
  tally->until_step[0].push_back(absl::ZeroDuration());
  Stage stage = plan.steps[0].stage;
  uint32_t weight = plan.steps[0].weight;
  uint64_t new_reads = 0;
  uint64_t new_errors = 0;
  while (traffic->elapsed() < options.horizon) {
    const absl::Time start = absl::UnixEpoch() + traffic->elapsed();
    EvidenceBucket bucket{start, traffic->Next(stage, weight)};
    new_reads += bucket.stats.arm(Arm::kNew).requests;
    new_errors += bucket.stats.arm(Arm::kNew).errors;
    LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<RehearsedBucket> judged,
                              rehearsal.Add(std::move(bucket), 2));
    const Migration& migration = rehearsal.migration();
    stage = migration.published.stage;
    weight = migration.published.read_weight;
    if (migration.run_state == RunState::kRolledBack) {
      tally->until_rollback.push_back(traffic->elapsed());
      tally->reads_until_rollback.push_back(new_reads);
      tally->errors_until_rollback.push_back(new_errors);
      ++summary->rollbacks_by_check[BreachedCheck(judged->result)];
      if (summary->rollback_sentence.empty()) summary->rollback_sentence = judged->result.sentence;
      return absl::OkStatus();
    }
    if (migration.run_state == RunState::kSucceeded) {
      tally->until_end.push_back(traffic->elapsed());
      return absl::OkStatus();
    }
    if (migration.run_state == RunState::kPaused) break;
    if (migration.step != judged->step) {
      tally->until_step[static_cast<size_t>(migration.step)].push_back(traffic->elapsed());
    }
  }
  HeldRuns& held = summary->held[rehearsal.migration().step];
  if (held.runs++ == 0) held.sentence = rehearsal.Evaluate().sentence;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<RehearsedBucket>> Rehearsal::Add(const EvidenceLine& line, size_t line_number) {
  if (const auto* header = std::get_if<EvidenceHeader>(&line)) {
    LOCKSTEP_RETURN_IF_ERROR(AtLine(line_number, TakeHeader(*header)));
    return std::nullopt;
  }
  if (plan_ == nullptr) {
    return AtLine(line_number,
                  absl::InvalidArgumentError("the first line has to be the header, with the plan"));
  }
  if (const auto* step = std::get_if<EvidenceStep>(&line)) {
    LOCKSTEP_RETURN_IF_ERROR(AtLine(line_number, TakeStep(*step)));
    return std::nullopt;
  }
  absl::StatusOr<RehearsedBucket> judged = TakeBucket(std::get<EvidenceBucket>(line));
  if (!judged.ok()) return AtLine(line_number, judged.status());
  return std::optional<RehearsedBucket>(*std::move(judged));
}

absl::Status Rehearsal::TakeHeader(const EvidenceHeader& header) {
  if (plan_ != nullptr)
    return absl::InvalidArgumentError("a second header; a log has one, as its first line");
  LOCKSTEP_RETURN_IF_ERROR(CheckPlan(header.plan));
  if (header.epoch.start != absl::InfinitePast()) {
    LOCKSTEP_RETURN_IF_ERROR(CheckOnBucketEdge("the evidence", header.epoch.start));
  }
  plan_ = std::make_shared<const MigrationPlan>(header.plan);
  epoch_ = header.epoch;
  migration_.name = header.migration;
  migration_.plan = header.plan;
  if (HasNotifyingChecks(header.plan))
    options_.full_results = true;  // each breach is announced, whatever the verdict
  return absl::OkStatus();
}

// Makes `step` the present one, as if it had been published at `start`.
void Rehearsal::Begin(int step, absl::Time start) {
  if (evidence_) {
    evidence_->BeginStep(step, start);
    return;
  }
  if (epoch_.start == absl::InfinitePast()) epoch_.start = start;
  evidence_.emplace(plan_, epoch_, step);
}

absl::Status Rehearsal::TakeStep(const EvidenceStep& step) {
  const size_t steps = plan_->steps.size();
  if (step.step < 0 || static_cast<size_t>(step.step) >= steps) {
    return absl::InvalidArgumentError(
        absl::StrCat("the plan has no step ", step.step, "; its steps are 0 to ", steps - 1));
  }
  if (has_buckets_ && !explicit_steps_) {
    return absl::InvalidArgumentError(
        "steps begin after buckets; begin a step before the first bucket, or leave steps out");
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckOnBucketEdge("the step", step.start));
  if (step.start < epoch_.start) {
    return absl::InvalidArgumentError(absl::StrCat("the step starts at ", Show(step.start),
                                                   ", before the evidence, which starts at ",
                                                   Show(epoch_.start)));
  }
  if (step.start < now_ || (explicit_steps_ && step.start < migration_.step_started_at)) {
    return absl::InvalidArgumentError(absl::StrCat("the step starts at ", Show(step.start),
                                                   ", before the end of what comes before it in the "
                                                   "log; sort the log by time"));
  }
  explicit_steps_ = true;
  const PlanStep& planned = plan_->steps[static_cast<size_t>(step.step)];
  Begin(step.step, step.start);
  migration_.run_state = RunState::kRunning;
  migration_.step = step.step;
  migration_.step_started_at = migration_.deadline_from = step.start;
  migration_.published = TargetState(migration_, planned.stage, planned.weight);
  ++migration_.published.epoch;
  return absl::OkStatus();
}

absl::StatusOr<RehearsedBucket> Rehearsal::TakeBucket(const EvidenceBucket& bucket) {
  LOCKSTEP_RETURN_IF_ERROR(CheckOnBucketEdge("the bucket", bucket.start));
  if (bucket.start < now_ || bucket.start < epoch_.start ||
      (explicit_steps_ && bucket.start < migration_.step_started_at)) {
    return absl::InvalidArgumentError(absl::StrCat("the bucket at ", Show(bucket.start),
                                                   " is not later than what comes before it in the log; sort "
                                                   "the log by time"));
  }
  if (!evidence_) LOCKSTEP_RETURN_IF_ERROR(bucket.stats.Validate());  // otherwise the evidence does
  LOCKSTEP_RETURN_IF_ERROR(CheckSum("repairs queued", repairs_.queued, bucket.stats.repairs.queued));
  LOCKSTEP_RETURN_IF_ERROR(CheckSum("repairs done", repairs_.done, bucket.stats.repairs.done));
  LOCKSTEP_RETURN_IF_ERROR(
      CheckSum("rows to copy", backfill_.rows_to_copy, bucket.stats.backfill.rows_to_copy));
  LOCKSTEP_RETURN_IF_ERROR(CheckSum("rows copied", backfill_.rows_copied, bucket.stats.backfill.rows_copied));
  if (migration_.run_state == RunState::kDraft) {
    const auto start =
        Plan(migration_, Command{.kind = CommandKind::kStart, .reason = "rehearsed"}, nullptr, bucket.start);
    LOCKSTEP_CHECK(start.ok() && start->has_value(), "a draft with a valid plan can be started");
    now_ = bucket.start;
    Begin(0, bucket.start);
    Apply(**start);
  }
  RehearsedBucket judged{.start = bucket.start, .step = migration_.step};
  if (evidence_) LOCKSTEP_RETURN_IF_ERROR(evidence_->AddBucket(bucket.start, bucket.stats));
  has_buckets_ = true;
  now_ = bucket.start + kTelemetryBucket;
  repairs_.queued += bucket.stats.repairs.queued;
  repairs_.done += bucket.stats.repairs.done;
  backfill_.rows_to_copy += bucket.stats.backfill.rows_to_copy;
  backfill_.rows_copied += bucket.stats.backfill.rows_copied;
  judged.result = Judge();
  if (!explicit_steps_) judged.transition = Follow(judged.result);
  judged.run_state = migration_.run_state;
  return judged;
}

EvaluationContext Rehearsal::Context() const {
  EvaluationContext context;
  context.now = now_;
  context.step_age = now_ - migration_.step_started_at;
  context.deadline_age = now_ - migration_.deadline_from;
  context.repairs = repairs_;
  context.backfill = backfill_;
  const RoutingState& published = migration_.published;
  if (published.stage == Stage::kCanaryRead && published.read_weight > 0 &&
      published.read_weight < kBucketCount) {
    context.configured_share = static_cast<double>(published.read_weight) / kBucketCount;
  }
  return context;
}

GateResult Rehearsal::Evaluate() const {
  GateResult result;
  if (!evidence_) {
    result.sentence = migration_.run_state == RunState::kRolledBack
                          ? "The migration was rolled back; nothing is evidence any more."
                          : "No evidence yet.";
    return result;
  }
  return evidence_->Evaluate(Context());
}

// Whole, or the verdict alone where nothing can follow from more.
GateResult Rehearsal::Judge() const {
  if (!evidence_ || options_.full_results) return Evaluate();
  const EvaluationContext context = Context();
  GateResult result;
  result.verdict = evidence_->EvaluateVerdict(context);
  const bool running = migration_.run_state == RunState::kRunning;
  const bool something_follows =
      result.verdict == Verdict::kRollBack || (running && result.verdict == Verdict::kAdvance) ||
      (running && DeadlinePassed(plan_->steps[static_cast<size_t>(migration_.step)], context.deadline_age));
  return something_follows ? evidence_->Evaluate(context) : result;
}

std::optional<Transition> Rehearsal::Follow(const GateResult& result) {
  if (!evidence_) return std::nullopt;
  absl::StatusOr<std::optional<Transition>> planned = std::nullopt;
  const bool no_way_back = NextIsPointOfNoReturn(migration_);
  const bool waits_for_a_person = result.verdict == Verdict::kAdvance &&
                                  migration_.run_state == RunState::kRunning &&
                                  (no_way_back || plan_->steps[static_cast<size_t>(migration_.step)].manual);
  if (waits_for_a_person && options_.advance_manual_steps) {
    planned = Plan(migration_,
                   Command{.kind = CommandKind::kAdvance,
                           .accept_no_way_back = no_way_back,
                           .reason = "advanced in the rehearsal"},
                   &result, now_);
  } else {
    planned = Plan(migration_, GateVerdict{result}, &result, now_);
  }
  LOCKSTEP_CHECK(planned.ok(), "a verdict is never refused, nor an advance that the gate grants");
  if (*planned) Apply(**planned);
  return *std::move(planned);
}

// What the registry does with a transition, without fences.
void Rehearsal::Apply(const Transition& transition) {
  if (!transition.notified_check.empty()) {
    migration_.notified_checks.push_back(transition.notified_check);
    return;
  }
  migration_.run_state_reason = transition.reason;
  migration_.run_state = transition.run_state;
  migration_.step = transition.step;
  if (transition.target) {
    const uint64_t epoch = migration_.published.epoch;
    migration_.published = *transition.target;
    migration_.published.epoch = epoch + 1;
  }
  if (transition.target || transition.restart_evidence) {
    migration_.step_started_at = migration_.deadline_from = now_;
    migration_.notified_checks.clear();
  }
  if (transition.run_state == RunState::kRolledBack) {
    migration_.rolled_back_at = now_;
    evidence_.reset();
  } else if (transition.target && has_buckets_) {
    evidence_->BeginStep(transition.step, now_);
  }
}

DurationSummary Summarise(std::vector<absl::Duration> durations) {
  DurationSummary summary;
  summary.runs = durations.size();
  if (durations.empty()) return summary;
  std::sort(durations.begin(), durations.end());
  const auto rank = [&](size_t percent) {  // ceil(n percent / 100), from 1
    return durations[std::max<size_t>((durations.size() * percent + 99) / 100, 1) - 1];
  };
  summary.p10 = rank(10);
  summary.median = rank(50);
  summary.p90 = rank(90);
  return summary;
}

absl::StatusOr<SimulationSummary> SimulateRuns(const MigrationPlan& plan, const TrafficModel& model,
                                               const SimulationOptions& options) {
  LOCKSTEP_RETURN_IF_ERROR(ValidateTrafficModel(model));
  if (options.runs == 0)
    return absl::InvalidArgumentError("a simulation of 0 runs shows nothing; ask for at least 1");
  if (options.horizon <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("the horizon of a simulation has to be positive");
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckPlan(plan));
  SimulationSummary summary;
  summary.runs = options.runs;
  SimulationTally tally;
  tally.until_step.resize(plan.steps.size());
  TrafficSource traffic(model, options.seed);
  for (size_t run = 0; run < options.runs; ++run) {
    traffic.Restart(options.seed + run);
    LOCKSTEP_RETURN_IF_ERROR(SimulateRun(plan, options, &traffic, &tally, &summary));
  }
  for (std::vector<absl::Duration>& durations : tally.until_step) {
    summary.until_step.push_back(Summarise(std::move(durations)));
  }
  summary.until_end = Summarise(std::move(tally.until_end));
  summary.until_rollback = Summarise(std::move(tally.until_rollback));
  summary.reads_until_rollback = MedianOf(std::move(tally.reads_until_rollback));
  summary.errors_until_rollback = MedianOf(std::move(tally.errors_until_rollback));
  return summary;
}

}  // namespace lockstep::domain
