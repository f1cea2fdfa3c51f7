#include "client/examples/cities/service.h"

#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/examples/cities/zipf.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "lockstep/grpc_transport.h"

namespace lockstep::examples {
namespace {

constexpr absl::Duration kRetryDelay = absl::Milliseconds(50);
// A mirror write is given this long to arrive before a differing read counts as wrong.
constexpr absl::Duration kMirrorGrace = absl::Milliseconds(250);
constexpr absl::Duration kShutdownTime = absl::Seconds(10);
// Kills of the process are part of the demo, power failures are not.
// A process that is stopped (SIGSTOP) in the middle of a transaction keeps the file locked for as long.
const SqliteOptions kSqlite = {.busy_timeout = absl::Seconds(10), .durability = Durability::kProcessCrash};
constexpr uint64_t kPopulationSeed = 20240115;

RecordView FieldsOf(const CanonicalCity& city) {
  return {{"name", city.name},       {"lat", city.lat},       {"lng", city.lng},
          {"country", city.country}, {"admin1", city.admin1}, {"admin2", city.admin2}};
}

absl::StatusOr<std::optional<CanonicalCity>> FromLegacy(const std::optional<LegacyRow>& row) {
  if (!row.has_value() || !row->city.has_value()) return std::optional<CanonicalCity>();
  LOCKSTEP_ASSIGN_OR_RETURN(CanonicalCity city, Canonicalize(*row->city));
  return std::optional<CanonicalCity>(std::move(city));
}

absl::StatusOr<WriteResult<CanonicalCity>> ToWriteResult(const std::optional<LegacyRow>& row) {
  WriteResult<CanonicalCity> result;
  if (row.has_value()) result.version = static_cast<Version>(row->version);
  LOCKSTEP_ASSIGN_OR_RETURN(result.row, FromLegacy(row));
  return result;
}

WriteResult<CanonicalCity> ToWriteResult(const std::optional<ModernRow>& row) {
  WriteResult<CanonicalCity> result;
  if (!row.has_value()) return result;
  result.version = row->stamp.version;
  result.row = row->city;
  return result;
}

// A delete of what has been deleted already is done: its first attempt may have been made on the other side,
// whose memory of idempotency keys this one doesn't share.
absl::StatusOr<WriteResult<CanonicalCity>> DeletedAlready(
    const absl::Status& refused, absl::StatusOr<WriteResult<CanonicalCity>> current) {
  const bool tombstone = current.ok() && current->version > 0 && !current->row.has_value();
  if (absl::IsNotFound(refused) && tombstone) return current;
  return refused;
}

// Spaces events evenly: each call returns after the next one is due. Falls behind rather than bursting.
class Pacer {
 public:
  explicit Pacer(double per_second) : interval_(absl::Seconds(1) / per_second), next_(absl::Now()) {}
  void Wait() {
    const absl::Time now = absl::Now();
    if (next_ > now) absl::SleepFor(next_ - now);
    next_ = std::max(next_ + interval_, now);
  }

 private:
  const absl::Duration interval_;
  absl::Time next_;
};

}  // namespace

std::string ServiceReport::ToJson() const {
  return absl::StrCat("{\"reads\":", reads, ",\"reads_from_new\":", reads_from_new,
                      ",\"read_errors\":", read_errors, ",\"reads_served_wrong\":", reads_served_wrong,
                      ",\"reads_served_late\":", reads_served_late, ",\"writes_acked\":", writes_acked) +
         absl::StrCat(",\"failed_calls\":", failed_calls(), ",\"failed_writes\":", failed_writes,
                      ",\"held_writes\":", held_writes,
                      ",\"longest_held_write_ms\":", absl::ToInt64Milliseconds(longest_held_write),
                      ",\"longest_write_ms\":", absl::ToInt64Milliseconds(longest_write),
                      ",\"mirror_failures\":", mirror_failures,
                      ",\"repairs_outstanding\":", repairs_outstanding,
                      ",\"oplog_done\":", oplog_done ? "true" : "false", "}");
}

absl::StatusOr<std::unique_ptr<CitiesService>> CitiesService::Create(const ServiceOptions& options) {
  std::unique_ptr<CitiesService> service(new CitiesService(options));
  LOCKSTEP_ASSIGN_OR_RETURN(service->legacy_, LegacyStore::Open(options.legacy_path, {.sqlite = kSqlite}));
  LOCKSTEP_ASSIGN_OR_RETURN(service->modern_, ModernStore::Open(options.modern_path, {.sqlite = kSqlite}));
  LOCKSTEP_ASSIGN_OR_RETURN(service->operations_, ReadOperationLog(options.oplog_path));
  LOCKSTEP_ASSIGN_OR_RETURN(service->acks_, AckLog::Open(options.acks_path));
  LOCKSTEP_ASSIGN_OR_RETURN(const AckLogContent acknowledged, ReadAckLog(options.acks_path));
  // Operations are acknowledged one by one in the log's order, round after round.
  service->next_write_ = acknowledged.acks.size();

  ClientOptions client_options;
  client_options.service = "cities";
  client_options.version = std::string(MapperVersionName(options.mapper));
  client_options.migrations = {options.migration};
  client_options.instance_id = options.instance_id;
  client_options.state_directory = options.state_directory;
  client_options.lease_policy = options.lease_policy;
  client_options.lease_ttl = options.lease_ttl;
  client_options.heartbeat_interval = options.lease_ttl / 3;
  client_options.transport = options.transport;
  if (client_options.transport == nullptr) {
    LOCKSTEP_ASSIGN_OR_RETURN(client_options.transport, MakeGrpcTransport({.address = options.address}));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(service->client_, Client::Create(std::move(client_options)));
  LOCKSTEP_RETURN_IF_ERROR(service->client_->WaitUntilReady(absl::Now() + absl::Seconds(30)));
  LOCKSTEP_RETURN_IF_ERROR(service->BuildMigrator());
  return service;
}

CitiesService::~CitiesService() = default;

absl::StatusOr<WriteResult<CanonicalCity>> CitiesService::CurrentInOld(int64_t id) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<LegacyRow> row, legacy_->Read(id));
  return ToWriteResult(row);
}

absl::StatusOr<WriteResult<CanonicalCity>> CitiesService::CurrentInNew(int64_t id) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<ModernRow> row, modern_->Read(id));
  return ToWriteResult(row);
}

// Everything the service has to say about its two sides. Nothing here depends on the stage.
absl::Status CitiesService::BuildMigrator() {
  CityMigrator::Builder builder(client_.get(), options_.migration);
  DescribeOldSide(builder);
  DescribeNewSide(builder);
  builder
      .RoutingKey([](int64_t id) { return absl::StrCat(id); })
      // How a key is written into the mirror journal, and read back after a restart.
      .KeyCodec([](int64_t id) { return absl::StrCat(id); },
                [](absl::string_view text) -> absl::StatusOr<int64_t> {
                  int64_t id = 0;
                  if (absl::SimpleAtoi(text, &id)) return id;
                  return absl::DataLossError(absl::StrCat("not a city id: ", text));
                })
      .Fields(FieldsOf);
  LOCKSTEP_ASSIGN_OR_RETURN(migrator_, builder.Build());
  return absl::OkStatus();
}

void CitiesService::DescribeOldSide(CityMigrator::Builder& builder) {
  builder
      .ReadOld([this](int64_t id, const ReadContext&) -> absl::StatusOr<std::optional<CanonicalCity>> {
        LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<LegacyRow> row, legacy_->Read(id));
        return FromLegacy(row);
      })
      .WriteOld([this](int64_t id, const CanonicalCity* city,
                       const WriteContext& context) -> absl::StatusOr<WriteResult<CanonicalCity>> {
        const auto row = city == nullptr ? legacy_->Delete(id, context.idempotency_key)
                                         : legacy_->Put(ToLegacy(*city), context.idempotency_key);
        if (!row.ok()) return DeletedAlready(row.status(), CurrentInOld(id));
        return ToWriteResult(*row);
      })
      .CurrentOld([this](int64_t id, const ReadContext&) { return CurrentInOld(id); })
      .MirrorToOld([this](int64_t id, const CanonicalCity* city, Version version,
                          const WriteContext&) -> absl::Status {
        std::optional<City> row;
        if (city != nullptr) row = ToLegacy(*city);
        return CountFailure(legacy_->ApplyIfNewer(id, row, version).status());
      });
}

void CitiesService::DescribeNewSide(CityMigrator::Builder& builder) {
  builder
      .ReadNew(
          [this](int64_t id, const ReadContext& context) -> absl::StatusOr<std::optional<CanonicalCity>> {
            if (context.purpose == ReadPurpose::kServe) counters_.reads_from_new.fetch_add(1);
            LOCKSTEP_ASSIGN_OR_RETURN(std::optional<ModernRow> row, modern_->Read(id));
            if (!row.has_value()) return std::optional<CanonicalCity>();
            return std::move(row->city);
          })
      .WriteNew([this](int64_t id, const CanonicalCity* city,
                       const WriteContext& context) -> absl::StatusOr<WriteResult<CanonicalCity>> {
        absl::StatusOr<ModernRow> row = absl::InternalError("not tried");
        if (city == nullptr) {
          row = modern_->Delete(id, options_.mapper, context.idempotency_key);
        } else {
          LOCKSTEP_ASSIGN_OR_RETURN(const CanonicalCity mapped, MapCity(options_.mapper, ToLegacy(*city)));
          row = modern_->Put(mapped, options_.mapper, context.idempotency_key);
        }
        if (!row.ok()) return DeletedAlready(row.status(), CurrentInNew(id));
        return ToWriteResult(*row);
      })
      .CurrentNew([this](int64_t id, const ReadContext&) -> absl::StatusOr<WriteResult<CanonicalCity>> {
        return CurrentInNew(id);
      })
      .MirrorToNew([this](int64_t id, const CanonicalCity* city, Version version,
                          const WriteContext&) -> absl::Status {
        std::optional<CanonicalCity> mapped;
        if (city != nullptr) {
          LOCKSTEP_ASSIGN_OR_RETURN(mapped, MapCity(options_.mapper, ToLegacy(*city)));
        }
        return CountFailure(modern_->ApplyIfNewer(id, mapped, {version, options_.mapper}).status());
      });
}

absl::Status CitiesService::Run(const std::atomic<bool>& stop) {
  std::thread writer([&] { ReplayWrites(stop); });
  std::thread reader([&] { ServeReads(stop); });
  writer.join();
  reader.join();
  return client_->Shutdown(absl::Now() + kShutdownTime);
}

absl::Status CitiesService::CountFailure(absl::Status mirrored) {
  if (!mirrored.ok()) counters_.mirror_failures.fetch_add(1);
  return mirrored;
}

void CitiesService::ReplayWrites(const std::atomic<bool>& stop) {
  Pacer pacer(options_.writes_per_second);
  const size_t count = operations_.size();
  while (!stop && count > 0) {
    counters_.oplog_done = next_write_ >= count;
    pacer.Wait();
    const auto round = static_cast<int64_t>(next_write_ / count);
    if (!Write(operations_[next_write_ % count], round, stop)) return;
    ++next_write_;
  }
}

// Like a careful user: repeats the write under its own idempotency key until it is acknowledged. False: told
// to stop.
bool CitiesService::Write(const Operation& operation, int64_t round, const std::atomic<bool>& stop) {
  WriteOptions write_options;
  write_options.idempotency_key = absl::StrCat("op-", operation.sequence, "-", round);
  while (!stop) {
    const absl::Time started = absl::Now();
    absl::StatusOr<WriteResult<CanonicalCity>> written = absl::InternalError("not tried");
    if (operation.kind == OperationKind::kDelete) {
      written = migrator_->Delete(operation.city.id, write_options);
    } else if (absl::StatusOr<CanonicalCity> city = Canonicalize(operation.city); city.ok()) {
      written = migrator_->Write(operation.city.id, *city, write_options);
    } else {
      written = city.status();
    }
    if (written.ok()) {
      const absl::Status logged =
          acks_->Append({operation.city.id, written->version, operation.kind == OperationKind::kDelete});
      if (!logged.ok()) {
        Log(LogLevel::kError, "acknowledgement not logged", {{"error", logged.ToString()}});
        return false;
      }
      counters_.writes_acked.fetch_add(1);
      // Only this thread writes it.
      const int64_t took = absl::ToInt64Microseconds(absl::Now() - started);
      if (took > counters_.longest_write_us) counters_.longest_write_us = took;
      return true;
    }
    counters_.failed_writes.fetch_add(1);
    Log(LogLevel::kWarning, "write retried", {{"error", written.status().ToString()}});
    absl::SleepFor(kRetryDelay);
  }
  return false;
}

void CitiesService::ServeReads(const std::atomic<bool>& stop) {
  ZipfIds ids(options_.id_count, options_.zipf_exponent, kPopulationSeed, options_.seed);
  Pacer pacer(options_.reads_per_second);
  while (!stop) {
    pacer.Wait();
    ReadAndCheck(ids.Next());
  }
}

absl::StatusOr<CitiesService::Truth> CitiesService::ReadTruth(int64_t id) {
  LOCKSTEP_ASSIGN_OR_RETURN(WriteResult<CanonicalCity> in_old, CurrentInOld(id));
  LOCKSTEP_ASSIGN_OR_RETURN(WriteResult<CanonicalCity> in_new, CurrentInNew(id));
  WriteResult<CanonicalCity>& newer = in_new.version > in_old.version ? in_new : in_old;
  return Truth{newer.version, std::move(newer.row)};
}

// The demo's own check of what users see, independent of the comparisons that the SDK makes: a read is right
// when it shows the authoritative row, read before and after it to leave out rows that changed meanwhile.
void CitiesService::ReadAndCheck(int64_t id) {
  const absl::StatusOr<Truth> before = ReadTruth(id);
  const absl::StatusOr<std::optional<CanonicalCity>> served = migrator_->Read(id);
  const absl::StatusOr<Truth> after = ReadTruth(id);
  counters_.reads.fetch_add(1);
  if (!served.ok() || !before.ok() || !after.ok()) {
    counters_.read_errors.fetch_add(1);
    return;
  }
  if (*before != *after || *served == after->city) return;
  absl::SleepFor(kMirrorGrace);
  const absl::StatusOr<std::optional<CanonicalCity>> again = migrator_->Read(id);
  const absl::StatusOr<Truth> now = ReadTruth(id);
  const bool caught_up = again.ok() && now.ok() && *again == now->city;
  (caught_up ? counters_.reads_served_late : counters_.reads_served_wrong).fetch_add(1);
}

ServiceReport CitiesService::Report() const {
  ServiceReport report;
  report.reads = counters_.reads;
  report.reads_from_new = counters_.reads_from_new;
  report.read_errors = counters_.read_errors;
  report.reads_served_wrong = counters_.reads_served_wrong;
  report.reads_served_late = counters_.reads_served_late;
  report.writes_acked = counters_.writes_acked;
  report.failed_writes = counters_.failed_writes;
  report.mirror_failures = counters_.mirror_failures;
  const ClientStats stats = client_->Stats();
  report.repairs_outstanding = static_cast<int64_t>(stats.repairs_outstanding);
  report.held_writes = static_cast<int64_t>(stats.held_writes_ended);
  report.longest_held_write = stats.longest_hold;
  report.longest_write = absl::Microseconds(counters_.longest_write_us.load());
  report.oplog_done = counters_.oplog_done;
  return report;
}

}  // namespace lockstep::examples
