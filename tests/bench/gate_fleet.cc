#include "tests/bench/gate_fleet.h"

#include <optional>
#include <utility>

#include "absl/synchronization/notification.h"
#include "core/base/status_macros.h"
#include "server/store/rocksdb_store.h"
#include "tests/bench/many_migrations.h"

namespace lockstep::bench {
namespace {

constexpr size_t kDifferentBuckets = 16;
constexpr uint64_t kSeed = 1;

}  // namespace

GateFleet::GateFleet(const GateFleetOptions& options)
    : options_(options), clock_(absl::FromUnixSeconds(1'700'000'000)) {
  for (size_t i = 0; i < kDifferentBuckets; ++i) {
    buckets_.push_back(BusyBucket(options.reads_per_second, options.subjects, i));
  }
}

absl::Status GateFleet::Start() {
  LOCKSTEP_ASSIGN_OR_RETURN(store_, store::OpenRocksDbStore({.path = directory_.path()}));
  LOCKSTEP_RETURN_IF_ERROR(
      WriteManyMigrations({.count = options_.migrations, .step = TenChecks()}, codec_, clock_, store_.get()));
  engine_ = std::make_unique<engine::Engine>(store_.get(), &codec_, &clock_, kSeed, options_.engine);
  return engine_->Start();
}

absl::Status GateFleet::Report(absl::Duration wait) {
  domain::TelemetryBatch batch;
  for (int number = 0; number < options_.migrations; ++number) {
    domain::TelemetryDelta delta;
    delta.migration = ManyName(number);
    const std::optional<engine::TelemetryTarget> target =
        engine_->registry().FindTelemetryTarget(delta.migration);
    if (!target) return absl::InternalError("the migration is not there");
    delta.generation = target->generation;
    delta.epoch = target->first_evidence_epoch + 2;
    delta.contract_revision = target->contract_revision;
    delta.bucket_start = engine::BucketFloor(clock_.Now());
    delta.stats = buckets_[(static_cast<size_t>(number) + sequence_) % kDifferentBuckets];
    batch.deltas.push_back(std::move(delta));
    if (batch.deltas.size() < domain::kMaxDeltasPerBatch / 4 && number + 1 < options_.migrations) continue;
    LOCKSTEP_RETURN_IF_ERROR(Send(std::exchange(batch, {})));
  }
  clock_.Advance(wait);
  return absl::OkStatus();
}

absl::Status GateFleet::CheckEvidence() const {
  LOCKSTEP_ASSIGN_OR_RETURN(const engine::MigrationView view, engine_->registry().Get(ManyName(0)));
  if (view.gate == nullptr || view.gate->result().checks.size() != TenChecks().checks.size() ||
      view.gate->result().checks.front().total == 0) {
    return absl::InternalError("the gate has not seen the evidence");
  }
  return absl::OkStatus();
}

absl::Status GateFleet::Send(domain::TelemetryBatch batch) {
  batch.instance_id = "bench";
  batch.session = 1;
  batch.sequence = ++sequence_;
  absl::Notification counted;
  absl::Status status;
  engine_->telemetry().Report(std::move(batch), [&](absl::StatusOr<engine::TelemetryReceipt> receipt) {
    status = receipt.status();
    counted.Notify();
  });
  counted.WaitForNotification();
  return status;
}

}  // namespace lockstep::bench
