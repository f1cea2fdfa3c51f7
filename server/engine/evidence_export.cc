#include "server/engine/evidence_export.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/engine/evidence_feed.h"

namespace lockstep::engine {

EvidenceExport::EvidenceExport(const Registry* registry, const Telemetry* telemetry,
                               const EvidenceRetention* retention, GateSubject subject,
                               absl::Time closed_before)
    : registry_(registry),
      telemetry_(telemetry),
      retention_(retention),
      subject_(std::move(subject)),
      closed_before_(closed_before),
      position_(subject_.timeline.begin()) {}

void EvidenceExport::AppendStepsUntil(absl::Time time, std::vector<domain::EvidenceLine>* lines) {
  const auto& segments = subject_.timeline.segments();
  for (; steps_told_ < segments.size() && segments[steps_told_].from <= time; ++steps_told_) {
    lines->push_back(domain::EvidenceStep{segments[steps_told_].step, segments[steps_told_].from});
  }
}

absl::StatusOr<std::vector<domain::EvidenceLine>> EvidenceExport::Next(size_t limit) {
  const domain::Migration& migration = *subject_.migration;
  std::vector<domain::EvidenceLine> lines;
  if (!header_told_) {
    header_told_ = true;
    lines.push_back(domain::EvidenceHeader{migration.name, migration.plan, EvidenceEpochOf(subject_)});
    AppendStepsUntil(position_, &lines);
  }
  // Stretches that hold no more than `limit` buckets; idle ones hold none.
  while (position_ < closed_before_ && lines.empty()) {
    const absl::Time until =
        std::min(closed_before_, position_ + static_cast<int64_t>(limit) * domain::kTelemetryBucket);
    LOCKSTEP_RETURN_IF_ERROR(
        telemetry_->ReadBuckets(migration.name, migration.published.generation, migration.contract.revision,
                                position_, until, [&](const domain::WindowRecord& bucket) {
                                  AppendStepsUntil(bucket.bucket_start, &lines);
                                  lines.push_back(domain::EvidenceBucket{bucket.bucket_start, bucket.stats});
                                }));
    position_ = until;
  }
  if (position_ >= closed_before_) AppendStepsUntil(absl::InfiniteFuture(), &lines);
  const absl::StatusOr<GateSubject> present = registry_->FindGateSubject(migration.name);
  if (!present.ok() || present->migration->uid != migration.uid) {
    return absl::AbortedError(
        absl::StrCat(migration.name, " was deleted while its evidence was being exported"));
  }
  LOCKSTEP_RETURN_IF_ERROR(retention_->CheckKept(subject_));
  return lines;
}

}  // namespace lockstep::engine
