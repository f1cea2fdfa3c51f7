// The mirrors that are open, on disk: a record's key is noted before its authoritative write and struck when
// the mirror has it (or the write was refused). What is open after a restart is repaired then.
//
// One append-only file for each migration, of records with a length and a checksum (XXH3-64). What can't be
// read is skipped: the end of the file may be torn by a crash, and nothing was written by a note that was
// torn; damage in the middle costs the records it hits, and is logged. A strike that is lost costs a repair
// that changes nothing. When most of the file is struck, it is replaced by what is open. The journal holds
// keys, never records.
//
// A note has reached the file when it returns, or the disk if that was asked for; several at once are
// appended (and synced) together. Strikes wait for the next note, for kStrikesAtOnce of them, or until
// nothing is open any more.
//
// Thread-safe. A lock is held over calls of StateStorage.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "core/domain/routing_state.h"
#include "lockstep/internal/repair_queue.h"
#include "lockstep/state_storage.h"

namespace lockstep::internal {

// A mirror that is open. The fields are those of the write's route.
struct JournalEntry {
  uint64_t id = 0;  // within the file
  uint64_t generation = 0;
  uint64_t epoch = 0;
  uint64_t contract_revision = 0;
  uint64_t store_epoch = 0;
  domain::Side authoritative = domain::Side::kOld;
  bool counted = false;  // TelemetryRecorder::RecordRepairQueued has been called for it
  std::string kind;      // MigratorOptions::journal_kind
  std::string routing_key;
  std::string key;  // as KeyCodec has it
  std::string idempotency_key;
  bool operator==(const JournalEntry&) const = default;
};

// What a file says.
struct JournalContents {
  std::string migration;                  // empty: the header can't be read
  uint32_t format = 0;                    // likewise 0
  std::map<uint64_t, JournalEntry> open;  // by id
  uint64_t last_id = 0;
  size_t torn_bytes = 0;     // at the end
  size_t damaged_bytes = 0;  // before something that could be read
};

// Total: any bytes have a meaning.
JournalContents ReadJournal(absl::string_view bytes);

class MirrorJournal {
 public:
  static constexpr uint32_t kFormat = 1;
  static constexpr size_t kStrikesAtOnce = 64;
  static constexpr size_t kMaxEntryBytes = 60000;
  // A shorter file is not worth replacing.
  static constexpr size_t kCompactBytes = 1 << 20;

  static std::string FileName(absl::string_view migration);

  // FAILED_PRECONDITION: the file is of another migration or a newer version of the SDK. Errors of the disk
  // as they are.
  static absl::StatusOr<std::unique_ptr<MirrorJournal>> Open(std::shared_ptr<StateStorage> storage,
                                                             absl::string_view migration, bool sync);
  // Writes what has not been written yet.
  ~MirrorJournal();

  // What earlier processes left open, all kinds. It stays open until it is struck.
  const std::vector<JournalEntry>& recovered() const { return recovered_; }
  // The same of one kind, as far as nobody works on them yet.
  std::vector<JournalEntry> Unclaimed(absl::string_view kind) const;
  // Whoever is the first to claim a recovered entry works on it; false for the others.
  bool Claim(uint64_t id);

  // Returns the entry's id (the one in `entry` means nothing) when it is in the file; with `sync`, or if the
  // journal syncs every note, when it is on the disk. An error of the disk:
  // it doesn't count, though it may be found after a restart. INVALID_ARGUMENT: its strings have more than
  // kMaxEntryBytes.
  absl::StatusOr<uint64_t> Note(JournalEntry entry, bool sync = false);
  void MarkCounted(uint64_t id);
  void Strike(uint64_t id);
  size_t open() const;

 private:
  struct OpenEntry {
    JournalEntry entry;
    size_t bytes = 0;  // in the file
    absl::Status written;
  };

  MirrorJournal(std::shared_ptr<StateStorage> storage, std::string file, bool sync, std::string migration)
      : storage_(std::move(storage)), file_(std::move(file)), sync_(sync), migration_(std::move(migration)) {}

  // Returns when everything up to record number `number` has been tried.
  void Flush(uint64_t number);
  void AppendPending() ABSL_EXCLUSIVE_LOCKS_REQUIRED(io_mutex_);
  void CompactIfWorthIt() ABSL_EXCLUSIVE_LOCKS_REQUIRED(io_mutex_);
  absl::Status Compact() ABSL_EXCLUSIVE_LOCKS_REQUIRED(io_mutex_);
  void AddPendingLocked(absl::string_view record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<StateStorage> storage_;
  const std::string file_;
  const bool sync_;
  const std::string migration_;
  std::vector<JournalEntry> recovered_;  // as found; constant after Open

  // Lock order: io_mutex_ before mutex_.
  Mutex io_mutex_;
  size_t file_bytes_ ABSL_GUARDED_BY(io_mutex_) = 0;
  size_t compact_above_ ABSL_GUARDED_BY(io_mutex_) = kCompactBytes;
  mutable Mutex mutex_;
  std::map<uint64_t, OpenEntry> open_ ABSL_GUARDED_BY(mutex_);
  size_t open_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<JournalEntry> unclaimed_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::string pending_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> pending_notes_ ABSL_GUARDED_BY(mutex_);  // their ids
  bool pending_sync_ ABSL_GUARDED_BY(mutex_) = false;            // one of them is to be synced
  size_t pending_strikes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t added_ ABSL_GUARDED_BY(mutex_) = 0;  // records added to pending_ so far
  uint64_t tried_ ABSL_GUARDED_BY(mutex_) = 0;  // of these, appended or failed
};

// The journals of a client, by migration index.
class MirrorJournals {
 public:
  // Reads them all and holds the epochs of what is open in `queue`, so that nothing is acknowledged before a
  // Migrator has taken the entries over. `migrations`: full names. Errors as of MirrorJournal::Open.
  static absl::StatusOr<std::unique_ptr<MirrorJournals>> Open(const std::shared_ptr<StateStorage>& storage,
                                                              const std::vector<std::string>& migrations,
                                                              bool sync, RepairQueue* queue);
  const std::shared_ptr<MirrorJournal>& of(uint32_t migration_index) const {
    return journals_[migration_index];
  }

 private:
  MirrorJournals() = default;

  std::vector<std::shared_ptr<MirrorJournal>> journals_;
};

// What the entry's counts belong to.
inline Attribution AttributionOf(const JournalEntry& entry, uint32_t migration_index) {
  return {migration_index, entry.generation, entry.epoch, entry.contract_revision};
}

}  // namespace lockstep::internal
