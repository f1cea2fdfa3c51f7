// The gate offline: a plan, run over buckets of evidence that were recorded, made up or simulated, by the
// production code: GateEvidence judges, and domain::Plan moves a migration along. `lockstep gate replay` and
// `lockstep gate simulate` are thin doors to it.
//
// What differs from a server: the clock is event time, so a bucket is judged the moment it ends; what is
// decided is published at once; and conditions that only a server sees (enrolled instances, silence) open no
// guards. Write authority moves at once, too: a CUTOVER step is judged by its comparisons and mirror writes,
// and the slices, the holds and what they may find are left out. NEW_ONLY and COMPLETE compare nothing, so
// that their steps last for their minimum bake time.
//
// An evidence log is a header, then buckets in the order of time. Steps among them say which step of the plan
// a stretch of the log belongs to, as in an exported log; verdicts are then shown and nothing follows from
// them. Without any, the rehearsal starts at the first step and follows the plan by its own verdicts.
//
//   Rehearsal rehearsal;
//   for (size_t i = 0; i < lines.size(); ++i) {
//     LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<RehearsedBucket> judged, rehearsal.Add(lines[i], i + 1));
//     if (judged) std::cout << judged->result.sentence << "\n";
//   }
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/domain/migration.h"
#include "core/domain/plan.h"
#include "core/domain/traffic_model.h"
#include "core/domain/transition.h"
#include "core/domain/window_stats.h"

namespace lockstep::domain {

// What the evidence is judged by. The first line.
struct EvidenceHeader {
  std::string migration;  // resource name; may be empty
  MigrationPlan plan;
  // start: InfinitePast = that of the first step or bucket.
  EvidenceEpoch epoch;
};

// A step of the plan begins.
struct EvidenceStep {
  int step = 0;                          // index into plan.steps
  absl::Time start = absl::UnixEpoch();  // of its first bucket
};

// Everything that was reported for 5 s of event time, summed over the instances.
struct EvidenceBucket {
  absl::Time start = absl::UnixEpoch();  // a multiple of 5 s since the Unix epoch
  WindowStats stats;
};

// One line of an evidence log; proto/lockstep/v1/gate_service.proto is its outer form.
using EvidenceLine = std::variant<EvidenceHeader, EvidenceStep, EvidenceBucket>;

struct RehearsalOptions {
  // Every bucket gets a whole GateResult. Otherwise, which is several times faster, one gets the verdict
  // alone unless something follows from it.
  bool full_results = true;
  // A manual step, and the one before NEW_ONLY, is left as soon as the gate says ADVANCE, as if somebody were
  // waiting for it. Otherwise the migration stays there.
  bool advance_manual_steps = false;
};

// What a bucket led to.
struct RehearsedBucket {
  absl::Time start;
  int step = 0;       // it was evidence on
  GateResult result;  // at its end
  // What was done about it. Never with explicit steps.
  std::optional<Transition> transition;
  RunState run_state = RunState::kRunning;  // afterwards
};

// Copyable: a copy goes on from the same evidence. Thread-compatible.
class Rehearsal {
 public:
  explicit Rehearsal(RehearsalOptions options = {}) : options_(options) {}

  // Takes the next line; a bucket yields what it led to, other lines nothing. `line_number` is for messages,
  // from 1. Errors, after which the rehearsal is as it was before the line: INVALID_ARGUMENT, starting with
  // "line 7: ", for a second or missing header, a plan that is not valid, a step or bucket out of order or
  // between two multiples of 5 s, a step that the plan doesn't have, steps that begin only after buckets, and
  // counts that cannot be; OUT_OF_RANGE for sums beyond kMaxCount.
  //
  // After a rollback nothing is evidence any more: further buckets are judged HOLD. A migration that is
  // PAUSED or has SUCCEEDED is still judged, and may still be rolled back, as on a server.
  absl::StatusOr<std::optional<RehearsedBucket>> Add(const EvidenceLine& line, size_t line_number);

  // What it has come to: run state, step, published state. DRAFT before the first step or bucket.
  const Migration& migration() const { return migration_; }
  // The numbers at the end of the last bucket; HOLD without one, and after a rollback.
  GateResult Evaluate() const;

 private:
  absl::Status TakeHeader(const EvidenceHeader& header);
  absl::Status TakeStep(const EvidenceStep& step);
  absl::StatusOr<RehearsedBucket> TakeBucket(const EvidenceBucket& bucket);
  void Begin(int step, absl::Time start);
  EvaluationContext Context() const;
  GateResult Judge() const;
  std::optional<Transition> Follow(const GateResult& result);
  void Apply(const Transition& transition);

  RehearsalOptions options_;
  std::shared_ptr<const MigrationPlan> plan_;
  EvidenceEpoch epoch_;
  Migration migration_;
  std::optional<GateEvidence> evidence_;
  bool explicit_steps_ = false;
  bool has_buckets_ = false;
  absl::Time now_ = absl::InfinitePast();  // end of the last bucket
  RepairStats repairs_;
  BackfillStats backfill_;
};

// Of the runs that got there, by nearest rank.
struct DurationSummary {
  size_t runs = 0;
  absl::Duration p10 = absl::ZeroDuration();
  absl::Duration median = absl::ZeroDuration();
  absl::Duration p90 = absl::ZeroDuration();
};

DurationSummary Summarise(std::vector<absl::Duration> durations);

// Runs that neither came to the end of the plan nor were rolled back.
struct HeldRuns {
  size_t runs = 0;
  std::string sentence;  // of the first of them: what is missing
};

struct SimulationSummary {
  size_t runs = 0;
  std::vector<DurationSummary> until_step;  // from the start to the beginning of each step of the plan
  DurationSummary until_end;                // to the end of the plan
  DurationSummary until_rollback;
  // Of the runs that were rolled back, by median: reads that the new side had served by then, and how many of
  // them had failed.
  uint64_t reads_until_rollback = 0;
  uint64_t errors_until_rollback = 0;
  std::map<std::string, size_t> rollbacks_by_check;  // name of the check with most evidence -> runs
  std::string rollback_sentence;                     // of the first of them
  std::map<int, HeldRuns> held;                      // by step
};

struct SimulationOptions {
  size_t runs = 100;  // > 0
  uint64_t seed = 1;  // run i uses seed + i
  // A run that is neither at its end nor rolled back by then counts as held.
  absl::Duration horizon = absl::Hours(24);
  // Somebody is waiting to leave manual steps.
  bool advance_manual_steps = true;
};

// Runs the plan over simulated traffic. INVALID_ARGUMENT for a plan, model or options that are not valid.
absl::StatusOr<SimulationSummary> SimulateRuns(const MigrationPlan& plan, const TrafficModel& model,
                                               const SimulationOptions& options);

}  // namespace lockstep::domain
