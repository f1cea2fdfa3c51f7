// The gate's evidence of one migration: one domain::GateEvidence over an evidence epoch, fed with stored
// buckets along the migration's timeline. The gate loop feeds one as buckets close; explanations build one
// from the start. Both make the same calls in the same order, so both hold the same evidence, bit for bit.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "server/engine/migration_history.h"
#include "server/engine/telemetry.h"

namespace lockstep::engine {

// What is frozen when the present evidence of `subject` began. It has some.
domain::EvidenceEpoch EvidenceEpochOf(const GateSubject& subject);

// Thread-compatible.
class EvidenceFeed {
 public:
  // Empty, for the present evidence of `subject`, which has some (EvidenceTimeline::segments).
  explicit EvidenceFeed(const GateSubject& subject);

  // Whether it is the present evidence of `subject`, and not of what was before a reset.
  bool IsOf(const GateSubject& subject) const;

  // Adds the buckets that have closed since; IsOf(subject), and all buckets before `closed_before` are
  // closed. After an error its content is undefined: build another.
  absl::Status FeedUntil(const Telemetry& telemetry, const GateSubject& subject, absl::Time closed_before);
  // Of the last FeedUntil; InfinitePast before.
  absl::Time fed_until() const { return fed_until_; }

  // The evidence in the newest step of `subject`; IsOf(subject). Valid until the next call. In the seconds
  // between a step's beginning and the closing of its predecessor's last bucket that is a copy, made once for
  // each bucket; otherwise it is the evidence itself, which is large.
  const domain::GateEvidence& AtNewestStep(const GateSubject& subject);

  // End of the newest bucket with comparisons; InfinitePast without any.
  absl::Time last_comparison() const { return last_comparison_; }
  // Reads in the step's closed buckets, by domain::Arm.
  const std::array<uint64_t, domain::kArmCount>& step_reads() const { return step_reads_; }

 private:
  // Lets the segments begin that begin at `time` or before.
  void BeginSegmentsUntil(const EvidenceTimeline& timeline, absl::Time time);

  const std::string uid_;
  const uint64_t timeline_id_;
  domain::GateEvidence evidence_;
  size_t segment_ = 0;  // index of the one being fed
  absl::Time fed_until_ = absl::InfinitePast();
  absl::Time last_comparison_ = absl::InfinitePast();
  std::array<uint64_t, domain::kArmCount> step_reads_ = {};
  // A copy of evidence_ in the newest step, while that is not the one being fed.
  std::optional<domain::GateEvidence> ahead_;
  size_t ahead_segment_ = 0;
};

}  // namespace lockstep::engine
