#include "lockstep/client.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/sdk/src/session.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "core/base/status_macros.h"
#include "core/domain/bucketing.h"
#include "core/domain/migration.h"
#include "lockstep/internal/repair_queue.h"

namespace lockstep {
namespace {

constexpr size_t kMaxMigrations = 1000;
constexpr size_t kMaxServiceBytes = 63;
constexpr size_t kMaxInstanceIdBytes = 128;
// How often a waiting call looks at the client's clock.
constexpr absl::Duration kWaitPoll = absl::Milliseconds(2);
// Repairs back off for seconds; at shutdown there is no time for that.
constexpr absl::Duration kHastenInterval = absl::Milliseconds(100);
// For the server's end of stream after Leave.
constexpr absl::Duration kLeaveTimeout = absl::Seconds(1);

bool IsInstanceIdChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         absl::string_view("._:-").find(c) != absl::string_view::npos;
}

absl::Status ValidateOptions(const ClientOptions& options) {
  const auto wrong = [](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("ClientOptions::", what));
  };
  if (options.transport == nullptr) return wrong("transport is required; see MakeGrpcTransport");
  if (options.service.empty() || options.service.size() > kMaxServiceBytes) {
    return wrong(absl::StrCat("service must have 1 to ", kMaxServiceBytes, " characters"));
  }
  if (options.migrations.empty() || options.migrations.size() > kMaxMigrations) {
    return wrong(absl::StrCat("migrations must list 1 to ", kMaxMigrations, " names"));
  }
  if (options.instance_id.size() > kMaxInstanceIdBytes ||
      !std::all_of(options.instance_id.begin(), options.instance_id.end(), IsInstanceIdChar)) {
    return wrong(absl::StrCat("instance_id must have at most ", kMaxInstanceIdBytes,
                              " characters of [A-Za-z0-9._:-]"));
  }
  if (options.heartbeat_interval <= absl::ZeroDuration()) return wrong("heartbeat_interval must be positive");
  if (options.lease_ttl < 2 * options.heartbeat_interval)
    return wrong("lease_ttl must be at least two heartbeats");
  if (options.backoff_initial <= absl::ZeroDuration() || options.backoff_max < options.backoff_initial) {
    return wrong("backoff_initial must be positive and at most backoff_max");
  }
  if (options.telemetry_interval <= absl::ZeroDuration()) return wrong("telemetry_interval must be positive");
  if (options.max_pending_deltas < 16) return wrong("max_pending_deltas must be at least 16");
  if (options.executor == nullptr && options.executor_threads < 1)
    return wrong("executor_threads must be at least 1");
  if (options.clock == nullptr) return wrong("clock must not be null");
  return absl::OkStatus();
}

// While the control plane can't be heard, a rollback may have been missed: the side that is written first is
// right in every case.
void ServeFromAuthority(domain::Decision& decision) {
  decision.compare = false;
  switch (decision.write_mode) {
    case domain::WriteMode::kOldOnly:
    case domain::WriteMode::kOldThenNew:
      decision.read_side = domain::Side::kOld;
      return;
    case domain::WriteMode::kHeld:
      return;  // nothing is being written: both sides are right
    case domain::WriteMode::kNewThenOld:
    case domain::WriteMode::kNewOnly:
      decision.read_side = domain::Side::kNew;
      return;
  }
}

}  // namespace

struct Client::Parts {
  Parts(ClientOptions opts, std::vector<std::string> names, uint64_t seed)
      : options(std::move(opts)),
        migrations(std::move(names)),
        ring(migrations),
        telemetry({.migrations = migrations,
                   .instance_id = options.instance_id,
                   .samples_per_fingerprint = options.samples_per_fingerprint,
                   .digest_key = options.digest_key},
                  options.clock) {
    Prng prng(seed);
    idempotency_prefix = absl::StrCat(absl::Hex(prng.Next(), absl::kZeroPad16), "-");
    if (options.executor == nullptr) {
      own_executor = std::make_shared<ThreadPoolExecutor>(options.executor_threads);
      options.executor = own_executor;
    }
    repairs = std::make_shared<internal::RepairQueue>(options.max_outstanding_repairs, options.executor.get(),
                                                      options.clock, &telemetry, prng.Next());
    for (uint32_t i = 0; i < migrations.size(); ++i) indexes.emplace(migrations[i], i);
    internal::SessionOptions session_options{
        .enrolment = {options.instance_id, options.service, options.version, migrations, {}},
        .heartbeat_interval = options.heartbeat_interval,
        .lease_ttl = options.lease_ttl,
        .backoff_initial = options.backoff_initial,
        .backoff_max = options.backoff_max,
        .telemetry_interval = options.telemetry_interval,
        .reporter = {options.instance_id, options.max_pending_deltas, options.backoff_initial,
                     options.backoff_max}};
    session = std::make_unique<internal::Session>(std::move(session_options), options.transport.get(), &ring,
                                                  &telemetry, repairs.get(), options.clock, prng.Next());
    first_seed = prng.Next();
  }

  void RunThread() {
    while (!stop.load(std::memory_order_acquire)) session->Wait(session->RunOnce());
  }

  void StopThread() {
    stop.store(true, std::memory_order_release);
    session->Wake();
    if (thread.joinable()) thread.join();
  }

  absl::Status LeftOver(size_t repairs_left);
  absl::Status DoShutdown(absl::Time deadline);

  ClientOptions options;
  const std::vector<std::string> migrations;  // sorted
  absl::flat_hash_map<std::string, uint32_t> indexes;
  internal::SnapshotRing ring;
  TelemetryRecorder telemetry;
  std::shared_ptr<ThreadPoolExecutor> own_executor;  // null: the service's
  std::shared_ptr<internal::RepairQueue> repairs;
  std::unique_ptr<internal::Session> session;
  std::string idempotency_prefix;
  std::atomic<uint64_t> next_idempotency_key{1};
  uint64_t first_seed = 0;
  std::atomic<uint64_t> seeds_given{0};
  std::atomic<bool> accepts_comparisons{true};
  std::atomic<bool> stop{false};
  std::thread thread;

  Mutex shutdown_mutex;
  std::optional<absl::Status> shutdown_result ABSL_GUARDED_BY(shutdown_mutex);
};

Client::Client(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  LOCKSTEP_RETURN_IF_ERROR(ValidateOptions(options));
  std::vector<std::string> names;
  for (const std::string& name : options.migrations) {
    const absl::StatusOr<domain::MigrationId> id = domain::ParseMigrationName(name);
    if (!id.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("ClientOptions::migrations: '", name, "': ", id.status().message()));
    }
    names.push_back(domain::FullMigrationName(*id));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  const uint64_t seed = options.seed != 0 ? options.seed : SystemSeed();
  if (options.instance_id.empty()) options.instance_id = Prng(seed).Uuid();
  Log(LogLevel::kInfo, "lockstep client starts",
      {{"instance", options.instance_id},
       {"service", options.service},
       {"migrations", absl::StrJoin(names, ",")},
       {"seed", absl::StrCat(seed)}});
  auto parts = std::make_unique<Parts>(std::move(options), std::move(names), seed ^ 0x9e3779b97f4a7c15u);
  Parts* const running = parts.get();
  parts->thread = std::thread([running] { running->RunThread(); });
  return std::unique_ptr<Client>(new Client(std::move(parts)));
}

Client::~Client() {
  parts_->accepts_comparisons.store(false, std::memory_order_relaxed);
  parts_->StopThread();
  parts_->repairs->Close();
  if (parts_->own_executor != nullptr) parts_->own_executor->Stop();
}

absl::Status Client::WaitUntilReady(absl::Time deadline) {
  const internal::Session& session = *parts_->session;
  while (!session.ready()) {
    if (session.closed()) return absl::FailedPreconditionError("the client was shut down");
    if (parts_->options.clock->Now() >= deadline) {
      const absl::Status error = session.last_error();
      return absl::DeadlineExceededError(absl::StrCat(
          "no snapshot from the control plane yet; ",
          error.ok() ? "no connection has failed so far" : absl::StrCat("last error: ", error.ToString())));
    }
    absl::SleepFor(kWaitPoll);
  }
  return absl::OkStatus();
}

absl::StatusOr<MigrationHandle> Client::Resolve(absl::string_view migration) const {
  auto found = parts_->indexes.find(migration);
  if (found == parts_->indexes.end()) {
    LOCKSTEP_ASSIGN_OR_RETURN(const domain::MigrationId id, domain::ParseMigrationName(migration));
    found = parts_->indexes.find(domain::FullMigrationName(id));
  }
  if (found == parts_->indexes.end()) {
    return absl::NotFoundError(absl::StrCat(migration, " is not in ClientOptions::migrations (",
                                            absl::StrJoin(parts_->migrations, ", "), ")"));
  }
  return MigrationHandle(found->second);
}

absl::StatusOr<const domain::MigrationRouting*> Client::RoutingOf(const internal::SnapshotPin& pin,
                                                                  MigrationHandle migration) const {
  if (pin.slot() == nullptr) return NoSnapshot();
  LOCKSTEP_CHECK(migration.index() < pin.slot()->by_index.size(), "a MigrationHandle of another client");
  const domain::MigrationRouting* const routing = pin.slot()->by_index[migration.index()];
  if (routing == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("the control plane knows no migration ",
                                                      parts_->migrations[migration.index()],
                                                      "; create it before the service routes by it"));
  }
  return routing;
}

absl::StatusOr<RouteHandle> Client::Route(MigrationHandle migration, absl::string_view key,
                                          const domain::Attributes* attributes) const {
  if (key.empty() || key.size() > domain::kMaxKeyBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a routing key has 1 to ", domain::kMaxKeyBytes, " bytes; this one has ", key.size()));
  }
  RouteHandle handle;
  handle.pin_ = parts_->ring.PinCurrent();
  LOCKSTEP_ASSIGN_OR_RETURN(handle.routing_, RoutingOf(handle.pin_, migration));
  handle.index_ = migration.index();
  handle.decision_ = domain::Decide(handle.routing_->state, key, attributes);
  if (parts_->session->stale()) {
    handle.stale_ = true;
    ServeFromAuthority(handle.decision_);
  }
  return handle;
}

absl::StatusOr<Attribution> Client::PresentAttribution(MigrationHandle migration) const {
  const internal::SnapshotPin pin = parts_->ring.PinCurrent();
  LOCKSTEP_ASSIGN_OR_RETURN(const domain::MigrationRouting* const routing, RoutingOf(pin, migration));
  return Attribution{migration.index(), routing->state.generation, routing->state.epoch,
                     routing->contract.revision};
}

absl::Status Client::NoSnapshot() const {
  if (parts_->session->closed()) return absl::FailedPreconditionError("the client was shut down");
  const absl::Status error = parts_->session->last_error();
  return absl::UnavailableError(
      absl::StrCat("no snapshot from the control plane yet, and no side is assumed without one; ",
                   error.ok() ? "still connecting" : absl::StrCat("last error: ", error.ToString())));
}

absl::StatusOr<RouteHandle> Client::Route(absl::string_view migration, absl::string_view key,
                                          const domain::Attributes* attributes) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const MigrationHandle handle, Resolve(migration));
  return Route(handle, key, attributes);
}

absl::Status Client::Shutdown(absl::Time deadline) {
  MutexLock lock(&parts_->shutdown_mutex);
  if (!parts_->shutdown_result.has_value()) parts_->shutdown_result = parts_->DoShutdown(deadline);
  return *parts_->shutdown_result;
}

absl::Status Client::Parts::DoShutdown(absl::Time deadline) {
  accepts_comparisons.store(false, std::memory_order_relaxed);
  session->Close();
  absl::Duration hasten_at = absl::ZeroDuration();
  const auto settled = [this] { return ring.PinCount() == 0 && repairs->outstanding() == 0; };
  while (!settled() && options.clock->Now() < deadline) {
    if (repairs->outstanding() > 0 && options.clock->SinceBoot() >= hasten_at) {
      repairs->Hasten();
      hasten_at = options.clock->SinceBoot() + kHastenInterval;
    }
    absl::SleepFor(kWaitPoll);
  }
  const size_t repairs_left = repairs->outstanding();
  repairs->Close();
  // Only what was collected after the last operation ended can be complete, so the session starts over once.
  const uint64_t rounds = session->rounds();
  while ((session->rounds() < rounds + 2 || !session->flushed()) && options.clock->Now() < deadline) {
    absl::SleepFor(kWaitPoll);
  }
  if (ring.PinCount() == 0) {
    session->Leave();
    const absl::Duration give_up = SystemClock::Get()->SinceBoot() + kLeaveTimeout;
    while (!session->left() && SystemClock::Get()->SinceBoot() < give_up) absl::SleepFor(kWaitPoll);
  }
  StopThread();
  return LeftOver(repairs_left);
}

absl::Status Client::Parts::LeftOver(size_t repairs_left) {
  std::vector<std::string> left;
  if (const uint64_t pins = ring.PinCount(); pins > 0) {
    left.push_back(absl::StrCat(pins, " operations still running, so the enrolment was kept: evict instance ",
                                options.instance_id, " once they are gone"));
  }
  if (repairs_left > 0) left.push_back(absl::StrCat(repairs_left, " mirror writes not repaired"));
  if (const uint64_t refused = repairs->refused(); refused > 0) {
    left.push_back(
        absl::StrCat(refused, " failed mirror writes that had found no place in the repair queue"));
  }
  const ClientStats stats = session->Stats();
  if (!session->flushed() || stats.operations_unreported > 0) {
    left.push_back(absl::StrCat(stats.operations_unreported, " operations not reported"));
  }
  if (left.empty()) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat("left at shutdown: ", absl::StrJoin(left, "; ")));
}

const std::string& Client::instance_id() const { return parts_->options.instance_id; }

ClientStats Client::Stats() const {
  ClientStats stats = parts_->session->Stats();
  stats.operations_pinned = parts_->ring.PinCount();
  stats.repairs_outstanding = parts_->repairs->outstanding();
  return stats;
}

bool Client::accepts_comparisons() const {
  return parts_->accepts_comparisons.load(std::memory_order_relaxed);
}
TelemetryRecorder& Client::telemetry() const { return parts_->telemetry; }
Executor& Client::executor() const { return *parts_->options.executor; }
Clock& Client::clock() const { return *parts_->options.clock; }
const std::shared_ptr<internal::RepairQueue>& Client::repair_queue() const { return parts_->repairs; }

uint64_t Client::NextSeed() const {
  return Prng(parts_->first_seed + parts_->seeds_given.fetch_add(1, std::memory_order_relaxed)).Next();
}

std::string Client::NextIdempotencyKey() const {
  return absl::StrCat(parts_->idempotency_prefix,
                      parts_->next_idempotency_key.fetch_add(1, std::memory_order_relaxed));
}

}  // namespace lockstep
