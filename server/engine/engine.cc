#include "server/engine/engine.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"

namespace lockstep::engine {

Engine::Engine(store::Store* store, const store::RecordCodec* codec, const Clock* clock, uint64_t seed,
               EngineOptions options)
    : clock_(clock),
      store_(store, clock),
      instances_(&store_, codec, clock),
      registry_(&store_, codec, clock, seed, &instances_, &hub_, options.registry),
      telemetry_(&store_, codec, clock, &registry_, options.telemetry),
      retention_(&store_, clock, &registry_, options.evidence),
      gate_(clock, &registry_, &telemetry_, &instances_, &retention_) {}

Engine::~Engine() { Stop(); }

absl::Status Engine::Start() {
  LOCKSTEP_RETURN_IF_ERROR(instances_.Recover());
  LOCKSTEP_RETURN_IF_ERROR(registry_.Recover());
  LOCKSTEP_RETURN_IF_ERROR(telemetry_.Recover());
  LOCKSTEP_RETURN_IF_ERROR(retention_.Recover());
  telemetry_.Start();
  return absl::OkStatus();
}

void Engine::Stop() {
  telemetry_.Stop();
  // Should it fail, the instances count at older epochs until they reconnect.
  instances_.Flush().IgnoreError();
}

absl::Status Engine::Tick() {
  instances_.ExpireLeases();
  absl::Status first = gate_.Tick();
  first.Update(registry_.PublishAllPossible());
  first.Update(instances_.Flush());
  first.Update(retention_.Tick());
  return first;
}

absl::Status Engine::health() const {
  LOCKSTEP_RETURN_IF_ERROR(registry_.health());
  LOCKSTEP_RETURN_IF_ERROR(telemetry_.health());
  return store_.health();  // enrolments are committed too
}

absl::Status Engine::Accept(const std::string& instance_id, ConnectionId connection,
                            const domain::Snapshot& snapshot) {
  std::map<std::string, uint64_t> epochs;
  std::map<std::string, absl::Duration> delays;
  const absl::Duration now = clock_->SinceBoot();
  for (const domain::MigrationRouting& migration : snapshot.migrations) {
    epochs[migration.name] = migration.state.epoch;
    const auto published = registry_.PublishedSince(migration.name, migration.state.epoch);
    if (!published) continue;  // overtaken by a newer one, or read from disk after a restart
    delays[migration.name] = now - published->since;
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<std::string> fresh,
                            instances_.Accept(instance_id, connection, epochs, delays));
  for (const std::string& migration : fresh) {
    const auto published = registry_.PublishedSince(migration, epochs.at(migration));
    if (published && published->is_rollback) rollback_propagation_.Add(now - published->since);
  }
  return absl::OkStatus();
}

absl::Status Engine::Acknowledge(const std::string& instance_id, ConnectionId connection,
                                 const std::map<std::string, uint64_t>& held,
                                 const std::vector<domain::SliceCheck>& slice_checks) {
  LOCKSTEP_RETURN_IF_ERROR(registry_.CheckHeld(held));
  LOCKSTEP_RETURN_IF_ERROR(instances_.CheckConnection(instance_id, connection));
  // Before the acknowledgement counts: what was found may forbid what it would make possible.
  for (const domain::SliceCheck& check : slice_checks) {
    LOCKSTEP_RETURN_IF_ERROR(registry_.ApplySliceCheck(instance_id, check));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<std::string> raised,
                            instances_.Acknowledge(instance_id, connection, held));
  // The acknowledgement stands whatever becomes of a publish: the next tick tries again.
  for (const std::string& migration : raised) registry_.PublishIfPossible(migration).IgnoreError();
  return absl::OkStatus();
}

absl::Status Engine::Leave(const std::string& instance_id, ConnectionId connection) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<std::string> migrations,
                            instances_.Leave(instance_id, connection));
  for (const std::string& migration : migrations) registry_.PublishIfPossible(migration).IgnoreError();
  return absl::OkStatus();
}

absl::Status Engine::Delete(absl::string_view name, const MutationContext& context) {
  LOCKSTEP_RETURN_IF_ERROR(registry_.Delete(name, context));
  if (context.validate_only || registry_.Get(name).ok()) return absl::OkStatus();
  // The migration is gone; should rows stay, a migration of that name never reads them, since generations go
  // on.
  telemetry_.Forget(std::string(name)).IgnoreError();
  return absl::OkStatus();
}

EngineMetrics Engine::Metrics() const {
  EngineMetrics metrics;
  for (const GateSubject& subject : registry_.GateSubjects()) {
    const absl::StatusOr<MigrationView> view = registry_.Get(subject.migration->name);
    if (!view.ok()) continue;  // deleted meanwhile
    const domain::Migration& migration = *view->migration;
    MigrationMetrics one;
    one.name = migration.name;
    one.stage = migration.published.stage;
    one.run_state = migration.run_state;
    one.read_weight = migration.published.read_weight;
    one.write_weight = migration.published.write_weight;
    one.epoch = migration.published.epoch;
    one.generation = migration.published.generation;
    one.totals = telemetry_.LifetimeTotals(migration.name);
    const domain::RepairStats repairs = telemetry_.Repairs(migration.name, one.generation);
    one.repairs_outstanding = repairs.queued - std::min(repairs.queued, repairs.done);
    one.read_observed_ratio = gate_.ObservedReadRatio(migration.name);
    for (const domain::FieldRule& field : migration.contract.fields)
      one.declared_fields.push_back(field.path);
    for (const InstanceView& instance : instances_.List(migration.name)) {
      switch (instance.lease) {
        case LeaseState::kLive:
          ++one.instances.connected;
          break;
        case LeaseState::kDisconnected:
          ++one.instances.disconnected;
          break;
        case LeaseState::kExpired:
          ++one.instances.expired;
          break;
      }
    }
    one.fence_waiting_instances = view->waiting_count;
    one.gate = view->gate;
    metrics.migrations.push_back(std::move(one));
  }
  metrics.transitions = registry_.transitions();
  metrics.instances = instances_.Counts();
  metrics.telemetry = telemetry_.counters();
  metrics.gate = gate_.counters();
  metrics.store_commits = store_.commit_durations();
  metrics.rollback_propagation = rollback_propagation_.Read();
  metrics.store_revision = store_.revision();
  return metrics;
}

}  // namespace lockstep::engine
