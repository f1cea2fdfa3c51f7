#include "tests/sim/network.h"

#include <algorithm>

#include "tests/sim/server.h"

namespace lockstep::sim {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(2);
// Until a server's keepalive notices that the other end is gone.
constexpr absl::Duration kKeepalive = absl::Seconds(12);

class SimStream final : public Stream {
 public:
  SimStream(Network* network, ConnectionPtr connection, Broken broken)
      : network_(network), connection_(std::move(connection)), broken_(broken) {}
  ~SimStream() override { network_->CloseClient(connection_); }

  void SendAccept(uint64_t revision) override {
    network_->SendUp(connection_, [revision](engine::InstanceSession& s) { return s.OnAccept(revision); });
    if (broken_ == Broken::kAckBeforeDrain) SendAckOf(revision, connection_->newest);
  }
  void SendAck(uint64_t revision, const HeldEpochs& held,
               const std::vector<domain::SliceCheck>& checks) override {
    if (broken_ == Broken::kAcksLost) return;
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
    network_->SendUp(connection_, [revision, status](engine::InstanceSession& s) {
      return s.OnHeartbeat(revision, status);
    });
  }
  void SendLeave() override {
    network_->SendUp(connection_, [](engine::InstanceSession& s) {
      const absl::Status left = s.OnLeave();
      return left.ok() ? absl::CancelledError("left") : left;
    });
  }

 private:
  void SendAckOf(uint64_t revision, const HeldEpochs& held) {
    network_->SendUp(connection_,
                     [revision, held](engine::InstanceSession& s) { return s.OnAck(revision, held, {}); });
  }

  Network* const network_;
  const ConnectionPtr connection_;
  const Broken broken_;
};

}  // namespace

std::unique_ptr<Stream> SimTransport::OpenStream(const StreamEnrolment& enrolment,
                                                 std::shared_ptr<StreamHandler> handler) {
  StreamEnrolment said = enrolment;
  const bool claims_too_much = broken_ == Broken::kClaimsTooMuch && last_ != nullptr;
  if (claims_too_much) said.held = last_->newest;
  last_ = network_->Open(client_, said, std::move(handler));
  // The server takes a claim for no acknowledgement, so that it takes one to lie.
  if (claims_too_much) {
    network_->SendUp(last_, [held = said.held](engine::InstanceSession& s) { return s.OnAck(0, held, {}); });
  }
  return std::make_unique<SimStream>(network_, last_, broken_);
}

void SimTransport::ReportComparisons(const domain::TelemetryBatch&, ReportDone done) {
  // Its own connection, with answers in any order; what the server counts is not looked at here.
  network_->After(network_->RandomDelay(), [client = client_, done = std::move(done)] {
    client->Deliver([done] { done(ReportReply{}); });
  });
}

absl::Duration Network::RandomDelay() {
  absl::Duration delay = absl::Microseconds(200 + prng_.Below(3000));
  if (options_.Has(Fault::kDelay) && prng_.Below(40) == 0) delay += absl::Milliseconds(prng_.Below(2500));
  return delay;
}

void Network::After(absl::Duration delay, std::function<void()> run) {
  scheduler_->After(delay, std::move(run));
}

void Network::InOrder(const ConnectionPtr& connection, bool up, std::function<void()> deliver) {
  absl::Duration& last = up ? connection->last_up : connection->last_down;
  last = std::max(scheduler_->now() + RandomDelay(), last);
  scheduler_->After(last - scheduler_->now(),
                    [this, process = connection->process, deliver = std::move(deliver)] {
                      const auto stalled = stalled_.find(process);
                      if (stalled == stalled_.end()) return deliver();
                      stalled->second.push_back(deliver);
                    });
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
  InOrder(connection, /*up=*/true, [this, connection, message = std::move(message)] {
    if (connection->lost || !connection->server_open || connection->session == nullptr) return;
    const absl::Status taken = server_->Take([&] { return message(*connection->session); });
    if (!taken.ok()) CloseServer(connection, taken);
  });
}

void Network::SendDown(const ConnectionPtr& connection, std::function<void(StreamHandler&)> message) {
  InOrder(connection, /*up=*/false, [connection, message = std::move(message)] {
    const std::shared_ptr<NetworkClient> client = connection->client.lock();
    if (client == nullptr) return;
    client->Deliver([connection, message] {
      if (connection->handler != nullptr) message(*connection->handler);
    });
  });
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

void Network::Break(const ConnectionPtr& connection, bool half_open) {
  // What is under way is lost, and no order holds any more.
  connection->lost = true;
  const std::shared_ptr<StreamHandler> handler = std::exchange(connection->handler, nullptr);
  scheduler_->After(half_open ? kKeepalive : RandomDelay(), [this, connection] {
    if (connection->server_open) CloseServer(connection, absl::UnavailableError("connection lost"));
  });
  if (handler == nullptr) return;
  scheduler_->After(RandomDelay(), [connection, handler] {
    const std::shared_ptr<NetworkClient> client = connection->client.lock();
    if (client != nullptr)
      client->Deliver([handler] { handler->OnClosed(absl::UnavailableError("connection lost")); });
  });
}

void Network::BreakOne(bool half_open) {
  if (connections_.empty()) return;
  Break(connections_[prng_.Below(connections_.size())], half_open);
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

void Network::Forget(const ConnectionPtr& connection) { std::erase(connections_, connection); }

}  // namespace lockstep::sim
