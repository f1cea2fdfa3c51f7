#include "lockstep/fake_control_plane.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/domain/migration.h"

namespace lockstep {
namespace {

std::string FullName(absl::string_view migration) {
  const absl::StatusOr<domain::MigrationId> id = domain::ParseMigrationName(migration);
  LOCKSTEP_CHECK(id.ok(), "FakeControlPlane: a migration's name is \"ns/id\"");
  return domain::FullMigrationName(*id);
}

}  // namespace

// One open stream. Its own mutex keeps what the handler gets in order, and nothing after OnClosed.
struct FakeControlPlane::Connection {
  Connection(StreamEnrolment enrolment, std::shared_ptr<StreamHandler> handler)
      : enrolment(std::move(enrolment)), handler(std::move(handler)) {}

  template <typename Event>
  void Deliver(Event&& event) {
    MutexLock lock(&mutex);
    if (!closed) event(*handler);
  }
  void Close(absl::Status why) {
    MutexLock lock(&mutex);
    if (std::exchange(closed, true)) return;
    handler->OnClosed(std::move(why));
  }

  const StreamEnrolment enrolment;
  const std::shared_ptr<StreamHandler> handler;
  Mutex mutex;  // never taken before FakeControlPlane::mutex_ is released
  bool closed ABSL_GUARDED_BY(mutex) = false;
  // For deltas: what the stream has got, unless it rejected something since.
  std::optional<domain::Snapshot> base;  // used within Deliver only
  uint64_t whole_sent = 0;               // revision; used within Deliver only
};

class FakeControlPlane::FakeStream final : public Stream {
 public:
  FakeStream(std::shared_ptr<FakeControlPlane> plane, std::shared_ptr<Connection> connection)
      : plane_(std::move(plane)), connection_(std::move(connection)) {}
  ~FakeStream() override { plane_->Close(connection_, absl::CancelledError("the client closed the stream")); }

  void SendAccept(uint64_t revision) override {
    MutexLock lock(&plane_->mutex_);
    plane_->accepts_.push_back({connection_->enrolment.instance_id, revision});
  }
  void SendAck(uint64_t revision, const HeldEpochs& held,
               const std::vector<domain::SliceCheck>& slice_checks) override {
    MutexLock lock(&plane_->mutex_);
    plane_->acks_.push_back({connection_->enrolment.instance_id, revision, held, slice_checks});
  }
  void SendNack(uint64_t revision, absl::string_view reason) override {
    {
      MutexLock lock(&plane_->mutex_);
      plane_->nacks_.push_back({connection_->enrolment.instance_id, revision, std::string(reason)});
    }
    plane_->SendAfterNack(*connection_);
  }
  void SendHeartbeat(uint64_t, const domain::InstanceStatus& status) override {
    uint64_t revision = 0;
    {
      MutexLock lock(&plane_->mutex_);
      ++plane_->heartbeats_;
      plane_->statuses_.push_back(status);
      if (!plane_->answers_heartbeats_) return;
      revision = plane_->revision_;
    }
    connection_->Deliver([revision](StreamHandler& handler) { handler.OnHeartbeat(revision); });
  }
  void SendLeave() override {
    {
      MutexLock lock(&plane_->mutex_);
      plane_->left_.push_back(connection_->enrolment.instance_id);
    }
    plane_->Close(connection_, absl::OkStatus());
  }

 private:
  const std::shared_ptr<FakeControlPlane> plane_;
  const std::shared_ptr<Connection> connection_;
};

FakeControlPlane::FakeControlPlane() : prng_(1) {}
FakeControlPlane::~FakeControlPlane() = default;

domain::MigrationRouting& FakeControlPlane::RoutingLocked(absl::string_view migration) {
  const std::string name = FullName(migration);
  const auto [it, inserted] = migrations_.try_emplace(name);
  domain::MigrationRouting& routing = it->second;
  if (inserted) {
    routing.name = name;
    routing.state = domain::StateOfStage(domain::Stage::kOff, 0);
    routing.state.salt_seed = domain::SaltSeed(name);
  }
  routing.state.epoch = ++last_epochs_[name];
  return routing;
}

void FakeControlPlane::SetStage(absl::string_view migration, domain::Stage stage, uint32_t read_weight) {
  {
    MutexLock lock(&mutex_);
    domain::MigrationRouting& routing = RoutingLocked(migration);
    domain::RoutingState state = domain::StateOfStage(stage, read_weight);
    state.epoch = routing.state.epoch;
    state.generation = routing.state.generation;
    state.comparison_weight = routing.state.comparison_weight;
    state.salt_seed = routing.state.salt_seed;
    state.pins = routing.state.pins;
    routing.state = std::move(state);
  }
  Publish();
}

void FakeControlPlane::SetState(absl::string_view migration, domain::RoutingState state) {
  {
    MutexLock lock(&mutex_);
    domain::MigrationRouting& routing = RoutingLocked(migration);
    state.epoch = routing.state.epoch;
    routing.state = std::move(state);
  }
  Publish();
}

void FakeControlPlane::SetContract(absl::string_view migration, domain::Contract contract) {
  {
    MutexLock lock(&mutex_);
    RoutingLocked(migration).contract = std::move(contract);
  }
  Publish();
}

void FakeControlPlane::RemoveMigration(absl::string_view migration) {
  {
    MutexLock lock(&mutex_);
    migrations_.erase(FullName(migration));
  }
  Publish();
}

domain::Snapshot FakeControlPlane::SnapshotForLocked(const StreamEnrolment& enrolment) const {
  domain::Snapshot snapshot{.revision = revision_, .store_epoch = store_epoch_, .migrations = {}};
  for (const std::string& name : enrolment.migrations) {
    const auto found = migrations_.find(name);
    if (found == migrations_.end()) continue;
    snapshot.migrations.push_back(found->second);
    snapshot.migrations.back().digest = domain::RoutingDigest(found->second);
  }
  return snapshot;
}

void FakeControlPlane::Publish() {
  bool lose = false;
  {
    MutexLock lock(&mutex_);
    ++revision_;
    lose = std::exchange(lose_next_change_, false);
  }
  if (lose) return;
  for (const std::shared_ptr<Connection>& connection : Connections()) SendCurrent(*connection);
}

// The snapshot is taken under the connection's mutex, so that two publishers can't deliver an older one last.
void FakeControlPlane::SendCurrent(Connection& connection) {
  connection.Deliver([&](StreamHandler& handler) {
    domain::Snapshot snapshot;
    bool as_delta = false;
    bool spoil = false;
    {
      MutexLock lock(&mutex_);
      snapshot = SnapshotForLocked(connection.enrolment);
      as_delta = sends_deltas_ && connection.base.has_value() &&
                 connection.base->store_epoch == snapshot.store_epoch;
      spoil = std::exchange(spoil_next_digest_, false);
      if (as_delta) ++deltas_sent_;
    }
    const uint64_t digest = domain::SnapshotDigest(snapshot) ^ (spoil ? 1 : 0);
    if (!as_delta && !spoil) connection.whole_sent = snapshot.revision;
    std::optional<domain::Snapshot> base = std::exchange(connection.base, snapshot);
    if (as_delta) {
      handler.OnDelta(domain::DeltaBetween(*base, snapshot), digest);
    } else {
      handler.OnSnapshot(std::move(snapshot), digest);
    }
  });
}

void FakeControlPlane::SendAfterNack(Connection& connection) {
  const uint64_t latest = revision();
  bool has_it = false;
  connection.Deliver([&](StreamHandler&) {
    connection.base.reset();
    has_it = connection.whole_sent == latest;
  });
  if (!has_it) SendCurrent(connection);
}

void FakeControlPlane::SetSendsDeltas(bool sends_deltas) {
  MutexLock lock(&mutex_);
  sends_deltas_ = sends_deltas;
}

void FakeControlPlane::RestoreBackup(uint64_t store_epoch) {
  {
    MutexLock lock(&mutex_);
    store_epoch_ = store_epoch;
    revision_ = 1;
    for (auto& [name, routing] : migrations_) routing.state.epoch = last_epochs_[name] = 1;
  }
  Disconnect(absl::UnavailableError("restarted by the test"));
}

void FakeControlPlane::LoseNextChange() {
  MutexLock lock(&mutex_);
  lose_next_change_ = true;
}

void FakeControlPlane::SpoilNextDigest() {
  MutexLock lock(&mutex_);
  spoil_next_digest_ = true;
}

void FakeControlPlane::PublishRaw(domain::Snapshot snapshot) {
  for (domain::MigrationRouting& routing : snapshot.migrations) {
    routing.digest = domain::RoutingDigest(routing);
  }
  const uint64_t digest = domain::SnapshotDigest(snapshot);
  for (const std::shared_ptr<Connection>& connection : Connections()) {
    connection->Deliver([&](StreamHandler& handler) { handler.OnSnapshot(snapshot, digest); });
  }
}

void FakeControlPlane::PublishUndecodable(absl::Status why) {
  const uint64_t revision = this->revision() + 1;
  for (const std::shared_ptr<Connection>& connection : Connections()) {
    connection->Deliver([&](StreamHandler& handler) { handler.OnUndecodableSnapshot(revision, why); });
  }
}

void FakeControlPlane::Close(const std::shared_ptr<Connection>& connection, absl::Status why) {
  {
    MutexLock lock(&mutex_);
    std::erase(connections_, connection);
  }
  connection->Close(std::move(why));
}

void FakeControlPlane::Disconnect(absl::Status why) {
  for (const std::shared_ptr<Connection>& connection : Connections()) Close(connection, why);
}

void FakeControlPlane::SetReachable(bool reachable) {
  {
    MutexLock lock(&mutex_);
    reachable_ = reachable;
  }
  if (!reachable) Disconnect(absl::UnavailableError("made unreachable by the test"));
}

void FakeControlPlane::SendDrain(absl::Duration reconnect_after) {
  for (const std::shared_ptr<Connection>& connection : Connections()) {
    connection->Deliver([&](StreamHandler& handler) { handler.OnDrain(reconnect_after); });
  }
}

void FakeControlPlane::SetAnswersHeartbeats(bool answers) {
  MutexLock lock(&mutex_);
  answers_heartbeats_ = answers;
}

void FakeControlPlane::SetReportFaults(uint64_t seed, double lose_request, double lose_reply) {
  MutexLock lock(&mutex_);
  prng_ = Prng(seed);
  lose_request_ = lose_request;
  lose_reply_ = lose_reply;
}

void FakeControlPlane::FailNextReport(absl::Status status) {
  MutexLock lock(&mutex_);
  next_report_ = std::move(status);
}

std::unique_ptr<Stream> FakeControlPlane::OpenStream(const StreamEnrolment& enrolment,
                                                     std::shared_ptr<StreamHandler> handler) {
  auto connection = std::make_shared<Connection>(enrolment, std::move(handler));
  bool reachable = false;
  {
    MutexLock lock(&mutex_);
    enrolments_.push_back(enrolment);
    reachable = reachable_;
    if (reachable) connections_.push_back(connection);
  }
  if (reachable) {
    SendCurrent(*connection);
  } else {
    connection->Close(absl::UnavailableError("made unreachable by the test"));
  }
  return std::make_unique<FakeStream>(shared_from_this(), std::move(connection));
}

void FakeControlPlane::ReportComparisons(const domain::TelemetryBatch& batch, ReportDone done) {
  done(CountReport(batch));
}

absl::StatusOr<ReportReply> FakeControlPlane::CountReport(const domain::TelemetryBatch& batch) {
  MutexLock lock(&mutex_);
  if (!reachable_) return absl::UnavailableError("made unreachable by the test");
  if (next_report_.has_value()) {
    const absl::Status status = *std::exchange(next_report_, std::nullopt);
    return status;
  }
  if (prng_.Unit() < lose_request_) return absl::UnavailableError("request lost by the test");
  uint64_t& last = cursors_[{batch.instance_id, batch.session}];
  ReportReply reply;
  if (batch.sequence <= last) {
    reply.duplicate = true;
    ++duplicate_reports_;
  } else {
    if (batch.sequence != last + 1) {
      return absl::OutOfRangeError(absl::StrCat("sequence ", batch.sequence, ", expected ", last + 1));
    }
    for (const domain::TelemetryDelta& delta : batch.deltas) {
      if (absl::Status valid = delta.stats.Validate(); !valid.ok()) return valid;
      if (!migrations_.contains(delta.migration)) return absl::NotFoundError(delta.migration);
    }
    for (const domain::TelemetryDelta& delta : batch.deltas) {
      LOCKSTEP_CHECK(totals_[delta.migration].Merge(delta.stats).ok(), "a test can't count to 2^53");
      deltas_.push_back(delta);
    }
    last = batch.sequence;
  }
  if (prng_.Unit() < lose_reply_) return absl::UnavailableError("reply lost by the test");
  return reply;
}

uint64_t FakeControlPlane::revision() const {
  MutexLock lock(&mutex_);
  return revision_;
}

uint64_t FakeControlPlane::store_epoch() const {
  MutexLock lock(&mutex_);
  return store_epoch_;
}

uint64_t FakeControlPlane::EpochOf(absl::string_view migration) const {
  MutexLock lock(&mutex_);
  const auto found = last_epochs_.find(FullName(migration));
  return found == last_epochs_.end() ? 0 : found->second;
}

std::vector<std::shared_ptr<FakeControlPlane::Connection>> FakeControlPlane::Connections() const {
  MutexLock lock(&mutex_);
  return connections_;
}

std::vector<StreamEnrolment> FakeControlPlane::Enrolments() const {
  MutexLock lock(&mutex_);
  return enrolments_;
}

std::vector<FakeControlPlane::Accept> FakeControlPlane::Accepts() const {
  MutexLock lock(&mutex_);
  return accepts_;
}

std::vector<FakeControlPlane::Ack> FakeControlPlane::Acks() const {
  MutexLock lock(&mutex_);
  return acks_;
}

std::vector<FakeControlPlane::Nack> FakeControlPlane::Nacks() const {
  MutexLock lock(&mutex_);
  return nacks_;
}

std::vector<std::string> FakeControlPlane::Left() const {
  MutexLock lock(&mutex_);
  return left_;
}

uint64_t FakeControlPlane::Heartbeats() const {
  MutexLock lock(&mutex_);
  return heartbeats_;
}

std::vector<domain::InstanceStatus> FakeControlPlane::Statuses() const {
  MutexLock lock(&mutex_);
  return statuses_;
}

uint64_t FakeControlPlane::DeltasSent() const {
  MutexLock lock(&mutex_);
  return deltas_sent_;
}

domain::WindowStats FakeControlPlane::Totals(absl::string_view migration) const {
  MutexLock lock(&mutex_);
  const auto found = totals_.find(FullName(migration));
  return found == totals_.end() ? domain::WindowStats() : found->second;
}

std::vector<domain::TelemetryDelta> FakeControlPlane::Deltas() const {
  MutexLock lock(&mutex_);
  return deltas_;
}

uint64_t FakeControlPlane::DuplicateReports() const {
  MutexLock lock(&mutex_);
  return duplicate_reports_;
}

}  // namespace lockstep
