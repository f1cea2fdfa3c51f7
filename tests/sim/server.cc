#include "tests/sim/server.h"

#include <future>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "server/store/memory_store.h"

namespace lockstep::sim {
namespace {

constexpr absl::Duration kTick = absl::Seconds(1);
constexpr absl::Duration kDrainTime = absl::Milliseconds(300);

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <typename... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace

absl::StatusOr<uint64_t> CrashingStore::Commit(store::WriteBatch batch,
                                               std::optional<uint64_t> expected_revision) {
  if (dead_) return absl::UnavailableError("the process is dead");
  if (!healthy_ && scheduler_->now() > absl::ZeroDuration() && options_.Has(Fault::kServerDisk)) {
    const uint64_t dice = prng_.Below(400);
    if (dice < 2) return absl::ResourceExhaustedError("the disk is full");
    if (dice == 2) return absl::UnknownError("sync failed");  // torn away as a whole
    if (dice == 3) {
      ForwardingStore::Commit(std::move(batch), expected_revision).IgnoreError();
      return absl::UnknownError("sync failed");  // and yet it is there
    }
  }
  if (!healthy_ && options_.broken == Broken::kServerLosesCommits && prng_.Below(10) == 0) {
    return ForwardingStore::Commit(store::WriteBatch(), expected_revision);
  }
  return ForwardingStore::Commit(std::move(batch), expected_revision);
}

Server::Server(Scheduler* scheduler, Network* network, Oracle* oracle, SimStats* stats,
               const SimOptions& options, double clock_rate, Prng prng,
               std::function<void(std::string)> trace)
    : scheduler_(scheduler),
      network_(network),
      oracle_(oracle),
      stats_(stats),
      options_(options),
      prng_(std::move(prng)),
      trace_(std::move(trace)),
      clock_(scheduler, clock_rate, absl::Hours(1)),
      durable_(store::NewMemoryStore()) {}

Server::~Server() {
  network_->CloseAllAtServer(absl::UnavailableError("the run is over"));
  if (store_ != nullptr) store_->Die();
}

void Server::Start() {
  ++incarnation_;
  store_ = std::make_unique<CrashingStore>(durable_.get(), scheduler_, Prng(prng_.Next()), options_);
  if (healed_) store_->Heal();
  engine_ =
      std::make_unique<engine::Engine>(store_.get(), &codec_, &clock_, prng_.Next(), engine::EngineOptions{});
  if (const absl::Status started = engine_->Start(); !started.ok()) {
    trace_(absl::StrCat("server does not start: ", started.ToString()));
    engine_.reset();
    scheduler_->After(absl::Seconds(1), [this] { Start(); });
    return;
  }
  passed_by_ = PassedBy();
  trace_("server is up");
  scheduler_->After(kTick, [this, incarnation = incarnation_] {
    if (incarnation == incarnation_) Tick();
  });
}

void Server::Tick() {
  if (!up()) return;
  if (paused_) {
    tick_due_ = true;
    return;
  }
  if (const absl::Status ticked = engine_->Tick(); !ticked.ok()) {
    trace_(absl::StrCat("server's tick: ", ticked.ToString()));
  }
  LookForPassedBy();
  Look();
  scheduler_->After(kTick, [this, incarnation = incarnation_] {
    if (incarnation == incarnation_) Tick();
  });
}

std::set<std::string> Server::PassedBy() const {
  std::set<std::string> passed_by;
  for (const engine::InstanceView& instance : engine_->instances().List(kMigration)) {
    if (instance.passed_by) passed_by.insert(instance.instance_id);
  }
  return passed_by;
}

void Server::LookForPassedBy() {
  std::set<std::string> passed_by = PassedBy();
  for (const std::string& id : passed_by) {
    // One that has enrolled since stays passed by until it acknowledges.
    const auto process = enrolled_.find(id);
    if (process != enrolled_.end() && !passed_by_.contains(id)) oracle_->OnPassedBy(process->second);
  }
  passed_by_ = std::move(passed_by);
}

void Server::Look() {
  if (!up()) return;
  if (const absl::Status health = engine_->health(); !health.ok()) {
    trace_(absl::StrCat("server can't go on: ", health.ToString()));
    Crash(absl::Milliseconds(200));
    return;
  }
  const absl::StatusOr<engine::MigrationView> view = engine_->registry().Get(kMigration);
  if (!view.ok()) return;
  LookForDecisions(view->migration->plan);
  oracle_->OnPublished(view->migration->published);
}

void Server::LookForDecisions(const domain::MigrationPlan& plan) {
  constexpr size_t kAtOnce = 8;
  std::vector<domain::DecisionRecord> fresh;  // newest first
  while (fresh.empty() || fresh.back().number > decisions_seen_ + 1) {
    const uint64_t before = fresh.empty() ? 0 : fresh.back().number;
    const size_t limit = fresh.empty() ? 1 : kAtOnce;
    const auto page = engine_->registry().ListDecisions(kMigration, before, limit);
    if (!page.ok() || page->empty() || page->front().number <= decisions_seen_) break;
    fresh.insert(fresh.end(), page->begin(), page->end());
  }
  for (auto record = fresh.rbegin(); record != fresh.rend(); ++record) {
    if (record->number <= decisions_seen_) continue;
    decisions_seen_ = record->number;
    if (options_.broken != Broken::kGateForgets) oracle_->OnDecision(*record, plan);
  }
}

absl::StatusOr<ReportReply> Server::Report(const domain::TelemetryBatch& batch) {
  if (!up()) return absl::UnavailableError("connection refused");
  // The flusher has a thread of its own; while it works, everything else waits.
  std::promise<absl::StatusOr<engine::TelemetryReceipt>> taken;
  engine_->telemetry().Report(batch, [&taken](absl::StatusOr<engine::TelemetryReceipt> receipt) {
    taken.set_value(std::move(receipt));
  });
  const absl::StatusOr<engine::TelemetryReceipt> receipt = taken.get_future().get();
  Look();
  if (!receipt.ok()) return receipt.status();
  ++(receipt->duplicate ? stats_->repeated_reports : stats_->reports);
  return ReportReply{.duplicate = receipt->duplicate, .stale_deltas = receipt->stale_deltas};
}

absl::Status Server::Open(const ConnectionPtr& connection) {
  if (!up()) return absl::UnavailableError("connection refused");
  const StreamEnrolment& said = connection->enrolment;
  engine::EnrolRequest request;
  request.instance_id = said.instance_id;
  request.service = said.service;
  request.version = said.version;
  request.migrations = said.migrations;
  request.held = said.held;
  request.store_epoch = said.store_epoch;
  request.lease_ttl = said.lease_ttl;
  request.lease_policy = said.lease_policy;
  const auto wake = [this, weak = std::weak_ptr<Connection>(connection)] {
    scheduler_->After(absl::ZeroDuration(), [this, weak] {
      if (const ConnectionPtr alive = weak.lock()) Pump(alive);
    });
  };
  absl::StatusOr<std::unique_ptr<engine::InstanceSession>> session =
      engine::InstanceSession::Open(engine_.get(), request, wake);
  trace_(absl::StrCat("server: ", said.instance_id, " enrols over ", connection->id, " holding ",
                      request.held.empty() ? 0 : request.held.begin()->second, ": ",
                      session.status().ToString()));
  // What it makes possible is published with it, which may be the end of the server and of its sessions.
  const absl::Status enrolled = session.status();
  if (enrolled.ok()) connection->session = *std::move(session);
  Look();
  if (!enrolled.ok()) return enrolled;
  if (!up()) return absl::UnavailableError("the server is going down");
  std::erase_if(enrolled_, [&](const auto& known) { return known.second == connection->process; });
  enrolled_[said.instance_id] = connection->process;
  oracle_->OnEnrolled(connection->process);
  Pump(connection);
  return absl::OkStatus();
}

void Server::NoteClaim(int process, const HeldEpochs& held) {
  const auto epoch = held.find(kMigration);
  if (epoch != held.end()) oracle_->OnClaim(process, epoch->second);
}

absl::Status Server::Take(const std::function<absl::Status()>& message) {
  if (!up()) return absl::UnavailableError("the server is down");
  const absl::Status taken = message();
  Look();
  // What was said may ask for an answer.
  PumpAll();
  return taken;
}

void Server::PumpAll() {
  for (const ConnectionPtr& connection : std::vector<ConnectionPtr>(network_->connections()))
    Pump(connection);
}

void Server::Pump(const ConnectionPtr& connection) {
  while (up() && !paused_ && connection->session != nullptr) {
    std::optional<engine::InstanceMessage> message = connection->session->Next();
    if (!message.has_value()) return;
    Send(connection, *std::move(message));
    if (connection->session != nullptr && connection->session->drained()) {
      network_->CloseServer(connection, absl::UnavailableError("the server drains"));
    }
  }
}

void Server::Note(const ConnectionPtr& connection, const domain::MigrationRouting& routing) {
  oracle_->OnSent(routing.state);
  trace_(absl::StrCat("server sends epoch ", routing.state.epoch, " ", domain::StageName(routing.state.stage),
                      " read ", routing.state.read_weight, " drain ", routing.state.drain_weight, " write ",
                      routing.state.write_weight, " to ", connection->enrolment.instance_id));
  if (options_.broken != Broken::kNoFence) return;
  // As if the acknowledgement were there already.
  const HeldEpochs held{{routing.name, routing.state.epoch}};
  scheduler_->After(absl::ZeroDuration(), [this, connection, held] {
    if (up() && connection->session != nullptr) connection->session->OnAck(0, held, {}).IgnoreError();
    Look();
  });
}

void Server::Send(const ConnectionPtr& connection, engine::InstanceMessage message) {
  const auto newest = [connection](const std::vector<domain::MigrationRouting>& migrations) {
    for (const domain::MigrationRouting& routing : migrations)
      connection->newest[routing.name] = routing.state.epoch;
  };
  std::visit(
      Overloaded{[&](const engine::SnapshotMessage& sent) {
                   for (const domain::MigrationRouting& routing : sent.snapshot->migrations)
                     Note(connection, routing);
                   network_->SendDown(connection,
                                      [sent, newest](StreamHandler&) { newest(sent.snapshot->migrations); });
                   network_->SendSnapshot(connection, *sent.snapshot, sent.digest);
                 },
                 [&](const engine::DeltaMessage& sent) {
                   for (const domain::MigrationRouting& routing : sent.delta->changed)
                     Note(connection, routing);
                   network_->SendDown(connection,
                                      [sent, newest](StreamHandler&) { newest(sent.delta->changed); });
                   network_->SendDelta(connection, *sent.delta, sent.digest);
                 },
                 [&](const engine::HeartbeatMessage& sent) {
                   network_->SendDown(connection,
                                      [sent](StreamHandler& handler) { handler.OnHeartbeat(sent.revision); });
                 },
                 [&](const engine::DrainMessage& sent) {
                   network_->SendDown(
                       connection, [sent](StreamHandler& handler) { handler.OnDrain(sent.reconnect_after); });
                 }},
      message);
}

void Server::Crash(absl::Duration down_for) {
  if (!up()) return;
  ++stats_->server_crashes;
  trace_("server crashes");
  ++incarnation_;
  store_->Die();
  network_->CloseAllAtServer(absl::UnavailableError("connection reset"));
  engine_.reset();
  paused_ = tick_due_ = false;
  network_->SetServerPaused(false);
  scheduler_->After(down_for, [this] { Start(); });
}

void Server::Vanish(absl::Duration down_for) {
  if (!up()) return;
  network_->BreakAll(HalfOpen::kAtClient);
  Crash(down_for);
}

void Server::Pause() {
  if (!up() || paused_) return;
  ++stats_->server_pauses;
  trace_("server stands still");
  paused_ = true;
  network_->SetServerPaused(true);
}

void Server::Resume() {
  if (!paused_) return;
  trace_("server goes on");
  paused_ = false;
  // Either its timers or its connections come first.
  const bool connections_first = prng_.Below(2) == 0;
  if (connections_first) network_->SetServerPaused(false);
  if (std::exchange(tick_due_, false)) Tick();
  if (!connections_first) network_->SetServerPaused(false);
  PumpAll();
}

void Server::Drain(absl::Duration down_for) {
  if (!up() || paused_) return;
  trace_("server drains");
  for (const ConnectionPtr& connection : std::vector<ConnectionPtr>(network_->connections())) {
    if (connection->session == nullptr) continue;
    connection->session->Drain(absl::Milliseconds(500));
    Pump(connection);
  }
  scheduler_->After(kDrainTime, [this, down_for] { EndDrain(down_for); });
}

void Server::EndDrain(absl::Duration down_for) {
  if (!up()) return;
  if (paused_) {
    scheduler_->After(kDrainTime, [this, down_for] { EndDrain(down_for); });
    return;
  }
  ++incarnation_;
  network_->CloseAllAtServer(absl::UnavailableError("the server is gone"));
  engine_->Stop();
  engine_.reset();
  scheduler_->After(down_for, [this] { Start(); });
}

void Server::RenewOne() {
  if (!up() || network_->connections().empty()) return;
  const std::vector<ConnectionPtr> connections = network_->connections();
  const ConnectionPtr& connection = connections[prng_.Below(connections.size())];
  if (connection->session == nullptr) return;
  trace_(absl::StrCat("server asks ", connection->enrolment.instance_id, " for a new stream"));
  connection->session->Renew();
  Pump(connection);
}

void Server::Heal() {
  healed_ = true;
  if (store_ != nullptr) store_->Heal();
}

}  // namespace lockstep::sim
