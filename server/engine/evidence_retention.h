// How long evidence is kept: buckets of telemetry are removed when they are older than the retention, and
// evidence that has grown older than that begins anew, so that the database stops growing under a constant
// load.
//
// What is kept: the buckets of the last `keep`, and all buckets of the present evidence of each migration.
// The totals of a generation do not depend on buckets, and what a decision rested on is in its record.
//
// Evidence that is older than `keep` is not cut short, which would make another test of it: it begins anew,
// by a decision record, at half the error probabilities, like after an edit of the plan
// (evidence_timeline.h). A restarted server reads that from the records, and so holds the same evidence.
//
// Removal is incremental: at most one commit for each tick, and a row that is missed is removed later, so a
// crash at any moment does no harm. The commit also notes the moment before which buckets may be gone, so
// that nobody takes what is left for the whole.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/engine/migration_history.h"
#include "server/engine/registry.h"
#include "server/store/store.h"

namespace lockstep::engine {

// Thread-safe; ticks exclude each other.
class EvidenceRetention {
 public:
  struct Options {
    absl::Duration keep = absl::Hours(7 * 24);
  };

  // Owns none of the arguments.
  EvidenceRetention(store::Store* store, const Clock* clock, Registry* registry, Options options);
  EvidenceRetention(const EvidenceRetention&) = delete;
  EvidenceRetention& operator=(const EvidenceRetention&) = delete;

  // Once, after Registry::Recover.
  absl::Status Recover();
  // Lets evidence begin anew that is too old, and removes some of the buckets that are no longer kept. An
  // error of one migration does not keep the others from their turn; the first is returned.
  absl::Status Tick();

  // OK if all buckets of the evidence of `subject`, which has some, are there. Ask after reading them. Else
  // FAILED_PRECONDITION, reason EVIDENCE_EXPIRED, metadata "kept_since".
  absl::Status CheckKept(const GateSubject& subject) const;
  // Buckets before may be gone, unless they are of present evidence.
  absl::Time kept_since() const;

 private:
  using GenerationKey = std::pair<std::string, uint64_t>;  // migration, generation

  absl::Status RenewOldEvidence(absl::Time horizon) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Removes buckets before `horizon`; sets `*more` when there are more than one commit takes.
  absl::Status RemoveBuckets(absl::Time horizon, bool* more) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  store::Store* const store_;
  const Clock* const clock_;
  Registry* const registry_;
  const Options options_;

  Mutex mutex_;                                                                      // before the registry's
  absl::Duration next_removal_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();  // since boot
  // Of each generation, no row before that moment is left. From nothing after a restart.
  std::map<GenerationKey, absl::Time> removed_before_ ABSL_GUARDED_BY(mutex_);

  mutable Mutex view_mutex_ ABSL_ACQUIRED_AFTER(mutex_);
  absl::Time kept_since_ ABSL_GUARDED_BY(view_mutex_) = absl::UnixEpoch();
};

}  // namespace lockstep::engine
