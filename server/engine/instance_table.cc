#include "server/engine/instance_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"

namespace lockstep::engine {
namespace {

absl::Status NotEnrolled(absl::string_view instance_id) {
  return WithErrorInfo(
      absl::NotFoundError(absl::StrCat(
          "instance '", instance_id, "' is not enrolled over this connection: enrol again on a new stream")),
      {.reason = "NOT_ENROLLED",
       .metadata = {{"instance", std::string(instance_id)}},
       .field_violations = {},
       .precondition_violations = {}});
}

// The record of each migration of `request`. What was recorded is what was acknowledged: a claim may only
// lower it.
std::map<std::string, uint64_t> RecordsAtEnrolment(const EnrolRequest& request,
                                                   const std::map<std::string, uint64_t>& recorded,
                                                   const std::map<std::string, EpochsAtEnrolment>& epochs) {
  std::map<std::string, uint64_t> records;
  for (const std::string& migration : request.migrations) {
    const auto now = epochs.find(migration);
    if (now == epochs.end()) continue;
    const auto claimed = request.held.find(migration);
    const auto before = recorded.find(migration);
    uint64_t& record = records[migration];
    if (before != recorded.end()) {
      record = before->second;
      if (claimed != request.held.end()) record = std::min(record, claimed->second);
    } else {
      record = claimed != request.held.end() ? std::min(claimed->second, now->second.claimable)
                                             : now->second.published;
    }
  }
  return records;
}

}  // namespace

InstanceTable::InstanceTable(store::Store* store, const store::RecordCodec* codec, const Clock* clock)
    : store_(store), codec_(codec), clock_(clock) {}

absl::Status InstanceTable::Recover() {
  MutexLock lock(&mutex_);
  absl::Status damage;
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(
      store::Table::kInstances, "", "", store::kNoLimit, [&](absl::string_view, absl::string_view value) {
        mutex_.AssertHeld();
        absl::StatusOr<domain::Enrolment> enrolment = codec_->DecodeEnrolment(value);
        if (!enrolment.ok()) {
          damage = enrolment.status();
          return false;
        }
        Row row;
        row.enrolment = *std::move(enrolment);
        row.written_version = row.version;
        row.last_seen = clock_->Now();
        row.heard_at = clock_->SinceBoot();
        const std::string id = row.enrolment.instance_id;
        AddToIndex(id, row);
        rows_.insert_or_assign(id, std::move(row));
        return true;
      }));
  return damage;
}

ConnectionId InstanceTable::Enrol(const EnrolRequest& request,
                                  const std::map<std::string, EpochsAtEnrolment>& epochs) {
  MutexLock lock(&mutex_);
  Row& row = rows_[request.instance_id];
  RemoveFromIndex(request.instance_id, row);
  domain::Enrolment enrolment;
  enrolment.instance_id = request.instance_id;
  enrolment.service = request.service;
  enrolment.version = request.version;
  enrolment.migrations = request.migrations;
  enrolment.acknowledged_epochs = RecordsAtEnrolment(request, row.enrolment.acknowledged_epochs, epochs);
  enrolment.lease_ttl = request.lease_ttl;
  enrolment.lease_policy = request.lease_policy;
  // Until it says otherwise.
  enrolment.owes_mirrors = row.enrolment.owes_mirrors;
  const absl::Time now = clock_->Now();
  const bool is_new = row.enrolment.instance_id.empty();
  enrolment.enrolled_at = is_new ? now : row.enrolment.enrolled_at;
  const bool same =
      !is_new && enrolment.service == row.enrolment.service && enrolment.version == row.enrolment.version &&
      enrolment.migrations == row.enrolment.migrations && enrolment.lease_ttl == row.enrolment.lease_ttl &&
      enrolment.lease_policy == row.enrolment.lease_policy &&
      enrolment.acknowledged_epochs == row.enrolment.acknowledged_epochs &&
      enrolment.passed_by == row.enrolment.passed_by;
  if (!same) {
    row.enrolment = std::move(enrolment);
    ++row.version;
  }
  row.connected = true;
  row.connection = row.last_connection = next_connection_++;
  row.sent_epochs.clear();
  row.accepted_epochs.clear();
  for (const auto& [migration, at] : epochs) {
    // A fresh start acts on nothing before it is sent something: there is nothing that it could follow
    // slowly.
    const auto claimed = request.held.find(migration);
    uint64_t& followed = row.followed_epochs[migration];
    followed = std::max(followed, claimed == request.held.end() ? at.published : claimed->second);
    if (claimed == request.held.end()) row.accept_delays.erase(migration);
  }
  row.last_seen = now;
  row.heard_at = clock_->SinceBoot();
  row.last_nack.clear();
  AddToIndex(request.instance_id, row);
  return row.connection;
}

absl::Status InstanceTable::CommitEnrolment(const std::string& instance_id) {
  MutexLock write_lock(&write_mutex_);
  store::WriteBatch batch;
  Written written;
  {
    MutexLock lock(&mutex_);
    const auto row = rows_.find(instance_id);
    if (row == rows_.end()) return NotEnrolled(instance_id);
    AppendRow(instance_id, row->second, &batch, &written);
  }
  if (batch.empty()) return absl::OkStatus();  // a reconnect that changed nothing
  return CommitRows(std::move(batch), written).status();
}

absl::Status InstanceTable::CheckConnection(const std::string& instance_id, ConnectionId connection) const {
  MutexLock lock(&mutex_);
  const auto row = rows_.find(instance_id);
  const bool current = row != rows_.end() && row->second.connected && row->second.connection == connection;
  return current ? absl::OkStatus() : NotEnrolled(instance_id);
}

void InstanceTable::NoteSent(const std::string& instance_id, ConnectionId connection,
                             const std::string& migration, uint64_t epoch) {
  MutexLock lock(&mutex_);
  const absl::StatusOr<Row*> row = FindConnected(instance_id, connection);
  if (row.ok()) (*row)->sent_epochs[migration] = epoch;
}

absl::StatusOr<std::vector<std::string>> InstanceTable::Acknowledge(
    const std::string& instance_id, ConnectionId connection, const std::map<std::string, uint64_t>& held) {
  MutexLock lock(&mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Row * row, Hear(instance_id, connection));
  row->last_nack.clear();
  std::vector<std::string> raised;
  for (const auto& [migration, recorded] : row->enrolment.acknowledged_epochs) {
    const auto acknowledged = held.find(migration);
    if (acknowledged != held.end() && acknowledged->second > recorded) raised.push_back(migration);
  }
  if (raised.empty() && !row->enrolment.passed_by) return raised;
  RemoveFromIndex(instance_id, *row);
  row->enrolment.passed_by = false;
  for (const std::string& migration : raised)
    row->enrolment.acknowledged_epochs[migration] = held.at(migration);
  AddToIndex(instance_id, *row);
  ++row->version;
  return raised;
}

absl::Status InstanceTable::Nack(const std::string& instance_id, ConnectionId connection,
                                 std::string reason) {
  MutexLock lock(&mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Row * row, Hear(instance_id, connection));
  row->last_nack = std::move(reason);
  return absl::OkStatus();
}

absl::Status InstanceTable::Heartbeat(const std::string& instance_id, ConnectionId connection,
                                      const domain::InstanceStatus& status) {
  MutexLock lock(&mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Row * row, Hear(instance_id, connection));
  row->status = status;
  const bool owes_mirrors = status.repairs > 0 || status.queued_mirrors > 0;
  if (row->enrolment.owes_mirrors != owes_mirrors) {
    row->enrolment.owes_mirrors = owes_mirrors;
    ++row->version;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> InstanceTable::Accept(
    const std::string& instance_id, ConnectionId connection, const std::map<std::string, uint64_t>& epochs,
    const std::map<std::string, absl::Duration>& delays) {
  MutexLock lock(&mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Row * row, Hear(instance_id, connection));
  row->last_nack.clear();
  std::vector<std::string> fresh;
  for (const auto& [migration, epoch] : epochs) {
    row->accepted_epochs[migration] = epoch;
    uint64_t& followed = row->followed_epochs[migration];
    if (followed >= epoch) continue;  // after a reconnect: it had it already
    followed = epoch;
    fresh.push_back(migration);
    const auto delay = delays.find(migration);
    if (delay == delays.end()) {
      row->accept_delays.erase(migration);
    } else {
      row->accept_delays[migration] = delay->second;
    }
  }
  return fresh;
}

void InstanceTable::Disconnected(const std::string& instance_id, ConnectionId connection) {
  MutexLock lock(&mutex_);
  const absl::StatusOr<Row*> row = FindConnected(instance_id, connection);
  if (!row.ok()) return;
  (*row)->connected = false;
  (*row)->connection = 0;
}

absl::StatusOr<std::vector<std::string>> InstanceTable::Leave(const std::string& instance_id,
                                                              ConnectionId connection) {
  MutexLock write_lock(&write_mutex_);
  std::vector<std::string> migrations;
  {
    MutexLock lock(&mutex_);
    LOCKSTEP_ASSIGN_OR_RETURN(Row * row, FindConnected(instance_id, connection));
    migrations = row->enrolment.migrations;
  }
  store::WriteBatch batch;
  batch.Delete(store::Table::kInstances, store::InstanceKey(instance_id));
  LOCKSTEP_RETURN_IF_ERROR(store_->Commit(std::move(batch), std::nullopt).status());
  MutexLock lock(&mutex_);
  const auto row = rows_.find(instance_id);
  if (row->second.last_connection == connection) {
    RemoveFromIndex(instance_id, row->second);
    rows_.erase(row);
  } else {
    // It has enrolled anew in the meantime: that enrolment has to be written whatever it looks like.
    row->second.written_version = 0;
  }
  return migrations;
}

void InstanceTable::ExpireLeases() {
  MutexLock lock(&mutex_);
  const absl::Duration now = clock_->SinceBoot();
  for (auto& [id, row] : rows_) {
    const bool connected_or_counted = row.connected || !row.enrolment.passed_by;
    if (!connected_or_counted || row.enrolment.lease_policy != domain::LeasePolicy::kFailWrites ||
        !LeaseOver(row, now)) {
      continue;
    }
    // Writes that it acknowledged and that only it can bring to the other side.
    if (row.enrolment.owes_mirrors) continue;
    RemoveFromIndex(id, row);
    row.enrolment.passed_by = true;
    ++row.version;
    row.connected = false;
    row.connection = 0;
    AddToIndex(id, row);
  }
}

absl::Status InstanceTable::ForgetEpochs(store::WriteBatch batch) {
  MutexLock write_lock(&write_mutex_);
  std::vector<std::pair<store::WriteBatch, Written>> commits(1);
  commits[0].first = std::move(batch);
  {
    MutexLock lock(&mutex_);
    for (auto& [id, row] : rows_) {
      RemoveFromIndex(id, row);
      for (auto& [migration, epoch] : row.enrolment.acknowledged_epochs) epoch = 0;
      AddToIndex(id, row);
      ++row.version;
      if (commits.back().first.bytes() > store::kMaxCommitBytes / 2) commits.emplace_back();
      AppendRow(id, row, &commits.back().first, &commits.back().second);
    }
  }
  // `batch` last: a crash before it leaves records that are too low, never too high.
  for (auto commit = commits.rbegin(); commit != commits.rend(); ++commit) {
    LOCKSTEP_RETURN_IF_ERROR(CommitRows(std::move(commit->first), commit->second).status());
  }
  return absl::OkStatus();
}

void InstanceTable::MigrationCreated(const std::string& migration, uint64_t first_epoch) {
  MutexLock lock(&mutex_);
  const auto index = by_migration_.find(migration);
  if (index == by_migration_.end()) return;
  const std::set<std::string> instances = index->second.instances;
  for (const std::string& id : instances) {
    Row& row = rows_.at(id);
    if (row.enrolment.acknowledged_epochs.contains(migration)) continue;
    RemoveFromIndex(id, row);
    row.enrolment.acknowledged_epochs[migration] = first_epoch;
    AddToIndex(id, row);
    ++row.version;
  }
}

void InstanceTable::MigrationDeleted(const std::string& migration) {
  MutexLock lock(&mutex_);
  for (auto& [id, row] : rows_) {
    if (row.enrolment.acknowledged_epochs.contains(migration)) {
      RemoveFromIndex(id, row);
      row.enrolment.acknowledged_epochs.erase(migration);
      AddToIndex(id, row);
      ++row.version;
    }
    row.sent_epochs.erase(migration);
    row.accepted_epochs.erase(migration);
    row.followed_epochs.erase(migration);
    row.accept_delays.erase(migration);
  }
}

absl::StatusOr<uint64_t> InstanceTable::CommitWith(absl::string_view migration, store::WriteBatch batch) {
  MutexLock write_lock(&write_mutex_);
  Written written;
  {
    MutexLock lock(&mutex_);
    const auto index = by_migration_.find(migration);
    if (index != by_migration_.end()) {
      for (const std::string& id : index->second.instances) AppendRow(id, rows_.at(id), &batch, &written);
    }
  }
  return CommitRows(std::move(batch), written);
}

absl::StatusOr<uint64_t> InstanceTable::CommitEviction(absl::string_view migration,
                                                       const std::string& instance_id,
                                                       store::WriteBatch batch) {
  const auto without_migration = [migration](domain::Enrolment enrolment) {
    auto& names = enrolment.migrations;
    names.erase(std::remove(names.begin(), names.end(), migration), names.end());
    enrolment.acknowledged_epochs.erase(std::string(migration));
    return enrolment;
  };
  MutexLock write_lock(&write_mutex_);
  {
    MutexLock lock(&mutex_);
    LOCKSTEP_ASSIGN_OR_RETURN(const Row* const row, FindEnrolled(migration, instance_id));
    const domain::Enrolment rest = without_migration(row->enrolment);
    const std::string key = store::InstanceKey(instance_id);
    if (rest.migrations.empty()) {
      batch.Delete(store::Table::kInstances, key);
    } else {
      batch.Put(store::Table::kInstances, key, codec_->Encode(rest));
    }
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t revision, store_->Commit(std::move(batch), std::nullopt));
  MutexLock lock(&mutex_);
  const auto found = rows_.find(instance_id);
  if (found == rows_.end()) return revision;
  Row& row = found->second;
  RemoveFromIndex(instance_id, row);
  row.enrolment = without_migration(std::move(row.enrolment));
  // It may have changed since it was written; writing it once more is always right.
  ++row.version;
  row.connected = false;
  row.connection = 0;
  if (row.enrolment.migrations.empty()) {
    rows_.erase(found);
  } else {
    AddToIndex(instance_id, row);
  }
  return revision;
}

absl::Status InstanceTable::Flush() {
  MutexLock write_lock(&write_mutex_);
  store::WriteBatch batch;
  Written written;
  {
    MutexLock lock(&mutex_);
    for (const auto& [id, row] : rows_) {
      if (batch.bytes() > store::kMaxCommitBytes / 2) break;  // the rest with the next call
      AppendRow(id, row, &batch, &written);
    }
  }
  if (batch.empty()) return absl::OkStatus();
  return CommitRows(std::move(batch), written).status();
}

absl::StatusOr<InstanceTable::Row*> InstanceTable::FindConnected(const std::string& instance_id,
                                                                 ConnectionId connection) {
  const auto row = rows_.find(instance_id);
  if (row == rows_.end() || !row->second.connected || row->second.connection != connection) {
    return NotEnrolled(instance_id);
  }
  return &row->second;
}

absl::StatusOr<InstanceTable::Row*> InstanceTable::Hear(const std::string& instance_id,
                                                        ConnectionId connection) {
  LOCKSTEP_ASSIGN_OR_RETURN(Row * row, FindConnected(instance_id, connection));
  row->last_seen = clock_->Now();
  row->heard_at = clock_->SinceBoot();
  return row;
}

bool InstanceTable::LeaseOver(const Row& row, absl::Duration now) const {
  return now - row.heard_at > row.enrolment.lease_ttl;
}

void InstanceTable::AddToIndex(const std::string& instance_id, const Row& row) {
  for (const std::string& migration : row.enrolment.migrations) {
    by_migration_[migration].instances.insert(instance_id);
  }
  for (const auto& [migration, epoch] : row.enrolment.acknowledged_epochs) {
    Index& index = by_migration_[migration];
    (row.enrolment.passed_by ? index.passed_by : index.following)[epoch].insert(instance_id);
  }
}

void InstanceTable::RemoveFromIndex(const std::string& instance_id, const Row& row) {
  for (const auto& [migration, epoch] : row.enrolment.acknowledged_epochs) {
    auto& by_epoch =
        row.enrolment.passed_by ? by_migration_[migration].passed_by : by_migration_[migration].following;
    const auto at = by_epoch.find(epoch);
    if (at == by_epoch.end()) continue;
    at->second.erase(instance_id);
    if (at->second.empty()) by_epoch.erase(at);
  }
  for (const std::string& migration : row.enrolment.migrations) {
    const auto index = by_migration_.find(migration);
    if (index == by_migration_.end()) continue;
    index->second.instances.erase(instance_id);
    if (index->second.instances.empty()) by_migration_.erase(index);
  }
}

void InstanceTable::AppendRow(const std::string& instance_id, const Row& row, store::WriteBatch* batch,
                              Written* written) const {
  if (row.version == row.written_version) return;
  batch->Put(store::Table::kInstances, store::InstanceKey(instance_id), codec_->Encode(row.enrolment));
  written->emplace_back(instance_id, row.version);
}

absl::StatusOr<uint64_t> InstanceTable::CommitRows(store::WriteBatch batch, const Written& written) {
  LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t revision, store_->Commit(std::move(batch), std::nullopt));
  MutexLock lock(&mutex_);
  for (const auto& [id, version] : written) {
    if (const auto row = rows_.find(id); row != rows_.end()) row->second.written_version = version;
  }
  return revision;
}

}  // namespace lockstep::engine
