#include "server/store/rocksdb_store.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "server/store/background_sync.h"
#include "server/store/commit_queue.h"
#include "server/store/rocksdb_open.h"
#include "server/store/rocksdb_status.h"

namespace lockstep::store {
namespace {

// Bounds how long the first commit of a group waits for the last.
constexpr size_t kMaxGroupBytes = 4 << 20;

rocksdb::Slice ToSlice(absl::string_view bytes) { return rocksdb::Slice(bytes.data(), bytes.size()); }
absl::string_view ToView(const rocksdb::Slice& slice) {
  return absl::string_view(slice.data(), slice.size());
}

// The open database, which its writer may close and open again while nobody reads. Thread-safe.
class DatabaseSlot {
 public:
  explicit DatabaseSlot(std::unique_ptr<Database> database) : database_(std::move(database)) {}

  // Keeps the database open while it lives.
  class Reader {
   public:
    explicit Reader(const DatabaseSlot* slot) : slot_(slot) {
      MutexLock lock(&slot_->mutex_);
      while (slot_->replacing_) slot_->changed_.Wait(&slot_->mutex_);
      ++slot_->readers_;
    }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader() {
      MutexLock lock(&slot_->mutex_);
      --slot_->readers_;
    }
    // Null when opening it again failed.
    Database* database() const { return slot_->database_.get(); }

   private:
    const DatabaseSlot* const slot_;
  };

  // The writer's own view; null as above.
  Database* database() const { return database_.get(); }

  // The writer's. Closes the database and puts what `open` returns in its place; readers wait meanwhile.
  // False, and nothing happens, while somebody reads: waiting for them could wait for a reader that itself
  // commits.
  template <typename Open>
  bool TryReplace(Open open) {
    {
      MutexLock lock(&mutex_);
      if (readers_ > 0) return false;
      replacing_ = true;
    }
    database_.reset();
    database_ = open();
    MutexLock lock(&mutex_);
    replacing_ = false;
    changed_.SignalAll();
    return true;
  }

 private:
  mutable Mutex mutex_;
  mutable CondVar changed_;
  mutable int readers_ ABSL_GUARDED_BY(mutex_) = 0;
  bool replacing_ ABSL_GUARDED_BY(mutex_) = false;
  // Changes only while replacing_, when there are no readers.
  std::unique_ptr<Database> database_;
};

class RocksDbStore final : public Store {
 public:
  RocksDbStore(OpenedDirectory opened, const RocksDbStoreOptions& options)
      : options_(options),
        directory_(std::move(opened.directory)),
        mark_(std::move(opened.mark)),
        slot_(std::move(opened.database)),
        queue_(opened.revision, kMaxGroupBytes,
               [this](absl::Span<const WriteBatch* const> batches, uint64_t last_revision) {
                 return WriteGroup(batches, last_revision);
               }) {}
  ~RocksDbStore() override {
    // Nothing is lost by it: the commits are durable without their mark.
    if (const absl::Status marked = mark_sync_.Wait(); !marked.ok()) {
      Log(LogLevel::kWarning, "syncing the last mark failed", {{"error", marked.message()}});
    }
  }

  absl::StatusOr<uint64_t> Commit(WriteBatch batch, std::optional<uint64_t> expected_revision) override {
    LOCKSTEP_RETURN_IF_ERROR(ValidateBatch(batch));
    return queue_.Commit(batch, expected_revision);
  }

  absl::StatusOr<std::optional<std::string>> Get(Table table, absl::string_view key) const override {
    const DatabaseSlot::Reader reader(&slot_);
    Database* const database = reader.database();
    if (database == nullptr) return NotOpen();
    std::string value;
    const rocksdb::Status status =
        database->db()->Get(rocksdb::ReadOptions(), database->family(table), ToSlice(key), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    if (!status.ok())
      return FromRocksDb(status, absl::StrCat("read table ", TableName(table), " of"), path());
    return std::optional<std::string>(std::move(value));
  }

  absl::Status Scan(Table table, absl::string_view start_key, absl::string_view end_key, size_t limit,
                    Visitor visit) const override {
    const DatabaseSlot::Reader reader(&slot_);
    Database* const database = reader.database();
    if (database == nullptr) return NotOpen();
    rocksdb::ReadOptions options;
    // The store never deletes ranges. Looking for them makes RocksDB 7.8 skip the rest of a level, with an OK
    // status, when a block of it is damaged (tests/store/rocksdb_damage_test.cc).
    options.ignore_range_deletions = true;
    const rocksdb::Slice end = ToSlice(end_key);
    if (!end_key.empty()) options.iterate_upper_bound = &end;
    const std::unique_ptr<rocksdb::Iterator> iterator(
        database->db()->NewIterator(options, database->family(table)));
    size_t visited = 0;
    for (iterator->Seek(ToSlice(start_key)); visited < limit && iterator->Valid();
         iterator->Next(), ++visited) {
      if (!visit(ToView(iterator->key()), ToView(iterator->value()))) return absl::OkStatus();
    }
    return FromRocksDb(iterator->status(), absl::StrCat("scan table ", TableName(table), " of"), path());
  }

  uint64_t revision() const override { return queue_.revision(); }

 private:
  const std::string& path() const { return directory_.path(); }

  absl::Status NotOpen() const {
    return absl::UnavailableError(absl::StrCat("the database in ", path(),
                                               " could not be opened again after the ",
                                               "disk was full; free space there, or see the log"));
  }

  // Called by the queue, one thread at a time.
  absl::Status WriteGroup(absl::Span<const WriteBatch* const> batches, uint64_t last_revision) {
    if (!stopped_.ok()) return stopped_;
    // Nothing is written while the mark of what is there can still be lost: a torn end of this group would
    // hide the loss of the one before.
    if (const absl::Status marked = mark_sync_.Wait(); !marked.ok()) return StopWithoutMark(marked);
    if (full_) LOCKSTEP_RETURN_IF_ERROR(ResumeAfterFullDisk());
    rocksdb::WriteBatch group;
    LOCKSTEP_RETURN_IF_ERROR(FlushIfNeeded(Fill(batches, last_revision, &group)));

    rocksdb::WriteOptions synced;
    synced.sync = true;
    const rocksdb::Status written = slot_.database()->db()->Write(synced, &group);
    if (written.IsNoSpace()) return DiskFull(written.ToString());
    if (!written.ok()) return StopWithUnknownOutcome(FromRocksDb(written, "commit to", path()));
    if (absl::Status marked = mark_.Write(last_revision); !marked.ok()) return StopWithUnknownOutcome(marked);
    mark_sync_.Start();
    return absl::OkStatus();
  }

  // Returns what the group costs in memory.
  size_t Fill(absl::Span<const WriteBatch* const> batches, uint64_t last_revision,
              rocksdb::WriteBatch* group) {
    size_t bytes = kOperationOverheadBytes;  // the revision
    for (const WriteBatch* batch : batches) {
      for (const WriteBatch::Operation& operation : batch->operations()) {
        rocksdb::ColumnFamilyHandle* const family = slot_.database()->family(operation.table);
        if (operation.value) {
          group->Put(family, operation.key, *operation.value);
        } else {
          group->Delete(family, operation.key);
        }
      }
      bytes += batch->bytes();
    }
    PutRevision(group, last_revision);
    return bytes;
  }

  // Keeps the promise of rocksdb_store.h that at most one log holds unflushed records: the switch to a new
  // log happens here only, and nothing is written to it before everything older is in table files.
  absl::Status FlushIfNeeded(size_t next_bytes) {
    if (unflushed_bytes_ + next_bytes > options_.flush_bytes) {
      rocksdb::FlushOptions options;
      options.allow_write_stall = true;
      Database* const database = slot_.database();
      const rocksdb::Status flushed = database->db()->Flush(options, database->families());
      if (flushed.IsNoSpace()) return DiskFull(flushed.ToString());
      if (!flushed.ok()) return Stop(FromRocksDb(flushed, "flush", path()));
      unflushed_bytes_ = 0;
    }
    unflushed_bytes_ += next_bytes;
    return absl::OkStatus();
  }

  // RocksDB 7.8 resumes by itself after some full disks, but never after one that failed an append to its
  // log: the log refuses further writes and cannot be switched. Opening it again works after all of them,
  // leaves nothing of the failed group behind, and checks the database against the mark once more.
  absl::Status ResumeAfterFullDisk() {
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(path(), error);
    if (error) {
      return absl::UnavailableError(absl::StrCat("look for free space in ", path(), ": ", error.message()));
    }
    // Reads go on while the database is open, so it isn't closed before it can be expected to open again.
    if (space.available < MemtableBytes(options_.flush_bytes)) {
      return DiskFull(absl::StrCat(space.available >> 20, " MiB free"));
    }
    absl::Status opened;
    uint64_t revision = 0;
    const bool replaced = slot_.TryReplace([&]() -> std::unique_ptr<Database> {
      absl::StatusOr<std::unique_ptr<Database>> database =
          ReopenDatabase(options_, directory_, mark_, &revision);
      opened = database.status();
      return database.ok() ? *std::move(database) : nullptr;
    });
    if (!replaced) return DiskFull("there is space again, commits resume when running reads have ended");
    if (absl::IsResourceExhausted(opened)) return DiskFull(opened.message());
    if (!opened.ok()) return Stop(opened);
    if (revision != queue_.revision()) {
      return Stop(absl::UnknownError(
          absl::StrCat("a commit that failed for lack of space is there after all: ", "revision ", revision,
                       " instead of ", queue_.revision())));
    }
    Log(LogLevel::kInfo, "the disk has space again, commits resume", {{"path", path()}});
    full_ = false;
    unflushed_bytes_ = 0;
    return absl::OkStatus();
  }

  absl::Status DiskFull(absl::string_view detail) {
    full_ = true;
    return absl::ResourceExhaustedError(absl::StrCat("the disk of data directory ", path(), " is full (",
                                                     detail, "); the commit was not made; free at least ",
                                                     MemtableBytes(options_.flush_bytes) >> 20,
                                                     " MiB there, and commits work again without a restart"));
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

  // The commits up to the mark were acknowledged and are durable, but the mark may not be: what is written
  // from now on could be lost without anybody noticing. UNKNOWN, though this commit was not written, because
  // that is what makes the server restart.
  absl::Status StopWithoutMark(const absl::Status& cause) {
    Stop(absl::UnavailableError(
             absl::StrCat("the commits up to revision ", mark_.revision(),
                          " were made, but their mark could not be synced: ", cause.message())))
        .IgnoreError();
    return absl::UnknownError(stopped_.message());
  }

  // `cause` left it open whether the group is durable.
  absl::Status StopWithUnknownOutcome(const absl::Status& cause) {
    Stop(cause).IgnoreError();
    return absl::UnknownError(absl::StrCat(
        "outcome unknown, the commit may or may not be there after a restart: ", stopped_.message()));
  }

  const RocksDbStoreOptions options_;
  const DataDirectory directory_;  // before the database, so that its lock goes last

  // The writing thread's, of which the queue lets in one at a time; the mark is the syncing thread's from
  // Start until Wait.
  MarkFile mark_;
  BackgroundSync mark_sync_{[this] { return mark_.Sync(); }};
  size_t unflushed_bytes_ = 0;
  bool full_ = false;     // a write failed for lack of space; nothing is written before ResumeAfterFullDisk
  absl::Status stopped_;  // not OK: the answer to every further commit

  DatabaseSlot slot_;
  CommitQueue queue_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenRocksDbStore(const RocksDbStoreOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(OpenedDirectory opened, OpenDirectory(options));
  return std::make_unique<RocksDbStore>(std::move(opened), options);
}

}  // namespace lockstep::store
