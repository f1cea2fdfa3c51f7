// Which stretch of time is evidence for which step, derived from a migration's decision records alone, so
// that a restarted server goes on with the same evidence.
//
// A reset (start, edit of the plan or of the contract, going on after a rollback or after a breach) starts
// evidence anew; a rollback or an abort ends it; every other publish adds a segment, whose evidence carries
// over what gate.md (e) lets it carry over. That is what domain::Transition::restart_evidence says, read off
// the records.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "core/domain/records.h"

namespace lockstep::engine {

struct EvidenceSegment {
  int step = -1;
  // Start of the first bucket that lies wholly within the segment; it ends where the next one starts.
  absl::Time from = absl::InfinitePast();
  bool operator==(const EvidenceSegment&) const = default;
};

// Actions of decision records for edits of the definition. The last two void the evidence.
inline constexpr char kActionUpdate[] = "update";
inline constexpr char kActionUpdatePlan[] = "update_plan";
inline constexpr char kActionUpdateContract[] = "update_contract";

// A value.
class EvidenceTimeline {
 public:
  // Records in the order of their numbers.
  void Add(const domain::DecisionRecord& record);

  // Raised by every reset: evidence accumulated under another id counts for nothing.
  uint64_t id() const { return id_; }
  // Telemetry of operations routed under an older epoch than this is not evidence.
  uint64_t first_epoch() const { return first_epoch_; }
  // Start of the first segment; InfiniteFuture while nothing is evidence.
  absl::Time begin() const { return segments_.empty() ? absl::InfiniteFuture() : segments_.front().from; }
  // In order of time; empty while nothing is evidence (OFF, rolled back). The last is the step that is
  // published.
  const std::vector<EvidenceSegment>& segments() const { return segments_; }

 private:
  uint64_t id_ = 0;
  uint64_t first_epoch_ = 0;
  std::vector<EvidenceSegment> segments_;
};

// Start of the 5 s bucket that contains `time`, and of the first one that begins at or after `time`.
absl::Time BucketFloor(absl::Time time);
absl::Time BucketCeil(absl::Time time);

}  // namespace lockstep::engine
