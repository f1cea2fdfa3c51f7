#include "client/examples/cities/service.h"

#include <optional>
#include <thread>
#include <utility>

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
const SqliteOptions kSqlite = {.durability = Durability::kProcessCrash};
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
                      ",\"reads_served_late\":", reads_served_late, ",\"writes_acked\":", writes_acked,
                      ",\"write_retries\":", write_retries, ",\"oplog_done\":", oplog_done ? "true" : "false",
                      "}");
}

absl::StatusOr<std::unique_ptr<CitiesService>> CitiesService::Create(const ServiceOptions& options) {
  std::unique_ptr<CitiesService> service(new CitiesService(options));
  LOCKSTEP_ASSIGN_OR_RETURN(service->legacy_, LegacyStore::Open(options.legacy_path, {.sqlite = kSqlite}));
  LOCKSTEP_ASSIGN_OR_RETURN(service->modern_, ModernStore::Open(options.modern_path, kSqlite));
  LOCKSTEP_ASSIGN_OR_RETURN(service->operations_, ReadOperationLog(options.oplog_path));
  LOCKSTEP_ASSIGN_OR_RETURN(service->acks_, AckLog::Open(options.acks_path));
  LOCKSTEP_ASSIGN_OR_RETURN(const AckLogContent acknowledged, ReadAckLog(options.acks_path));
  // Operations are acknowledged one by one in the log's order.
  service->next_operation_ = acknowledged.acks.size();

  ClientOptions client_options;
  client_options.service = "cities";
  client_options.version = std::string(MapperVersionName(options.mapper));
  client_options.migrations = {options.migration};
  client_options.instance_id = options.instance_id;
  LOCKSTEP_ASSIGN_OR_RETURN(service->client_,
                            ConnectGrpc({.address = options.address}, std::move(client_options)));
  LOCKSTEP_RETURN_IF_ERROR(service->client_->WaitUntilReady(absl::Now() + absl::Seconds(30)));
  LOCKSTEP_RETURN_IF_ERROR(service->BuildMigrator());
  return service;
}

CitiesService::~CitiesService() = default;

// Everything the service has to say about its two sides. Nothing here depends on the stage.
absl::Status CitiesService::BuildMigrator() {
  CityMigrator::Builder builder(client_.get(), options_.migration);
  builder.RoutingKey([](int64_t id) { return absl::StrCat(id); })
      .ReadOld([this](int64_t id, const ReadContext&) -> absl::StatusOr<std::optional<CanonicalCity>> {
        LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<LegacyRow> row, legacy_->Read(id));
        return FromLegacy(row);
      })
      .ReadNew(
          [this](int64_t id, const ReadContext& context) -> absl::StatusOr<std::optional<CanonicalCity>> {
            if (context.purpose == ReadPurpose::kServe) counters_.reads_from_new.fetch_add(1);
            LOCKSTEP_ASSIGN_OR_RETURN(std::optional<ModernRow> row, modern_->Read(id));
            if (!row.has_value()) return std::optional<CanonicalCity>();
            return std::move(row->city);
          })
      .WriteOld([this](int64_t id, const CanonicalCity* city,
                       const WriteContext& context) -> absl::StatusOr<WriteResult<CanonicalCity>> {
        LOCKSTEP_ASSIGN_OR_RETURN(const LegacyRow row,
                                  city == nullptr ? legacy_->Delete(id, context.idempotency_key)
                                                  : legacy_->Put(ToLegacy(*city), context.idempotency_key));
        return ToWriteResult(row);
      })
      .CurrentOld([this](int64_t id, const ReadContext&) -> absl::StatusOr<WriteResult<CanonicalCity>> {
        LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<LegacyRow> row, legacy_->Read(id));
        return ToWriteResult(row);
      })
      .MirrorToNew([this](int64_t id, const CanonicalCity* city, Version version,
                          const WriteContext&) -> absl::Status {
        std::optional<CanonicalCity> mapped;
        if (city != nullptr) {
          LOCKSTEP_ASSIGN_OR_RETURN(mapped, MapCity(options_.mapper, ToLegacy(*city)));
        }
        return modern_->ApplyIfNewer(id, mapped, {static_cast<int64_t>(version), options_.mapper}).status();
      })
      .Fields(FieldsOf);
  LOCKSTEP_ASSIGN_OR_RETURN(migrator_, builder.Build());
  return absl::OkStatus();
}

absl::Status CitiesService::Run(const std::atomic<bool>& stop) {
  std::thread writer([&] { ReplayWrites(stop); });
  std::thread reader([&] { ServeReads(stop); });
  writer.join();
  reader.join();
  return client_->Shutdown(absl::Now() + kShutdownTime);
}

void CitiesService::ReplayWrites(const std::atomic<bool>& stop) {
  Pacer pacer(options_.writes_per_second);
  while (!stop && next_operation_ < operations_.size()) {
    pacer.Wait();
    if (!Write(operations_[next_operation_], stop)) return;
    ++next_operation_;
  }
  counters_.oplog_done = next_operation_ >= operations_.size();
}

// Like a careful user: repeats the write under its own idempotency key until it is acknowledged. False: told
// to stop.
bool CitiesService::Write(const Operation& operation, const std::atomic<bool>& stop) {
  WriteOptions write_options;
  write_options.idempotency_key = absl::StrCat("op-", operation.sequence);
  while (!stop) {
    absl::StatusOr<WriteResult<CanonicalCity>> written = absl::InternalError("not tried");
    if (operation.kind == OperationKind::kDelete) {
      written = migrator_->Delete(operation.city.id, write_options);
    } else if (absl::StatusOr<CanonicalCity> city = Canonicalize(operation.city); city.ok()) {
      written = migrator_->Write(operation.city.id, *city, write_options);
    } else {
      written = city.status();
    }
    if (written.ok()) {
      const absl::Status logged = acks_->Append({operation.city.id, static_cast<int64_t>(written->version),
                                                 operation.kind == OperationKind::kDelete});
      if (!logged.ok()) {
        Log(LogLevel::kError, "acknowledgement not logged", {{"error", logged.ToString()}});
        return false;
      }
      counters_.writes_acked.fetch_add(1);
      return true;
    }
    counters_.write_retries.fetch_add(1);
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

// The demo's own check of what users see, independent of the comparisons that the SDK makes: a read is right
// when it shows the authoritative row, read before and after it to leave out rows that changed meanwhile.
void CitiesService::ReadAndCheck(int64_t id) {
  const auto before = legacy_->Read(id);
  const absl::StatusOr<std::optional<CanonicalCity>> served = migrator_->Read(id);
  const auto after = legacy_->Read(id);
  counters_.reads.fetch_add(1);
  if (!served.ok() || !before.ok() || !after.ok()) {
    counters_.read_errors.fetch_add(1);
    return;
  }
  if (*before != *after) return;
  const absl::StatusOr<std::optional<CanonicalCity>> truth = FromLegacy(*after);
  if (!truth.ok() || *served == *truth) return;
  absl::SleepFor(kMirrorGrace);
  const absl::StatusOr<std::optional<CanonicalCity>> again = migrator_->Read(id);
  const auto now = legacy_->Read(id);
  const bool caught_up = again.ok() && now.ok() && FromLegacy(*now).ok() && *again == *FromLegacy(*now);
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
  report.write_retries = counters_.write_retries;
  report.oplog_done = counters_.oplog_done;
  return report;
}

}  // namespace lockstep::examples
