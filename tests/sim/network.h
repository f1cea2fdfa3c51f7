// The streams between simulated processes and the simulated control plane: each an ordered channel either
// way, with delays; connections break, seen by one end long before the other (half-open), messages are
// corrupted, and processes are cut off. What was under way on a broken connection is lost, or comes late:
// after what the next connection brings.
//
// Delivery is an event of the receiving end, so a process that stands still gets what came when it goes on.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/prng.h"
#include "core/domain/snapshot.h"
#include "lockstep/transport.h"
#include "server/engine/instance_session.h"
#include "tests/sim/options.h"
#include "tests/sim/scheduler.h"

namespace lockstep::sim {

class Server;

// A process's end of the network.
class NetworkClient {
 public:
  virtual ~NetworkClient() = default;
  virtual int index() const = 0;
  // Runs `deliver` as the process's own event, unless it has died since.
  virtual void Deliver(std::function<void()> deliver) = 0;
};

// Who learns late that a connection has broken.
enum class HalfOpen : uint8_t { kNo, kAtServer, kAtClient };

struct Connection {
  uint64_t id = 0;
  int process = 0;
  StreamEnrolment enrolment;
  std::shared_ptr<StreamHandler> handler;  // null: the client's end is closed
  std::weak_ptr<NetworkClient> client;
  std::unique_ptr<engine::InstanceSession> session;  // null: the server's end is closed, or not open yet
  bool server_open = false;
  bool refused = false;                           // the server's end was closed; it does not open again
  bool lost = false;                              // whatever is sent is lost, without anybody being told
  bool comes_late = false;                        // lost, but what was sent to the server before still comes
  std::optional<domain::Snapshot> delivered;      // for Broken::kNoDigestCheck
  HeldEpochs newest;                              // of what was delivered to the client
  absl::Duration last_up = absl::ZeroDuration();  // delivery of the newest message
  absl::Duration last_down = absl::ZeroDuration();
};
using ConnectionPtr = std::shared_ptr<Connection>;

class Network {
 public:
  Network(Scheduler* scheduler, const SimOptions& options, SimStats* stats, Prng prng)
      : scheduler_(scheduler), options_(options), stats_(stats), prng_(std::move(prng)) {}
  void Attach(Server* server) { server_ = server; }
  // No message is corrupted any more.
  void Heal() { healed_ = true; }

  ConnectionPtr Open(std::shared_ptr<NetworkClient> client, const StreamEnrolment& enrolment,
                     std::shared_ptr<StreamHandler> handler);
  // Client to server: `message` runs at the server if its end is open then; an error closes the stream.
  void SendUp(const ConnectionPtr& connection, std::function<absl::Status(engine::InstanceSession&)> message);
  // Server to client.
  void SendDown(const ConnectionPtr& connection, std::function<void(StreamHandler&)> message);
  // The same for routing, which may be corrupted on its way.
  void SendSnapshot(const ConnectionPtr& connection, domain::Snapshot snapshot, uint64_t digest);
  void SendDelta(const ConnectionPtr& connection, domain::SnapshotDelta delta, uint64_t digest);
  // The client lets go of its end; the server learns of it later.
  void CloseClient(const ConnectionPtr& connection);
  // The server closes its end; the client learns of it later, with `why`.
  void CloseServer(const ConnectionPtr& connection, absl::Status why);
  void CloseAllAtServer(const absl::Status& why);
  // Both ends learn of it, each in its own time; with `half_open` one of them only much later.
  void Break(const ConnectionPtr& connection, HalfOpen half_open);
  void BreakOne(HalfOpen half_open);
  void BreakAll(HalfOpen half_open);
  void SetPartitioned(int process, bool partitioned);
  // What comes for the server meanwhile comes when it goes on.
  void SetServerPaused(bool paused);
  // The client has sent all it will send and waits for no answer.
  void HangUp(const ConnectionPtr& connection);

  absl::Duration RandomDelay();
  bool Loses();  // a call, with its connection
  // A call of a process to the server, or an answer to one: of no stream, so in no order.
  void Call(int process, bool up, std::function<void()> deliver);
  Server& server() { return *server_; }
  const std::vector<ConnectionPtr>& connections() const { return connections_; }
  void Forget(const ConnectionPtr& connection);

 private:
  void Accept(const ConnectionPtr& connection);
  // When a message may arrive: in order, and not while the process is cut off or the server stands still.
  void InOrder(const ConnectionPtr& connection, bool up, std::function<void()> deliver);
  void Arrive(int process, bool up, std::function<void()> deliver);
  // Whether a message is corrupted on its way; `routing`: what it is about, changed then.
  bool Corrupt(std::vector<domain::MigrationRouting>* routing);

  Scheduler* const scheduler_;
  const SimOptions& options_;
  SimStats* const stats_;
  Prng prng_;
  bool healed_ = false;
  Server* server_ = nullptr;
  uint64_t next_id_ = 1;
  std::vector<ConnectionPtr> connections_;
  std::map<int, std::vector<std::function<void()>>> stalled_;  // by partitioned process
  bool server_paused_ = false;
  std::vector<std::function<void()>> for_server_;  // what has come while it stands still
};

// What a simulated process gives its Client.
class SimTransport final : public Transport {
 public:
  SimTransport(Network* network, std::shared_ptr<NetworkClient> client, Broken broken)
      : network_(network), client_(std::move(client)), broken_(broken) {}

  std::unique_ptr<Stream> OpenStream(const StreamEnrolment& enrolment,
                                     std::shared_ptr<StreamHandler> handler) override;
  void ReportComparisons(const domain::TelemetryBatch& batch, ReportDone done) override;

 private:
  // To the server, and its answer back to `done` if that is not null.
  void Report(const domain::TelemetryBatch& batch, ReportDone done);

  Network* const network_;
  const std::shared_ptr<NetworkClient> client_;
  const Broken broken_;
  ConnectionPtr last_;
};

}  // namespace lockstep::sim
