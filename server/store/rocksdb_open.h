// Opening a data directory: checks first, without changing a file, then opens for writing. Internal to the
// RocksDB store; rocksdb_store.h says what is checked and why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "rocksdb/db.h"
#include "rocksdb/write_batch.h"
#include "server/store/data_directory.h"
#include "server/store/mark_file.h"
#include "server/store/rocksdb_store.h"
#include "server/store/tables.h"

namespace lockstep::store {

// Version of everything in the data directory. A change that an older server would misread raises it; a new
// table does not, since an older server refuses a table it doesn't know.
inline constexpr uint64_t kFormatVersion = 1;

// An open RocksDB with its column families.
class Database {
 public:
  // `families` are the default one, then the tables in the order of kTables.
  Database(std::unique_ptr<rocksdb::DB> db, std::vector<rocksdb::ColumnFamilyHandle*> families)
      : db_(std::move(db)), families_(std::move(families)) {}
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  rocksdb::DB* db() const { return db_.get(); }
  rocksdb::ColumnFamilyHandle* family(Table table) const { return families_[1 + static_cast<size_t>(table)]; }
  const std::vector<rocksdb::ColumnFamilyHandle*>& families() const { return families_; }

 private:
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
};

// Everything that stays open while a store runs. `directory` comes first, so that its lock goes last.
struct OpenedDirectory {
  DataDirectory directory;
  MarkFile mark;
  std::unique_ptr<Database> database;
  uint64_t revision = 0;
};

// RocksDB's limit for the unflushed data of one table, at which it would flush by itself. All unflushed data
// together stays below half of it, so a disk with this much free space has room to open the database.
size_t MemtableBytes(size_t flush_bytes);

// Errors as OpenRocksDbStore.
absl::StatusOr<OpenedDirectory> OpenDirectory(const RocksDbStoreOptions& options);

// Opens the database again after it was closed, with the same checks; sets `*revision` to what it holds.
absl::StatusOr<std::unique_ptr<Database>> ReopenDatabase(const RocksDbStoreOptions& options,
                                                         const DataDirectory& directory, const MarkFile& mark,
                                                         uint64_t* revision);

// The store's own record, in the default column family: adds its revision to `batch`.
void PutRevision(rocksdb::WriteBatch* batch, uint64_t revision);

}  // namespace lockstep::store
