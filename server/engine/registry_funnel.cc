// The write funnel of the registry. See registry.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/error_info.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/domain/next_hop.h"
#include "server/engine/registry.h"
#include "server/engine/registry_keys.h"

namespace lockstep::engine {
namespace {

// What a decision record shows as the state after the change: the newly published one, else the one that
// waits.
const domain::RoutingState& StateAfter(const domain::Migration* before, const domain::Migration& after) {
  const bool published = before == nullptr || after.published.epoch != before->published.epoch;
  const bool newly_pending = after.pending && (before == nullptr || !before->pending ||
                                               !after.pending->RoutesLike(*before->pending));
  return !published && newly_pending ? *after.pending : after.published;
}

domain::DecisionRecord RecordOf(const domain::Migration* before, const domain::Migration& after,
                                absl::Time now, const std::string& actor, const std::string& action,
                                const std::string& reason,
                                const std::optional<domain::GateResult>& evidence) {
  domain::DecisionRecord record;
  record.migration = after.name;
  record.number = after.decision_count;
  record.time = now;
  record.actor = actor;
  record.action = action;
  record.reason = reason;
  if (before != nullptr) record.before = before->published;
  record.after = StateAfter(before, after);
  record.run_state = after.run_state;
  record.step = after.step;
  record.plan_revision = after.plan_revision;
  record.evidence = evidence;
  return record;
}

std::string ActorLabel(const std::string& actor) {
  return actor == kGatePrincipal || actor == kFencePrincipal ? actor : "operator";
}

domain::MigrationRouting Sealed(domain::MigrationRouting routing) {
  routing.digest = domain::RoutingDigest(routing);
  return routing;
}

}  // namespace

bool Registry::IsRollback(const Change& change) {
  if (change.before == nullptr || change.drill) return change.drill;
  const domain::RoutingState& before = change.before->migration->published;
  const domain::RoutingState& after = change.after.published;
  return after.stage < before.stage || after.read_weight < before.read_weight ||
         after.write_weight < before.write_weight;
}

// Anything that takes something back goes ahead of what is on its way, and so does whatever ends a hold:
// writes wait for it.
bool Registry::IsUrgent(const Change& change) {
  return IsRollback(change) ||
         (change.before != nullptr && domain::HoldsWrites(change.before->migration->published));
}

Registry::Change Registry::ChangeFrom(const EntryPtr& before, absl::string_view actor) const {
  Change change;
  change.name = before->migration->name;
  change.before = before;
  change.after = *before->migration;
  change.time = clock_->Now();
  change.actor = std::string(actor);
  change.holds = before->holds;
  return change;
}

Registry::Change Registry::TransitionChange(const EntryPtr& before, const domain::Transition& transition,
                                            absl::string_view actor, absl::Time now) const {
  Change change = ChangeFrom(before, actor);
  change.time = now;
  change.action = transition.action;
  change.reason = transition.reason;
  change.evidence = transition.evidence;
  change.keep_gate = !transition.target && !transition.restart_evidence;
  domain::Migration& after = change.after;
  const bool is_notification = !transition.notified_check.empty();
  if (!is_notification) after.run_state_reason = transition.reason;
  if (transition.step != before->migration->step || transition.restart_evidence)
    after.notified_checks.clear();
  if (is_notification) after.notified_checks.push_back(transition.notified_check);
  after.step = transition.step;
  if (transition.run_state == domain::RunState::kRolledBack) after.rolled_back_at = now;
  if (transition.run_state == domain::RunState::kRunning && after.run_state != transition.run_state) {
    after.deadline_from = now;
  }
  after.run_state = transition.run_state;
  if (transition.differing_records) after.differing_records = *transition.differing_records;
  if (transition.target) {
    change.holds = {};
    after.accept_differences = transition.accept_differences;
    RouteTo(*before, *transition.target, now, &after);
  } else if (transition.restart_evidence) {
    after.step_started_at = now;
  }
  return change;
}

absl::StatusOr<Registry::EntryPtr> Registry::Apply(Change change, bool validate_only, WakeList* wake) {
  domain::Migration& after = change.after;
  const domain::Migration* before = change.before ? change.before->migration.get() : nullptr;
  after.version = before == nullptr ? 1 : before->version + 1;
  after.decision_count = before == nullptr ? 1 : before->decision_count + 1;
  after.update_time = change.time;
  if (before != nullptr) {
    LOCKSTEP_CHECK(domain::MayCoexist(before->published, after.published),
                   "whoever enrols is given the published state, so that its successor may stand beside it");
    for (const domain::RoutingState& state : after.draining) {
      LOCKSTEP_CHECK(state.epoch < after.published.epoch, "epochs only rise");
    }
  }
  change.reason += DescribeLetThrough(change);
  const domain::DecisionRecord decision =
      RecordOf(before, after, change.time, change.actor, change.action, change.reason, change.evidence);
  EvidenceTimeline timeline = change.before ? change.before->timeline : EvidenceTimeline();
  timeline.Add(decision);
  std::string timeline_row = timeline.ToRow(after.uid, after.decision_count);
  EntryPtr entry =
      MakeEntry(change.before.get(), std::make_shared<const domain::Migration>(after), std::move(timeline),
                change.keep_gate ? change.before->gate->Get() : nullptr, IsRollback(change), change.holds);
  if (validate_only) return entry;

  store::WriteBatch batch;
  batch.Put(store::Table::kMigrations, store::MigrationKey(change.name), codec_->Encode(after));
  batch.Put(store::Table::kDecisions, store::DecisionKey(change.name, decision.number),
            codec_->Encode(decision));
  batch.Put(store::Table::kMeta, store::MetaKey(TimelineKey(change.name)), std::move(timeline_row));
  if (before == nullptr || before->plan_revision != after.plan_revision ||
      before->contract.revision != after.contract.revision) {
    batch.Put(store::Table::kDefinitions, store::DefinitionKey(change.name, decision.number),
              EncodeDefinition(after));
  }
  AppendAudit(change.actor, change.action, change.name, change.reason, change.time, &batch);
  requests_.Append(change.request_id, change.method, change.name, &after, change.time, &batch);
  const bool rerouted = before == nullptr || before->published.epoch != after.published.epoch;
  LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t revision, Commit(change.name, std::move(batch), change.evicted));

  if (before == nullptr) instances_->MigrationCreated(change.name, after.published.epoch);
  Show(change.name, entry, rerouted ? std::optional<uint64_t>(revision) : std::nullopt, IsUrgent(change),
       wake);
  if (before != nullptr && rerouted) CountTransition(change);
  Log(LogLevel::kInfo, change.action,
      {{"migration", change.name},
       {"actor", change.actor},
       {"epoch", absl::StrCat(after.published.epoch)},
       {"stage", domain::StageName(after.published.stage)},
       {"run_state", domain::RunStateName(after.run_state)},
       {"reason", change.reason}});
  return entry;
}

Registry::EntryPtr Registry::MakeEntry(const Entry* before,
                                       std::shared_ptr<const domain::Migration> migration,
                                       EvidenceTimeline timeline, std::shared_ptr<const GateEvaluation> gate,
                                       std::optional<bool> is_rollback, const HoldBackoff& holds) const {
  const auto published_state =
      [&](const domain::RoutingState& state) -> std::shared_ptr<const PublishedState> {
    if (before != nullptr) {
      if (before->published->routing->state.epoch == state.epoch) return before->published;
      for (const auto& draining : before->draining) {
        if (draining->routing->state.epoch == state.epoch) return draining;
      }
    }
    return std::make_shared<const PublishedState>(Sealed({migration->name, state, migration->contract}),
                                                  clock_->SinceBoot(), is_rollback);
  };
  auto entry = std::make_shared<Entry>();
  entry->holds = holds;
  entry->gate = std::make_shared<NewestEvaluation>(std::move(gate));
  entry->timeline = std::move(timeline);
  entry->published = published_state(migration->published);
  for (const domain::RoutingState& state : migration->draining)
    entry->draining.push_back(published_state(state));
  entry->migration = std::move(migration);
  return entry;
}

void Registry::Show(const std::string& name, EntryPtr entry, std::optional<uint64_t> routing_revision,
                    bool urgent, WakeList* wake) {
  auto next = std::make_shared<Entries>(*entries());
  if (entry == nullptr) {
    next->Erase(name);
    routings_.Erase(name);
  } else {
    if (routing_revision) routings_.Set(name, entry->published->routing);
    next->Set(name, std::move(entry));
  }
  {
    MutexLock lock(&view_mutex_);
    entries_ = std::move(next);
  }
  if (routing_revision) wake->Append(hub_->Publish(MakeSnapshot(*routing_revision), name, urgent));
  wake->Append(watchers_.Changed(name));
}

absl::StatusOr<uint64_t> Registry::Commit(absl::string_view name, store::WriteBatch batch,
                                          const std::string& evicted) {
  absl::StatusOr<uint64_t> revision = evicted.empty()
                                          ? instances_->CommitWith(name, std::move(batch))
                                          : instances_->CommitEviction(name, evicted, std::move(batch));
  if (revision.ok()) {
    ++audit_count_;
    requests_.Committed();
    return revision;
  }
  requests_.Abandoned();
  if (absl::IsUnknown(revision.status())) {
    MutexLock lock(&view_mutex_);
    health_ = WithErrorInfo(
        absl::UnavailableError(absl::StrCat("the outcome of a commit is unknown (",
                                            revision.status().message(),
                                            "): the server has to be restarted, which reads what is there")),
        {.reason = "STORE_FAILED", .metadata = {}, .field_violations = {}, .precondition_violations = {}});
    return health_;
  }
  return revision;
}

void Registry::AppendAudit(absl::string_view actor, absl::string_view action, absl::string_view resource,
                           absl::string_view reason, absl::Time now, store::WriteBatch* batch) const {
  domain::AuditEntry entry;
  entry.number = audit_count_ + 1;
  entry.time = now;
  entry.actor = std::string(actor);
  entry.action = std::string(action);
  entry.resource = std::string(resource);
  entry.reason = std::string(reason);
  entry.revision = store_->revision() + 1;
  batch->Put(store::Table::kAudit, store::AuditKey(entry.number), codec_->Encode(entry));
  batch->Put(store::Table::kMeta, store::MetaKey(kAuditCountKey), absl::StrCat(entry.number));
}

void Registry::CountTransition(const Change& change) {
  const domain::Stage from = change.before->migration->published.stage;
  const domain::Stage to = change.after.published.stage;
  MutexLock lock(&view_mutex_);
  ++transitions_[{from, to, ActorLabel(change.actor)}];
}

}  // namespace lockstep::engine
