// Times every commit, for lockstep_store_commit_duration_seconds, and remembers whether the outcome of one is
// unknown.
#pragma once

#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/engine/duration_histogram.h"
#include "server/store/forwarding_store.h"

namespace lockstep::engine {

// Thread-safe. Owns neither argument.
class MeasuredStore final : public store::ForwardingStore {
 public:
  MeasuredStore(store::Store* target, const Clock* clock) : ForwardingStore(target), clock_(clock) {}

  absl::StatusOr<uint64_t> Commit(store::WriteBatch batch,
                                  std::optional<uint64_t> expected_revision) override;

  DurationCounts commit_durations() const { return durations_.Read(); }

  // OK, or the UNKNOWN that a commit ended with: the process has to be restarted, which reads what is there.
  absl::Status health() const;

 private:
  const Clock* const clock_;
  DurationHistogram durations_;
  mutable Mutex mutex_;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::engine
