// A service's connection to Lockstep: which side to use for a key, decided in process.
//
//   auto client = lockstep::ConnectGrpc({.address = "lockstepd:7420"},
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
// paused canary. With a state directory that also holds over a restart: the client boots, stale, with the
// last good snapshot from disk. A cold start with neither is an explicit error, never an assumed OFF.
//
// A client belongs to the process that made it. In a fork()ed child every call says FAILED_PRECONDITION, and
// destroying it there does nothing: two processes must not act as one instance.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/domain/decision.h"
#include "core/domain/snapshot.h"
#include "lockstep/executor.h"
#include "lockstep/internal/fork_generation.h"
#include "lockstep/internal/lease_standing.h"
#include "lockstep/internal/name_index.h"
#include "lockstep/internal/snapshot_ring.h"
#include "lockstep/state_storage.h"
#include "lockstep/telemetry.h"
#include "lockstep/transport.h"

namespace lockstep {

namespace internal {
class HeldWrites;
class MirrorJournal;
class RepairQueue;
class Session;
class SliceChecker;
}  // namespace internal

struct ClientOptions {
  std::shared_ptr<Transport> transport;  // required
  std::string service;                   // required: 1 to 63 characters
  std::string version;                   // the service's own
  std::vector<std::string> migrations;   // required: "ns/id" or full names, at most 1000

  // Stable identity, the same over restarts where the service has one. Empty: the one in the state directory,
  // or else a random UUID, logged. One that differs from the state directory's is an error.
  std::string instance_id;

  // Where the last good snapshot, the enrolment and the mirror journal are kept over a restart; one directory
  // for each instance, made with mode 0700 if it isn't there. Empty: nothing is kept.
  std::string state_directory;
  // Takes the place of `state_directory`, for services with a storage of their own and for tests.
  std::shared_ptr<StateStorage> state_storage;
  // Syncs the mirror journal to disk before each write, so that it survives the machine and not only the
  // process. Costs a disk sync per mirrored write. Calls that are written behind are synced in any case.
  bool sync_journal = false;

  absl::Duration heartbeat_interval = absl::Seconds(5);
  // Without an answer for this long the client is stale. At least twice the heartbeat interval, and within
  // domain::kMinLeaseTtl and kMaxLeaseTtl.
  absl::Duration lease_ttl = domain::kDefaultLeaseTtl;
  // What happens then. KEEP_SERVING: reads and writes go on, by the last epoch; fences wait for this instance
  // until it is back, leaves or is evicted. FAIL_WRITES: writes are refused with UNAVAILABLE from shortly
  // before the end of the lease on (a margin for clocks that run at other rates). From DUAL_WRITE to
  // CANARY_READ fences then need not wait, unless this instance has said that it owes mirror writes; where
  // authority moves, and into NEW_ONLY, they wait as with KEEP_SERVING.
  domain::LeasePolicy lease_policy = domain::LeasePolicy::kKeepServing;
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

  // False: the client has no thread; the service calls Client::RunOnce. For services with an event loop of
  // their own, and for simulations.
  bool own_thread = true;

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

  // Worked out at each call, from what was looked up when the handle was made.
  domain::Decision decision() const {
    return ABSL_PREDICT_FALSE(stale()) ? FromAuthority() : domain::DecideBy(migration_->rule, facts_);
  }
  uint64_t epoch() const { return migration_->rule.epoch; }
  uint64_t generation() const { return state().generation; }
  domain::Stage stage() const { return state().stage; }
  // Valid as long as the handle.
  const domain::Contract& contract() const { return migration_->routing->contract; }
  const domain::RoutingState& state() const { return migration_->routing->state; }
  // Full resource name; valid as long as the handle.
  absl::string_view migration() const { return migration_->routing->name; }
  // Which history of the control plane's data the epoch is a number of.
  uint64_t store_epoch() const { return pin_.slot()->snapshot.store_epoch; }
  // The lease had run out when this was decided.
  bool stale() const { return standing_.stale(); }
  // Numbers the unbroken spans of the lease; see Client::CheckMayWrite.
  uint32_t lease_term() const { return standing_.term(); }
  // For TelemetryRecorder.
  Attribution attribution() const { return {migration_->index, generation(), epoch(), contract().revision}; }
  // The same: the routing key, or a name that the service prefers (see Subject). Refers to `name`.
  Subject SubjectNamed(absl::string_view name) const { return {name, migration_->rule.salt_seed}; }

 private:
  friend class Client;
  // Lets only Client make one, within a StatusOr.
  struct MadeByClient {};

 public:
  RouteHandle(MadeByClient, internal::SnapshotPin pin, const internal::RoutedMigration& migration,
              const domain::KeyFacts& facts, internal::LeaseStanding standing)
      : pin_(std::move(pin)), migration_(&migration), facts_(facts), standing_(standing) {}

 private:
  // What a stale client does instead.
  [[gnu::cold]] domain::Decision FromAuthority() const;

  internal::SnapshotPin pin_;
  const internal::RoutedMigration* migration_;
  domain::KeyFacts facts_;
  internal::LeaseStanding standing_;
};

struct ClientStats {
  bool connected = false;              // a stream is open and has delivered
  bool stale = false;                  // see above
  uint64_t snapshot_revision = 0;      // in force; 0: none yet
  uint64_t accepted_revision = 0;      // last one accepted on the current stream
  uint64_t acknowledged_revision = 0;  // last one acknowledged on the current stream
  uint64_t snapshots_rejected = 0;
  std::string last_rejection;  // why, for people
  uint64_t reconnects = 0;     // streams opened after the first
  uint64_t operations_pinned = 0;
  uint64_t repairs_outstanding = 0;
  uint64_t held_writes_waiting = 0;                    // for write authority over their bucket to move
  uint64_t held_writes_ended = 0;                      // resumed by a snapshot, or given up
  absl::Duration longest_hold = absl::ZeroDuration();  // of these
  uint64_t state_writes_failed = 0;  // to the state directory; nothing is acknowledged meanwhile
  std::string last_state_error;      // of these, for people
  uint64_t batches_acknowledged = 0;
  uint64_t telemetry_dropped = 0;      // operations whose counts were dropped
  uint64_t operations_unreported = 0;  // collected and not acknowledged yet
};

// What becomes of the enrolment at a shutdown.
enum class Departure : uint8_t {
  // With a state directory it is kept: the next process of the instance goes on from there, control plane or
  // not, and
  // until then fences count the instance. Without one it is given up.
  kMayComeBack,
  // It is given up: for an instance that is not started again. Not while mirrors are left that nobody else
  // knows
  // of: the enrolment is kept then, and Shutdown says what an operator has to do.
  kForGood,
};

// Thread-safe. One per process is usual.
class Client {
 public:
  // Starts connecting and returns. INVALID_ARGUMENT for options that make no sense, naming the option, also
  // for an instance_id or service that is not the state directory's. DATA_LOSS: the state directory is
  // damaged; the message names the file and what to do. FAILED_PRECONDITION: another process has the state
  // directory. Errors of the disk as they are.
  static absl::StatusOr<std::unique_ptr<Client>> Create(ClientOptions options);

  // Ends at once, without leaving: call Shutdown first. No RouteHandle and no call may be left.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Until there is a snapshot, from the control plane or from the state directory. DEADLINE_EXCEEDED says
  // what the connection's last error was. `deadline` is by the client's clock.
  absl::Status WaitUntilReady(absl::Time deadline);

  // With ClientOptions::own_thread = false: does what is due, and returns how long until something else is
  // unless something arrives; never negative. What has arrived waits for the next call, so a service calls it
  // every few milliseconds. One thread at a time, WaitUntilReady and Shutdown included, which do the same
  // meanwhile.
  absl::Duration RunOnce();

  // INVALID_ARGUMENT for a malformed name, NOT_FOUND for a migration that was not in
  // ClientOptions::migrations.
  absl::StatusOr<MigrationHandle> Resolve(absl::string_view migration) const;

  // By handle: no lock, no allocation, no I/O unless it fails. `key` is 1 to 1,024 bytes; `attributes` may be
  // null. INVALID_ARGUMENT: the key. UNAVAILABLE: no snapshot has come yet, or the one in the state directory
  // is from before the service had the migration. FAILED_PRECONDITION: the control plane doesn't know the
  // migration, the client was shut down, or the process was fork()ed from the one that made it.
  absl::StatusOr<RouteHandle> Route(MigrationHandle migration, absl::string_view key,
                                    const domain::Attributes* attributes = nullptr) const;
  // The same with the errors of Resolve.
  absl::StatusOr<RouteHandle> Route(absl::string_view migration, absl::string_view key,
                                    const domain::Attributes* attributes = nullptr) const;

  // The epoch of the migration that is in force; 0 when there is none.
  uint64_t EpochInForce(MigrationHandle migration) const;

  // FAILED_PRECONDITION in a child of fork(), which has neither the threads nor the enrolment of its parent.
  absl::Status CheckProcess() const;

  // Whether writes may be made: always with KEEP_SERVING. With FAIL_WRITES and the lease over: UNAVAILABLE,
  // to be tried again, saying since when. With `route`: also UNAVAILABLE when the lease has been over since
  // it was decided, even if it has been won again, because the control plane did not wait for it: take a new
  // route.
  absl::Status CheckMayWrite() const;
  absl::Status CheckMayWrite(const RouteHandle& route) const;
  // The same, asked right before a write, and the latest moment, by the client's clock, until which that
  // write may go on: `wanted`, but with FAIL_WRITES not beyond the end of the lease. `route` may be null.
  absl::StatusOr<absl::Time> MayWriteUntil(absl::Time wanted, const RouteHandle* route) const;

  // What a backfill worker's counts belong to (TelemetryRecorder::RecordBackfill): the state in force now.
  // Ask again for each report, because it changes. Errors as of Route.
  absl::StatusOr<Attribution> PresentAttribution(MigrationHandle migration) const;

  // Stops comparisons and routing, then, until `deadline` by the client's clock: waits for operations to end,
  // repairs what mirrors missed, sends the telemetry, and gives the enrolment up or keeps it (see Departure).
  // Idempotent: later calls return the first one's answer. OK: nothing is left. DEADLINE_EXCEEDED says what
  // is: operations still running (the enrolment is kept then, so that fences go on waiting for them), mirror
  // writes not repaired (with a state directory the enrolment is kept for them, too: they go on after the
  // restart), operations not reported.
  absl::Status Shutdown(absl::Time deadline, Departure departure = Departure::kMayComeBack);

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
  internal::HeldWrites& held_writes() const;
  internal::SliceChecker& slice_checker() const;
  // Null without a state directory.
  const std::shared_ptr<StateStorage>& state_storage() const;
  std::shared_ptr<internal::MirrorJournal> mirror_journal(MigrationHandle migration) const;

 private:
  struct Parts;
  explicit Client(std::unique_ptr<Parts> parts);
  // Of the migration, in the pinned snapshot. Errors as of Route.
  absl::StatusOr<const domain::MigrationRouting*> RoutingOf(const internal::SnapshotPin& pin,
                                                            MigrationHandle migration) const;
  // Why writes are refused; nothing: the lease has never been won.
  absl::Status LeaseOver(std::optional<absl::Duration> since) const;
  // Why there is nothing to route by.
  absl::Status NoSnapshot() const;
  // Why Route has no answer: the key or the process; the snapshot.
  [[gnu::cold]] absl::Status WhyNoRoute(absl::string_view key) const;
  [[gnu::cold]] absl::Status WhyNoRoute(internal::SnapshotPin pin, MigrationHandle migration) const;

  // What Route reads, of parts_.
  const internal::SnapshotRing* const ring_;
  const internal::NameIndex* const names_;
  const std::atomic<internal::LeaseStanding>* const standing_;
  const uint32_t fork_generation_;

  std::unique_ptr<Parts> parts_;
};

// In the header, so that a caller pays for what it uses of the answer. Each result is built where the caller
// wants it: one that is made first and moved then would cost as much as the decision.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline absl::StatusOr<RouteHandle> Client::Route(
    MigrationHandle migration, absl::string_view key, const domain::Attributes* attributes) const {
  const bool key_is_valid = key.size() - 1 < domain::kMaxKeyBytes;  // an empty one wraps around
  if (ABSL_PREDICT_FALSE(!key_is_valid || internal::ForkGeneration() != fork_generation_)) {
    return WhyNoRoute(key);
  }
  // Before the pin: a snapshot that came with a new term of the lease is never taken for one of the term
  // before.
  const internal::LeaseStanding standing = standing_->load(std::memory_order_acquire);
  internal::SnapshotPin pin = ring_->PinCurrent(migration.index());
  if (ABSL_PREDICT_FALSE(pin.slot() == nullptr)) return WhyNoRoute(std::move(pin), migration);
  const internal::RoutedMigration& routed = pin.slot()->Of(migration.index());
  if (ABSL_PREDICT_FALSE(routed.routing == nullptr)) return WhyNoRoute(std::move(pin), migration);
  return absl::StatusOr<RouteHandle>(absl::in_place, RouteHandle::MadeByClient(), std::move(pin), routed,
                                     domain::LookUp(routed.rule, key, attributes), standing);
}

inline absl::StatusOr<RouteHandle> Client::Route(absl::string_view migration, absl::string_view key,
                                                 const domain::Attributes* attributes) const {
  const uint32_t* const index = names_->Find(migration);
  if (ABSL_PREDICT_FALSE(index == nullptr)) return Resolve(migration).status();
  return Route(MigrationHandle(*index), key, attributes);
}

}  // namespace lockstep
