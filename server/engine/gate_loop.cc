#include "server/engine/gate_loop.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

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

// Whether leaving `step` means that more reads move to the new side.
bool ReadsMoveNext(const domain::MigrationPlan& plan, int step) {
  const auto next = static_cast<size_t>(step) + 1;
  return next < plan.steps.size() && plan.steps[next].stage >= domain::Stage::kCanaryRead;
}

void AddInstanceGuards(const domain::Migration& migration, const std::vector<InstanceView>& instances,
                       std::vector<domain::Guard>* guards) {
  const auto& expected = migration.plan.expected_services;
  if (expected.empty()) return;
  for (const domain::ExpectedService& service : expected) {
    const auto enrolled = std::count_if(instances.begin(), instances.end(),
                                        [&](const InstanceView& i) { return i.service == service.service; });
    if (static_cast<uint64_t>(enrolled) >= service.min_instances) continue;
    guards->push_back(
        {"expected_instances", absl::StrCat(enrolled, " of ", service.min_instances, " instances of '",
                                            service.service, "' are enrolled.")});
  }
  for (const InstanceView& instance : instances) {
    if (std::any_of(expected.begin(), expected.end(),
                    [&](const domain::ExpectedService& s) { return s.service == instance.service; })) {
      continue;
    }
    guards->push_back(
        {"unexpected_instance", absl::StrCat("instance '", instance.instance_id, "' of '", instance.service,
                                             "' is enrolled, but the plan does not "
                                             "expect that service.")});
  }
}

}  // namespace

GateLoop::GateLoop(const Clock* clock, Registry* registry, Telemetry* telemetry,
                   const InstanceTable* instances)
    : clock_(clock), registry_(registry), telemetry_(telemetry), instances_(instances) {}

absl::Status GateLoop::Tick() {
  MutexLock lock(&mutex_);
  const absl::Time now = clock_->Now();
  const absl::Time closed_before = telemetry_->CloseBuckets();
  const std::vector<GateSubject> subjects = registry_->GateSubjects();
  std::map<std::string, Evidence> kept;  // that of migrations that are gone or stopped is dropped
  absl::Status first;
  for (const GateSubject& subject : subjects) {
    if (!IsEvaluated(subject.migration->run_state) || subject.timeline.segments().empty()) continue;
    auto node = evidence_.extract(subject.migration->name);
    Evidence& evidence = kept[subject.migration->name];
    if (!node.empty()) evidence = std::move(node.mapped());
    first.Update(TickOne(subject, now, closed_before, &evidence));
  }
  evidence_ = std::move(kept);
  return first;
}

absl::Status GateLoop::TickOne(const GateSubject& subject, absl::Time now, absl::Time closed_before,
                               Evidence* evidence) {
  const domain::Migration& migration = *subject.migration;
  LOCKSTEP_RETURN_IF_ERROR(Feed(subject, closed_before, evidence));
  // The segment of the published step, whose first bucket may not have closed yet.
  const auto& segments = subject.timeline.segments();
  domain::StepEvidence current = *evidence->evidence;
  for (size_t next = evidence->segment + 1; next < segments.size(); ++next) {
    current = domain::StepEvidence(migration.plan, segments[next].step, &current);
  }
  const absl::Duration step_age = now - migration.step_started_at;
  const domain::GateResult result = current.Evaluate(step_age, OpenGuards(subject, *evidence, now));
  ++counters_.evaluations_by_verdict[static_cast<size_t>(result.verdict)];
  counters_.last_evaluation = now;
  return registry_->ApplyVerdict(migration.name, migration.version, result).status();
}

absl::Status GateLoop::Feed(const GateSubject& subject, absl::Time closed_before, Evidence* evidence) const {
  const domain::Migration& migration = *subject.migration;
  const auto& segments = subject.timeline.segments();
  if (!evidence->evidence || evidence->timeline_id != subject.timeline.id() ||
      evidence->uid != migration.uid) {
    *evidence = Evidence();
    evidence->timeline_id = subject.timeline.id();
    evidence->uid = migration.uid;
    evidence->evidence.emplace(migration.plan, segments[0].step, nullptr);
    evidence->fed_until = segments[0].from;
  }
  if (closed_before <= evidence->fed_until) return absl::OkStatus();
  absl::Status status;
  Evidence fed = *evidence;
  LOCKSTEP_RETURN_IF_ERROR(telemetry_->ReadBuckets(
      migration.name, migration.published.generation, migration.contract.revision, fed.fed_until,
      closed_before, [&](const domain::WindowRecord& bucket) {
        while (fed.segment + 1 < segments.size() && segments[fed.segment + 1].from <= bucket.bucket_start) {
          const domain::StepEvidence previous = *fed.evidence;
          ++fed.segment;
          fed.evidence.emplace(migration.plan, segments[fed.segment].step, &previous);
        }
        status.Update(fed.evidence->AddBucket(bucket.stats));
        if (bucket.stats.compared() > 0) fed.last_comparison = bucket.bucket_start + domain::kTelemetryBucket;
      }));
  LOCKSTEP_RETURN_IF_ERROR(status);
  fed.fed_until = closed_before;
  *evidence = std::move(fed);
  return absl::OkStatus();
}

std::vector<domain::Guard> GateLoop::OpenGuards(const GateSubject& subject, const Evidence& evidence,
                                                absl::Time now) const {
  const domain::Migration& migration = *subject.migration;
  std::vector<domain::Guard> guards;
  if (migration.pending) {
    guards.push_back(
        {"pending_publish", absl::StrCat(domain::StageName(migration.pending->stage),
                                         " is committed and waits for instances that may still act on "
                                         "an earlier state.")});
  }
  const int step = subject.timeline.segments().back().step;
  if (ReadsMoveNext(migration.plan, step)) {
    AddInstanceGuards(migration, instances_->List(migration.name), &guards);
  }
  // Loss of telemetry is not clean. Without checks nothing is expected of it.
  const bool expected = domain::LadderRowOf(migration.published.stage).compares &&
                        !migration.plan.steps[static_cast<size_t>(step)].checks.empty();
  const absl::Time since = std::max(evidence.last_comparison, migration.step_started_at);
  if (expected && now - since > kStaleTelemetry) {
    guards.push_back({"stale_telemetry",
                      absl::StrCat("no comparisons were reported for ",
                                   absl::FormatDuration(absl::Floor(now - since, absl::Seconds(1))), ".")});
  }
  return guards;
}

GateCounters GateLoop::counters() const {
  MutexLock lock(&mutex_);
  return counters_;
}

}  // namespace lockstep::engine
