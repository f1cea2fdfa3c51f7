// What the instance table tells of its instances. See instance_table.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"
#include "server/engine/instance_table.h"

namespace lockstep::engine {
namespace {

absl::Status InstanceNotFound(absl::string_view migration, absl::string_view instance_id) {
  return WithErrorInfo(
      absl::NotFoundError(absl::StrCat("no instance '", instance_id, "' is enrolled for ", migration,
                                       "; `lockstep instance list` shows those that are")),
      {.reason = "INSTANCE_NOT_FOUND",
       .metadata = {{"migration", std::string(migration)}, {"instance", std::string(instance_id)}},
       .field_violations = {},
       .precondition_violations = {}});
}

bool EnrolledFor(const domain::Enrolment& enrolment, absl::string_view migration) {
  return std::find(enrolment.migrations.begin(), enrolment.migrations.end(), migration) !=
         enrolment.migrations.end();
}

uint64_t RecordedEpoch(const domain::Enrolment& enrolment, absl::string_view migration) {
  const auto recorded = enrolment.acknowledged_epochs.find(std::string(migration));
  return recorded == enrolment.acknowledged_epochs.end() ? 0 : recorded->second;
}

template <typename Map>
uint64_t EpochIn(const Map& epochs, absl::string_view migration) {
  const auto found = epochs.find(migration);
  return found == epochs.end() ? 0 : found->second;
}

}  // namespace

InstanceView InstanceTable::ViewOf(absl::string_view migration, const std::string& instance_id,
                                   const Row& row) const {
  InstanceView view;
  view.instance_id = instance_id;
  view.service = row.enrolment.service;
  view.version = row.enrolment.version;
  view.connected = row.connected;
  view.sent_epoch = EpochIn(row.sent_epochs, migration);
  view.acknowledged_epoch = RecordedEpoch(row.enrolment, migration);
  view.enrolled_at = row.enrolment.enrolled_at;
  view.last_seen = row.last_seen;
  view.last_nack = row.last_nack;
  const bool over = LeaseOver(row, clock_->SinceBoot());
  view.lease = over ? LeaseState::kExpired : row.connected ? LeaseState::kLive : LeaseState::kDisconnected;
  view.lease_policy = row.enrolment.lease_policy;
  view.lease_expires_at = row.last_seen + row.enrolment.lease_ttl;
  view.passed_by = row.enrolment.passed_by;
  view.owes_mirrors = row.enrolment.owes_mirrors;
  view.status = row.status;
  view.accepted_epoch = EpochIn(row.accepted_epochs, migration);
  if (const auto delay = row.accept_delays.find(migration); delay != row.accept_delays.end()) {
    view.accept_delay = delay->second;
  }
  return view;
}

std::vector<InstanceView> InstanceTable::List(absl::string_view migration, const std::string& after,
                                              size_t limit) const {
  std::vector<InstanceView> views;
  MutexLock lock(&mutex_);
  const auto index = by_migration_.find(migration);
  if (index == by_migration_.end()) return views;
  const std::set<std::string>& ids = index->second.instances;
  for (auto id = ids.upper_bound(after); id != ids.end() && views.size() < limit; ++id) {
    views.push_back(ViewOf(migration, *id, rows_.at(*id)));
  }
  return views;
}

size_t InstanceTable::CountEnrolled(absl::string_view migration) const {
  MutexLock lock(&mutex_);
  const auto index = by_migration_.find(migration);
  return index == by_migration_.end() ? 0 : index->second.instances.size();
}

absl::StatusOr<const InstanceTable::Row*> InstanceTable::FindEnrolled(absl::string_view migration,
                                                                      absl::string_view instance_id) const {
  const auto row = rows_.find(std::string(instance_id));
  if (row == rows_.end() || !EnrolledFor(row->second.enrolment, migration)) {
    return InstanceNotFound(migration, instance_id);
  }
  return &row->second;
}

absl::StatusOr<InstanceView> InstanceTable::Find(absl::string_view migration,
                                                 absl::string_view instance_id) const {
  MutexLock lock(&mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(const Row* const row, FindEnrolled(migration, instance_id));
  return ViewOf(migration, std::string(instance_id), *row);
}

std::vector<InstanceView> InstanceTable::ListBelow(absl::string_view migration, uint64_t epoch,
                                                   Counted counted) const {
  std::vector<InstanceView> views;
  MutexLock lock(&mutex_);
  const auto index = by_migration_.find(migration);
  if (index == by_migration_.end()) return views;
  const auto add = [&](const std::map<uint64_t, std::set<std::string>>& by_epoch) {
    mutex_.AssertHeld();
    for (auto at = by_epoch.begin(); at != by_epoch.end() && at->first < epoch; ++at) {
      for (const std::string& id : at->second) views.push_back(ViewOf(migration, id, rows_.at(id)));
    }
  };
  if (counted != Counted::kPassedBy) add(index->second.following);
  if (counted != Counted::kFollowing) add(index->second.passed_by);
  return views;
}

std::vector<InstanceView> InstanceTable::ListNotFollowing(absl::string_view migration, uint64_t epoch,
                                                          size_t limit) const {
  std::vector<InstanceView> views;
  MutexLock lock(&mutex_);
  const auto index = by_migration_.find(migration);
  if (index == by_migration_.end()) return views;
  const absl::Duration now = clock_->SinceBoot();
  for (const std::string& id : index->second.instances) {
    if (views.size() == limit) break;
    const Row& row = rows_.at(id);
    const bool live = row.connected && !LeaseOver(row, now);
    const bool follows =
        row.enrolment.passed_by || (live && RecordedEpoch(row.enrolment, migration) >= epoch);
    if (!follows) views.push_back(ViewOf(migration, id, row));
  }
  return views;
}

std::optional<uint64_t> LiveEpochs::oldest() const {
  if (!following || !passed_by) return following ? following : passed_by;
  return std::min(*following, *passed_by);
}

LiveEpochs InstanceTable::OldestLiveEpochs(absl::string_view migration) const {
  LiveEpochs epochs;
  MutexLock lock(&mutex_);
  const auto index = by_migration_.find(migration);
  if (index == by_migration_.end()) return epochs;
  const auto oldest = [](const std::map<uint64_t, std::set<std::string>>& by_epoch) {
    return by_epoch.empty() ? std::nullopt : std::optional<uint64_t>(by_epoch.begin()->first);
  };
  epochs.following = oldest(index->second.following);
  epochs.passed_by = oldest(index->second.passed_by);
  return epochs;
}

std::optional<uint64_t> InstanceTable::OldestLiveEpoch(absl::string_view migration) const {
  return OldestLiveEpochs(migration).oldest();
}

InstanceCounts InstanceTable::Counts() const {
  InstanceCounts counts;
  MutexLock lock(&mutex_);
  const absl::Duration now = clock_->SinceBoot();
  for (const auto& [id, row] : rows_) {
    const bool over = LeaseOver(row, now);
    ++(over ? counts.expired : row.connected ? counts.connected : counts.disconnected);
  }
  return counts;
}

}  // namespace lockstep::engine
