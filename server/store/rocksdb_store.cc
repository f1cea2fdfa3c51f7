#include "server/store/rocksdb_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "server/store/commit_queue.h"
#include "server/store/rocksdb_open.h"
#include "server/store/rocksdb_status.h"

namespace lockstep::store {
namespace {

// Bounds how long the first commit of a group waits for the last.
constexpr size_t kMaxGroupBytes = 4 << 20;
// What an entry costs in memory and in the log beside its key and value; rounded up.
constexpr size_t kEntryOverheadBytes = 128;

rocksdb::Slice ToSlice(absl::string_view bytes) { return rocksdb::Slice(bytes.data(), bytes.size()); }
absl::string_view ToView(const rocksdb::Slice& slice) {
  return absl::string_view(slice.data(), slice.size());
}

class RocksDbStore final : public Store {
 public:
  explicit RocksDbStore(OpenedDirectory opened, size_t flush_bytes)
      : opened_(std::move(opened)),
        flush_bytes_(flush_bytes),
        queue_(opened_.revision, kMaxGroupBytes,
               [this](absl::Span<const WriteBatch* const> batches, uint64_t last_revision) {
                 return WriteGroup(batches, last_revision);
               }) {}

  absl::StatusOr<uint64_t> Commit(WriteBatch batch, std::optional<uint64_t> expected_revision) override {
    LOCKSTEP_RETURN_IF_ERROR(ValidateBatch(batch));
    return queue_.Commit(batch, expected_revision);
  }

  absl::StatusOr<std::optional<std::string>> Get(Table table, absl::string_view key) const override {
    std::string value;
    const rocksdb::Status status =
        db()->Get(rocksdb::ReadOptions(), opened_.database->family(table), ToSlice(key), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    if (!status.ok())
      return FromRocksDb(status, absl::StrCat("read table ", TableName(table), " of"), path());
    return std::optional<std::string>(std::move(value));
  }

  absl::Status Scan(Table table, absl::string_view start_key, absl::string_view end_key, size_t limit,
                    Visitor visit) const override {
    rocksdb::ReadOptions options;
    // The store never deletes ranges. Looking for them makes RocksDB 7.8 skip the rest of a level, with an OK
    // status, when a block of it is damaged (tests/store/rocksdb_damage_test.cc).
    options.ignore_range_deletions = true;
    const rocksdb::Slice end = ToSlice(end_key);
    if (!end_key.empty()) options.iterate_upper_bound = &end;
    const std::unique_ptr<rocksdb::Iterator> iterator(
        db()->NewIterator(options, opened_.database->family(table)));
    size_t visited = 0;
    for (iterator->Seek(ToSlice(start_key)); visited < limit && iterator->Valid();
         iterator->Next(), ++visited) {
      if (!visit(ToView(iterator->key()), ToView(iterator->value()))) return absl::OkStatus();
    }
    return FromRocksDb(iterator->status(), absl::StrCat("scan table ", TableName(table), " of"), path());
  }

  uint64_t revision() const override { return queue_.revision(); }

 private:
  rocksdb::DB* db() const { return opened_.database->db(); }
  const std::string& path() const { return opened_.directory.path(); }

  // Called by the queue, one thread at a time.
  absl::Status WriteGroup(absl::Span<const WriteBatch* const> batches, uint64_t last_revision) {
    if (!stopped_.ok()) return stopped_;
    rocksdb::WriteBatch group;
    const size_t bytes = Fill(batches, last_revision, &group);
    LOCKSTEP_RETURN_IF_ERROR(FlushIfNeeded(bytes));

    rocksdb::WriteOptions synced;
    synced.sync = true;
    const rocksdb::Status written = db()->Write(synced, &group);
    if (written.IsNoSpace()) {
      heal_ = true;
      return DiskFull(written);
    }
    if (!written.ok()) return StopWithUnknownOutcome(FromRocksDb(written, "commit to", path()));
    if (absl::Status marked = opened_.mark.Write(last_revision); !marked.ok())
      return StopWithUnknownOutcome(marked);
    return absl::OkStatus();
  }

  // Returns what the group costs in memory.
  size_t Fill(absl::Span<const WriteBatch* const> batches, uint64_t last_revision,
              rocksdb::WriteBatch* group) {
    size_t bytes = kEntryOverheadBytes;
    for (const WriteBatch* batch : batches) {
      for (const WriteBatch::Operation& operation : batch->operations()) {
        rocksdb::ColumnFamilyHandle* const family = opened_.database->family(operation.table);
        if (operation.value) {
          group->Put(family, operation.key, *operation.value);
        } else {
          group->Delete(family, operation.key);
        }
      }
      bytes += batch->bytes() + batch->operations().size() * kEntryOverheadBytes;
    }
    PutRevision(group, last_revision);
    return bytes;
  }

  // Keeps the promise of rocksdb_store.h that at most one log holds unflushed records: the switch to a new
  // log happens here only, and nothing is written to it before everything older is in table files.
  absl::Status FlushIfNeeded(size_t next_bytes) {
    if (!heal_ && unflushed_bytes_ + next_bytes <= flush_bytes_) {
      unflushed_bytes_ += next_bytes;
      return absl::OkStatus();
    }
    if (heal_) {
      // Fails while RocksDB waits for space. Else it gives the flush something to flush, and so makes RocksDB
      // leave the log in which a write failed, whatever the tables hold.
      rocksdb::WriteOptions unlogged;
      unlogged.disableWAL = true;
      rocksdb::WriteBatch same_revision;
      PutRevision(&same_revision, queue_.revision());
      const rocksdb::Status probe = db()->Write(unlogged, &same_revision);
      if (!probe.ok())
        return probe.IsNoSpace() ? DiskFull(probe) : Stop(FromRocksDb(probe, "resume", path()));
    }
    rocksdb::FlushOptions options;
    options.allow_write_stall = true;
    const rocksdb::Status flushed = db()->Flush(options, opened_.database->families());
    if (!flushed.ok()) {
      heal_ = true;
      return flushed.IsNoSpace() ? DiskFull(flushed) : Stop(FromRocksDb(flushed, "flush", path()));
    }
    if (heal_) Log(LogLevel::kInfo, "the disk has space again, commits resume", {{"path", path()}});
    heal_ = false;
    unflushed_bytes_ = next_bytes;
    return absl::OkStatus();
  }

  absl::Status DiskFull(const rocksdb::Status& cause) const {
    return absl::ResourceExhaustedError(absl::StrCat("the disk of data directory ", path(), " is full (",
                                                     cause.ToString(),
                                                     "); the commit was not made; free space there, and "
                                                     "commits work again within seconds, without a restart"));
  }

  // Refuses this and every further commit; nothing of this one was written.
  absl::Status Stop(const absl::Status& cause) {
    Log(LogLevel::kError, "the store stopped accepting commits",
        {{"path", path()}, {"error", cause.message()}});
    stopped_ =
        absl::UnavailableError(absl::StrCat("the store in ", path(), " stopped accepting commits after \"",
                                            cause.message(), "\"; check the disk, then restart the server"));
    return stopped_;
  }

  // `cause` left it open whether the group is durable.
  absl::Status StopWithUnknownOutcome(const absl::Status& cause) {
    Stop(cause).IgnoreError();
    return absl::UnknownError(absl::StrCat(
        "outcome unknown, the commit may or may not be there after a restart: ", stopped_.message()));
  }

  OpenedDirectory opened_;
  const size_t flush_bytes_;

  // The writing thread's, of which the queue lets in one at a time.
  size_t unflushed_bytes_ = 0;
  bool heal_ = false;     // a write failed for lack of space: flush before the next one
  absl::Status stopped_;  // not OK: the answer to every further commit

  CommitQueue queue_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenRocksDbStore(const RocksDbStoreOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(OpenedDirectory opened, OpenDirectory(options));
  return std::make_unique<RocksDbStore>(std::move(opened), options.flush_bytes);
}

}  // namespace lockstep::store
