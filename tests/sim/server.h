// The simulated control plane: the production engine and instance sessions over a store that crashes,
// restarted with what was durable.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "core/base/prng.h"
#include "server/engine/engine.h"
#include "server/store/forwarding_store.h"
#include "server/store/proto_record_codec.h"
#include "tests/sim/network.h"
#include "tests/sim/options.h"
#include "tests/sim/oracle.h"
#include "tests/sim/scheduler.h"

namespace lockstep::sim {

inline constexpr char kMigration[] = "namespaces/shop/migrations/orders";

// Commits reach the durable store only while the process lives, and fail now and then.
class CrashingStore final : public store::ForwardingStore {
 public:
  CrashingStore(store::Store* durable, const Scheduler* scheduler, Prng prng, const SimOptions& options)
      : ForwardingStore(durable), scheduler_(scheduler), prng_(std::move(prng)), options_(options) {}

  absl::StatusOr<uint64_t> Commit(store::WriteBatch batch,
                                  std::optional<uint64_t> expected_revision) override;
  void Die() { dead_ = true; }
  void Heal() { healthy_ = true; }

 private:
  const Scheduler* const scheduler_;
  Prng prng_;
  const SimOptions& options_;
  bool dead_ = false;
  bool healthy_ = false;
};

class Server {
 public:
  Server(Scheduler* scheduler, Network* network, Oracle* oracle, SimStats* stats, const SimOptions& options,
         double clock_rate, Prng prng, std::function<void(std::string)> trace);
  ~Server();

  void Start();
  bool up() const { return engine_ != nullptr; }
  engine::Engine& engine() { return *engine_; }

  // For Network.
  absl::Status Open(const ConnectionPtr& connection);
  // Runs something that an instance has sent, and looks at what follows from it.
  absl::Status Take(const std::function<absl::Status()>& message);
  // What a process says on its way here.
  void NoteClaim(int process, const HeldEpochs& held);
  // A telemetry batch of an instance.
  absl::StatusOr<ReportReply> Report(const domain::TelemetryBatch& batch);

  // Loses everything that was not durable; comes back after `down_for`.
  void Crash(absl::Duration down_for);
  // The same with its machine: most instances are not told that their connections are gone.
  void Vanish(absl::Duration down_for);
  // Tells its instances first.
  void Drain(absl::Duration down_for);
  void Pause();
  void Resume();
  bool paused() const { return paused_; }
  // Asks one of its instances for a new stream.
  void RenewOne();
  // No more faults of its disk.
  void Heal();
  // After each step: what is published, and whether the process can go on at all.
  void Look();

 private:
  void Tick();
  void Pump(const ConnectionPtr& connection);
  void PumpAll();
  std::set<std::string> PassedBy() const;
  // Whom the engine has passed by in this tick.
  void LookForPassedBy();
  void LookForDecisions(const domain::MigrationPlan& plan);
  void EndDrain(absl::Duration down_for);
  void Send(const ConnectionPtr& connection, engine::InstanceMessage message);
  void Note(const ConnectionPtr& connection, const domain::MigrationRouting& routing);

  Scheduler* const scheduler_;
  Network* const network_;
  Oracle* const oracle_;
  SimStats* const stats_;
  const SimOptions& options_;
  Prng prng_;
  const std::function<void(std::string)> trace_;
  const DriftingClock clock_;
  const store::ProtoRecordCodec codec_;
  std::unique_ptr<store::Store> durable_;
  std::unique_ptr<CrashingStore> store_;
  std::unique_ptr<engine::Engine> engine_;
  uint64_t incarnation_ = 0;
  uint64_t decisions_seen_ = 0;
  std::set<std::string> passed_by_;
  std::map<std::string, int> enrolled_;  // instance id -> process, the newest of each process
  bool healed_ = false;
  bool paused_ = false;
  bool tick_due_ = false;  // it would have ticked while it stood still
};

}  // namespace lockstep::sim
