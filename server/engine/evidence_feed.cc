#include "server/engine/evidence_feed.h"

#include <algorithm>
#include <memory>

#include "core/base/check.h"
#include "core/base/status_macros.h"

namespace lockstep::engine {

domain::EvidenceEpoch EvidenceEpochOf(const GateSubject& subject) {
  LOCKSTEP_CHECK(!subject.timeline.segments().empty(), "the migration has evidence");
  domain::EvidenceEpoch epoch;
  epoch.restarts = subject.timeline.restarts();
  epoch.start = subject.timeline.begin();
  // What is never compared is no hypothesis of the report on fields.
  const auto& fields = subject.migration->contract.fields;
  epoch.declared_fields = static_cast<uint32_t>(
      std::count_if(fields.begin(), fields.end(), [](const domain::FieldRule& f) { return !f.ignore; }));
  return epoch;
}

EvidenceFeed::EvidenceFeed(const GateSubject& subject)
    : uid_(subject.migration->uid),
      timeline_id_(subject.timeline.id()),
      evidence_(std::make_shared<const domain::MigrationPlan>(subject.migration->plan),
                EvidenceEpochOf(subject), subject.timeline.segments().front().step) {}

bool EvidenceFeed::IsOf(const GateSubject& subject) const {
  return uid_ == subject.migration->uid && timeline_id_ == subject.timeline.id() &&
         segment_ < subject.timeline.segments().size();
}

void EvidenceFeed::BeginSegmentsUntil(const EvidenceTimeline& timeline, absl::Time time) {
  const auto& segments = timeline.segments();
  while (segment_ + 1 < segments.size() && segments[segment_ + 1].from <= time) {
    ++segment_;
    evidence_.BeginStep(segments[segment_].step, segments[segment_].from);
    step_reads_ = {};
    ahead_.reset();
  }
}

absl::Status EvidenceFeed::FeedUntil(const Telemetry& telemetry, const GateSubject& subject,
                                     absl::Time closed_before) {
  const absl::Time from = std::max(fed_until_, subject.timeline.begin());
  fed_until_ = std::max(fed_until_, closed_before);
  if (closed_before <= from) return absl::OkStatus();
  absl::Status status;
  LOCKSTEP_RETURN_IF_ERROR(telemetry.ReadBuckets(
      subject.migration->name, subject.migration->published.generation, subject.migration->contract.revision,
      from, closed_before, [&](const domain::WindowRecord& bucket) {
        if (!status.ok()) return;
        BeginSegmentsUntil(subject.timeline, bucket.bucket_start);
        status.Update(evidence_.AddBucket(bucket.bucket_start, bucket.stats));
        ahead_.reset();
        for (const domain::Arm arm : {domain::Arm::kOld, domain::Arm::kNew}) {
          step_reads_[static_cast<size_t>(arm)] += bucket.stats.arm(arm).requests;
        }
        if (bucket.stats.compared() > 0) last_comparison_ = bucket.bucket_start + domain::kTelemetryBucket;
      }));
  LOCKSTEP_RETURN_IF_ERROR(status);
  BeginSegmentsUntil(subject.timeline, closed_before);
  return absl::OkStatus();
}

const domain::GateEvidence& EvidenceFeed::AtNewestStep(const GateSubject& subject) {
  const auto& segments = subject.timeline.segments();
  const size_t newest = segments.size() - 1;
  if (segment_ == newest) return evidence_;
  if (!ahead_ || ahead_segment_ != newest) {
    ahead_.emplace(evidence_);
    for (size_t i = segment_ + 1; i <= newest; ++i) ahead_->BeginStep(segments[i].step, segments[i].from);
    ahead_segment_ = newest;
  }
  return *ahead_;
}

}  // namespace lockstep::engine
