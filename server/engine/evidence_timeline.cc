#include "server/engine/evidence_timeline.h"

#include "core/domain/transition.h"

namespace lockstep::engine {
namespace {

// What ends evidence: the migration is not under way.
bool Ends(const domain::DecisionRecord& record) {
  return record.step < 0 || record.run_state == domain::RunState::kDraft ||
         record.run_state == domain::RunState::kRolledBack;
}

bool Restarts(const domain::DecisionRecord& record) {
  for (const absl::string_view reset : {kActionUpdatePlan, kActionUpdateContract, kActionRenewEvidence}) {
    if (record.action == reset) return true;
  }
  // A breach that somebody decided to go on after.
  return record.action == domain::CommandName(domain::CommandKind::kResume) && record.evidence.has_value() &&
         record.evidence->verdict == domain::Verdict::kRollBack;
}

}  // namespace

bool BeginsStep(absl::string_view action) {
  for (const absl::string_view other : {kActionUpdate, kActionUpdatePlan, kActionUpdateContract,
                                        kActionRenewEvidence, kActionSlice, kActionRelease, kActionDrill}) {
    if (action == other) return false;
  }
  return true;
}

void EvidenceTimeline::Add(const domain::DecisionRecord& record) {
  if (Ends(record)) {
    if (!segments_.empty()) ++id_;
    segments_.clear();
    return;
  }
  // Epoch 0: the new state waits to be published, and the evidence of the published one goes on.
  if (record.after.epoch == 0 || record.after.stage == domain::Stage::kOff) return;
  const EvidenceSegment segment{record.step, BucketCeil(record.time)};
  if (segments_.empty() || Restarts(record)) {
    ++id_;
    restarts_ = generation_ == record.after.generation ? restarts_ + 1 : 0;
    generation_ = record.after.generation;
    first_epoch_ = record.after.epoch;
    segments_ = {segment};
  } else if (record.after.epoch != record.before.epoch && BeginsStep(record.action)) {
    segments_.push_back(segment);
  }
}

absl::Time BucketFloor(absl::Time time) {
  const absl::Duration since_epoch = time - absl::UnixEpoch();
  return absl::UnixEpoch() + absl::Floor(since_epoch, domain::kTelemetryBucket);
}

absl::Time BucketCeil(absl::Time time) {
  const absl::Time floor = BucketFloor(time);
  return floor == time ? floor : floor + domain::kTelemetryBucket;
}

}  // namespace lockstep::engine
