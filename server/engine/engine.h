// The engine: everything between the services and the store, built and wired in the right order. The services
// and the HTTP layer hold an Engine*; nothing in here knows a wire format.
//
//   Engine engine(store, codec, clock, SystemSeed(), {});
//   LOCKSTEP_RETURN_IF_ERROR(engine.Start());
//   ... every second: engine.Tick();
//   engine.Stop();
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/clock.h"
#include "server/engine/duration_histogram.h"
#include "server/engine/evidence_retention.h"
#include "server/engine/gate_loop.h"
#include "server/engine/instance_table.h"
#include "server/engine/measured_store.h"
#include "server/engine/registry.h"
#include "server/engine/snapshot_hub.h"
#include "server/engine/telemetry.h"

namespace lockstep::engine {

struct EngineOptions {
  Registry::Options registry;
  Telemetry::Options telemetry;
  EvidenceRetention::Options evidence;
};

// One migration in numbers, for /metrics.
struct MigrationMetrics {
  std::string name;
  domain::Stage stage = domain::Stage::kOff;  // published
  domain::RunState run_state = domain::RunState::kDraft;
  uint32_t read_weight = 0;  // published, in buckets
  uint32_t write_weight = 0;
  uint64_t epoch = 0;
  uint64_t generation = 0;
  domain::WindowStats totals;                 // over all generations
  uint64_t repairs_outstanding = 0;           // in this generation
  std::optional<double> read_observed_ratio;  // share of new among the reads of the step; none without reads
  std::vector<std::string> declared_fields;   // other fields of `totals` are shown as "_other"
  InstanceCounts instances;                   // enrolled for it
  uint64_t fence_waiting_instances = 0;
  std::shared_ptr<const GateEvaluation> gate;  // null: none
};

struct EngineMetrics {
  std::vector<MigrationMetrics> migrations;  // sorted by name
  std::vector<TransitionCount> transitions;
  InstanceCounts instances;
  TelemetryCounters telemetry;
  GateCounters gate;
  DurationCounts store_commits;
  DurationCounts rollback_propagation;
  uint64_t store_revision = 0;
};

// Thread-safe except for Start and Stop.
class Engine {
 public:
  // Owns none of the arguments; they outlive it.
  Engine(store::Store* store, const store::RecordCodec* codec, const Clock* clock, uint64_t seed,
         EngineOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Loads everything from the store and starts the telemetry flusher. Serve nothing before it returns OK.
  absl::Status Start();
  // Works off queued telemetry and writes acknowledgements. Subscriptions and listeners must be gone when the
  // engine is destroyed. Fine to call twice.
  void Stop();

  // Once a second: leases, the gate, publishes that waited for something to expire, holds that took too long,
  // acknowledgements to disk, evidence that is too old to be kept.
  absl::Status Tick();

  // OK, or why the process has to be restarted: a commit's outcome is unknown. For readiness.
  absl::Status health() const;

  // What an instance says over its connection; see InstanceSession, which is how it does so. As on
  // InstanceTable; and publishes what thereby becomes possible.
  absl::Status Acknowledge(const std::string& instance_id, ConnectionId connection,
                           const std::map<std::string, uint64_t>& held,
                           const std::vector<domain::SliceCheck>& slice_checks);
  // The snapshot is in force.
  absl::Status Accept(const std::string& instance_id, ConnectionId connection,
                      const domain::Snapshot& snapshot);
  absl::Status Leave(const std::string& instance_id, ConnectionId connection);

  // Deletes the migration and everything reported about it.
  absl::Status Delete(absl::string_view name, const MutationContext& context);

  EngineMetrics Metrics() const;

  Registry& registry() { return registry_; }
  InstanceTable& instances() { return instances_; }  // NoteSent, Nack, Heartbeat, Disconnected, List
  SnapshotHub& hub() { return hub_; }
  Telemetry& telemetry() { return telemetry_; }
  GateLoop& gate() { return gate_; }
  const EvidenceRetention& retention() const { return retention_; }

 private:
  const Clock* const clock_;
  MeasuredStore store_;
  InstanceTable instances_;
  SnapshotHub hub_;
  Registry registry_;
  Telemetry telemetry_;
  EvidenceRetention retention_;
  GateLoop gate_;
  DurationHistogram rollback_propagation_;
};

}  // namespace lockstep::engine
