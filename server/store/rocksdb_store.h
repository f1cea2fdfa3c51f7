// The embedded default store: one RocksDB database per server, one column family per table, every commit
// group synced, and damage refused instead of opened.
//
// WHAT AN ACKNOWLEDGED COMMIT MEANS. For each group of commits, in this order:
//
//   1. one RocksDB write holds all changes of the group and its last revision; the write-ahead log is synced
//   2. the mark file gets that revision
//   3. the commits return OK
//   4. the mark file is synced, behind the answer, and only then the next group is written
//
// So at every moment  acknowledged <= mark <= durable revision. At open, `revision < mark` means that commits
// somebody was told of are gone, and the store refuses to open (DATA_LOSS); `revision > mark` is the tail of
// a group that a crash kept from being acknowledged or from getting its mark, and is kept.
//
// What 4 after 3 gives up: when the machine, not just the process, stops between the two (the time of one
// sync, and until a thread gets its turn), and the disk in addition loses the end of a log that it had
// synced, the loss of that one group goes unnoticed. An earlier group's does not, since its mark is durable
// before a byte of the next is written; for the same reason a torn end of the next group cannot hide it.
//
// Why the mark is needed: no recovery mode of RocksDB notices a write-ahead log that is cut off or missing,
// and the one that survives a kill (kTolerateCorruptedTailRecords) also takes some damage for a torn tail.
// And why it is enough: whatever log is lost is always the end of the history, because
//   - at most one log file holds records that are not yet in table files. RocksDB is never left to switch
//   logs by
//     itself; the store flushes all column families between two groups when `flush_bytes` have gathered, and
//     the new log stays empty until that is done;
//   - column families are flushed together (atomic_flush), so table files never hold revision n of one table
//     without revision n of the others.
// What is checked at open is read without changing the files, so a refused database stays as it was found.
//
// A full disk needs no restart: once there is space again, the next commit closes the database and opens it
// with all its checks, so that nothing of the failed group is left, and goes on. Reads work throughout. Any
// other failed write stops the store (see Store::Commit, UNKNOWN).
//
// See docs/adr/0003-rocksdb-and-the-mark-file.md for what was rejected.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/store/store.h"

namespace lockstep::store {

struct RocksDbStoreOptions {
  // The data directory (data_directory.h); created when missing.
  std::string path;
  // Commits are moved from the write-ahead log to table files each time about this many bytes have gathered.
  // Bounds the memory for unflushed data and the time to open; commits wait while it happens.
  size_t flush_bytes = 32 << 20;
};

// Errors, each naming the directory and what to do:
//   FAILED_PRECONDITION  in use by another process, or written in a format that this version can't read
//   DATA_LOSS            acknowledged commits are missing, or the database or the mark is damaged
//   RESOURCE_EXHAUSTED, UNAVAILABLE   the disk is full, or the system refuses access
absl::StatusOr<std::unique_ptr<Store>> OpenRocksDbStore(const RocksDbStoreOptions& options);

}  // namespace lockstep::store
