#include "server/engine/gate_loop.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"
#include "core/domain/bucketing.h"

namespace lockstep::engine {
namespace {

// Whether verdicts mean anything for it; a migration that has SUCCEEDED can still be rolled back.
bool IsEvaluated(domain::RunState state) {
  switch (state) {
    case domain::RunState::kRunning:
    case domain::RunState::kPaused:
    case domain::RunState::kSucceeded:
      return true;
    case domain::RunState::kDraft:
    case domain::RunState::kRolledBack:
      return false;
  }
  return false;
}

bool HasEvidence(const GateSubject& subject) {
  return IsEvaluated(subject.migration->run_state) && !subject.timeline.segments().empty();
}

absl::Status NoEvidence(const GateSubject& subject) {
  const std::string why =
      absl::StrCat(subject.migration->name, " is ", domain::RunStateName(subject.migration->run_state),
                   " at ", domain::StageName(subject.migration->published.stage),
                   ": nothing is evidence there. Evidence begins when it is started or resumed");
  return WithErrorInfo(absl::FailedPreconditionError(why),
                       {.reason = "EVIDENCE_NONE",
                        .metadata = {{"migration", subject.migration->name}},
                        .field_violations = {},
                        .precondition_violations = {{"EVIDENCE_NONE", subject.migration->name, why}}});
}

// The share of reads that new should serve, if nothing but buckets decides it.
std::optional<double> ConfiguredShare(const domain::RoutingState& published) {
  const bool has_pins = published.pins != nullptr && !published.pins->empty();
  if (has_pins || published.read_weight == 0 || published.read_weight >= domain::kBucketCount) {
    return std::nullopt;
  }
  return static_cast<double>(published.read_weight) / domain::kBucketCount;
}

// How long the step's deadline has been running. It concerns a step that is to be left and has not been.
absl::Duration DeadlineAge(const domain::Migration& migration, absl::Time now) {
  if (migration.run_state == domain::RunState::kSucceeded || migration.pending) return absl::ZeroDuration();
  return now - migration.deadline_from;
}

bool StepIsOverdue(const GateSubject& subject, absl::Duration deadline_age) {
  const auto step = static_cast<size_t>(subject.timeline.segments().back().step);
  const auto& steps = subject.migration->plan.steps;
  return step < steps.size() && domain::DeadlinePassed(steps[step], deadline_age);
}

}  // namespace

GateLoop::GateLoop(const Clock* clock, Registry* registry, Telemetry* telemetry,
                   const InstanceTable* instances, const EvidenceRetention* retention)
    : clock_(clock),
      registry_(registry),
      telemetry_(telemetry),
      instances_(instances),
      retention_(retention) {}

absl::Status GateLoop::Tick() {
  MutexLock lock(&mutex_);
  const std::vector<GateSubject> subjects = registry_->GateSubjects();
  // After the subjects were taken, so that no decision of theirs is later.
  const absl::Time now = clock_->Now();
  const absl::Time closed_before = ClosedBefore(now, now);
  std::map<std::string, Watched> kept;  // that of migrations that are gone or stopped is dropped
  std::map<std::string, double> read_ratios;
  absl::Status first;
  for (const GateSubject& subject : subjects) {
    if (!HasEvidence(subject)) continue;
    const std::string& name = subject.migration->name;
    auto node = watched_.extract(name);
    Watched& watched = kept[name];
    if (!node.empty()) watched = std::move(node.mapped());
    const absl::Status ticked = TickOne(subject, now, closed_before, &watched);
    if (!ticked.ok()) watched = Watched();  // rebuilt by the next tick
    first.Update(ticked);
    if (!watched.feed) continue;
    const auto& [old_reads, new_reads] = watched.feed->step_reads();
    if (old_reads + new_reads == 0) continue;
    read_ratios[name] = static_cast<double>(new_reads) / static_cast<double>(old_reads + new_reads);
  }
  watched_ = std::move(kept);
  MutexLock view_lock(&view_mutex_);
  read_ratios_ = std::move(read_ratios);
  return first;
}

absl::Status GateLoop::TickOne(const GateSubject& subject, absl::Time now, absl::Time closed_before,
                               Watched* watched) {
  const domain::Migration& migration = *subject.migration;
  if (!watched->feed || !watched->feed->IsOf(subject))
    watched->feed = std::make_unique<EvidenceFeed>(subject);
  EvidenceFeed& feed = *watched->feed;
  LOCKSTEP_RETURN_IF_ERROR(feed.FeedUntil(*telemetry_, subject, closed_before));
  LOCKSTEP_ASSIGN_OR_RETURN(domain::EvaluationContext context, ContextOf(subject, feed, now));
  for (domain::Guard& guard : InstanceGuards(subject, InstancesOf(migration.name), now)) {
    context.open_guards.push_back(std::move(guard));
  }
  const domain::GateEvidence& evidence = feed.AtNewestStep(subject);
  Evaluated evaluated;
  evaluated.version = migration.version;
  evaluated.fed_until = feed.fed_until();
  evaluated.guards = context.open_guards;
  evaluated.deadline_passed = StepIsOverdue(subject, context.deadline_age);
  evaluated.verdict = watched->evaluated ? watched->evaluated->verdict : domain::Verdict::kHold;
  std::optional<domain::GateFinding> finding;
  if (watched->evaluated && *watched->evaluated == evaluated) {
    // All that may be another one is the verdict, since time has passed.
    evaluated.verdict = evidence.EvaluateVerdict(context);
  }
  const bool is_news = !watched->evaluated || *watched->evaluated != evaluated;
  if (is_news) {
    finding = evidence.Find(context);
    evaluated.verdict = finding->verdict();
  }
  {
    MutexLock lock(&view_mutex_);
    ++counters_.evaluations_by_verdict[static_cast<size_t>(evaluated.verdict)];
    counters_.last_evaluation = now;
  }
  if (!is_news) return absl::OkStatus();
  auto evaluation = std::make_shared<const GateEvaluation>(*std::move(finding), now);
  LOCKSTEP_RETURN_IF_ERROR(
      registry_->ApplyVerdict(migration.name, migration.version, std::move(evaluation)).status());
  watched->evaluated = std::move(evaluated);
  return absl::OkStatus();
}

absl::Time GateLoop::ClosedBefore(absl::Time time, absl::Time now) const {
  return std::min(telemetry_->CloseBuckets(now), BucketFloor(time - kBucketGrace));
}

std::vector<ReportingInstance> GateLoop::InstancesOf(const std::string& name) const {
  std::vector<ReportingInstance> reporting;
  for (InstanceView& instance : instances_->List(name)) {
    const absl::Time last_report = telemetry_->LastReport(instance.instance_id);
    reporting.push_back({std::move(instance), last_report});
  }
  return reporting;
}

absl::StatusOr<domain::EvaluationContext> GateLoop::ContextOf(const GateSubject& subject,
                                                              const EvidenceFeed& feed,
                                                              absl::Time now) const {
  const domain::Migration& migration = *subject.migration;
  domain::EvaluationContext context;
  context.now = now;
  context.step_age = now - migration.step_started_at;
  context.deadline_age = DeadlineAge(migration, now);
  context.open_guards = TrafficGuards(subject, feed.last_comparison(), now);
  LOCKSTEP_ASSIGN_OR_RETURN(
      const OutstandingWork work,
      telemetry_->OutstandingBefore(migration.name, migration.published.generation, feed.fed_until()));
  context.repairs = work.repairs;
  context.backfill = work.backfill;
  context.configured_share = ConfiguredShare(migration.published);
  return context;
}

absl::StatusOr<GateExplanation> GateLoop::Explain(const std::string& name,
                                                  std::optional<absl::Time> time) const {
  GateExplanation explanation;
  GateSubject subject;
  std::vector<domain::Guard> instance_guards;
  const absl::Time now = clock_->Now();
  const absl::Time closed_before = ClosedBefore(time.value_or(now), now);
  if (time) {
    if (*time > now) {
      return InvalidArgumentWithViolations({{"time", "is in the future: evidence is of the past"}});
    }
    explanation.time = *time;
    LOCKSTEP_ASSIGN_OR_RETURN(GatePast past, registry_->GateSubjectAt(name, *time));
    subject = std::move(past.subject);
    explanation.last_decision = std::move(past.last_decision);
    const auto& decision = explanation.last_decision;
    if (decision && decision->time == *time && decision->evidence) {
      std::copy_if(decision->evidence->guards.begin(), decision->evidence->guards.end(),
                   std::back_inserter(instance_guards), IsInstanceGuard);
    }
  } else {
    explanation.time = now;
    LOCKSTEP_ASSIGN_OR_RETURN(subject, registry_->FindGateSubject(name));
    LOCKSTEP_ASSIGN_OR_RETURN(std::vector<domain::DecisionRecord> newest,
                              registry_->ListDecisions(name, 0, 1));
    if (!newest.empty()) explanation.last_decision = std::move(newest.front());
    if (HasEvidence(subject)) instance_guards = InstanceGuards(subject, InstancesOf(name), now);
  }
  if (!HasEvidence(subject)) return NoEvidence(subject);
  EvidenceFeed feed(subject);
  LOCKSTEP_RETURN_IF_ERROR(feed.FeedUntil(*telemetry_, subject, closed_before));
  LOCKSTEP_ASSIGN_OR_RETURN(domain::EvaluationContext context, ContextOf(subject, feed, explanation.time));
  LOCKSTEP_RETURN_IF_ERROR(retention_->CheckKept(subject));
  std::move(instance_guards.begin(), instance_guards.end(), std::back_inserter(context.open_guards));
  explanation.result = feed.AtNewestStep(subject).Evaluate(context);
  explanation.step = subject.timeline.segments().back().step;
  return explanation;
}

absl::StatusOr<std::unique_ptr<EvidenceExport>> GateLoop::Export(const std::string& name) const {
  LOCKSTEP_ASSIGN_OR_RETURN(GateSubject subject, registry_->FindGateSubject(name));
  if (!HasEvidence(subject)) return NoEvidence(subject);
  const absl::Time now = clock_->Now();
  const absl::Time closed_before = ClosedBefore(now, now);
  return std::make_unique<EvidenceExport>(registry_, telemetry_, retention_, std::move(subject),
                                          closed_before);
}

GateCounters GateLoop::counters() const {
  MutexLock lock(&view_mutex_);
  return counters_;
}

std::optional<double> GateLoop::ObservedReadRatio(const std::string& name) const {
  MutexLock lock(&view_mutex_);
  const auto found = read_ratios_.find(name);
  if (found == read_ratios_.end()) return std::nullopt;
  return found->second;
}

}  // namespace lockstep::engine
