// Feeds closed buckets to the evidence of each running migration, evaluates its gate, and hands the verdict
// to the registry. A plain function of the clock: the caller decides when to tick (programs: once a second).
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/domain/gate.h"
#include "server/engine/instance_table.h"
#include "server/engine/registry.h"
#include "server/engine/telemetry.h"

namespace lockstep::engine {

// With comparisons expected and none for so long, telemetry counts as stale, and the step is held.
inline constexpr absl::Duration kStaleTelemetry = absl::Seconds(60);

struct GateCounters {
  std::array<uint64_t, 3> evaluations_by_verdict = {};  // index: domain::Verdict
  absl::Time last_evaluation = absl::InfinitePast();
};

// Thread-safe; ticks exclude each other. Evidence is rebuilt from decision records and stored buckets
// whenever it is missing, so a restart goes on with the same evidence, bit for bit.
class GateLoop {
 public:
  // Owns none of the arguments.
  GateLoop(const Clock* clock, Registry* registry, Telemetry* telemetry, const InstanceTable* instances);
  GateLoop(const GateLoop&) = delete;
  GateLoop& operator=(const GateLoop&) = delete;

  // Evaluates every migration that is RUNNING, PAUSED or SUCCEEDED (which can still be rolled back). An error
  // of one does not keep the others from being evaluated; the first is returned.
  absl::Status Tick();

  // The newest evaluation is MigrationView::gate (Registry::Get).
  GateCounters counters() const;

 private:
  struct Evidence {
    uint64_t timeline_id = 0;
    std::string uid;
    size_t segment = 0;                            // index of the one being fed
    std::optional<domain::StepEvidence> evidence;  // of that segment
    absl::Time fed_until = absl::InfinitePast();
    absl::Time last_comparison = absl::InfinitePast();  // end of the newest bucket with comparisons
  };

  absl::Status TickOne(const GateSubject& subject, absl::Time now, absl::Time closed_before,
                       Evidence* evidence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Feed(const GateSubject& subject, absl::Time closed_before, Evidence* evidence) const;
  std::vector<domain::Guard> OpenGuards(const GateSubject& subject, const Evidence& evidence,
                                        absl::Time now) const;

  const Clock* const clock_;
  Registry* const registry_;
  Telemetry* const telemetry_;
  const InstanceTable* const instances_;

  mutable Mutex mutex_;  // before every other lock of the engine
  std::map<std::string, Evidence> evidence_ ABSL_GUARDED_BY(mutex_);
  GateCounters counters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::engine
