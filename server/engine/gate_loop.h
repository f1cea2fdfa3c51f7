// Feeds closed buckets to the evidence of each running migration, evaluates its gate, and hands the verdict
// to the registry; explains and exports evidence. A plain function of the clock: the caller decides when to
// tick (programs: once a second).
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/domain/gate.h"
#include "server/engine/evidence_export.h"
#include "server/engine/evidence_feed.h"
#include "server/engine/evidence_retention.h"
#include "server/engine/gate_guards.h"
#include "server/engine/instance_table.h"
#include "server/engine/registry.h"
#include "server/engine/telemetry.h"

namespace lockstep::engine {

struct GateCounters {
  std::array<uint64_t, 3> evaluations_by_verdict = {};  // index: domain::Verdict
  absl::Time last_evaluation = absl::InfinitePast();
};

// What the gate says of a migration at a moment.
struct GateExplanation {
  domain::GateResult result;
  absl::Time time;
  int step = 0;  // index into plan.steps: the one whose state was published
  std::optional<domain::DecisionRecord> last_decision;
};

// Thread-safe; ticks exclude each other. Evidence is rebuilt from decision records and stored buckets
// whenever it is missing, so a restart goes on with the same evidence, bit for bit.
class GateLoop {
 public:
  // Owns none of the arguments.
  GateLoop(const Clock* clock, Registry* registry, Telemetry* telemetry, const InstanceTable* instances,
           const EvidenceRetention* retention);
  GateLoop(const GateLoop&) = delete;
  GateLoop& operator=(const GateLoop&) = delete;

  // Evaluates every migration that is RUNNING, PAUSED or SUCCEEDED (which can still be rolled back). Bounds
  // and words are made, and MigrationView::gate replaced, whenever a bucket has closed, a guard has opened or
  // closed, the verdict is another or the migration has changed; in between a verdict is all that is
  // computed. An error of one does not keep the others from being evaluated; the first is returned.
  absl::Status Tick();

  // Evaluates the gate as it was at `time`, or as it is now, from decision records and stored buckets alone,
  // through the code that Tick uses. At the time of a gate's decision it is what that decision rested on.
  // Conditions that were known only then are left out: who was enrolled (but a decision of that very moment
  // has kept its guards).
  //
  // NOT_FOUND without such a migration; INVALID_ARGUMENT for a time to come; FAILED_PRECONDITION
  // (EVIDENCE_NONE) while nothing is evidence: at OFF, after a rollback, before it existed; or
  // (EVIDENCE_EXPIRED) when buckets that it would take are no longer kept. Reads all of the evidence: slow
  // for a long one.
  absl::StatusOr<GateExplanation> Explain(const std::string& name, std::optional<absl::Time> time) const;

  // The present evidence, to be read piece by piece. Errors as Explain.
  absl::StatusOr<std::unique_ptr<EvidenceExport>> Export(const std::string& name) const;

  // The newest evaluation is MigrationView::gate (Registry::Get).
  GateCounters counters() const;
  // Share of the reads of the present step's closed buckets that new served; nothing without reads.
  std::optional<double> ObservedReadRatio(const std::string& name) const;

 private:
  // What the newest full evaluation of a migration rested on.
  struct Evaluated {
    uint64_t version = 0;
    absl::Time fed_until = absl::InfinitePast();
    std::vector<domain::Guard> guards;
    domain::Verdict verdict = domain::Verdict::kHold;
    bool deadline_passed = false;
    bool operator==(const Evaluated&) const = default;
  };
  struct Watched {
    std::unique_ptr<EvidenceFeed> feed;
    std::optional<Evaluated> evaluated;
  };

  absl::Status TickOne(const GateSubject& subject, absl::Time now, absl::Time closed_before, Watched* watched)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The moment before which all buckets were closed at `time`, which is not later than `now`.
  absl::Time ClosedBefore(absl::Time time, absl::Time now) const;
  std::vector<ReportingInstance> InstancesOf(const std::string& name) const;
  // Everything about `subject` at `now` except guards on instances.
  absl::StatusOr<domain::EvaluationContext> ContextOf(const GateSubject& subject, const EvidenceFeed& feed,
                                                      absl::Time now) const;

  const Clock* const clock_;
  Registry* const registry_;
  Telemetry* const telemetry_;
  const InstanceTable* const instances_;
  const EvidenceRetention* const retention_;

  mutable Mutex mutex_;  // before every other lock of the engine
  std::map<std::string, Watched> watched_ ABSL_GUARDED_BY(mutex_);

  // What readers see, so that they never wait for a tick.
  mutable Mutex view_mutex_ ABSL_ACQUIRED_AFTER(mutex_);
  GateCounters counters_ ABSL_GUARDED_BY(view_mutex_);
  std::map<std::string, double> read_ratios_ ABSL_GUARDED_BY(view_mutex_);
};

}  // namespace lockstep::engine
