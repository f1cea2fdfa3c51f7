#include "server/engine/registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/error_info.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/domain/next_hop.h"
#include "server/engine/registry_keys.h"

// Recovery and everything for readers. The changes are in registry_admin.cc, the funnel and the fences in
// registry_funnel.cc.
namespace lockstep::engine {
namespace {

absl::Status MigrationNotFound(absl::string_view name) {
  return WithErrorInfo(absl::NotFoundError(absl::StrCat("there is no migration ", name)),
                       {.reason = "MIGRATION_NOT_FOUND",
                        .metadata = {{"migration", std::string(name)}},
                        .field_violations = {},
                        .precondition_violations = {}});
}

}  // namespace

Registry::PublishedState::PublishedState(domain::MigrationRouting r, absl::Duration now,
                                         std::optional<bool> rollback)
    : routing(std::make_shared<const domain::MigrationRouting>(std::move(r))),
      since(now),
      is_rollback(rollback) {}

void Registry::PublishedState::NoteRemoteUntil(absl::Duration since_boot) const {
  const int64_t until = absl::ToInt64Nanoseconds(since_boot);
  int64_t noted = remote_until_ns.load();
  while (noted < until && !remote_until_ns.compare_exchange_weak(noted, until)) {
  }
}

bool Registry::PublishedState::RemoteAt(absl::Duration since_boot) const {
  return remote_until_ns.load() > absl::ToInt64Nanoseconds(since_boot);
}

Registry::Registry(store::Store* store, const store::RecordCodec* codec, const Clock* clock, uint64_t seed,
                   InstanceTable* instances, SnapshotHub* hub, Options options)
    : store_(store),
      codec_(codec),
      clock_(clock),
      instances_(instances),
      hub_(hub),
      options_(options),
      prng_(seed),
      requests_(store, codec) {}

absl::Status Registry::Recover() {
  MutexLock lock(&mutex_);
  LOCKSTEP_RETURN_IF_ERROR(requests_.Recover());
  LOCKSTEP_RETURN_IF_ERROR(RecoverStoreEpoch());
  LOCKSTEP_RETURN_IF_ERROR(RecoverRemoteValidity());
  LOCKSTEP_RETURN_IF_ERROR(RecoverAuditHead());
  LOCKSTEP_ASSIGN_OR_RETURN(const TimelineRows timelines, ReadTimelineRows());
  std::vector<Entries::Item> loaded;
  absl::Status status;
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(store::Table::kMigrations, "", "", store::kNoLimit,
                                        [&](absl::string_view, absl::string_view value) {
                                          mutex_.AssertHeld();
                                          absl::StatusOr<EntryPtr> entry = LoadEntry(value, timelines);
                                          if (!entry.ok()) {
                                            status = entry.status();
                                            return false;
                                          }
                                          std::string name = (*entry)->migration->name;
                                          loaded.emplace_back(std::move(name), *std::move(entry));
                                          return true;
                                        }));
  LOCKSTEP_RETURN_IF_ERROR(status);
  std::vector<decltype(routings_)::Item> routings;
  for (const auto& [name, entry] : loaded) {
    // Who enrolled before the migration existed was recorded after its creation was committed; a crash in
    // between leaves out the record, and no other epoch has been published since.
    const auto& states = entry->draining;
    instances_->MigrationCreated(
        name, states.empty() ? entry->published->routing->state.epoch : states.front()->routing->state.epoch);
    routings.emplace_back(name, entry->published->routing);
    LOCKSTEP_RETURN_IF_ERROR(RecoverBehind(name));
  }
  routings_ = decltype(routings_)::Of(std::move(routings));
  {
    MutexLock view_lock(&view_mutex_);
    entries_ = std::make_shared<const Entries>(Entries::Of(std::move(loaded)));
  }
  hub_->Publish(MakeSnapshot(store_->revision()), "", false).WakeAll();
  return absl::OkStatus();
}

absl::Status Registry::RecoverStoreEpoch() {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> stored,
                            store_->Get(store::Table::kMeta, store::MetaKey(kStoreEpochKey)));
  if (stored && (!absl::SimpleAtoi(*stored, &store_epoch_) || store_epoch_ == 0)) {
    return absl::DataLossError("the store epoch is damaged");
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> awaits,
                            store_->Get(store::Table::kMeta, store::MetaKey(kAwaitUnknownKey)));
  if (awaits || (stored && options_.new_store_epoch)) {
    await_unknown_until_ns_ = absl::ToInt64Nanoseconds(clock_->SinceBoot() + options_.await_unknown);
  }
  if (stored && !options_.new_store_epoch) return absl::OkStatus();
  store_epoch_ = prng_.Next() | 1;  // never 0
  store::WriteBatch batch;
  batch.Put(store::Table::kMeta, store::MetaKey(kStoreEpochKey), absl::StrCat(store_epoch_));
  if (stored) {
    Log(LogLevel::kWarning, "a new store epoch begins: the data was restored from a backup",
        {{"before", *stored}, {"store_epoch", absl::StrCat(store_epoch_)}});
  }
  if (!stored) return store_->Commit(std::move(batch), std::nullopt).status();
  // What instances acknowledged after the backup was taken is not known here, nor who has enrolled since.
  batch.Put(store::Table::kMeta, store::MetaKey(kAwaitUnknownKey), "1");
  return instances_->ForgetEpochs(std::move(batch));
}

absl::Status Registry::EndAwaitUnknown() {
  const int64_t until_ns = await_unknown_until_ns_;
  if (until_ns == 0 || absl::ToInt64Nanoseconds(clock_->SinceBoot()) <= until_ns) return absl::OkStatus();
  store::WriteBatch batch;
  batch.Delete(store::Table::kMeta, store::MetaKey(kAwaitUnknownKey));
  LOCKSTEP_RETURN_IF_ERROR(store_->Commit(std::move(batch), std::nullopt).status());
  await_unknown_until_ns_ = 0;
  return absl::OkStatus();
}

absl::Status Registry::RecoverRemoteValidity() {
  const absl::Duration validity = options_.remote_decision_validity;
  remote_validity_granted_ = validity;
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> stored,
                            store_->Get(store::Table::kMeta, store::MetaKey(kRemoteValidityKey)));
  if (stored) {
    int64_t granted_ns = 0;
    if (!absl::SimpleAtoi(*stored, &granted_ns) || granted_ns < 0) {
      return absl::DataLossError("the validity of remote decisions is damaged");
    }
    remote_validity_granted_ = std::max(validity, absl::Nanoseconds(granted_ns));
    lower_remote_validity_at_ = clock_->SinceBoot() + remote_validity_granted_;
    if (absl::Nanoseconds(granted_ns) >= validity) return absl::OkStatus();
  }
  return StoreRemoteValidity();
}

absl::Status Registry::StoreRemoteValidity() {
  store::WriteBatch batch;
  batch.Put(store::Table::kMeta, store::MetaKey(kRemoteValidityKey),
            absl::StrCat(absl::ToInt64Nanoseconds(remote_validity_granted_)));
  return store_->Commit(std::move(batch), std::nullopt).status();
}

absl::Status Registry::LowerRemoteValidity() {
  MutexLock lock(&mutex_);
  const absl::Duration validity = options_.remote_decision_validity;
  if (remote_validity_granted_ == validity || clock_->SinceBoot() <= lower_remote_validity_at_) {
    return absl::OkStatus();
  }
  const absl::Duration before = std::exchange(remote_validity_granted_, validity);
  const absl::Status stored = StoreRemoteValidity();
  if (!stored.ok()) remote_validity_granted_ = before;
  return stored;
}

absl::Status Registry::RecoverAuditHead() {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> count,
                            store_->Get(store::Table::kMeta, store::MetaKey(kAuditCountKey)));
  if (!count) return absl::OkStatus();
  if (!absl::SimpleAtoi(*count, &audit_count_)) {
    return absl::DataLossError("the number of audit entries is damaged");
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> newest,
                            store_->Get(store::Table::kAudit, store::AuditKey(audit_count_)));
  if (!newest) {
    return absl::DataLossError(absl::StrCat("audit entry ", audit_count_, ", the newest one, is missing"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const domain::AuditEntry entry, codec_->DecodeAuditEntry(*newest));
  if (entry.number == audit_count_) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("audit entry ", audit_count_, ", the newest one, says that it is number ", entry.number));
}

absl::StatusOr<Registry::TimelineRows> Registry::ReadTimelineRows() const {
  TimelineRows rows;
  const store::KeyRange range = store::PrefixRange(kTimelinePrefix);
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(store::Table::kMeta, range.start, range.end, store::kNoLimit,
                                        [&](absl::string_view key, absl::string_view value) {
                                          rows.emplace(absl::StripPrefix(key, kTimelinePrefix), value);
                                          return true;
                                        }));
  return rows;
}

absl::StatusOr<EvidenceTimeline> Registry::LoadTimeline(const domain::Migration& migration,
                                                        const TimelineRows& rows) const {
  EvidenceTimeline::Kept kept;
  // Absent where no version that keeps it has written the migration; behind where another one has since.
  if (const auto row = rows.find(migration.name); row != rows.end()) {
    LOCKSTEP_ASSIGN_OR_RETURN(kept, EvidenceTimeline::FromRow(row->second));
    if (kept.uid != migration.uid) kept = {};  // of an earlier one of that name
  }
  if (kept.decisions > migration.decision_count) {
    return absl::DataLossError(absl::StrCat("the timeline of ", migration.name, " knows ", kept.decisions,
                                            " decisions, and there are ", migration.decision_count));
  }
  if (kept.decisions == migration.decision_count) return std::move(kept.timeline);
  absl::Status damage;
  LOCKSTEP_RETURN_IF_ERROR(
      store_->Scan(store::Table::kDecisions, store::DecisionKey(migration.name, kept.decisions + 1),
                   store::DecisionsOf(migration.name).end, store::kNoLimit,
                   [&](absl::string_view, absl::string_view value) {
                     absl::StatusOr<domain::DecisionRecord> record = codec_->DecodeDecision(value);
                     if (!record.ok()) {
                       damage = record.status();
                       return false;
                     }
                     kept.timeline.Add(*record);
                     return true;
                   }));
  LOCKSTEP_RETURN_IF_ERROR(damage);
  return std::move(kept.timeline);
}

absl::StatusOr<Registry::EntryPtr> Registry::LoadEntry(absl::string_view bytes,
                                                       const TimelineRows& rows) const {
  LOCKSTEP_ASSIGN_OR_RETURN(domain::Migration decoded, codec_->DecodeMigration(bytes));
  const auto migration = std::make_shared<const domain::Migration>(std::move(decoded));
  LOCKSTEP_ASSIGN_OR_RETURN(EvidenceTimeline timeline, LoadTimeline(*migration, rows));
  EntryPtr entry = MakeEntry(nullptr, migration, std::move(timeline), nullptr, std::nullopt, {});
  LOCKSTEP_ASSIGN_OR_RETURN(
      const std::optional<std::string> stored,
      store_->Get(store::Table::kMeta, store::MetaKey(RemoteEndedKey(migration->name))));
  uint64_t ended = 0;
  if (stored && !absl::SimpleAtoi(*stored, &ended)) {
    return absl::DataLossError(
        absl::StrCat("the last epoch of ", migration->name, " without remote decisions is damaged"));
  }
  // What was handed out before the restart is not known: everything may have been, just now. Save what is
  // known to have ended, and what can't stand beside the published state: that was published when no such
  // decision was valid any more.
  const absl::Duration until = clock_->SinceBoot() + remote_validity_granted_;
  entry->published->NoteRemoteUntil(until);
  for (const auto& state : entry->draining) {
    const domain::RoutingState& earlier = state->routing->state;
    if (earlier.epoch > ended && domain::MayCoexist(earlier, migration->published)) {
      state->NoteRemoteUntil(until);
    }
  }
  return entry;
}

absl::Status Registry::health() const {
  MutexLock lock(&view_mutex_);
  return health_;
}

std::shared_ptr<const Registry::Entries> Registry::entries() const {
  MutexLock lock(&view_mutex_);
  return entries_;
}

absl::StatusOr<Registry::EntryPtr> Registry::FindEntry(absl::string_view name) const {
  const std::shared_ptr<const Entries> all = entries();
  const EntryPtr* const found = all->Find(name);
  if (found == nullptr) return MigrationNotFound(name);
  return *found;
}

MigrationView Registry::ViewOf(const Entry& entry) const {
  MigrationView view{entry.migration, entry.gate->Get(), {}, 0};
  const domain::Migration& migration = *entry.migration;
  if (const absl::Status behind = CheckNotBehind(migration.name); !behind.ok()) {
    // Whatever else is true of it, this comes first.
    auto shown = std::make_shared<domain::Migration>(migration);
    shown->run_state_reason = std::string(behind.message());
    view.migration = std::move(shown);
    return view;
  }
  if (!migration.pending) return view;
  const auto hop =
      domain::NextHop(migration.published, *migration.pending, migration.plan.cutover.slice_weight);
  if (!hop) return view;
  Waits waits = WaitsFor(entry, *hop);
  view.waiting = std::move(waits.named);
  view.waiting_count = waits.count;
  return view;
}

absl::StatusOr<MigrationView> Registry::Get(absl::string_view name) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr entry, FindEntry(name));
  return ViewOf(*entry);
}

std::vector<MigrationView> Registry::List(absl::string_view ns, absl::string_view after, size_t limit) const {
  const std::string prefix = ns.empty() ? "namespaces/" : absl::StrCat("namespaces/", ns, "/");
  const std::shared_ptr<const Entries> all = entries();
  std::vector<MigrationView> views;
  auto at = after < prefix ? all->LowerBound(prefix) : all->UpperBound(after);
  for (; at != all->end() && views.size() < limit && absl::StartsWith(at->first, prefix); ++at) {
    views.push_back(ViewOf(*at->second));
  }
  return views;
}

absl::StatusOr<std::vector<domain::DecisionRecord>> Registry::ListDecisions(absl::string_view name,
                                                                            uint64_t before,
                                                                            size_t limit) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr entry, FindEntry(name));
  std::vector<domain::DecisionRecord> records;
  uint64_t number = entry->migration->decision_count;
  if (before > 0) number = std::min(number, before - 1);
  for (; number > 0 && records.size() < limit; --number) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> bytes,
                              store_->Get(store::Table::kDecisions, store::DecisionKey(name, number)));
    if (!bytes) {
      // Deleted meanwhile, or damaged: an existing migration has all of its records.
      LOCKSTEP_RETURN_IF_ERROR(FindEntry(name).status());
      return absl::DataLossError(absl::StrCat("decision ", number, " of ", name, " is missing"));
    }
    LOCKSTEP_ASSIGN_OR_RETURN(domain::DecisionRecord record, codec_->DecodeDecision(*bytes));
    records.push_back(std::move(record));
  }
  return records;
}

std::unique_ptr<Listener> Registry::Watch(const std::string& name, std::function<void()> wake) {
  return watchers_.Listen({name}, std::move(wake));
}

absl::StatusOr<RemoteRouting> Registry::RouteRemotely(absl::string_view name) const {
  // Noted first, then checked: an incompatible state is published only after another one has replaced this
  // one (publish_rule.h), and whoever publishes that incompatible state looks at the notes after the
  // replacement was visible. So either the check below sees the replacement, or the note is seen by the
  // publisher.
  const absl::Duration validity = options_.remote_decision_validity;
  LOCKSTEP_RETURN_IF_ERROR(CheckNotBehind(name));
  while (true) {
    const std::shared_ptr<const Entries> all = entries();
    const EntryPtr* const entry = all->Find(name);
    if (entry == nullptr) return MigrationNotFound(name);
    const PublishedState& published = *(*entry)->published;
    published.NoteRemoteUntil(clock_->SinceBoot() + validity);
    // Nearly always nothing has been replaced meanwhile, of any migration, and it need not be found again.
    if (entries() != all) {
      LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr now, FindEntry(name));
      if (now->published.get() != &published) continue;
    }
    return RemoteRouting{published.routing, validity};
  }
}

std::optional<Registry::PublishTime> Registry::PublishedSince(absl::string_view name, uint64_t epoch) const {
  const absl::StatusOr<EntryPtr> entry = FindEntry(name);
  if (!entry.ok()) return std::nullopt;
  const PublishedState& published = *(*entry)->published;
  if (published.routing->state.epoch != epoch || !published.is_rollback) return std::nullopt;
  return PublishTime{published.since, *published.is_rollback};
}

absl::StatusOr<RemoteRouting> Registry::Explain(absl::string_view name) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr entry, FindEntry(name));
  return RemoteRouting{entry->published->routing, absl::ZeroDuration()};
}

absl::Status Registry::CheckHeld(const std::map<std::string, uint64_t>& held) const {
  for (const auto& [name, epoch] : held) {
    const absl::StatusOr<EntryPtr> entry = FindEntry(name);
    if (!entry.ok() || epoch <= (*entry)->migration->published.epoch) continue;
    return InvalidArgumentWithViolations(
        {{"held", absl::StrCat("epoch ", epoch, " of ", name, " was never published; the newest is ",
                               (*entry)->migration->published.epoch)}});
  }
  return absl::OkStatus();
}

std::optional<TelemetryTarget> Registry::FindTelemetryTarget(absl::string_view name) const {
  const absl::StatusOr<EntryPtr> entry = FindEntry(name);
  if (!entry.ok()) return std::nullopt;
  const domain::Migration& migration = *(*entry)->migration;
  TelemetryTarget target;
  // A generation begins when its first state is committed, published or not.
  target.generation = migration.published.generation;
  target.contract_revision = migration.contract.revision;
  target.first_evidence_epoch = (*entry)->timeline.first_epoch();
  target.evidence_begin = (*entry)->timeline.begin();
  return target;
}

std::vector<GateSubject> Registry::GateSubjects() const {
  std::vector<GateSubject> subjects;
  const std::shared_ptr<const Entries> all = entries();
  for (const auto& [name, entry] : *all) subjects.push_back({entry->migration, entry->timeline});
  return subjects;
}

std::vector<TransitionCount> Registry::transitions() const {
  std::vector<TransitionCount> counts;
  MutexLock lock(&view_mutex_);
  for (const auto& [key, count] : transitions_) {
    counts.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), count});
  }
  return counts;
}

std::shared_ptr<const PublishedRoutings> Registry::MakeSnapshot(uint64_t revision) const {
  return std::make_shared<const PublishedRoutings>(PublishedRoutings{revision, store_epoch_, routings_});
}

}  // namespace lockstep::engine
