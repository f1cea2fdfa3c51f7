// Which stretch of time is evidence for which step, derived from a migration's decision records alone, so
// that a restarted server goes on with the same evidence. Where a record left it is kept beside the record.
//
// A reset (start, edit of the plan or of the contract, going on after a rollback or after a breach, evidence
// that is too old to be kept) starts evidence anew; a rollback or an abort ends it; every other publish adds
// a segment, whose evidence carries over what docs/gate.md lets it carry over. That is what
// domain::Transition::restart_evidence says, read off the records.
//
// Each start anew within a generation halves the error probabilities (domain::EvidenceEpoch), so that looking
// again after every edit or rollback costs no more than was promised for the whole. A new generation, from
// OFF, is another migration of the data and begins with all of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
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

// Action of the decision record by which evidence begins anew that has grown older than it is kept.
inline constexpr char kActionRenewEvidence[] = "renew_evidence";

// Actions of decision records for what the fence publishes: a goal that is reached, a hop on the way, the end
// of a hold that took too long. And a drill.
inline constexpr char kActionPublish[] = "publish";
inline constexpr char kActionSlice[] = "slice";
inline constexpr char kActionRelease[] = "release";
inline constexpr char kActionDrill[] = "drill";

// Whether `action` begins a step if it publishes a new epoch. Edits, drills and hops do not.
bool BeginsStep(absl::string_view action);

// A value.
class EvidenceTimeline {
 public:
  // Records in the order of their numbers.
  void Add(const domain::DecisionRecord& record);

  // How often evidence had started anew before, in this generation.
  uint32_t restarts() const { return restarts_; }
  // Raised by every reset: evidence accumulated under another id counts for nothing.
  uint64_t id() const { return id_; }
  // Telemetry of operations routed under an older epoch than this is not evidence.
  uint64_t first_epoch() const { return first_epoch_; }
  // Start of the first segment; InfiniteFuture while nothing is evidence.
  absl::Time begin() const { return segments_.empty() ? absl::InfiniteFuture() : segments_.front().from; }
  // In order of time; empty while nothing is evidence (OFF, rolled back). The last is the step that is
  // published.
  const std::vector<EvidenceSegment>& segments() const { return segments_; }

  // What is kept beside the records, so that a start need not read all of them: the timeline after decision
  // number `decisions` of the migration with this uid, in which there is no space. One line of text.
  std::string ToRow(absl::string_view uid, uint64_t decisions) const;
  struct Kept;
  // DATA_LOSS when it is no such row.
  static absl::StatusOr<Kept> FromRow(absl::string_view row);

 private:
  uint64_t id_ = 0;
  uint32_t restarts_ = 0;
  std::optional<uint64_t> generation_;  // of the newest evidence, ended or not
  uint64_t first_epoch_ = 0;
  std::vector<EvidenceSegment> segments_;
};

struct EvidenceTimeline::Kept {
  std::string uid;
  uint64_t decisions = 0;
  EvidenceTimeline timeline;
};

// Start of the 5 s bucket that contains `time`, and of the first one that begins at or after `time`.
absl::Time BucketFloor(absl::Time time);
absl::Time BucketCeil(absl::Time time);

}  // namespace lockstep::engine
