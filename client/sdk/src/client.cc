#include "lockstep/client.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/sdk/src/client_options.h"
#include "client/sdk/src/client_state.h"
#include "client/sdk/src/session.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "core/base/status_macros.h"
#include "core/domain/migration.h"
#include "lockstep/internal/fork_generation.h"
#include "lockstep/internal/held_writes.h"
#include "lockstep/internal/mirror_journal.h"
#include "lockstep/internal/repair_queue.h"
#include "lockstep/internal/slice_checker.h"

namespace lockstep {
namespace {

// How often a waiting call looks at the client's clock.
constexpr absl::Duration kWaitPoll = absl::Milliseconds(2);
// Repairs back off for seconds; at shutdown there is no time for that.
constexpr absl::Duration kHastenInterval = absl::Milliseconds(100);
// For the server's end of stream after Leave.
constexpr absl::Duration kLeaveTimeout = absl::Seconds(1);

absl::Status Forked() {
  return absl::FailedPreconditionError(
      "this process was fork()ed from the one that made the client, and must not act as the same instance: "
      "make a "
      "new Client in the child");
}

// By full and by short name.
std::vector<internal::NameIndex::Entry> NamesOf(const std::vector<std::string>& full,
                                                const std::vector<std::string>& short_names) {
  std::vector<internal::NameIndex::Entry> entries;
  for (uint32_t i = 0; i < full.size(); ++i) {
    entries.push_back({full[i], i});
    entries.push_back({short_names[i], i});
  }
  return entries;
}

std::vector<std::string> ShortNamesOf(const std::vector<std::string>& full) {
  std::vector<std::string> names;
  for (const std::string& name : full) names.push_back(domain::ShortMigrationName(name));
  return names;
}

}  // namespace

struct Client::Parts {
  // `restored` has the instance's id.
  Parts(ClientOptions opts, std::vector<std::string> names, internal::StoredClientState restored,
        uint64_t seed)
      : options(std::move(opts)),
        migrations(std::move(names)),
        short_names(ShortNamesOf(migrations)),
        index(NamesOf(migrations, short_names)),
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
    held_writes = std::make_shared<internal::HeldWrites>(options.executor.get(), options.clock);
    slice_checker =
        std::make_shared<internal::SliceChecker>(migrations, options.executor.get(), options.clock);
    internal::SessionOptions session_options{.enrolment = {.instance_id = options.instance_id,
                                                           .service = options.service,
                                                           .version = options.version,
                                                           .migrations = migrations,
                                                           .lease_ttl = options.lease_ttl,
                                                           .lease_policy = options.lease_policy},
                                             .heartbeat_interval = options.heartbeat_interval,
                                             .backoff_initial = options.backoff_initial,
                                             .backoff_max = options.backoff_max,
                                             .telemetry_interval = options.telemetry_interval,
                                             .reporter = {options.instance_id, options.max_pending_deltas,
                                                          options.backoff_initial, options.backoff_max}};
    const internal::SessionParts session_parts{.transport = options.transport.get(),
                                               .ring = &ring,
                                               .telemetry = &telemetry,
                                               .repairs = repairs.get(),
                                               .held_writes = held_writes.get(),
                                               .slice_checker = slice_checker.get(),
                                               .state_storage = options.state_storage.get(),
                                               .clock = options.clock};
    session =
        std::make_unique<internal::Session>(std::move(session_options), session_parts, prng.Next(),
                                            internal::RestrictClientState(std::move(restored), migrations));
    first_seed = prng.Next();
  }

  void RunThread() {
    while (!stop.load(std::memory_order_acquire)) session->Wait(session->RunOnce());
  }

  // Between two looks at something that another thread brings about; without a thread of its own, this is the
  // one.
  void Pause() {
    if (!options.own_thread) session->RunOnce();
    absl::SleepFor(kWaitPoll);
  }

  bool forked() const { return internal::ForkGeneration() != fork_generation; }

  void StopThread() {
    stop.store(true, std::memory_order_release);
    session->Wake();
    if (thread.joinable()) thread.join();
  }

  // Mirrors that are open, as the state directory has them.
  size_t JournalledMirrors() const;
  absl::Status LeftOver(size_t repairs_left);
  std::string KeptUntilEvicted() const;
  absl::Status DoShutdown(absl::Time deadline, Departure departure);

  const uint32_t fork_generation = internal::ForkGeneration();
  ClientOptions options;
  const std::vector<std::string> migrations;   // sorted
  const std::vector<std::string> short_names;  // of these
  const internal::NameIndex index;
  internal::SnapshotRing ring;
  TelemetryRecorder telemetry;
  std::shared_ptr<ThreadPoolExecutor> own_executor;  // null: the service's
  std::shared_ptr<internal::RepairQueue> repairs;
  std::shared_ptr<internal::HeldWrites> held_writes;
  std::shared_ptr<internal::SliceChecker> slice_checker;
  std::unique_ptr<internal::MirrorJournals> journals;  // null without a state directory
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

Client::Client(std::unique_ptr<Parts> parts)
    : ring_(&parts->ring),
      names_(&parts->index),
      standing_(&parts->session->standing()),
      fork_generation_(parts->fork_generation),
      parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  LOCKSTEP_RETURN_IF_ERROR(internal::ValidateOptions(options));
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<std::string> names, internal::MigrationNames(options));
  internal::WatchForForks();
  const uint64_t seed = options.seed != 0 ? options.seed : SystemSeed();
  const std::string new_id = Prng(seed).Uuid();
  internal::StoredClientState restored;
  if (options.state_storage == nullptr && !options.state_directory.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(options.state_storage, OpenStateDirectory(options.state_directory));
  }
  if (options.state_storage != nullptr) {
    LOCKSTEP_ASSIGN_OR_RETURN(
        restored, internal::OpenClientState(*options.state_storage, options.state_directory, options.service,
                                            options.instance_id, new_id));
    options.instance_id = restored.instance_id;
  }
  if (options.instance_id.empty()) options.instance_id = new_id;
  Log(LogLevel::kInfo, "lockstep client starts",
      {{"instance", options.instance_id},
       {"service", options.service},
       {"migrations", absl::StrJoin(names, ",")},
       {"restored_revision",
        restored.snapshot.has_value() ? absl::StrCat(restored.snapshot->revision) : std::string("none")},
       {"seed", absl::StrCat(seed)}});
  auto parts = std::make_unique<Parts>(std::move(options), std::move(names), std::move(restored),
                                       seed ^ 0x9e3779b97f4a7c15u);
  Parts* const running = parts.get();
  if (running->options.state_storage != nullptr) {
    LOCKSTEP_ASSIGN_OR_RETURN(running->journals, internal::MirrorJournals::Open(
                                                     running->options.state_storage, running->migrations,
                                                     running->options.sync_journal, running->repairs.get()));
  }
  if (running->options.own_thread) running->thread = std::thread([running] { running->RunThread(); });
  return std::unique_ptr<Client>(new Client(std::move(parts)));
}

Client::~Client() {
  if (parts_->forked()) {
    // Threads, locks and connections are the parent's; here they are only bytes.
    static_cast<void>(parts_.release());
    return;
  }
  parts_->accepts_comparisons.store(false, std::memory_order_relaxed);
  parts_->StopThread();
  parts_->held_writes->Close();
  parts_->slice_checker->Close();
  parts_->repairs->Close();
  if (parts_->own_executor != nullptr) parts_->own_executor->Stop();
}

absl::Status Client::WaitUntilReady(absl::Time deadline) {
  if (parts_->forked()) return Forked();
  const internal::Session& session = *parts_->session;
  while (!session.ready()) {
    if (session.closed()) return absl::FailedPreconditionError("the client was shut down");
    if (parts_->options.clock->Now() >= deadline) {
      const absl::Status error = session.last_error();
      return absl::DeadlineExceededError(absl::StrCat(
          "no snapshot from the control plane yet; ",
          error.ok() ? "no connection has failed so far" : absl::StrCat("last error: ", error.ToString())));
    }
    parts_->Pause();
  }
  return absl::OkStatus();
}

absl::Duration Client::RunOnce() {
  LOCKSTEP_CHECK(!parts_->options.own_thread, "RunOnce is for clients with own_thread = false");
  return parts_->forked() ? absl::InfiniteDuration() : parts_->session->RunOnce();
}

absl::StatusOr<MigrationHandle> Client::Resolve(absl::string_view migration) const {
  if (const uint32_t* const index = names_->Find(migration)) return MigrationHandle(*index);
  LOCKSTEP_RETURN_IF_ERROR(domain::ParseMigrationName(migration).status());
  return absl::NotFoundError(absl::StrCat(migration, " is not in ClientOptions::migrations (",
                                          absl::StrJoin(parts_->migrations, ", "), ")"));
}

absl::StatusOr<const domain::MigrationRouting*> Client::RoutingOf(const internal::SnapshotPin& pin,
                                                                  MigrationHandle migration) const {
  if (pin.slot() == nullptr) return NoSnapshot();
  const domain::MigrationRouting* const routing = pin.slot()->Of(migration.index()).routing;
  if (routing == nullptr && !parts_->session->heard()) {
    return absl::UnavailableError(
        absl::StrCat("the snapshot in the state directory has no ", parts_->migrations[migration.index()],
                     ", and the control plane has not been heard of since the start; no side is assumed"));
  }
  if (routing == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("the control plane knows no migration ",
                                                      parts_->migrations[migration.index()],
                                                      "; create it before the service routes by it"));
  }
  return routing;
}

absl::Status Client::WhyNoRoute(absl::string_view key) const {
  if (parts_->forked()) return Forked();
  return absl::InvalidArgumentError(
      absl::StrCat("a routing key has 1 to ", domain::kMaxKeyBytes, " bytes; this one has ", key.size()));
}

absl::Status Client::WhyNoRoute(internal::SnapshotPin pin, MigrationHandle migration) const {
  return RoutingOf(pin, migration).status();
}

// While the control plane can't be heard, a rollback may have been missed: the side that is written first is
// right in every case.
domain::Decision RouteHandle::FromAuthority() const {
  domain::Decision decision = domain::DecideBy(migration_->rule, facts_);
  decision.compare = false;
  switch (decision.write_mode) {
    case domain::WriteMode::kOldOnly:
    case domain::WriteMode::kOldThenNew:
      decision.read_side = domain::Side::kOld;
      break;
    case domain::WriteMode::kHeld:
      break;  // nothing is being written: both sides are right
    case domain::WriteMode::kNewThenOld:
    case domain::WriteMode::kNewOnly:
      decision.read_side = domain::Side::kNew;
      break;
  }
  return decision;
}

uint64_t Client::EpochInForce(MigrationHandle migration) const {
  const internal::SnapshotPin pin = parts_->ring.PinCurrent(migration.index());
  if (pin.slot() == nullptr) return 0;
  const domain::MigrationRouting* const routing = pin.slot()->Of(migration.index()).routing;
  return routing == nullptr ? 0 : routing->state.epoch;
}

absl::Status Client::CheckProcess() const { return parts_->forked() ? Forked() : absl::OkStatus(); }

absl::Status Client::CheckMayWrite() const { return MayWriteUntil(absl::InfiniteFuture(), nullptr).status(); }

absl::Status Client::CheckMayWrite(const RouteHandle& route) const {
  return MayWriteUntil(absl::InfiniteFuture(), &route).status();
}

absl::StatusOr<absl::Time> Client::MayWriteUntil(absl::Time wanted, const RouteHandle* route) const {
  if (parts_->forked()) return Forked();
  const internal::Lease& lease = parts_->session->lease();
  if (!lease.fails_writes()) return wanted;
  // The end before the term, which is raised first: so the end is never that of a later term.
  const absl::Duration end = lease.end();
  const uint32_t term = lease.term();
  const Clock& clock = *parts_->options.clock;
  const absl::Time time = clock.Now();
  const absl::Duration now = clock.SinceBoot();
  if (now > end) return LeaseOver(term == 0 ? std::nullopt : std::make_optional(now - end));
  if (route != nullptr && route->lease_term() != term) {
    return absl::UnavailableError(
        "writes are refused (lease policy FAIL_WRITES): the lease ended since this one was routed; nothing "
        "was "
        "written, try again");
  }
  return std::min(wanted, time + (end - now));
}

absl::Status Client::LeaseOver(std::optional<absl::Duration> since) const {
  const absl::Status error = parts_->session->last_error();
  return absl::UnavailableError(absl::StrCat(
      "writes are refused (lease policy FAIL_WRITES): the lease ",
      since.has_value()
          ? absl::StrCat("ended ", absl::FormatDuration(absl::Trunc(*since, absl::Milliseconds(1))), " ago")
          : std::string("has not been won yet"),
      error.ok() ? "" : absl::StrCat("; last error: ", error.ToString()),
      "; nothing was written, try again"));
}

absl::StatusOr<Attribution> Client::PresentAttribution(MigrationHandle migration) const {
  if (parts_->forked()) return Forked();
  const internal::SnapshotPin pin = parts_->ring.PinCurrent(migration.index());
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

absl::Status Client::Shutdown(absl::Time deadline, Departure departure) {
  if (parts_->forked()) return Forked();
  MutexLock lock(&parts_->shutdown_mutex);
  if (!parts_->shutdown_result.has_value()) parts_->shutdown_result = parts_->DoShutdown(deadline, departure);
  return *parts_->shutdown_result;
}

absl::Status Client::Parts::DoShutdown(absl::Time deadline, Departure departure) {
  accepts_comparisons.store(false, std::memory_order_relaxed);
  session->Close();
  // Authority will not move for them any more: they end, and their operations with them.
  held_writes->Close();
  slice_checker->Close();
  absl::Duration hasten_at = absl::ZeroDuration();
  const auto settled = [this] { return ring.PinCount() == 0 && repairs->outstanding() == 0; };
  while (!settled() && options.clock->Now() < deadline) {
    if (repairs->outstanding() > 0 && options.clock->SinceBoot() >= hasten_at) {
      repairs->Hasten();
      hasten_at = options.clock->SinceBoot() + kHastenInterval;
    }
    Pause();
  }
  const size_t repairs_left = repairs->outstanding();
  repairs->Close();
  // Only what was collected after the last operation ended can be complete, so the session starts over once.
  const uint64_t rounds = session->rounds();
  while ((session->rounds() < rounds + 2 || !session->flushed()) && options.clock->Now() < deadline) {
    Pause();
  }
  const bool may_come_back = departure == Departure::kMayComeBack && options.state_storage != nullptr;
  // What the journals hold is repaired after the restart, and its epochs count until then. Without one nobody
  // knows of the repairs any more: a person has to, before fences stop waiting for them.
  const bool owes_nothing = JournalledMirrors() == 0 && repairs_left == 0 && repairs->refused() == 0;
  if (!may_come_back && ring.PinCount() == 0 && owes_nothing) {
    session->Leave();
    const absl::Duration give_up = SystemClock::Get()->SinceBoot() + kLeaveTimeout;
    while (!session->left() && SystemClock::Get()->SinceBoot() < give_up) Pause();
  }
  StopThread();
  return LeftOver(repairs_left);
}

size_t Client::Parts::JournalledMirrors() const {
  size_t open = 0;
  for (uint32_t i = 0; journals != nullptr && i < migrations.size(); ++i) open += journals->of(i)->open();
  return open;
}

std::string Client::Parts::KeptUntilEvicted() const {
  return absl::StrCat(
      ", so the enrolment was kept: compare and copy what this instance has written lately, and then evict "
      "instance ",
      options.instance_id, "; evicted before, the authority may move to the side that lacks these writes");
}

absl::Status Client::Parts::LeftOver(size_t repairs_left) {
  std::vector<std::string> left;
  if (const uint64_t pins = ring.PinCount(); pins > 0) {
    left.push_back(absl::StrCat(pins, " operations still running, so the enrolment was kept: evict instance ",
                                options.instance_id, " once they are gone"));
  }
  if (const size_t journalled = JournalledMirrors(); journalled > 0) {
    left.push_back(absl::StrCat(journalled,
                                " mirror writes in the state directory, so the enrolment was kept: they "
                                "go on when the instance is started again"));
  } else if (repairs_left > 0) {
    left.push_back(absl::StrCat(repairs_left, " mirror writes not repaired", KeptUntilEvicted()));
  }
  if (const uint64_t refused = repairs->refused(); refused > 0) {
    left.push_back(
        absl::StrCat(refused,
                     " failed mirror writes that had found no place in the repair queue, or whose outcome "
                     "nothing could tell",
                     KeptUntilEvicted()));
  }
  const ClientStats stats = session->Stats();
  if (session->enrolment_kept()) {
    left.push_back(absl::StrCat("the enrolment, because the state directory can't be written: ",
                                stats.last_state_error));
  }
  if (!session->flushed() || stats.operations_unreported > 0) {
    left.push_back(absl::StrCat(stats.operations_unreported, " operations not reported"));
  }
  if (left.empty()) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat("left at shutdown: ", absl::StrJoin(left, "; ")));
}

const std::string& Client::instance_id() const { return parts_->options.instance_id; }

ClientStats Client::Stats() const {
  if (parts_->forked()) return ClientStats();
  ClientStats stats = parts_->session->Stats();
  stats.operations_pinned = parts_->ring.PinCount();
  const internal::OpenMirrors open = parts_->repairs->Counts();
  stats.repairs_outstanding = open.repairs + open.queued_mirrors;
  const internal::HeldWriteStats held = parts_->held_writes->Stats();
  stats.held_writes_waiting = held.waiting;
  stats.held_writes_ended = held.resumed + held.expired;
  stats.longest_hold = held.longest;
  return stats;
}

bool Client::accepts_comparisons() const {
  return parts_->accepts_comparisons.load(std::memory_order_relaxed);
}
TelemetryRecorder& Client::telemetry() const { return parts_->telemetry; }
Executor& Client::executor() const { return *parts_->options.executor; }
Clock& Client::clock() const { return *parts_->options.clock; }
const std::shared_ptr<internal::RepairQueue>& Client::repair_queue() const { return parts_->repairs; }
internal::HeldWrites& Client::held_writes() const { return *parts_->held_writes; }
internal::SliceChecker& Client::slice_checker() const { return *parts_->slice_checker; }
const std::shared_ptr<StateStorage>& Client::state_storage() const { return parts_->options.state_storage; }
std::shared_ptr<internal::MirrorJournal> Client::mirror_journal(MigrationHandle migration) const {
  return parts_->journals == nullptr ? nullptr : parts_->journals->of(migration.index());
}

uint64_t Client::NextSeed() const {
  return Prng(parts_->first_seed + parts_->seeds_given.fetch_add(1, std::memory_order_relaxed)).Next();
}

std::string Client::NextIdempotencyKey() const {
  return absl::StrCat(parts_->idempotency_prefix,
                      parts_->next_idempotency_key.fetch_add(1, std::memory_order_relaxed));
}

}  // namespace lockstep
