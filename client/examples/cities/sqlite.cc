#include "client/examples/cities/sqlite.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

absl::Status SqliteError(sqlite3* db, int result, absl::string_view doing) {
  const char* const file = db != nullptr ? sqlite3_db_filename(db, "main") : nullptr;
  const std::string message =
      absl::StrCat(file != nullptr ? file : "sqlite", ": ", doing, ": ",
                   db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(result), " (SQLite code ",
                   db != nullptr ? sqlite3_extended_errcode(db) : result, ")");
  switch (result & 0xff) {  // the low byte is the primary code
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(absl::StrCat(message, "; another process is writing, try again"));
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; free disk space and try again"));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(message);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::PermissionDeniedError(message);
    case SQLITE_CANTOPEN:
      return absl::NotFoundError(message);
    case SQLITE_CONSTRAINT:
    case SQLITE_SCHEMA:
      return absl::FailedPreconditionError(message);
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
      return absl::InvalidArgumentError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace

absl::StatusOr<SqliteDb> SqliteDb::Open(const std::string& path, const SqliteOptions& options,
                                        const SqliteSchema& schema) {
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
  if (options.create_if_missing) flags |= SQLITE_OPEN_CREATE;
  sqlite3* handle = nullptr;
  const int result = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  SqliteDb db(path, handle);  // even a failed open may return a handle to close
  if (result != SQLITE_OK) {
    absl::Status status = SqliteError(handle, result, absl::StrCat("opening ", path));
    if (options.create_if_missing || !absl::IsNotFound(status)) return status;
    return absl::NotFoundError(absl::StrCat(path, ": no such ", schema.kind));
  }
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, static_cast<int>(absl::ToInt64Milliseconds(options.busy_timeout)));
  LOCKSTEP_RETURN_IF_ERROR(db.EnterWalMode(options.busy_timeout));
  LOCKSTEP_RETURN_IF_ERROR(db.Exec("PRAGMA foreign_keys = ON"));
  LOCKSTEP_RETURN_IF_ERROR(db.Exec(options.durability == Durability::kPowerFailure
                                       ? "PRAGMA synchronous = FULL"
                                       : "PRAGMA synchronous = NORMAL"));
  LOCKSTEP_RETURN_IF_ERROR(db.EnsureSchema(schema));
  return db;
}

absl::Status SqliteDb::EnterWalMode(absl::Duration timeout) {
  // The switch itself does not wait for locks as other statements do, and several services start at once.
  const absl::Time give_up = absl::Now() + timeout;
  while (true) {
    absl::Status status = Exec("PRAGMA journal_mode = WAL");
    if (!absl::IsUnavailable(status) || absl::Now() >= give_up) return status;
    absl::SleepFor(absl::Milliseconds(10));
  }
}

absl::StatusOr<int64_t> SqliteDb::QueryInt64(const char* sql) {
  LOCKSTEP_ASSIGN_OR_RETURN(const SqliteStatement statement, SqliteStatement::Prepare(*this, sql));
  SqliteQuery query(statement);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
  return found ? query.Int64(0) : 0;
}

absl::Status SqliteDb::EnsureSchema(const SqliteSchema& schema) {
  LOCKSTEP_ASSIGN_OR_RETURN(int64_t application_id, QueryInt64("PRAGMA application_id"));
  if (application_id == 0) {
    LOCKSTEP_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(this));
    // Read again under the lock: another process may have been first.
    LOCKSTEP_ASSIGN_OR_RETURN(application_id, QueryInt64("PRAGMA application_id"));
    LOCKSTEP_ASSIGN_OR_RETURN(const int64_t objects, QueryInt64("SELECT count(*) FROM sqlite_schema"));
    if (application_id == 0 && objects == 0) {
      LOCKSTEP_RETURN_IF_ERROR(Exec(schema.ddl));
      LOCKSTEP_RETURN_IF_ERROR(Exec(absl::StrCat("PRAGMA application_id = ", schema.application_id,
                                                 "; PRAGMA user_version = ", schema.format)
                                        .c_str()));
      return transaction.Commit();
    }
  }
  if (application_id != schema.application_id) {
    return absl::FailedPreconditionError(absl::StrCat(path_, ": not a ", schema.kind, " (application id ",
                                                      application_id, ", want ", schema.application_id,
                                                      "); name another file"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const int64_t format, QueryInt64("PRAGMA user_version"));
  if (format != schema.format) {
    return absl::FailedPreconditionError(absl::StrCat(path_, ": ", schema.kind, " of format ", format,
                                                      ", this program reads format ", schema.format));
  }
  return absl::OkStatus();
}

absl::Status SqliteDb::Exec(const char* sql) {
  const int result = sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr);
  if (result != SQLITE_OK) return SqliteError(db_.get(), result, sql);
  return absl::OkStatus();
}

absl::StatusOr<SqliteStatement> SqliteStatement::Prepare(const SqliteDb& db, absl::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int result = sqlite3_prepare_v3(db.handle(), sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  if (result != SQLITE_OK) return SqliteError(db.handle(), result, sql);
  SqliteStatement statement;
  statement.statement_.reset(raw);
  return statement;
}

SqliteQuery::~SqliteQuery() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

SqliteQuery& SqliteQuery::Bind(int index, int64_t value) {
  const int result = sqlite3_bind_int64(statement_, index, value);
  if (result != SQLITE_OK) bind_result_ = result;
  return *this;
}

SqliteQuery& SqliteQuery::Bind(int index, double value) {
  const int result = sqlite3_bind_double(statement_, index, value);
  if (result != SQLITE_OK) bind_result_ = result;
  return *this;
}

SqliteQuery& SqliteQuery::Bind(int index, absl::string_view value) {
  // A null pointer would bind NULL rather than the empty text.
  const int result = sqlite3_bind_text64(statement_, index, value.empty() ? "" : value.data(), value.size(),
                                         SQLITE_TRANSIENT, SQLITE_UTF8);
  if (result != SQLITE_OK) bind_result_ = result;
  return *this;
}

SqliteQuery& SqliteQuery::BindNull(int index) {
  const int result = sqlite3_bind_null(statement_, index);
  if (result != SQLITE_OK) bind_result_ = result;
  return *this;
}

absl::StatusOr<bool> SqliteQuery::Step() {
  sqlite3* const db = sqlite3_db_handle(statement_);
  if (bind_result_ != SQLITE_OK) {
    return SqliteError(db, bind_result_, absl::StrCat("binding ", sqlite3_sql(statement_)));
  }
  const int result = sqlite3_step(statement_);
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  return SqliteError(db, result, sqlite3_sql(statement_));
}

absl::Status SqliteQuery::Run() {
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool row, Step());
    if (!row) return absl::OkStatus();
  }
}

std::string SqliteQuery::Text(int column) const {
  // The order matters: the text call may convert, and the length is that of its result.
  const unsigned char* const text = sqlite3_column_text(statement_, column);
  const int length = sqlite3_column_bytes(statement_, column);
  if (text == nullptr) return "";
  return std::string(reinterpret_cast<const char*>(text), static_cast<size_t>(length));
}

absl::StatusOr<SqliteTransaction> SqliteTransaction::Begin(SqliteDb* db) {
  LOCKSTEP_RETURN_IF_ERROR(db->Exec("BEGIN IMMEDIATE"));
  return SqliteTransaction(db);
}

SqliteTransaction::~SqliteTransaction() {
  if (db_ == nullptr) return;
  // Fails only when SQLite has rolled back by itself, as it does when the disk is full.
  db_->Exec("ROLLBACK").IgnoreError();
}

absl::Status SqliteTransaction::Commit() {
  LOCKSTEP_RETURN_IF_ERROR(db_->Exec("COMMIT"));
  db_ = nullptr;
  return absl::OkStatus();
}

}  // namespace lockstep::examples
