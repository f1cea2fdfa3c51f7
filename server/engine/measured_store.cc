#include "server/engine/measured_store.h"

#include <utility>

namespace lockstep::engine {

absl::StatusOr<uint64_t> MeasuredStore::Commit(store::WriteBatch batch,
                                               std::optional<uint64_t> expected_revision) {
  const absl::Duration start = clock_->SinceBoot();
  absl::StatusOr<uint64_t> revision = ForwardingStore::Commit(std::move(batch), expected_revision);
  durations_.Add(clock_->SinceBoot() - start);
  if (absl::IsUnknown(revision.status())) {
    MutexLock lock(&mutex_);
    health_.Update(revision.status());
  }
  return revision;
}

absl::Status MeasuredStore::health() const {
  MutexLock lock(&mutex_);
  return health_;
}

}  // namespace lockstep::engine
