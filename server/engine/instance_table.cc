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

bool EnrolledFor(const domain::Enrolment& enrolment, absl::string_view migration) {
  return std::find(enrolment.migrations.begin(), enrolment.migrations.end(), migration) !=
         enrolment.migrations.end();
}

// The record of each migration of `request`: what is claimed, else what was recorded, else (new) what is
// published.
std::map<std::string, uint64_t> RecordsAtEnrolment(const EnrolRequest& request,
                                                   const std::map<std::string, uint64_t>& recorded,
                                                   const std::map<std::string, uint64_t>& published) {
  std::map<std::string, uint64_t> records;
  for (const std::string& migration : request.migrations) {
    const auto now = published.find(migration);
    if (now == published.end()) continue;
    const auto claimed = request.held.find(migration);
    const auto before = recorded.find(migration);
    if (claimed != request.held.end()) {
      records[migration] = claimed->second;
    } else {
      records[migration] = before != recorded.end() ? before->second : now->second;
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
        std::string id = row.enrolment.instance_id;
        rows_.insert_or_assign(std::move(id), std::move(row));
        return true;
      }));
  return damage;
}

ConnectionId InstanceTable::Enrol(const EnrolRequest& request,
                                  const std::map<std::string, uint64_t>& published) {
  MutexLock lock(&mutex_);
  Row& row = rows_[request.instance_id];
  domain::Enrolment enrolment;
  enrolment.instance_id = request.instance_id;
  enrolment.service = request.service;
  enrolment.version = request.version;
  enrolment.migrations = request.migrations;
  enrolment.acknowledged_epochs = RecordsAtEnrolment(request, row.enrolment.acknowledged_epochs, published);
  const absl::Time now = clock_->Now();
  const bool is_new = row.enrolment.instance_id.empty();
  enrolment.enrolled_at = is_new ? now : row.enrolment.enrolled_at;
  const bool same = !is_new && enrolment.service == row.enrolment.service &&
                    enrolment.version == row.enrolment.version &&
                    enrolment.migrations == row.enrolment.migrations &&
                    enrolment.acknowledged_epochs == row.enrolment.acknowledged_epochs;
  if (!same) {
    row.enrolment = std::move(enrolment);
    ++row.version;
  }
  row.connected = true;
  row.connection = next_connection_++;
  row.sent_epochs.clear();
  row.last_seen = now;
  row.last_nack.clear();
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

void InstanceTable::NoteSent(const std::string& instance_id, ConnectionId connection,
                             const std::string& migration, uint64_t epoch) {
  MutexLock lock(&mutex_);
  const absl::StatusOr<Row*> row = FindConnected(instance_id, connection);
  if (row.ok()) (*row)->sent_epochs[migration] = epoch;
}

absl::StatusOr<std::vector<std::string>> InstanceTable::Acknowledge(
    const std::string& instance_id, ConnectionId connection, const std::map<std::string, uint64_t>& held) {
  MutexLock lock(&mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Row * row, FindConnected(instance_id, connection));
  row->last_seen = clock_->Now();
  row->last_nack.clear();
  std::vector<std::string> raised;
  for (auto& [migration, recorded] : row->enrolment.acknowledged_epochs) {
    const auto acknowledged = held.find(migration);
    if (acknowledged == held.end() || acknowledged->second <= recorded) continue;
    recorded = acknowledged->second;
    raised.push_back(migration);
  }
  if (!raised.empty()) ++row->version;
  return raised;
}

absl::Status InstanceTable::Nack(const std::string& instance_id, ConnectionId connection,
                                 std::string reason) {
  MutexLock lock(&mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Row * row, FindConnected(instance_id, connection));
  row->last_seen = clock_->Now();
  row->last_nack = std::move(reason);
  return absl::OkStatus();
}

absl::Status InstanceTable::Heartbeat(const std::string& instance_id, ConnectionId connection) {
  MutexLock lock(&mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Row * row, FindConnected(instance_id, connection));
  row->last_seen = clock_->Now();
  return absl::OkStatus();
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
  if (row->second.connection == connection) {
    rows_.erase(row);
  } else {
    // It has enrolled anew in the meantime: that enrolment has to be written whatever it looks like.
    row->second.written_version = 0;
  }
  return migrations;
}

std::vector<InstanceView> InstanceTable::List(absl::string_view migration) const {
  std::vector<InstanceView> views;
  MutexLock lock(&mutex_);
  for (const auto& [id, row] : rows_) {
    if (!EnrolledFor(row.enrolment, migration)) continue;
    InstanceView view;
    view.instance_id = id;
    view.service = row.enrolment.service;
    view.version = row.enrolment.version;
    view.connected = row.connected;
    const auto sent = row.sent_epochs.find(migration);
    view.sent_epoch = sent == row.sent_epochs.end() ? 0 : sent->second;
    const auto acknowledged = row.enrolment.acknowledged_epochs.find(std::string(migration));
    view.acknowledged_epoch =
        acknowledged == row.enrolment.acknowledged_epochs.end() ? 0 : acknowledged->second;
    view.enrolled_at = row.enrolment.enrolled_at;
    view.last_seen = row.last_seen;
    view.last_nack = row.last_nack;
    views.push_back(std::move(view));
  }
  return views;
}

std::optional<uint64_t> InstanceTable::OldestLiveEpoch(absl::string_view migration) const {
  std::optional<uint64_t> oldest;
  for (const InstanceView& instance : List(migration)) {
    oldest = std::min(oldest.value_or(instance.acknowledged_epoch), instance.acknowledged_epoch);
  }
  return oldest;
}

InstanceCounts InstanceTable::Counts() const {
  InstanceCounts counts;
  MutexLock lock(&mutex_);
  for (const auto& [id, row] : rows_) ++(row.connected ? counts.connected : counts.disconnected);
  return counts;
}

void InstanceTable::MigrationCreated(const std::string& migration, uint64_t first_epoch) {
  MutexLock lock(&mutex_);
  for (auto& [id, row] : rows_) {
    if (!EnrolledFor(row.enrolment, migration)) continue;
    if (row.enrolment.acknowledged_epochs.emplace(migration, first_epoch).second) ++row.version;
  }
}

void InstanceTable::MigrationDeleted(const std::string& migration) {
  MutexLock lock(&mutex_);
  for (auto& [id, row] : rows_) {
    if (row.enrolment.acknowledged_epochs.erase(migration) > 0) ++row.version;
    row.sent_epochs.erase(migration);
  }
}

absl::StatusOr<uint64_t> InstanceTable::CommitWith(absl::string_view migration, store::WriteBatch batch) {
  MutexLock write_lock(&write_mutex_);
  Written written;
  {
    MutexLock lock(&mutex_);
    for (const auto& [id, row] : rows_) {
      if (EnrolledFor(row.enrolment, migration)) AppendRow(id, row, &batch, &written);
    }
  }
  return CommitRows(std::move(batch), written);
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
