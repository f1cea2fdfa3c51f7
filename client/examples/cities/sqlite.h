// A small RAII layer over SQLite's C API: connection, prepared statement, one use of a statement,
// transaction.
//
// Nothing here is thread-safe: a connection and everything made from it belong to one thread at a time.
// Several connections, in several processes, may share a database file (WAL: readers never wait for a writer,
// writers queue for up to `busy_timeout`).
//
// Errors: UNAVAILABLE when the database stayed locked (retry), RESOURCE_EXHAUSTED when the disk is full,
// DATA_LOSS when the file is damaged or no database, PERMISSION_DENIED when it may not be written, NOT_FOUND
// when it can't be opened, FAILED_PRECONDITION when a constraint refused the change, INTERNAL for the rest.
// Each names the file.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace lockstep::examples {

// What a committed transaction survives.
enum class Durability {
  kProcessCrash,  // synchronous=NORMAL: the process may die at any point; a power failure may undo the last
                  // commits
  kPowerFailure,  // synchronous=FULL: one fsync a commit
};

struct SqliteOptions {
  bool create_if_missing = true;
  absl::Duration busy_timeout = absl::Seconds(5);
  Durability durability = Durability::kPowerFailure;
};

// What makes a file this kind of database. Both numbers are stored in its header, so that the wrong file or a
// newer format is refused when it is opened.
struct SqliteSchema {
  const char* kind;  // for messages: "legacy city database"
  int32_t application_id;
  int32_t format;
  const char* ddl;
};

// A connection. Statements and transactions made from it must be gone before it is.
class SqliteDb {
 public:
  // Opens in WAL mode with foreign keys enforced and creates the schema in an empty file. FAILED_PRECONDITION
  // when the file is of another kind or format.
  static absl::StatusOr<SqliteDb> Open(const std::string& path, const SqliteOptions& options,
                                       const SqliteSchema& schema);

  // Runs statements that return no rows.
  absl::Status Exec(const char* sql);
  // Rows changed by the latest INSERT, UPDATE or DELETE.
  int Changes() const { return sqlite3_changes(db_.get()); }
  const std::string& path() const { return path_; }
  sqlite3* handle() const { return db_.get(); }

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };

  SqliteDb(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  absl::Status EnterWalMode(absl::Duration timeout);
  absl::Status EnsureSchema(const SqliteSchema& schema);
  absl::StatusOr<int64_t> QueryInt64(const char* sql);

  std::string path_;
  std::unique_ptr<sqlite3, Close> db_;
};

// A prepared statement, to be used many times through SqliteQuery.
class SqliteStatement {
 public:
  static absl::StatusOr<SqliteStatement> Prepare(const SqliteDb& db, absl::string_view sql);

 private:
  friend class SqliteQuery;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

// One use of a statement: binds, steps, reads columns, and resets the statement when it goes out of scope.
//
//   SqliteQuery query(select_by_id_);
//   query.Bind(1, id);
//   LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
//   if (found) name = query.Text(0);
class SqliteQuery {
 public:
  explicit SqliteQuery(const SqliteStatement& statement) : statement_(statement.statement_.get()) {}
  ~SqliteQuery();
  SqliteQuery(const SqliteQuery&) = delete;
  SqliteQuery& operator=(const SqliteQuery&) = delete;

  // Parameters count from 1. Text is copied. A failed bind is reported by the next Step.
  SqliteQuery& Bind(int index, int64_t value);
  SqliteQuery& Bind(int index, double value);
  SqliteQuery& Bind(int index, absl::string_view value);
  SqliteQuery& BindNull(int index);

  // True when there is a row to read, false at the end.
  absl::StatusOr<bool> Step();
  // For statements of which no row is wanted: steps to the end.
  absl::Status Run();

  // Columns count from 0 and are valid until the next Step.
  int64_t Int64(int column) const { return sqlite3_column_int64(statement_, column); }
  double Double(int column) const { return sqlite3_column_double(statement_, column); }
  std::string Text(int column) const;

 private:
  sqlite3_stmt* const statement_;
  int bind_result_ = SQLITE_OK;
};

// A write transaction: takes the write lock at once (so that it can't fail half way for want of it) and rolls
// back unless Commit returned OK. The connection must outlive it.
class SqliteTransaction {
 public:
  static absl::StatusOr<SqliteTransaction> Begin(SqliteDb* db);
  ~SqliteTransaction();
  SqliteTransaction(SqliteTransaction&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
  SqliteTransaction& operator=(SqliteTransaction&&) = delete;

  absl::Status Commit();

 private:
  explicit SqliteTransaction(SqliteDb* db) : db_(db) {}
  SqliteDb* db_;  // null once committed or moved from
};

}  // namespace lockstep::examples
