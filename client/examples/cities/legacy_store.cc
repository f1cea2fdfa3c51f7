#include "client/examples/cities/legacy_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

// `recent_writes` is keyed by the order of the writes, so that forgetting the oldest is a delete at the front
// of the table.
constexpr SqliteSchema kSchema = {.kind = "legacy city database",
                                  .application_id = 0x4c4b4331,  // "LKC1"
                                  .format = 2,
                                  .ddl = R"sql(
CREATE TABLE cities(
  id      INTEGER PRIMARY KEY,
  name    TEXT NOT NULL,
  lat     TEXT NOT NULL,
  lng     TEXT NOT NULL,
  country TEXT NOT NULL,
  admin1  TEXT NOT NULL,
  admin2  TEXT NOT NULL,
  version INTEGER NOT NULL,
  deleted INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE version_counter(
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  value    INTEGER NOT NULL
);
INSERT INTO version_counter VALUES (1, 0);
CREATE TABLE recent_writes(
  sequence        INTEGER PRIMARY KEY,
  idempotency_key TEXT NOT NULL UNIQUE,
  version INTEGER NOT NULL,
  id      INTEGER NOT NULL,
  name    TEXT NOT NULL,
  lat     TEXT NOT NULL,
  lng     TEXT NOT NULL,
  country TEXT NOT NULL,
  admin1  TEXT NOT NULL,
  admin2  TEXT NOT NULL,
  deleted INTEGER NOT NULL
);
)sql"};

// Columns of a row in the order that ReadRow expects.
#define ROW_COLUMNS "id, version, deleted, name, lat, lng, country, admin1, admin2"

LegacyRow ReadRow(const SqliteQuery& query) {
  LegacyRow row{.id = query.Int64(0), .version = query.Int64(1)};
  if (query.Int64(2) == 0) {
    row.city = City{.id = row.id,
                    .name = query.Text(3),
                    .lat = query.Text(4),
                    .lng = query.Text(5),
                    .country = query.Text(6),
                    .admin1 = query.Text(7),
                    .admin2 = query.Text(8)};
  }
  return row;
}

// Parameters `first` to `first` + 5.
void BindFields(SqliteQuery* query, int first, const City& city) {
  query->Bind(first, city.name).Bind(first + 1, city.lat).Bind(first + 2, city.lng);
  query->Bind(first + 3, city.country).Bind(first + 4, city.admin1).Bind(first + 5, city.admin2);
}

}  // namespace

struct LegacyStore::Writer {
  static absl::StatusOr<std::unique_ptr<Writer>> Open(const std::string& path, const SqliteOptions& options);

  // Within a transaction that the caller holds.
  absl::StatusOr<std::optional<LegacyRow>> Stored(int64_t id);
  absl::StatusOr<std::optional<LegacyRow>> FirstResult(absl::string_view idempotency_key);
  absl::StatusOr<int64_t> NextVersion(int64_t row_version);
  absl::Status Store(const LegacyRow& row);
  absl::Status Remember(const LegacyRow& row, absl::string_view idempotency_key, int64_t window);

  SqliteDb db;
  SqliteStatement find_write;
  SqliteStatement find_row;
  SqliteStatement next_version;
  SqliteStatement put;
  SqliteStatement remember;
  SqliteStatement forget;
};

struct LegacyStore::Reader {
  static absl::StatusOr<std::unique_ptr<Reader>> Open(const std::string& path, const SqliteOptions& options);

  SqliteDb db;
  SqliteStatement by_id;
  SqliteStatement scan;
  SqliteStatement stats;
};

absl::StatusOr<std::unique_ptr<LegacyStore::Writer>> LegacyStore::Writer::Open(const std::string& path,
                                                                               const SqliteOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(SqliteDb db, SqliteDb::Open(path, options, kSchema));
  auto writer = std::make_unique<Writer>(Writer{.db = std::move(db)});
  const auto prepare = [&writer](const char* sql, SqliteStatement* into) -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(*into, SqliteStatement::Prepare(writer->db, sql));
    return absl::OkStatus();
  };
  LOCKSTEP_RETURN_IF_ERROR(
      prepare("SELECT " ROW_COLUMNS " FROM recent_writes WHERE idempotency_key = ?", &writer->find_write));
  LOCKSTEP_RETURN_IF_ERROR(prepare("SELECT " ROW_COLUMNS " FROM cities WHERE id = ?", &writer->find_row));
  LOCKSTEP_RETURN_IF_ERROR(
      prepare("UPDATE version_counter SET value = max(value, ?) + 1 RETURNING value", &writer->next_version));
  LOCKSTEP_RETURN_IF_ERROR(
      prepare("INSERT INTO cities(id, version, name, lat, lng, country, admin1, admin2, deleted) "
              "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
              "ON CONFLICT(id) DO UPDATE SET version = excluded.version, name = excluded.name, "
              "lat = excluded.lat, lng = excluded.lng, country = excluded.country, admin1 = excluded.admin1, "
              "admin2 = excluded.admin2, deleted = excluded.deleted",
              &writer->put));
  LOCKSTEP_RETURN_IF_ERROR(prepare("INSERT INTO recent_writes(idempotency_key, " ROW_COLUMNS
                                   ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                                   &writer->remember));
  LOCKSTEP_RETURN_IF_ERROR(prepare("DELETE FROM recent_writes WHERE sequence <= ?", &writer->forget));
  return writer;
}

absl::StatusOr<std::optional<LegacyRow>> LegacyStore::Writer::Stored(int64_t id) {
  SqliteQuery query(find_row);
  query.Bind(1, id);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
  if (!found) return std::nullopt;
  return ReadRow(query);
}

absl::StatusOr<std::optional<LegacyRow>> LegacyStore::Writer::FirstResult(absl::string_view idempotency_key) {
  SqliteQuery query(find_write);
  query.Bind(1, idempotency_key);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
  if (!found) return std::nullopt;
  return ReadRow(query);
}

absl::StatusOr<int64_t> LegacyStore::Writer::NextVersion(int64_t row_version) {
  SqliteQuery query(next_version);
  query.Bind(1, row_version);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool counted, query.Step());
  if (!counted) return absl::DataLossError(absl::StrCat(db.path(), ": no version counter"));
  const int64_t version = query.Int64(0);
  LOCKSTEP_RETURN_IF_ERROR(query.Run());
  return version;
}

// A tombstone has empty fields.
absl::Status LegacyStore::Writer::Store(const LegacyRow& row) {
  SqliteQuery query(put);
  query.Bind(1, row.id).Bind(2, row.version).Bind(9, int64_t{!row.city.has_value()});
  BindFields(&query, 3, row.city.value_or(City()));
  return query.Run();
}

absl::Status LegacyStore::Writer::Remember(const LegacyRow& row, absl::string_view idempotency_key,
                                           int64_t window) {
  SqliteQuery query(remember);
  query.Bind(1, idempotency_key).Bind(2, row.id).Bind(3, row.version).Bind(4, int64_t{!row.city.has_value()});
  BindFields(&query, 5, row.city.value_or(City()));
  LOCKSTEP_RETURN_IF_ERROR(query.Run());
  const int64_t sequence = sqlite3_last_insert_rowid(db.handle());
  return SqliteQuery(forget).Bind(1, sequence - window).Run();
}

absl::StatusOr<std::unique_ptr<LegacyStore::Reader>> LegacyStore::Reader::Open(const std::string& path,
                                                                               const SqliteOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(SqliteDb db, SqliteDb::Open(path, options, kSchema));
  auto reader = std::make_unique<Reader>(Reader{.db = std::move(db)});
  LOCKSTEP_ASSIGN_OR_RETURN(
      reader->by_id, SqliteStatement::Prepare(reader->db, "SELECT " ROW_COLUMNS " FROM cities WHERE id = ?"));
  LOCKSTEP_ASSIGN_OR_RETURN(
      reader->scan,
      SqliteStatement::Prepare(
          reader->db, "SELECT " ROW_COLUMNS " FROM cities WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"));
  LOCKSTEP_ASSIGN_OR_RETURN(
      reader->stats,
      SqliteStatement::Prepare(
          reader->db, "SELECT count(*), total(deleted), (SELECT value FROM version_counter) FROM cities"));
  return reader;
}

absl::StatusOr<std::unique_ptr<LegacyStore>> LegacyStore::Open(const std::string& path,
                                                               const LegacyOptions& options) {
  LOCKSTEP_CHECK(options.idempotency_window >= 1, "a window of 0 would forget every write at once");
  LOCKSTEP_ASSIGN_OR_RETURN(auto writer, Writer::Open(path, options.sqlite));
  LOCKSTEP_ASSIGN_OR_RETURN(auto reader, Reader::Open(path, options.sqlite));
  return std::unique_ptr<LegacyStore>(
      new LegacyStore(std::move(writer), std::move(reader), options.idempotency_window));
}

LegacyStore::LegacyStore(std::unique_ptr<Writer> writer, std::unique_ptr<Reader> reader,
                         int64_t idempotency_window)
    : idempotency_window_(idempotency_window), writer_(std::move(writer)), reader_(std::move(reader)) {}

LegacyStore::~LegacyStore() = default;

absl::Status LegacyStore::Load(absl::Span<const City> cities) {
  MutexLock lock(&write_mutex_);
  SqliteDb& db = writer_->db;
  LOCKSTEP_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(&db));
  LOCKSTEP_ASSIGN_OR_RETURN(const SqliteStatement any,
                            SqliteStatement::Prepare(db, "SELECT 1 FROM cities LIMIT 1"));
  {
    SqliteQuery query(any);
    LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
    if (found) {
      return absl::FailedPreconditionError(
          absl::StrCat(db.path(), ": has rows already; load into a new file"));
    }
  }
  LOCKSTEP_ASSIGN_OR_RETURN(
      const SqliteStatement insert,
      SqliteStatement::Prepare(db,
                               "INSERT INTO cities(id, version, name, lat, lng, country, admin1, admin2) "
                               "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING"));
  int64_t version = 0;
  for (const City& city : cities) {
    SqliteQuery query(insert);
    query.Bind(1, city.id).Bind(2, ++version);
    BindFields(&query, 3, city);
    LOCKSTEP_RETURN_IF_ERROR(query.Run());
    if (city.id < 1 || db.Changes() == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("city id ", city.id, " is below 1 or given twice; nothing was loaded"));
    }
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const SqliteStatement set_version,
                            SqliteStatement::Prepare(db, "UPDATE version_counter SET value = value + ?"));
  LOCKSTEP_RETURN_IF_ERROR(SqliteQuery(set_version).Bind(1, version).Run());
  return transaction.Commit();
}

absl::StatusOr<LegacyRow> LegacyStore::Put(const City& city, absl::string_view idempotency_key) {
  return Write(city.id, &city, idempotency_key);
}

absl::StatusOr<LegacyRow> LegacyStore::Delete(int64_t id, absl::string_view idempotency_key) {
  return Write(id, nullptr, idempotency_key);
}

absl::StatusOr<LegacyRow> LegacyStore::Write(int64_t id, const City* city,
                                             absl::string_view idempotency_key) {
  if (id < 1) return absl::InvalidArgumentError(absl::StrCat("city id ", id, ": ids start at 1"));
  if (idempotency_key.empty()) return absl::InvalidArgumentError("a write needs an idempotency key");
  LegacyRow result{.id = id};
  if (city != nullptr) result.city = *city;

  MutexLock lock(&write_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(&writer_->db));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<LegacyRow> first, writer_->FirstResult(idempotency_key));
  if (first.has_value()) {
    result.version = first->version;
    if (*first == result) return result;
    return absl::InvalidArgumentError(absl::StrCat("idempotency key ", JsonQuote(idempotency_key),
                                                   " was used for a different write of city ", first->id,
                                                   "; use a new key for a new write"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<LegacyRow> stored, writer_->Stored(id));
  if (city == nullptr && (!stored.has_value() || !stored->city.has_value())) {
    return absl::NotFoundError(absl::StrCat("city ", id, ": no such row to delete"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(result.version, writer_->NextVersion(stored.has_value() ? stored->version : 0));
  LOCKSTEP_RETURN_IF_ERROR(writer_->Remember(result, idempotency_key, idempotency_window_));
  LOCKSTEP_RETURN_IF_ERROR(writer_->Store(result));
  LOCKSTEP_RETURN_IF_ERROR(transaction.Commit());
  return result;
}

absl::StatusOr<ApplyResult> LegacyStore::ApplyIfNewer(int64_t id, const std::optional<City>& city,
                                                      int64_t version) {
  if (id < 1) return absl::InvalidArgumentError(absl::StrCat("city id ", id, ": ids start at 1"));
  if (city.has_value() && city->id != id) {
    return absl::InvalidArgumentError(absl::StrCat("city ", id, ": the record says id ", city->id));
  }
  MutexLock lock(&write_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(&writer_->db));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<LegacyRow> stored, writer_->Stored(id));
  if (stored.has_value() && version <= stored->version) return ApplyResult::kOlderIgnored;
  LOCKSTEP_RETURN_IF_ERROR(writer_->Store({.id = id, .version = version, .city = city}));
  LOCKSTEP_RETURN_IF_ERROR(transaction.Commit());
  return ApplyResult::kApplied;
}

absl::StatusOr<std::optional<LegacyRow>> LegacyStore::Read(int64_t id) {
  MutexLock lock(&read_mutex_);
  SqliteQuery query(reader_->by_id);
  query.Bind(1, id);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
  if (!found) return std::nullopt;
  return ReadRow(query);
}

absl::StatusOr<std::vector<LegacyRow>> LegacyStore::Scan(int64_t after_id, int64_t last_id, int limit) {
  MutexLock lock(&read_mutex_);
  SqliteQuery query(reader_->scan);
  query.Bind(1, after_id).Bind(2, last_id).Bind(3, int64_t{limit});
  std::vector<LegacyRow> rows;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
    if (!found) return rows;
    rows.push_back(ReadRow(query));
  }
}

absl::StatusOr<LegacyStats> LegacyStore::Stats() {
  MutexLock lock(&read_mutex_);
  SqliteQuery query(reader_->stats);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
  LOCKSTEP_CHECK(found, "an aggregate always has a row");
  const int64_t tombstones = query.Int64(1);
  return LegacyStats{
      .rows = query.Int64(0) - tombstones, .tombstones = tombstones, .latest_version = query.Int64(2)};
}

}  // namespace lockstep::examples
