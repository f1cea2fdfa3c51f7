// Times every commit, for lockstep_store_commit_duration_seconds.
#pragma once

#include "core/base/clock.h"
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

 private:
  const Clock* const clock_;
  DurationHistogram durations_;
};

}  // namespace lockstep::engine
