#include "server/store/rocksdb_open.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "core/base/status_macros.h"
#include "server/store/big_endian.h"
#include "server/store/rocksdb_log.h"
#include "server/store/rocksdb_status.h"

namespace lockstep::store {
namespace {

namespace fs = std::filesystem;

constexpr char kFormatKey[] = "format";  // decimal text
constexpr char kStoreIdKey[] = "store_id";
constexpr char kRevisionKey[] = "revision";  // big-endian

constexpr absl::string_view kRestore =
    "restore the whole data directory from a backup, or, if what is missing may be given up, move it away "
    "and "
    "start with an empty one";

// What the default column family says about the database.
struct Header {
  uint64_t format = 0;
  std::string store_id;
  uint64_t revision = 0;
};

rocksdb::Options BaseOptions(const RocksDbStoreOptions& options) {
  rocksdb::Options result;
  // Damage in a log is refused instead of taken for its end; only a torn tail, as a kill leaves it, is
  // accepted.
  result.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  result.paranoid_checks = true;
  result.atomic_flush = true;
  result.create_missing_column_families = true;  // tables added since the database was made

  // The store decides when to flush (rocksdb_store.h), so RocksDB's own limits are set out of reach.
  result.write_buffer_size = MemtableBytes(options.flush_bytes);
  result.max_total_wal_size = std::numeric_limits<uint64_t>::max();
  // Else each log would take its write_buffer_size on disk at once.
  result.allow_fallocate = false;

  result.compression = rocksdb::kNoCompression;  // small values; readable whatever the library was built with
  result.info_log = NewRocksDbLog();
  return result;
}

std::vector<rocksdb::ColumnFamilyDescriptor> Families(const rocksdb::Options& options) {
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  families.emplace_back(rocksdb::kDefaultColumnFamilyName, options);
  for (const TableInfo& info : kTables) families.emplace_back(std::string(info.name), options);
  return families;
}

absl::StatusOr<std::optional<std::string>> GetDefault(rocksdb::DB* db, const char* key,
                                                      const std::string& path) {
  std::string value;
  const rocksdb::Status status = db->Get(rocksdb::ReadOptions(), key, &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok()) return FromRocksDb(status, "read", path);
  return std::optional<std::string>(std::move(value));
}

// nullopt: nothing was ever written, as after a crash during the very first start.
absl::StatusOr<std::optional<Header>> ReadHeader(rocksdb::DB* db, const std::string& path) {
  if (db->GetLatestSequenceNumber() == 0) return std::optional<Header>();
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> format, GetDefault(db, kFormatKey, path));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> store_id, GetDefault(db, kStoreIdKey, path));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> revision, GetDefault(db, kRevisionKey, path));
  Header header;
  if (!format || !absl::SimpleAtoi(*format, &header.format)) {
    return absl::DataLossError(absl::StrCat(
        "database ", path, " does not say its format: it is damaged or not ", "Lockstep's; ", kRestore));
  }
  if (header.format != kFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat("database ", path, " has format ", header.format,
                                                      ", and this version reads format ", kFormatVersion,
                                                      " only; run the version that wrote it, or newer"));
  }
  if (!store_id || store_id->size() != kStoreIdBytes || !revision || revision->size() != kBigEndian64Bytes) {
    return absl::DataLossError(absl::StrCat("the header of database ", path, " is damaged; ", kRestore));
  }
  header.store_id = *store_id;
  header.revision = ReadBigEndian64(*revision);
  return std::optional<Header>(std::move(header));
}

absl::Status CheckTables(const rocksdb::Options& options, const std::string& path) {
  std::vector<std::string> names;
  const rocksdb::Status status = rocksdb::DB::ListColumnFamilies(options, path, &names);
  if (!status.ok()) return FromRocksDb(status, "list the tables of", path);
  for (const std::string& name : names) {
    bool known = name == rocksdb::kDefaultColumnFamilyName;
    for (const TableInfo& info : kTables) known = known || info.name == name;
    if (!known) {
      return absl::FailedPreconditionError(
          absl::StrCat("database ", path, " has a table \"", name,
                       "\" that this version does not know; run the version that wrote it, or newer"));
    }
  }
  return absl::OkStatus();
}

// The header as a real open would find it, log included, without changing the database.
absl::StatusOr<std::optional<Header>> Inspect(const rocksdb::Options& options, const std::string& path) {
  rocksdb::DB* raw = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(
      options, path, {{rocksdb::kDefaultColumnFamilyName, options}}, &families, &raw);
  if (!status.ok()) return FromRocksDb(status, "open", path);
  const Database database(std::unique_ptr<rocksdb::DB>(raw), std::move(families));
  // The format first: an unknown table is then one that was added without a new format.
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<Header> header, ReadHeader(database.db(), path));
  LOCKSTEP_RETURN_IF_ERROR(CheckTables(options, path));
  return header;
}

absl::Status CheckAgainstMark(const std::optional<Header>& header, const MarkFile* mark,
                              const DataDirectory& directory) {
  const uint64_t revision = header ? header->revision : 0;
  if (!mark) {
    // Commits are acknowledged only after a mark exists, so a start that died before making one lost nothing.
    if (revision == 0) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(
        "data directory ", directory.path(), " holds revision ", revision, " but its mark file ",
        directory.mark_path(), " is missing, so nobody can tell whether commits were lost; ", kRestore));
  }
  if (header && header->store_id != mark->store_id()) {
    return absl::DataLossError(absl::StrCat("mark file ", directory.mark_path(),
                                            " belongs to another database than ", directory.database_path(),
                                            "; ", kRestore));
  }
  if (!header || revision < mark->revision()) {
    return absl::DataLossError(absl::StrCat(
        "data directory ", directory.path(), " lost acknowledged commits: the database is at revision ",
        revision, ", but commits up to revision ", mark->revision(), " were acknowledged; ", kRestore));
  }
  return absl::OkStatus();
}

// The mark, nullopt when there is none.
absl::StatusOr<std::optional<MarkFile>> OpenMark(const DataDirectory& directory) {
  absl::StatusOr<MarkFile> mark = MarkFile::Open(directory.mark_path());
  if (mark.ok()) return std::optional<MarkFile>(*std::move(mark));
  if (absl::IsNotFound(mark.status())) return std::optional<MarkFile>();
  if (!absl::IsDataLoss(mark.status())) return mark.status();
  return absl::DataLossError(absl::StrCat("the mark file of data directory ", directory.path(),
                                          " is damaged: ", mark.status().message(), "; ", kRestore));
}

// RocksDB would make a new database where CURRENT is missing, and delete what it no longer refers to.
absl::Status CheckNothingToLose(const DataDirectory& directory, bool has_mark) {
  bool leftovers = has_mark;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory.database_path(), error)) {
    const fs::path extension = entry.path().extension();
    leftovers = leftovers || extension == ".sst" || extension == ".log";
  }
  if (!leftovers) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("data directory ", directory.path(), " was in use before, but ",
                                          directory.database_path(), "/CURRENT is missing; ", kRestore));
}

absl::StatusOr<std::unique_ptr<Database>> OpenForWriting(rocksdb::Options options, bool create,
                                                         const std::string& path) {
  options.create_if_missing = create;
  rocksdb::DB* raw = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  const rocksdb::Status status = rocksdb::DB::Open(options, path, Families(options), &families, &raw);
  if (!status.ok()) return FromRocksDb(status, "open", path);
  return std::make_unique<Database>(std::unique_ptr<rocksdb::DB>(raw), std::move(families));
}

absl::StatusOr<Header> WriteHeader(rocksdb::DB* db, const std::string& path) {
  Prng random(SystemSeed());
  Header header{.format = kFormatVersion};
  AppendBigEndian64(&header.store_id, random.Next());
  AppendBigEndian64(&header.store_id, random.Next());
  rocksdb::WriteBatch batch;
  batch.Put(kFormatKey, std::to_string(header.format));
  batch.Put(kStoreIdKey, header.store_id);
  PutRevision(&batch, header.revision);
  rocksdb::WriteOptions synced;
  synced.sync = true;
  const rocksdb::Status status = db->Write(synced, &batch);
  if (!status.ok()) return FromRocksDb(status, "write the header of", path);
  return header;
}

struct CheckedDatabase {
  std::unique_ptr<Database> database;
  Header header;
};

// Checks without changing a file, then opens for writing. `mark` is null when there is none.
absl::StatusOr<CheckedDatabase> CheckAndOpen(const RocksDbStoreOptions& options,
                                             const DataDirectory& directory, const MarkFile* mark) {
  const std::string path = directory.database_path();
  const rocksdb::Options base = BaseOptions(options);
  std::error_code error;
  const bool exists = fs::exists(path + "/CURRENT", error);
  if (error) return ErrnoStatus(error.value(), "look into", path);
  if (exists) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<Header> header, Inspect(base, path));
    LOCKSTEP_RETURN_IF_ERROR(CheckAgainstMark(header, mark, directory));
  } else {
    LOCKSTEP_RETURN_IF_ERROR(CheckNothingToLose(directory, mark != nullptr));
    fs::create_directory(path, error);
    if (error) return ErrnoStatus(error.value(), "create directory", path);
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Database> database, OpenForWriting(base, !exists, path));
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<Header> header, ReadHeader(database->db(), path));
  if (!header) {
    LOCKSTEP_ASSIGN_OR_RETURN(header, WriteHeader(database->db(), path));
  }
  return CheckedDatabase{std::move(database), *std::move(header)};
}

}  // namespace

size_t MemtableBytes(size_t flush_bytes) { return 2 * std::max(flush_bytes, kMaxCommitBytes); }

Database::~Database() {
  for (rocksdb::ColumnFamilyHandle* family : families_) db_->DestroyColumnFamilyHandle(family);
  const rocksdb::Status status = db_->Close();
  // Nothing is lost by it: every acknowledged commit is synced already.
  if (!status.ok()) Log(LogLevel::kWarning, "closing the database failed", {{"error", status.ToString()}});
}

void PutRevision(rocksdb::WriteBatch* batch, uint64_t revision) {
  std::string value;
  AppendBigEndian64(&value, revision);
  batch->Put(kRevisionKey, value);
}

absl::StatusOr<OpenedDirectory> OpenDirectory(const RocksDbStoreOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(DataDirectory directory, DataDirectory::Acquire(options.path));
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<MarkFile> mark, OpenMark(directory));
  LOCKSTEP_ASSIGN_OR_RETURN(CheckedDatabase checked,
                            CheckAndOpen(options, directory, mark ? &*mark : nullptr));
  const uint64_t revision = checked.header.revision;
  // Opening made all of this durable in table files, and readers will see it: the mark has to follow.
  if (mark) {
    LOCKSTEP_RETURN_IF_ERROR(mark->Write(revision));
    LOCKSTEP_RETURN_IF_ERROR(mark->Sync());
  } else {
    LOCKSTEP_ASSIGN_OR_RETURN(mark,
                              MarkFile::Create(directory.mark_path(), checked.header.store_id, revision));
  }
  return OpenedDirectory{std::move(directory), *std::move(mark), std::move(checked.database), revision};
}

absl::StatusOr<std::unique_ptr<Database>> ReopenDatabase(const RocksDbStoreOptions& options,
                                                         const DataDirectory& directory, const MarkFile& mark,
                                                         uint64_t* revision) {
  LOCKSTEP_ASSIGN_OR_RETURN(CheckedDatabase checked, CheckAndOpen(options, directory, &mark));
  *revision = checked.header.revision;
  return std::move(checked.database);
}

}  // namespace lockstep::store
