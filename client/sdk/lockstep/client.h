// A service's connection to Lockstep: which side to use for a key, decided in process.
//
//   auto client = lockstep::ConnectGrpc({.address = "lockstepd:7443"},
//                                       {.service = "orders", .migrations = {"shop/orders"}});
//   if (auto ready = (*client)->WaitUntilReady(absl::Now() + absl::Seconds(10)); !ready.ok()) return ready;
//   MigrationHandle orders = *(*client)->Resolve("shop/orders");
//   auto route = (*client)->Route(orders, order_id);  // hold it until the operation is over
//
// Most services use Migrator (migrator.h), which does the rest.
//
// The data plane outlives the control plane: once a snapshot has come, the client goes on serving the last
// good one through any outage. When the lease has run out (no answer for `lease_ttl`), it is marked stale:
// reads then go to the authoritative side and comparisons stop, because a missed rollback is worse than a
// paused canary. A cold start without a control plane is an explicit error, never an assumed OFF.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/domain/decision.h"
#include "core/domain/snapshot.h"
#include "lockstep/executor.h"
#include "lockstep/internal/snapshot_ring.h"
#include "lockstep/telemetry.h"
#include "lockstep/transport.h"

namespace lockstep {

namespace internal {
class RepairQueue;
class Session;
}  // namespace internal

struct ClientOptions {
  std::shared_ptr<Transport> transport;  // required
  std::string service;                   // required: 1 to 63 characters
  std::string version;                   // the service's own
  std::vector<std::string> migrations;   // required: "ns/id" or full names, at most 1000

  // Stable identity, the same over restarts where the service has one. Empty: a random UUID, logged.
  std::string instance_id;

  absl::Duration heartbeat_interval = absl::Seconds(5);
  // Without an answer for this long the client is stale. At least twice the heartbeat interval.
  absl::Duration lease_ttl = absl::Seconds(15);
  // Reconnects wait a random time between 0 and min(max, initial * 2^attempts) ("full jitter").
  absl::Duration backoff_initial = absl::Milliseconds(100);
  absl::Duration backoff_max = absl::Seconds(10);

  absl::Duration telemetry_interval = absl::Seconds(1);
  // Deltas kept while the control plane can't be reached, at least 16. Above it the oldest buckets are merged
  // forward in time, which loses resolution but no count; what can't be merged is dropped, counted and
  // reported.
  size_t max_pending_deltas = 512;
  uint32_t samples_per_fingerprint = 2;
  // Secret shared by the fleet for the digests in mismatch samples; see TelemetryOptions.
  std::string digest_key;

  // Failed mirror writes that may wait for repair; beyond it the write call itself fails.
  size_t max_outstanding_repairs = 10000;

  // Runs comparisons and repairs. Null: a ThreadPoolExecutor with `executor_threads` threads. A shared one
  // must run or drop every task before the client is destroyed.
  std::shared_ptr<Executor> executor;
  int executor_threads = 4;

  Clock* clock = SystemClock::Get();  // not owned
  uint64_t seed = 0;                  // for jitter and ids; 0: from the operating system
};

// A migration, resolved once; a small value. Valid for the client that made it.
class MigrationHandle {
 public:
  uint32_t index() const { return index_; }

 private:
  friend class Client;
  explicit MigrationHandle(uint32_t index) : index_(index) {}
  uint32_t index_;
};

// What to do for one key, and the promise that the epoch it was decided under is not given up before the
// handle is gone: hold it until every read and write of the operation has ended. Move-only; may be destroyed
// on any thread; must not outlive the client.
class RouteHandle {
 public:
  RouteHandle(RouteHandle&&) noexcept = default;
  RouteHandle& operator=(RouteHandle&&) noexcept = default;

  const domain::Decision& decision() const { return decision_; }
  uint64_t epoch() const { return decision_.epoch; }
  uint64_t generation() const { return routing_->state.generation; }
  domain::Stage stage() const { return routing_->state.stage; }
  // Valid as long as the handle.
  const domain::Contract& contract() const { return routing_->contract; }
  const domain::RoutingState& state() const { return routing_->state; }
  // Full resource name; valid as long as the handle.
  absl::string_view migration() const { return routing_->name; }
  // The lease had run out when this was decided.
  bool stale() const { return stale_; }
  // For TelemetryRecorder.
  Attribution attribution() const {
    return {index_, routing_->state.generation, decision_.epoch, routing_->contract.revision};
  }
  // The same: the routing key, or a name that the service prefers (see Subject). Refers to `name`.
  Subject SubjectNamed(absl::string_view name) const { return {name, routing_->state.salt_seed}; }

 private:
  friend class Client;
  RouteHandle() = default;

  internal::SnapshotPin pin_;
  const domain::MigrationRouting* routing_ = nullptr;
  domain::Decision decision_;
  uint32_t index_ = 0;
  bool stale_ = false;
};

struct ClientStats {
  bool connected = false;              // a stream is open and has delivered
  bool stale = false;                  // see above
  uint64_t snapshot_revision = 0;      // in force; 0: none yet
  uint64_t acknowledged_revision = 0;  // last one acknowledged on the current stream
  uint64_t snapshots_rejected = 0;
  std::string last_rejection;  // why, for people
  uint64_t reconnects = 0;     // streams opened after the first
  uint64_t operations_pinned = 0;
  uint64_t repairs_outstanding = 0;
  uint64_t batches_acknowledged = 0;
  uint64_t telemetry_dropped = 0;      // operations whose counts were dropped
  uint64_t operations_unreported = 0;  // collected and not acknowledged yet
};

// Thread-safe. One per process is usual.
class Client {
 public:
  // Starts connecting and returns. INVALID_ARGUMENT for options that make no sense, naming the option.
  static absl::StatusOr<std::unique_ptr<Client>> Create(ClientOptions options);

  // Ends at once, without leaving: call Shutdown first. No RouteHandle and no call may be left.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Until the first snapshot has come. DEADLINE_EXCEEDED says what the connection's last error was.
  // `deadline` is by the client's clock.
  absl::Status WaitUntilReady(absl::Time deadline);

  // INVALID_ARGUMENT for a malformed name, NOT_FOUND for a migration that was not in
  // ClientOptions::migrations.
  absl::StatusOr<MigrationHandle> Resolve(absl::string_view migration) const;

  // By handle: no lock, no allocation, no I/O unless it fails. `key` is 1 to 1,024 bytes; `attributes` may be
  // null. INVALID_ARGUMENT: the key. UNAVAILABLE: no snapshot has come yet. FAILED_PRECONDITION: the control
  // plane doesn't know the migration, or the client was shut down.
  absl::StatusOr<RouteHandle> Route(MigrationHandle migration, absl::string_view key,
                                    const domain::Attributes* attributes = nullptr) const;
  // The same with the errors of Resolve.
  absl::StatusOr<RouteHandle> Route(absl::string_view migration, absl::string_view key,
                                    const domain::Attributes* attributes = nullptr) const;

  // What a backfill worker's counts belong to (TelemetryRecorder::RecordBackfill): the state in force now.
  // Ask again for each report, because it changes. Errors as of Route.
  absl::StatusOr<Attribution> PresentAttribution(MigrationHandle migration) const;

  // Stops comparisons and routing, then, until `deadline` by the client's clock: waits for operations to end,
  // repairs what mirrors missed, sends the telemetry, and gives the enrolment up. Idempotent: later calls
  // return the first one's answer. OK: nothing is left. DEADLINE_EXCEEDED says what is: operations still
  // running (the enrolment is kept then, so that fences go on waiting for them), mirror writes not repaired,
  // operations not reported.
  absl::Status Shutdown(absl::Time deadline);

  const std::string& instance_id() const;
  ClientStats Stats() const;
  // False once Shutdown has begun.
  bool accepts_comparisons() const;

  TelemetryRecorder& telemetry() const;
  Executor& executor() const;
  Clock& clock() const;
  // Unique per call over all processes; for writes that bring no idempotency key.
  std::string NextIdempotencyKey() const;
  // Another number at each call, all determined by ClientOptions::seed; for what needs a Prng of its own.
  uint64_t NextSeed() const;
  // For Migrator.
  const std::shared_ptr<internal::RepairQueue>& repair_queue() const;

 private:
  struct Parts;
  explicit Client(std::unique_ptr<Parts> parts);
  // Of the migration, in the pinned snapshot. Errors as of Route.
  absl::StatusOr<const domain::MigrationRouting*> RoutingOf(const internal::SnapshotPin& pin,
                                                            MigrationHandle migration) const;
  // Why there is nothing to route by.
  absl::Status NoSnapshot() const;

  std::unique_ptr<Parts> parts_;
};

}  // namespace lockstep
