// An engine on the real store, in a directory that is removed at the end, with migrations that stand at
// CANARY_READ with ten checks. Time is told; evidence comes the way it comes from instances, by telemetry
// reports.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/clock.h"
#include "core/domain/records.h"
#include "core/domain/window_stats.h"
#include "server/engine/engine.h"
#include "server/store/proto_record_codec.h"
#include "server/store/store.h"
#include "tests/store/temp_directory.h"

namespace lockstep::bench {

struct GateFleetOptions {
  int migrations = 1;
  double reads_per_second = 200;  // of each migration
  bool subjects = true;           // reports name them
  engine::EngineOptions engine = {};
};

// Not thread-safe.
class GateFleet {
 public:
  explicit GateFleet(const GateFleetOptions& options);

  absl::Status Start();
  // A bucket of every migration, reported, and `wait` passes: at least what closes it.
  absl::Status Report(absl::Duration wait = domain::kTelemetryBucket + engine::kBucketGrace);
  // Every gate has seen evidence.
  absl::Status CheckEvidence() const;

  int migrations() const { return options_.migrations; }
  engine::Engine& engine() { return *engine_; }
  FakeClock& clock() { return clock_; }
  const std::string& directory() const { return directory_.path(); }

 private:
  absl::Status Send(domain::TelemetryBatch batch);

  const GateFleetOptions options_;
  const store::TempDirectory directory_;
  FakeClock clock_;
  const store::ProtoRecordCodec codec_;
  std::vector<domain::WindowStats> buckets_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<engine::Engine> engine_;
  uint64_t sequence_ = 0;
};

}  // namespace lockstep::bench
