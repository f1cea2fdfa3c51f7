// The fences of the registry: which hop may be published now, and whom it waits for. See registry.h and
// publish_rule.h.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/domain/next_hop.h"
#include "server/engine/registry.h"
#include "server/engine/registry_keys.h"

namespace lockstep::engine {
namespace {

constexpr char kRemoteDecisions[] = "remote decisions";

constexpr char kPauseBetweenHolds[] = "pause between holds";

constexpr char kRestoredBackup[] = "restored backup";

// After a release the next hold waits as long as the hold was allowed to take, after another one twice as
// long, and so on up to this.
constexpr absl::Duration kMaxPauseBetweenHolds = absl::Hours(1);

// An explanation names so many; the rest is counted.
constexpr size_t kMaxExplainedWaits = 100;

std::string Seconds(absl::Duration duration) {
  return absl::FormatDuration(absl::Trunc(std::max(duration, absl::ZeroDuration()), absl::Seconds(1)));
}

// What would end the wait for an instance.
std::string HowToUnblock(const InstanceView& instance, absl::Time now) {
  const std::string heard = absl::StrCat("last heard of ", Seconds(now - instance.last_seen), " ago");
  if (!instance.connected) {
    return absl::StrCat("it is disconnected, ", heard,
                        ": restart it, or evict it once it is certain that it is gone");
  }
  if (instance.lease == LeaseState::kExpired) {
    return absl::StrCat("its lease is over, ", heard,
                        ": resume or restart it, or evict it once it is certain that it is gone");
  }
  const domain::InstanceStatus& status = instance.status;
  if (status.repairs > 0 || status.queued_mirrors > 0) {
    return "its mirror writes have to reach the other side: see whether that side is healthy";
  }
  if (status.operations > 0) return "its older operations have to end";
  if (!instance.last_nack.empty()) return absl::StrCat("it rejected the last snapshot: ", instance.last_nack);
  return "it has to acknowledge, which takes it no longer than its longest operation";
}

FenceWait WaitForInstance(const InstanceView& instance, std::string reason, absl::Time since,
                          absl::Time now) {
  FenceWait wait;
  wait.instance_id = instance.instance_id;
  wait.service = instance.service;
  wait.epoch = instance.acknowledged_epoch;
  wait.reason = std::move(reason);
  wait.since = since;
  wait.pinned_by = domain::DescribeStatus(instance.status);
  wait.unblock = HowToUnblock(instance, now);
  return wait;
}

// Something else than an instance, by what it is called instead.
FenceWait WaitForNobody(absl::string_view what, uint64_t epoch, std::string reason, absl::Time since,
                        std::string unblock) {
  FenceWait wait;
  wait.instance_id = std::string(what);
  wait.epoch = epoch;
  wait.reason = std::move(reason);
  wait.since = since;
  wait.unblock = std::move(unblock);
  return wait;
}

std::string WhyNoHoldYet(const InstanceView& instance, uint64_t published_epoch) {
  const absl::string_view why = !instance.connected                             ? "is not connected"
                                : instance.lease == LeaseState::kExpired        ? "has let its lease run out"
                                : instance.acknowledged_epoch < published_epoch ? "has not caught up yet"
                                                                                : "does not follow";
  return absl::StrCat("it ", why, ", so that the writes of the next slice would be held until it is back");
}

}  // namespace

StateHistory Registry::HistoryOf(const Entry& entry) const {
  StateHistory history;
  for (const auto& state : entry.draining) history.push_back(state->routing->state);
  history.push_back(entry.published->routing->state);
  const uint64_t known = history.front().epoch;
  // Below it when an instance came back with less than it had acknowledged; 0 is known to nobody.
  const uint64_t oldest = instances_->OldestLiveEpoch(entry.migration->name).value_or(known);
  if (oldest == 0 || oldest >= known) return history;
  StateHistory older = FindStatesSince(*entry.migration, oldest);
  older.erase(std::remove_if(older.begin(), older.end(), [&](const auto& s) { return s.epoch >= known; }),
              older.end());
  history.insert(history.begin(), older.begin(), older.end());
  return history;
}

StateHistory Registry::FindStatesSince(const domain::Migration& migration, uint64_t epoch) const {
  StateHistory states;
  for (uint64_t number = migration.decision_count; number > 0; --number) {
    const auto bytes = store_->Get(store::Table::kDecisions, store::DecisionKey(migration.name, number));
    if (!bytes.ok() || !*bytes) break;  // what is missing counts as compatible with nothing
    const absl::StatusOr<domain::DecisionRecord> record = codec_->DecodeDecision(**bytes);
    if (!record.ok()) break;
    if (record->after.epoch == 0 || record->after.epoch == record->before.epoch) continue;
    if (record->after.epoch < epoch) break;
    states.push_back(record->after);
  }
  std::reverse(states.begin(), states.end());
  return states;
}

std::vector<Holder> Registry::RemoteHolders(const Entry& entry) const {
  std::vector<Holder> holders;
  const absl::Duration now = clock_->SinceBoot();
  const auto add = [&](const PublishedState& state) {
    if (state.RemoteAt(now)) holders.push_back({kRemoteDecisions, "", state.routing->state.epoch, true});
  };
  for (const auto& state : entry.draining) add(*state);
  add(*entry.published);
  return holders;
}

bool Registry::MayPublish(const Entry& entry, const domain::RoutingState& hop) const {
  const std::string& name = entry.migration->name;
  if (!CheckNotBehind(name).ok()) return false;
  const StateHistory history = HistoryOf(entry);
  const uint64_t published = history.back().epoch;
  const uint64_t safe = FirstSafeEpoch(hop, history);
  const LiveEpochs live = instances_->OldestLiveEpochs(name);
  // Whoever enrols or asks next is given the published state, so that one is live in any case.
  if (safe > published) return false;
  if (live.following && *live.following < safe) return false;
  if (live.passed_by && *live.passed_by < FirstSafeEpochOfPassedBy(hop, history)) return false;
  for (const Holder& holder : RemoteHolders(entry)) {
    if (!WhyWait(hop, history, holder).empty()) return false;
  }
  if (AwaitsUnknown(history.back(), hop)) return false;
  if (!domain::BeginsToHold(history.back(), hop)) return true;
  if (clock_->SinceBoot() < entry.holds.until) return false;
  if (live.oldest() && *live.oldest() < published) return false;
  return instances_->ListNotFollowing(name, published, 1).empty();
}

void Registry::Waits::Add(FenceWait wait) {
  if (count++ < kMaxExplainedWaits) named.push_back(std::move(wait));
}

bool Registry::AwaitsUnknown(const domain::RoutingState& published, const domain::RoutingState& hop) const {
  if (absl::ToInt64Nanoseconds(clock_->SinceBoot()) > await_unknown_until_ns_) return false;
  if (domain::HoldsWrites(published)) return false;  // writes wait
  // A rollback never waits for somebody of whom nothing is known, and of these states none is worse than the
  // one that is published.
  const bool mirrored =
      published.stage <= domain::Stage::kCanaryRead && hop.stage >= domain::Stage::kDualWrite;
  const bool takes_back = hop.stage < published.stage ||
                          (hop.stage == published.stage && hop.read_weight <= published.read_weight);
  return !(mirrored && takes_back);
}

Registry::Waits Registry::WaitsFor(const Entry& entry, const domain::RoutingState& hop) const {
  const domain::Migration& migration = *entry.migration;
  const absl::Time now = clock_->Now();
  const absl::Time since = std::max(migration.pending_since, migration.published_at);
  const StateHistory history = HistoryOf(entry);
  const uint64_t published = history.back().epoch;
  Waits waits;
  const auto add = [&](Counted counted, uint64_t first_safe) {
    for (const InstanceView& instance : instances_->ListBelow(migration.name, first_safe, counted)) {
      const Holder holder{instance.instance_id, instance.service, instance.acknowledged_epoch, false};
      waits.Add(WaitForInstance(instance, WhyWait(hop, history, holder), since, now));
    }
  };
  add(Counted::kFollowing, FirstSafeEpoch(hop, history));
  add(Counted::kPassedBy, FirstSafeEpochOfPassedBy(hop, history));
  for (const Holder& holder : RemoteHolders(entry)) {
    std::string reason = WhyWait(hop, history, holder);
    if (reason.empty()) continue;
    waits.Add(WaitForNobody(
        holder.instance_id, holder.epoch, std::move(reason), since,
        absl::StrCat("the answers are valid for ", absl::FormatDuration(options_.remote_decision_validity),
                     " and then end by themselves")));
  }
  const absl::Duration boot = clock_->SinceBoot();
  if (waits.count == 0 && AwaitsUnknown(history.back(), hop)) {
    const absl::Duration left = absl::Nanoseconds(await_unknown_until_ns_.load()) - boot;
    waits.Add(WaitForNobody(
        kRestoredBackup, published,
        "the data is of a backup, so that instances that enrolled later are not known here", since,
        absl::StrCat("whoever is there enrols again; in ", Seconds(left + absl::Seconds(1)),
                     " nobody else is expected any more")));
  }
  if (waits.count > 0 || !domain::BeginsToHold(history.back(), hop)) return waits;
  for (const InstanceView& instance : instances_->ListNotFollowing(migration.name, published)) {
    waits.Add(WaitForInstance(instance, WhyNoHoldYet(instance, published), since, now));
  }
  const absl::Duration pause = entry.holds.until - boot;
  if (waits.count == 0 && pause > absl::ZeroDuration()) {
    waits.Add(WaitForNobody(
        kPauseBetweenHolds, published,
        absl::StrCat(entry.holds.releases, " holds in a row were released because they took too long"), since,
        absl::StrCat("the next one begins in ", Seconds(pause + absl::Seconds(1)),
                     "; shorter operations, or a longer plan.cutover.max_hold, would let it succeed")));
  }
  return waits;
}

void Registry::PublishInto(domain::RoutingState state, absl::Time now, domain::Migration* after) {
  state.epoch = after->published.epoch + 1;
  after->draining.push_back(std::move(after->published));
  after->published = std::move(state);
  after->published_at = now;
}

void Registry::DropDrained(const Entry& before, domain::Migration* after) const {
  const std::optional<uint64_t> oldest = instances_->OldestLiveEpoch(after->name);
  const absl::Duration now = clock_->SinceBoot();
  const auto is_live = [&](const domain::RoutingState& state) {
    if (oldest && state.epoch >= *oldest) return true;
    // Until its successor is visible, remote decisions are made by it: those are counted by whatever is
    // published next.
    if (before.published->routing->state.epoch == state.epoch) return true;
    for (const auto& draining : before.draining) {
      if (draining->routing->state.epoch == state.epoch) return draining->RemoteAt(now);
    }
    return false;
  };
  auto& draining = after->draining;
  draining.erase(std::remove_if(draining.begin(), draining.end(), [&](const auto& s) { return !is_live(s); }),
                 draining.end());
}

void Registry::RouteTo(const Entry& before, const domain::RoutingState& goal, absl::Time now,
                       domain::Migration* after) const {
  const auto hop = domain::NextHop(after->published, goal, after->plan.cutover.slice_weight);
  LOCKSTEP_CHECK(hop.has_value(), "Plan refuses what there is no way to");
  const bool publish = MayPublish(before, *hop);
  if (publish) PublishInto(*hop, now, after);
  if (publish && hop->RoutesLike(goal)) {
    after->pending.reset();
    after->pending_since = absl::InfinitePast();
    after->step_started_at = now;
    after->deadline_from = now;
  } else {
    after->pending = goal;
    after->pending->epoch = 0;
    after->pending_since = now;
  }
  DropDrained(before, after);
}

absl::Status Registry::PublishPending(absl::string_view name, WakeList* wake) {
  LOCKSTEP_RETURN_IF_ERROR(health());
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr before, FindEntry(name));
    const domain::Migration& migration = *before->migration;
    if (!migration.pending || !CheckNotBehind(name).ok()) return absl::OkStatus();
    Change change = ChangeFrom(before, kFencePrincipal);
    RouteTo(*before, *migration.pending, change.time, &change.after);
    if (change.after.published.epoch == migration.published.epoch) return absl::OkStatus();  // still waits
    if (change.after.published.write_weight != migration.published.write_weight) {
      change.holds = {};
      change.after.differing_records = 0;
    }
    if (change.after.pending) {
      change.after.pending_since = migration.pending_since;
      change.action = kActionSlice;
      change.reason = domain::HoldsWrites(change.after.published)
                          ? "the writes of the next slice are held until every instance holds them"
                          : "a state on the way to the pending one";
    } else {
      change.action = kActionPublish;
      change.reason = "nothing acts on an incompatible epoch any more";
    }
    LOCKSTEP_RETURN_IF_ERROR(Apply(std::move(change), false, wake).status());
  }
}

absl::Status Registry::ReleaseOverdue(absl::string_view name, WakeList* wake) {
  LOCKSTEP_RETURN_IF_ERROR(health());
  LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr before, FindEntry(name));
  const domain::Migration& migration = *before->migration;
  const absl::Duration held_for = clock_->SinceBoot() - before->published->since;
  if (!domain::HoldsWrites(migration.published) || held_for <= migration.plan.cutover.max_hold) {
    return absl::OkStatus();
  }
  // Whoever has not followed still writes the slice as before the hold, so the publish rule allows that side
  // only.
  domain::RoutingState released = domain::Released(migration.published, domain::Side::kOld);
  if (!MayPublish(*before, released)) released = domain::Released(migration.published, domain::Side::kNew);
  if (!MayPublish(*before, released)) return absl::OkStatus();
  Change change = ChangeFrom(before, kFencePrincipal);
  change.action = kActionRelease;
  std::string whom = "an instance";
  if (migration.pending) {
    const auto hop =
        domain::NextHop(migration.published, *migration.pending, migration.plan.cutover.slice_weight);
    const Waits waits = hop ? WaitsFor(*before, *hop) : Waits();
    if (waits.count > 0) whom = absl::StrCat("'", waits.named[0].instance_id, "'");
    if (waits.count > 1) absl::StrAppend(&whom, " and ", waits.count - 1, " more");
  }
  change.reason = absl::StrCat(
      "the writes of a slice were held for ", Seconds(held_for), " without its moving, because of ", whom,
      ": they are released, and the slice is tried again when every instance follows");
  change.keep_gate = true;
  const double factor = std::ldexp(1.0, std::min(change.holds.releases, 16));
  change.holds.until =
      clock_->SinceBoot() + std::min(migration.plan.cutover.max_hold * factor, kMaxPauseBetweenHolds);
  ++change.holds.releases;
  PublishInto(std::move(released), change.time, &change.after);
  DropDrained(*before, &change.after);
  return Apply(std::move(change), false, wake).status();
}

absl::Status Registry::PublishIfPossible(absl::string_view name) {
  // Without the funnel's lock, since most calls find nothing to do.
  const absl::StatusOr<EntryPtr> entry = FindEntry(name);
  if (!entry.ok() || !(*entry)->migration->pending) return absl::OkStatus();
  WakeList wake;
  absl::Status status;
  {
    MutexLock lock(&mutex_);
    status = PublishPending(name, &wake);
  }
  wake.WakeAll();
  return status;
}

absl::Status Registry::NoteRemoteEnded() {
  // What is read here is replaced already, so that no valid decision is made by it any more.
  std::vector<std::pair<std::string, uint64_t>> ended;
  const absl::Duration now = clock_->SinceBoot();
  const std::shared_ptr<const Entries> all = entries();
  for (const auto& [name, entry] : *all) {
    uint64_t epoch = 0;
    for (const auto& state : entry->draining) {
      if (state->RemoteAt(now)) break;
      epoch = state->routing->state.epoch;
    }
    if (epoch > 0) ended.emplace_back(name, epoch);
  }
  if (ended.empty()) return absl::OkStatus();
  MutexLock lock(&mutex_);
  store::WriteBatch batch;
  for (const auto& [name, epoch] : ended) {
    if (epoch <= remote_ended_[name]) continue;
    batch.Put(store::Table::kMeta, store::MetaKey(RemoteEndedKey(name)), absl::StrCat(epoch));
  }
  if (batch.empty()) return absl::OkStatus();
  LOCKSTEP_RETURN_IF_ERROR(store_->Commit(std::move(batch), std::nullopt).status());
  for (const auto& [name, epoch] : ended) remote_ended_[name] = std::max(remote_ended_[name], epoch);
  return absl::OkStatus();
}

bool Registry::IsMoving(absl::string_view name) const {
  const absl::StatusOr<EntryPtr> entry = FindEntry(name);
  if (!entry.ok()) return false;
  const domain::Migration& migration = *(*entry)->migration;
  return migration.pending.has_value() || domain::HoldsWrites(migration.published);
}

absl::Status Registry::PublishAllPossible() {
  absl::Status first = LowerRemoteValidity();
  first.Update(EndAwaitUnknown());
  const std::shared_ptr<const Entries> all = entries();
  for (const auto& [name, entry] : *all) {
    first.Update(PublishIfPossible(name));
    if (!domain::HoldsWrites(entry->migration->published)) continue;
    WakeList wake;
    {
      MutexLock lock(&mutex_);
      first.Update(ReleaseOverdue(name, &wake));
    }
    wake.WakeAll();
  }
  first.Update(NoteRemoteEnded());
  return first;
}

}  // namespace lockstep::engine
