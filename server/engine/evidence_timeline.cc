#include "server/engine/evidence_timeline.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
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

// "uid decisions id restarts generation first_epoch", the generation "-" for none, then "step@seconds" for
// each segment: they begin at whole seconds.
std::string EvidenceTimeline::ToRow(absl::string_view uid, uint64_t decisions) const {
  std::string row = absl::StrCat(uid, " ", decisions, " ", id_, " ", restarts_, " ");
  if (generation_) {
    absl::StrAppend(&row, *generation_);
  } else {
    absl::StrAppend(&row, "-");
  }
  absl::StrAppend(&row, " ", first_epoch_);
  for (const EvidenceSegment& segment : segments_) {
    absl::StrAppend(&row, " ", segment.step, "@", absl::ToUnixSeconds(segment.from));
  }
  return row;
}

absl::StatusOr<EvidenceTimeline::Kept> EvidenceTimeline::FromRow(absl::string_view row) {
  const std::vector<absl::string_view> words = absl::StrSplit(row, ' ');
  constexpr size_t kSegments = 6;
  Kept kept;
  EvidenceTimeline& timeline = kept.timeline;
  bool sound = words.size() >= kSegments && absl::SimpleAtoi(words[1], &kept.decisions) &&
               absl::SimpleAtoi(words[2], &timeline.id_) && absl::SimpleAtoi(words[3], &timeline.restarts_) &&
               absl::SimpleAtoi(words[5], &timeline.first_epoch_);
  if (sound) kept.uid = std::string(words[0]);
  if (sound && words[4] != "-") {
    uint64_t generation = 0;
    sound = absl::SimpleAtoi(words[4], &generation);
    timeline.generation_ = generation;
  }
  for (size_t i = kSegments; sound && i < words.size(); ++i) {
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(words[i], '@');
    EvidenceSegment segment;
    int64_t seconds = 0;
    sound = absl::SimpleAtoi(parts.first, &segment.step) && absl::SimpleAtoi(parts.second, &seconds);
    segment.from = absl::FromUnixSeconds(seconds);
    timeline.segments_.push_back(segment);
  }
  if (!sound) return absl::DataLossError(absl::StrCat("\"", row, "\" is no timeline of evidence"));
  return kept;
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
