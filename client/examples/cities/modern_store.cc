#include "client/examples/cities/modern_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

constexpr SqliteSchema kSchema = {.kind = "modern city database",
                                  .application_id = 0x4c4b4d31,  // "LKM1"
                                  .format = 2,
                                  .ddl = R"sql(
CREATE TABLE countries(
  code TEXT PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE admin_regions(
  id          INTEGER PRIMARY KEY,
  country     TEXT NOT NULL REFERENCES countries(code),
  admin1_code TEXT NOT NULL,
  admin2_code TEXT NOT NULL,
  UNIQUE (country, admin1_code, admin2_code)
);
CREATE TABLE cities(
  id        INTEGER PRIMARY KEY,
  name      TEXT,
  lat       REAL,
  lng       REAL,
  region_id INTEGER REFERENCES admin_regions(id),
  version   INTEGER NOT NULL,
  mapper    INTEGER NOT NULL,
  deleted   INTEGER NOT NULL DEFAULT 0,
  CHECK (deleted = 1 OR (name IS NOT NULL AND lat IS NOT NULL AND lng IS NOT NULL AND region_id IS NOT NULL))
);
CREATE TABLE version_counter(
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  value    INTEGER NOT NULL
);
INSERT INTO version_counter VALUES (1, 0);
CREATE TABLE recent_writes(
  sequence        INTEGER PRIMARY KEY,
  idempotency_key TEXT NOT NULL UNIQUE,
  id          INTEGER NOT NULL,
  version     INTEGER NOT NULL,
  mapper      INTEGER NOT NULL,
  deleted     INTEGER NOT NULL,
  name        TEXT NOT NULL,
  lat         REAL NOT NULL,
  lng         REAL NOT NULL,
  country     TEXT NOT NULL,
  admin1_code TEXT NOT NULL,
  admin2_code TEXT NOT NULL
);
)sql"};

#define SELECT_ROWS                                                                \
  "SELECT c.id, c.version, c.mapper, c.deleted, c.name, c.lat, c.lng, r.country, " \
  "r.admin1_code, r.admin2_code FROM cities AS c LEFT JOIN admin_regions AS r ON r.id = c.region_id "
// In the same order.
#define WRITE_COLUMNS "id, version, mapper, deleted, name, lat, lng, country, admin1_code, admin2_code"

absl::StatusOr<MapperVersion> MapperFromColumn(int64_t stored, int64_t id) {
  for (const MapperVersion mapper : {MapperVersion::kLosesLeadingZeros, MapperVersion::kCorrect}) {
    if (stored == static_cast<int64_t>(mapper)) return mapper;
  }
  return absl::FailedPreconditionError(absl::StrCat("city ", id, " was written by mapper release ", stored,
                                                    ", which this program does not know"));
}

absl::StatusOr<ModernRow> ReadRow(const SqliteQuery& query) {
  ModernRow row{.id = query.Int64(0)};
  row.stamp.version = query.Int64(1);
  LOCKSTEP_ASSIGN_OR_RETURN(row.stamp.mapper, MapperFromColumn(query.Int64(2), row.id));
  if (query.Int64(3) == 0) {
    row.city = CanonicalCity{.id = row.id,
                             .name = query.Text(4),
                             .lat = query.Double(5),
                             .lng = query.Double(6),
                             .country = query.Text(7),
                             .admin1 = query.Text(8),
                             .admin2 = query.Text(9)};
  }
  return row;
}

// What the schema can't check for itself.
absl::Status Validate(const ModernRow& row) {
  if (row.id < 1) return absl::InvalidArgumentError(absl::StrCat("city id ", row.id, ": ids start at 1"));
  if (!row.city.has_value()) return absl::OkStatus();
  if (row.city->id != row.id) {
    return absl::InvalidArgumentError(absl::StrCat("city ", row.id, ": the record says id ", row.city->id));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string nfc, ToNfc(row.city->name));
  if (nfc != row.city->name) {
    return absl::InvalidArgumentError(
        absl::StrCat("city ", row.id, ": name ", JsonQuote(row.city->name), " is not NFC"));
  }
  return absl::OkStatus();
}

}  // namespace

struct ModernStore::Writer {
  static absl::StatusOr<std::unique_ptr<Writer>> Open(const std::string& path, const SqliteOptions& options);

  // Within a transaction that the caller holds.
  absl::StatusOr<ApplyResult> Apply(const ModernRow& row);
  // Whatever is there.
  absl::Status Store(const ModernRow& row);
  absl::StatusOr<std::optional<ModernRow>> Stored(int64_t id);
  absl::StatusOr<std::optional<ModernRow>> FirstResult(absl::string_view idempotency_key);
  absl::StatusOr<int64_t> NextVersion(int64_t row_version);
  absl::Status Remember(const ModernRow& row, absl::string_view idempotency_key, int64_t window);
  absl::StatusOr<int64_t> RegionId(const CanonicalCity& city);

  SqliteDb db;
  SqliteStatement stamp_of;
  SqliteStatement put;
  SqliteStatement bury;
  SqliteStatement find_region;
  SqliteStatement add_country;
  SqliteStatement add_region;
  SqliteStatement find_row;
  SqliteStatement find_write;
  SqliteStatement next_version;
  SqliteStatement remember;
  SqliteStatement forget;
};

struct ModernStore::Reader {
  static absl::StatusOr<std::unique_ptr<Reader>> Open(const std::string& path, const SqliteOptions& options);

  SqliteDb db;
  SqliteStatement by_id;
  SqliteStatement scan;
  SqliteStatement stats;
};

absl::StatusOr<std::unique_ptr<ModernStore::Writer>> ModernStore::Writer::Open(const std::string& path,
                                                                               const SqliteOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(SqliteDb db, SqliteDb::Open(path, options, kSchema));
  auto writer = std::make_unique<Writer>(Writer{.db = std::move(db)});
  const auto prepare = [&writer](const char* sql, SqliteStatement* into) -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(*into, SqliteStatement::Prepare(writer->db, sql));
    return absl::OkStatus();
  };
  LOCKSTEP_RETURN_IF_ERROR(prepare("SELECT version, mapper FROM cities WHERE id = ?", &writer->stamp_of));
  LOCKSTEP_RETURN_IF_ERROR(
      prepare("INSERT INTO cities(id, version, mapper, name, lat, lng, region_id, deleted) "
              "VALUES (?, ?, ?, ?, ?, ?, ?, 0) "
              "ON CONFLICT(id) DO UPDATE SET version = excluded.version, mapper = excluded.mapper, "
              "name = excluded.name, lat = excluded.lat, lng = excluded.lng, region_id = excluded.region_id, "
              "deleted = 0",
              &writer->put));
  LOCKSTEP_RETURN_IF_ERROR(
      prepare("INSERT INTO cities(id, version, mapper, deleted) VALUES (?, ?, ?, 1) "
              "ON CONFLICT(id) DO UPDATE SET version = excluded.version, mapper = excluded.mapper, "
              "name = NULL, lat = NULL, lng = NULL, region_id = NULL, deleted = 1",
              &writer->bury));
  LOCKSTEP_RETURN_IF_ERROR(
      prepare("SELECT id FROM admin_regions WHERE country = ? AND admin1_code = ? AND admin2_code = ?",
              &writer->find_region));
  LOCKSTEP_RETURN_IF_ERROR(
      prepare("INSERT INTO countries(code) VALUES (?) ON CONFLICT DO NOTHING", &writer->add_country));
  LOCKSTEP_RETURN_IF_ERROR(prepare(
      "INSERT INTO admin_regions(country, admin1_code, admin2_code) VALUES (?, ?, ?)", &writer->add_region));
  LOCKSTEP_RETURN_IF_ERROR(prepare(SELECT_ROWS "WHERE c.id = ?", &writer->find_row));
  LOCKSTEP_RETURN_IF_ERROR(
      prepare("SELECT " WRITE_COLUMNS " FROM recent_writes WHERE idempotency_key = ?", &writer->find_write));
  LOCKSTEP_RETURN_IF_ERROR(
      prepare("UPDATE version_counter SET value = max(value, ?) + 1 RETURNING value", &writer->next_version));
  LOCKSTEP_RETURN_IF_ERROR(prepare("INSERT INTO recent_writes(idempotency_key, " WRITE_COLUMNS
                                   ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                                   &writer->remember));
  LOCKSTEP_RETURN_IF_ERROR(prepare("DELETE FROM recent_writes WHERE sequence <= ?", &writer->forget));
  return writer;
}

absl::StatusOr<int64_t> ModernStore::Writer::RegionId(const CanonicalCity& city) {
  {
    SqliteQuery find(find_region);
    find.Bind(1, city.country).Bind(2, city.admin1).Bind(3, city.admin2);
    LOCKSTEP_ASSIGN_OR_RETURN(const bool found, find.Step());
    if (found) return find.Int64(0);
  }
  LOCKSTEP_RETURN_IF_ERROR(SqliteQuery(add_country).Bind(1, city.country).Run());
  SqliteQuery add(add_region);
  LOCKSTEP_RETURN_IF_ERROR(add.Bind(1, city.country).Bind(2, city.admin1).Bind(3, city.admin2).Run());
  return sqlite3_last_insert_rowid(db.handle());
}

absl::StatusOr<ApplyResult> ModernStore::Writer::Apply(const ModernRow& row) {
  {
    SqliteQuery stored(stamp_of);
    stored.Bind(1, row.id);
    LOCKSTEP_ASSIGN_OR_RETURN(const bool found, stored.Step());
    if (found) {
      WriteStamp stamp{.version = stored.Int64(0)};
      LOCKSTEP_ASSIGN_OR_RETURN(stamp.mapper, MapperFromColumn(stored.Int64(1), row.id));
      if (row.stamp <= stamp) return ApplyResult::kOlderIgnored;
    }
  }
  LOCKSTEP_RETURN_IF_ERROR(Store(row));
  return ApplyResult::kApplied;
}

absl::Status ModernStore::Writer::Store(const ModernRow& row) {
  const auto mapper = static_cast<int64_t>(row.stamp.mapper);
  if (!row.city.has_value()) {
    return SqliteQuery(bury).Bind(1, row.id).Bind(2, row.stamp.version).Bind(3, mapper).Run();
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const int64_t region_id, RegionId(*row.city));
  SqliteQuery query(put);
  query.Bind(1, row.id).Bind(2, row.stamp.version).Bind(3, mapper).Bind(4, row.city->name);
  query.Bind(5, row.city->lat).Bind(6, row.city->lng).Bind(7, region_id);
  return query.Run();
}

absl::StatusOr<std::optional<ModernRow>> ModernStore::Writer::Stored(int64_t id) {
  SqliteQuery query(find_row);
  query.Bind(1, id);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
  if (!found) return std::nullopt;
  return ReadRow(query);
}

absl::StatusOr<std::optional<ModernRow>> ModernStore::Writer::FirstResult(absl::string_view idempotency_key) {
  SqliteQuery query(find_write);
  query.Bind(1, idempotency_key);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
  if (!found) return std::nullopt;
  return ReadRow(query);
}

absl::StatusOr<int64_t> ModernStore::Writer::NextVersion(int64_t row_version) {
  SqliteQuery query(next_version);
  query.Bind(1, row_version);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool counted, query.Step());
  if (!counted) return absl::DataLossError(absl::StrCat(db.path(), ": no version counter"));
  const int64_t version = query.Int64(0);
  LOCKSTEP_RETURN_IF_ERROR(query.Run());
  return version;
}

absl::Status ModernStore::Writer::Remember(const ModernRow& row, absl::string_view idempotency_key,
                                           int64_t window) {
  const CanonicalCity city = row.city.value_or(CanonicalCity());
  SqliteQuery query(remember);
  query.Bind(1, idempotency_key).Bind(2, row.id).Bind(3, row.stamp.version);
  query.Bind(4, static_cast<int64_t>(row.stamp.mapper)).Bind(5, int64_t{!row.city.has_value()});
  query.Bind(6, city.name).Bind(7, city.lat).Bind(8, city.lng);
  query.Bind(9, city.country).Bind(10, city.admin1).Bind(11, city.admin2);
  LOCKSTEP_RETURN_IF_ERROR(query.Run());
  const int64_t sequence = sqlite3_last_insert_rowid(db.handle());
  return SqliteQuery(forget).Bind(1, sequence - window).Run();
}

absl::StatusOr<std::unique_ptr<ModernStore::Reader>> ModernStore::Reader::Open(const std::string& path,
                                                                               const SqliteOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(SqliteDb db, SqliteDb::Open(path, options, kSchema));
  auto reader = std::make_unique<Reader>(Reader{.db = std::move(db)});
  LOCKSTEP_ASSIGN_OR_RETURN(reader->by_id,
                            SqliteStatement::Prepare(reader->db, SELECT_ROWS "WHERE c.id = ?"));
  LOCKSTEP_ASSIGN_OR_RETURN(
      reader->scan, SqliteStatement::Prepare(reader->db, SELECT_ROWS "WHERE c.id > ? ORDER BY c.id LIMIT ?"));
  LOCKSTEP_ASSIGN_OR_RETURN(
      reader->stats,
      SqliteStatement::Prepare(
          reader->db,
          "SELECT count(*), total(deleted), total(mapper = 1 AND NOT deleted), "
          "total(mapper = 2 AND NOT deleted), (SELECT count(*) FROM countries), "
          "(SELECT count(*) FROM admin_regions), (SELECT count(DISTINCT region_id) FROM cities), "
          "(SELECT value FROM version_counter) "
          "FROM cities"));
  return reader;
}

absl::StatusOr<std::unique_ptr<ModernStore>> ModernStore::Open(const std::string& path,
                                                               const ModernOptions& options) {
  LOCKSTEP_CHECK(options.idempotency_window >= 1, "a window of 0 would forget every write at once");
  LOCKSTEP_ASSIGN_OR_RETURN(auto writer, Writer::Open(path, options.sqlite));
  LOCKSTEP_ASSIGN_OR_RETURN(auto reader, Reader::Open(path, options.sqlite));
  return std::unique_ptr<ModernStore>(
      new ModernStore(std::move(writer), std::move(reader), options.idempotency_window));
}

ModernStore::ModernStore(std::unique_ptr<Writer> writer, std::unique_ptr<Reader> reader,
                         int64_t idempotency_window)
    : idempotency_window_(idempotency_window), writer_(std::move(writer)), reader_(std::move(reader)) {}

ModernStore::~ModernStore() = default;

absl::StatusOr<ModernRow> ModernStore::Put(const CanonicalCity& city, MapperVersion mapper,
                                           absl::string_view idempotency_key) {
  return Write({.id = city.id, .stamp = {.mapper = mapper}, .city = city}, idempotency_key);
}

absl::StatusOr<ModernRow> ModernStore::Delete(int64_t id, MapperVersion mapper,
                                              absl::string_view idempotency_key) {
  return Write({.id = id, .stamp = {.mapper = mapper}}, idempotency_key);
}

absl::StatusOr<ModernRow> ModernStore::Write(ModernRow row, absl::string_view idempotency_key) {
  LOCKSTEP_RETURN_IF_ERROR(Validate(row));
  if (idempotency_key.empty()) return absl::InvalidArgumentError("a write needs an idempotency key");
  MutexLock lock(&write_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(&writer_->db));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<ModernRow> first, writer_->FirstResult(idempotency_key));
  if (first.has_value()) {
    if (first->id == row.id && first->city == row.city) return *first;
    return absl::InvalidArgumentError(absl::StrCat("idempotency key ", JsonQuote(idempotency_key),
                                                   " was used for a different write of city ", first->id,
                                                   "; use a new key for a new write"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<ModernRow> stored, writer_->Stored(row.id));
  if (!row.city.has_value() && (!stored.has_value() || !stored->city.has_value())) {
    return absl::NotFoundError(absl::StrCat("city ", row.id, ": no such row to delete"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(row.stamp.version,
                            writer_->NextVersion(stored.has_value() ? stored->stamp.version : 0));
  LOCKSTEP_RETURN_IF_ERROR(writer_->Remember(row, idempotency_key, idempotency_window_));
  LOCKSTEP_RETURN_IF_ERROR(writer_->Store(row));
  LOCKSTEP_RETURN_IF_ERROR(transaction.Commit());
  return row;
}

absl::StatusOr<ApplyResult> ModernStore::ApplyIfNewer(int64_t id, const std::optional<CanonicalCity>& city,
                                                      WriteStamp stamp) {
  const ModernRow row{.id = id, .stamp = stamp, .city = city};
  LOCKSTEP_ASSIGN_OR_RETURN(const int64_t applied, ApplyBatchIfNewer({&row, 1}));
  return applied == 1 ? ApplyResult::kApplied : ApplyResult::kOlderIgnored;
}

absl::StatusOr<int64_t> ModernStore::ApplyBatchIfNewer(absl::Span<const ModernRow> rows) {
  for (const ModernRow& row : rows) LOCKSTEP_RETURN_IF_ERROR(Validate(row));
  MutexLock lock(&write_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(&writer_->db));
  int64_t applied = 0;
  for (const ModernRow& row : rows) {
    LOCKSTEP_ASSIGN_OR_RETURN(const ApplyResult result, writer_->Apply(row));
    if (result == ApplyResult::kApplied) ++applied;
  }
  LOCKSTEP_RETURN_IF_ERROR(transaction.Commit());
  return applied;
}

absl::StatusOr<std::optional<ModernRow>> ModernStore::Read(int64_t id) {
  MutexLock lock(&read_mutex_);
  SqliteQuery query(reader_->by_id);
  query.Bind(1, id);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
  if (!found) return std::nullopt;
  return ReadRow(query);
}

absl::StatusOr<std::vector<ModernRow>> ModernStore::Scan(int64_t after_id, int limit) {
  MutexLock lock(&read_mutex_);
  SqliteQuery query(reader_->scan);
  query.Bind(1, after_id).Bind(2, int64_t{limit});
  std::vector<ModernRow> rows;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
    if (!found) return rows;
    LOCKSTEP_ASSIGN_OR_RETURN(ModernRow row, ReadRow(query));
    rows.push_back(std::move(row));
  }
}

absl::StatusOr<ModernStats> ModernStore::Stats() {
  MutexLock lock(&read_mutex_);
  SqliteQuery query(reader_->stats);
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, query.Step());
  LOCKSTEP_CHECK(found, "an aggregate always has a row");
  ModernStats stats;
  stats.tombstones = query.Int64(1);
  stats.rows = query.Int64(0) - stats.tombstones;
  stats.rows_by_mapper_v1 = query.Int64(2);
  stats.rows_by_mapper_v2 = query.Int64(3);
  stats.countries = query.Int64(4);
  stats.admin_regions = query.Int64(5);
  stats.unused_admin_regions = stats.admin_regions - query.Int64(6);
  stats.latest_version = query.Int64(7);
  return stats;
}

}  // namespace lockstep::examples
