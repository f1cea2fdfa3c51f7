// One tick of the gate loop over many migrations of ten checks, each with a fresh closed bucket of evidence,
// as a server has it once in five seconds; and the ticks in between, which find nothing new.
//
//   gate_tick_load --migrations 1,10,100,1000,10000 --rounds 20
//
// The real engine on the real store (a directory that is removed at the end). Evidence comes the way it comes
// from instances, through telemetry reports, which are not part of the price. One JSON line a round and size:
//   cpu_s, wall_s  of the tick with fresh buckets; CPU time of the ticking thread
//   check_ns       the same for each check
//   idle_cpu_s     of a tick without anything new
//   limit_s        what a tick may take
#include <stdio.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "server/engine/engine.h"
#include "server/store/proto_record_codec.h"
#include "server/store/rocksdb_store.h"
#include "tests/bench/many_migrations.h"
#include "tests/store/temp_directory.h"

namespace lockstep::bench {
namespace {

constexpr double kLimitSeconds = 1;
constexpr size_t kDifferentBuckets = 16;
constexpr uint64_t kSeed = 1;
// Ticks of small fleets are repeated, so that a clock can time them.
constexpr int kLeastMigrationsPerRound = 100;

struct Options {
  std::vector<int> migrations = {1, 10, 100, 1000, 10000};
  int rounds = 20;
  int divide = 1;
  double reads_per_second = 200;
  bool subjects = true;
};

absl::Duration ThreadCpuTime() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return absl::DurationFromTimespec(now);
}

class Fleet {
 public:
  Fleet(int migrations, const Options& options)
      : migrations_(migrations), clock_(absl::FromUnixSeconds(1'700'000'000)) {
    for (size_t i = 0; i < kDifferentBuckets; ++i) {
      buckets_.push_back(BusyBucket(options.reads_per_second, options.subjects, i));
    }
  }

  int migrations() const { return migrations_; }

  absl::Status Start() {
    LOCKSTEP_ASSIGN_OR_RETURN(store_, store::OpenRocksDbStore({.path = directory_.path()}));
    LOCKSTEP_RETURN_IF_ERROR(
        WriteManyMigrations({.count = migrations_, .step = TenChecks()}, codec_, clock_, store_.get()));
    engine_ =
        std::make_unique<engine::Engine>(store_.get(), &codec_, &clock_, kSeed, engine::EngineOptions());
    return engine_->Start();
  }

  struct Spent {
    absl::Duration cpu, wall;
  };
  absl::StatusOr<Spent> Tick() {
    const absl::Time began = absl::Now();
    const absl::Duration before = ThreadCpuTime();
    LOCKSTEP_RETURN_IF_ERROR(engine_->gate().Tick());
    return Spent{ThreadCpuTime() - before, absl::Now() - began};
  }

  // A bucket of every migration, reported and closed.
  absl::Status Report() {
    domain::TelemetryBatch batch;
    for (int number = 0; number < migrations_; ++number) {
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
      if (batch.deltas.size() < domain::kMaxDeltasPerBatch / 4 && number + 1 < migrations_) continue;
      LOCKSTEP_RETURN_IF_ERROR(Send(std::exchange(batch, {})));
    }
    clock_.Advance(domain::kTelemetryBucket + engine::kBucketGrace);
    return absl::OkStatus();
  }

  // Every gate has seen every bucket.
  absl::Status CheckEvidence() const {
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::MigrationView view, engine_->registry().Get(ManyName(0)));
    if (view.gate == nullptr || view.gate->result().checks.size() != TenChecks().checks.size() ||
        view.gate->result().checks.front().total == 0) {
      return absl::InternalError("the gate has not seen the evidence");
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Send(domain::TelemetryBatch batch) {
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

  const int migrations_;
  const store::TempDirectory directory_;
  FakeClock clock_;
  const store::ProtoRecordCodec codec_;
  std::vector<domain::WindowStats> buckets_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<engine::Engine> engine_;
  uint64_t sequence_ = 0;
};

absl::Status MeasureRound(int round, int migrations, Fleet* fleet) {
  const int ticks = std::max(1, kLeastMigrationsPerRound / fleet->migrations());
  absl::Duration cpu, wall, idle;
  for (int i = 0; i < ticks; ++i) {
    LOCKSTEP_RETURN_IF_ERROR(fleet->Report());
    LOCKSTEP_ASSIGN_OR_RETURN(const Fleet::Spent fresh, fleet->Tick());
    LOCKSTEP_ASSIGN_OR_RETURN(const Fleet::Spent nothing_new, fleet->Tick());
    cpu += fresh.cpu / ticks;
    wall += fresh.wall / ticks;
    idle += nothing_new.cpu / ticks;
  }
  if (round < 0) return fleet->CheckEvidence();
  const double checks =
      static_cast<double>(fleet->migrations()) * static_cast<double>(TenChecks().checks.size());
  absl::PrintF(R"({"round":%d,"subject":"gate_tick_%d","cpu_s":%.9f,"wall_s":%.9f,)"
               R"("check_ns":%.1f,"idle_cpu_s":%.9f,"limit_s":%g})"
               "\n",
               round, migrations, absl::ToDoubleSeconds(cpu), absl::ToDoubleSeconds(wall),
               absl::ToDoubleNanoseconds(cpu) / checks, absl::ToDoubleSeconds(idle), kLimitSeconds);
  fflush(stdout);
  return absl::OkStatus();
}

absl::Status Measure(const Options& options) {
  std::vector<std::unique_ptr<Fleet>> fleets;
  for (const int migrations : options.migrations) {
    fleets.push_back(std::make_unique<Fleet>(std::max(1, migrations / options.divide), options));
    LOCKSTEP_RETURN_IF_ERROR(fleets.back()->Start());
  }
  for (int round = -1; round < options.rounds; ++round) {
    for (size_t i = 0; i < fleets.size(); ++i) {
      LOCKSTEP_RETURN_IF_ERROR(MeasureRound(round, options.migrations[i], fleets[i].get()));
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  lockstep::SetLogLevel(lockstep::LogLevel::kError);
  lockstep::bench::Options options;
  CLI::App app("Ticks of the gate loop over many migrations");
  app.add_option("--migrations", options.migrations, "sizes of the fleets")->delimiter(',');
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--divide", options.divide, "fleets are so many times smaller than they say, to try it out")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--reads-per-second", options.reads_per_second, "of each migration")->capture_default_str();
  app.add_option("--subjects", options.subjects, "whether reports name subjects")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = lockstep::bench::Measure(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "gate_tick_load: %s\n", status.ToString().c_str());
  return 1;
}
