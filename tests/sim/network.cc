#include "tests/sim/network.h"

#include <algorithm>

#include "tests/sim/server.h"

namespace lockstep::sim {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(2);
// Until an end's keepalive notices that the other is gone.
constexpr absl::Duration kKeepalive = absl::Seconds(12);

// For Broken::kLeaseFromReceipt: what has been answered is told when the next heartbeat is sent, as the
// answer to all of them. So the lease counts from then.
class LateAnswers final : public StreamHandler {
 public:
  explicit LateAnswers(std::shared_ptr<StreamHandler> handler) : handler_(std::move(handler)) {}

  void OnSnapshot(domain::Snapshot snapshot, uint64_t digest) override {
    handler_->OnSnapshot(std::move(snapshot), digest);
  }
  void OnDelta(domain::SnapshotDelta delta, uint64_t digest) override {
    handler_->OnDelta(std::move(delta), digest);
  }
  void OnUndecodableSnapshot(uint64_t revision, absl::Status why) override {
    handler_->OnUndecodableSnapshot(revision, std::move(why));
  }
  void OnHeartbeat(uint64_t revision) override { answer_ = revision; }
  void OnDrain(absl::Duration reconnect_after) override { handler_->OnDrain(reconnect_after); }
  void OnClosed(absl::Status why) override { handler_->OnClosed(std::move(why)); }

  // Another heartbeat is being sent.
  void Release() {
    ++unanswered_;
    if (!answer_.has_value()) return;
    for (; unanswered_ > 0; --unanswered_) handler_->OnHeartbeat(*answer_);
    answer_.reset();
  }

 private:
  const std::shared_ptr<StreamHandler> handler_;
  std::optional<uint64_t> answer_;
  int unanswered_ = 0;
};

class SimStream final : public Stream {
 public:
  SimStream(Network* network, ConnectionPtr connection, Broken broken,
            std::shared_ptr<LateAnswers> late_answers)
      : network_(network),
        connection_(std::move(connection)),
        broken_(broken),
        late_answers_(std::move(late_answers)) {}
  ~SimStream() override { network_->CloseClient(connection_); }

  void SendAccept(uint64_t revision) override {
    network_->SendUp(connection_, [revision](engine::InstanceSession& s) { return s.OnAccept(revision); });
    if (broken_ == Broken::kAckBeforeDrain) SendAckOf(revision, connection_->newest);
  }
  void SendAck(uint64_t revision, const HeldEpochs& held,
               const std::vector<domain::SliceCheck>& checks) override {
    if (broken_ == Broken::kAcksLost) return;
    network_->server().NoteClaim(connection_->process, held);
    network_->SendUp(connection_, [revision, held, checks](engine::InstanceSession& s) {
      return s.OnAck(revision, held, checks);
    });
  }
  void SendNack(uint64_t revision, absl::string_view reason) override {
    network_->SendUp(connection_, [revision, why = std::string(reason)](engine::InstanceSession& s) {
      return s.OnNack(revision, why);
    });
  }
  void SendHeartbeat(uint64_t revision, const domain::InstanceStatus& status) override {
    if (late_answers_ != nullptr) late_answers_->Release();
    network_->SendUp(connection_, [revision, status](engine::InstanceSession& s) {
      return s.OnHeartbeat(revision, status);
    });
  }
  void SendLeave() override {
    network_->SendUp(connection_, [](engine::InstanceSession& s) {
      const absl::Status left = s.OnLeave();
      return left.ok() ? absl::CancelledError("left") : left;
    });
    network_->HangUp(connection_);
  }

 private:
  void SendAckOf(uint64_t revision, const HeldEpochs& held) {
    network_->SendUp(connection_,
                     [revision, held](engine::InstanceSession& s) { return s.OnAck(revision, held, {}); });
  }

  Network* const network_;
  const ConnectionPtr connection_;
  const Broken broken_;
  const std::shared_ptr<LateAnswers> late_answers_;  // null: none
};

}  // namespace

std::unique_ptr<Stream> SimTransport::OpenStream(const StreamEnrolment& enrolment,
                                                 std::shared_ptr<StreamHandler> handler) {
  StreamEnrolment said = enrolment;
  const bool claims_too_much = broken_ == Broken::kClaimsTooMuch && last_ != nullptr;
  if (claims_too_much) said.held = last_->newest;
  network_->server().NoteClaim(client_->index(), said.held);
  std::shared_ptr<LateAnswers> late_answers;
  if (broken_ == Broken::kLeaseFromReceipt) {
    late_answers = std::make_shared<LateAnswers>(std::move(handler));
    handler = late_answers;
  }
  last_ = network_->Open(client_, said, std::move(handler));
  // The server takes a claim for no acknowledgement, so that it takes one to lie.
  if (claims_too_much) {
    network_->SendUp(last_, [held = said.held](engine::InstanceSession& s) { return s.OnAck(0, held, {}); });
  }
  return std::make_unique<SimStream>(network_, last_, broken_, std::move(late_answers));
}

void SimTransport::ReportComparisons(const domain::TelemetryBatch& batch, ReportDone done) {
  if (network_->Loses()) {
    // Nobody knows whether it arrived.
    Report(batch, nullptr);
    network_->Call(client_->index(), /*up=*/false, [client = client_, done = std::move(done)] {
      client->Deliver([done] { done(absl::UnavailableError("connection lost")); });
    });
    return;
  }
  // Repeated on its way, and the repeat may be the first to arrive.
  if (network_->Loses()) Report(batch, nullptr);
  if (broken_ == Broken::kCountsTwice) {
    domain::TelemetryBatch again = batch;
    again.session ^= 1;
    Report(again, nullptr);
  }
  Report(batch, std::move(done));
}

void SimTransport::Report(const domain::TelemetryBatch& batch, ReportDone done) {
  network_->Call(client_->index(), /*up=*/true, [network = network_, client = client_, batch, done] {
    const absl::StatusOr<ReportReply> reply = network->server().Report(batch);
    if (done == nullptr) return;
    network->Call(client->index(), /*up=*/false,
                  [client, done, reply] { client->Deliver([done, reply] { done(reply); }); });
  });
}

bool Network::Loses() { return !healed_ && options_.Has(Fault::kBreak) && prng_.Below(15) == 0; }

void Network::Call(int process, bool up, std::function<void()> deliver) {
  scheduler_->After(RandomDelay(),
                    [this, process, up, deliver = std::move(deliver)] { Arrive(process, up, deliver); });
}

absl::Duration Network::RandomDelay() {
  absl::Duration delay = absl::Microseconds(200 + prng_.Below(3000));
  if (options_.Has(Fault::kDelay) && prng_.Below(40) == 0) delay += absl::Milliseconds(prng_.Below(2500));
  return delay;
}

void Network::InOrder(const ConnectionPtr& connection, bool up, std::function<void()> deliver) {
  absl::Duration& last = up ? connection->last_up : connection->last_down;
  last = std::max(scheduler_->now() + RandomDelay(), last);
  scheduler_->After(last - scheduler_->now(),
                    [this, process = connection->process, up, deliver = std::move(deliver)] {
                      Arrive(process, up, deliver);
                    });
}

void Network::Arrive(int process, bool up, std::function<void()> deliver) {
  const auto stalled = stalled_.find(process);
  if (stalled != stalled_.end()) {
    stalled->second.push_back([this, process, up, deliver = std::move(deliver)] {  // when it is healed
      Arrive(process, up, deliver);
    });
  } else if (up && server_paused_) {
    for_server_.push_back(std::move(deliver));
  } else {
    deliver();
  }
}

ConnectionPtr Network::Open(std::shared_ptr<NetworkClient> client, const StreamEnrolment& enrolment,
                            std::shared_ptr<StreamHandler> handler) {
  auto connection = std::make_shared<Connection>();
  connection->id = next_id_++;
  connection->process = client->index();
  connection->enrolment = enrolment;
  connection->client = client;
  connection->handler = std::move(handler);
  if (stalled_.contains(connection->process)) {
    // It may still come about when the partition heals first.
    scheduler_->After(kConnectTimeout, [this, connection] {
      if (!connection->server_open) CloseServer(connection, absl::UnavailableError("connect: timed out"));
    });
  }
  InOrder(connection, /*up=*/true, [this, connection] { Accept(connection); });
  return connection;
}

void Network::Accept(const ConnectionPtr& connection) {
  if (connection->lost || connection->handler == nullptr || connection->refused) return;
  connections_.push_back(connection);
  connection->server_open = true;
  if (const absl::Status opened = server_->Open(connection); !opened.ok()) CloseServer(connection, opened);
}

void Network::SendUp(const ConnectionPtr& connection,
                     std::function<absl::Status(engine::InstanceSession&)> message) {
  if (connection->lost) return;
  InOrder(connection, /*up=*/true, [this, connection, message = std::move(message)] {
    if (connection->lost && !connection->comes_late) return;
    if (!connection->server_open || connection->session == nullptr) return;
    const absl::Status taken = server_->Take([&] { return message(*connection->session); });
    if (!taken.ok()) CloseServer(connection, taken);
  });
}

void Network::SendDown(const ConnectionPtr& connection, std::function<void(StreamHandler&)> message) {
  InOrder(connection, /*up=*/false, [connection, message = std::move(message)] {
    const std::shared_ptr<NetworkClient> client = connection->client.lock();
    if (client == nullptr) return;
    client->Deliver([connection, message] {
      if (connection->handler != nullptr && !connection->lost) message(*connection->handler);
    });
  });
}

bool Network::Corrupt(std::vector<domain::MigrationRouting>* routing) {
  if (healed_ || !options_.Has(Fault::kCorrupt) || routing->empty() || prng_.Below(12) != 0) return false;
  ++stats_->corrupted;
  domain::RoutingState& state = routing->front().state;
  switch (prng_.Below(4)) {
    case 0:
      state.salt_seed ^= uint64_t{1} << prng_.Below(64);
      break;
    case 1:
      ++state.epoch;
      break;
    case 2:
      state.read_weight = static_cast<uint32_t>(prng_.Below(domain::kBucketCount + 1));
      break;
    default:
      state.stage =
          state.stage == domain::Stage::kDualWrite ? domain::Stage::kShadowRead : domain::Stage::kDualWrite;
      break;
  }
  routing->front().digest = 0;
  return true;
}

void Network::SendSnapshot(const ConnectionPtr& connection, domain::Snapshot snapshot, uint64_t digest) {
  const bool corrupted = Corrupt(&snapshot.migrations);
  if (options_.broken == Broken::kNoDigestCheck) {
    if (corrupted) digest = domain::SnapshotDigest(snapshot);
    connection->delivered = snapshot;
  }
  SendDown(connection, [snapshot = std::move(snapshot), digest](StreamHandler& handler) {
    handler.OnSnapshot(snapshot, digest);
  });
}

void Network::SendDelta(const ConnectionPtr& connection, domain::SnapshotDelta delta, uint64_t digest) {
  const bool corrupted = Corrupt(&delta.changed);
  if (options_.broken == Broken::kNoDigestCheck && connection->delivered.has_value()) {
    const absl::StatusOr<domain::Snapshot> result = domain::ApplyDelta(*connection->delivered, delta);
    if (result.ok()) {
      if (corrupted) digest = domain::SnapshotDigest(*result);
      connection->delivered = *result;
    }
  }
  SendDown(connection,
           [delta = std::move(delta), digest](StreamHandler& handler) { handler.OnDelta(delta, digest); });
}

void Network::HangUp(const ConnectionPtr& connection) {
  const std::shared_ptr<StreamHandler> handler = std::exchange(connection->handler, nullptr);
  if (handler != nullptr) handler->OnClosed(absl::CancelledError("nobody waits for an answer"));
}

void Network::CloseClient(const ConnectionPtr& connection) {
  connection->handler = nullptr;
  InOrder(connection, /*up=*/true, [this, connection] {
    if (connection->server_open && !connection->lost)
      CloseServer(connection, absl::CancelledError("closed by the client"));
  });
}

void Network::CloseServer(const ConnectionPtr& connection, absl::Status why) {
  connection->refused = true;
  connection->server_open = false;
  connection->session.reset();
  Forget(connection);
  SendDown(connection, [connection, why](StreamHandler& handler) {
    // OnClosed comes once, and nothing after it.
    const std::shared_ptr<StreamHandler> last = std::exchange(connection->handler, nullptr);
    handler.OnClosed(why);
  });
}

void Network::CloseAllAtServer(const absl::Status& why) {
  for (const ConnectionPtr& connection : std::vector<ConnectionPtr>(connections_))
    CloseServer(connection, why);
}

void Network::Break(const ConnectionPtr& connection, HalfOpen half_open) {
  if (connection->lost) return;
  // What is under way is lost or late, and no order holds any more.
  connection->lost = true;
  connection->comes_late = prng_.Below(2) == 0;
  const absl::Status why = absl::UnavailableError("connection lost");
  scheduler_->After(half_open == HalfOpen::kAtServer ? kKeepalive : RandomDelay(), [this, connection, why] {
    if (connection->server_open) CloseServer(connection, why);
  });
  scheduler_->After(half_open == HalfOpen::kAtClient ? kKeepalive : RandomDelay(), [connection, why] {
    const std::shared_ptr<NetworkClient> client = connection->client.lock();
    if (client == nullptr) return;
    client->Deliver([connection, why] {
      // It may have given the connection up itself.
      const std::shared_ptr<StreamHandler> handler = std::exchange(connection->handler, nullptr);
      if (handler != nullptr) handler->OnClosed(why);
    });
  });
}

void Network::BreakOne(HalfOpen half_open) {
  if (connections_.empty()) return;
  Break(connections_[prng_.Below(connections_.size())], half_open);
}

void Network::BreakAll(HalfOpen half_open) {
  for (const ConnectionPtr& connection : std::vector<ConnectionPtr>(connections_))
    Break(connection, half_open);
}

void Network::SetPartitioned(int process, bool partitioned) {
  if (partitioned) {
    stalled_[process];
    return;
  }
  const auto stalled = stalled_.find(process);
  if (stalled == stalled_.end()) return;
  const std::vector<std::function<void()>> late = std::move(stalled->second);
  stalled_.erase(stalled);
  for (const auto& deliver : late) deliver();
}

void Network::SetServerPaused(bool paused) {
  server_paused_ = paused;
  if (paused) return;
  // They have come already, whoever is cut off by now.
  for (const auto& deliver : std::exchange(for_server_, {})) deliver();
}

void Network::Forget(const ConnectionPtr& connection) { std::erase(connections_, connection); }

}  // namespace lockstep::sim
