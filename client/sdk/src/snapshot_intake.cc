#include "client/sdk/src/snapshot_intake.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace lockstep::internal {

const domain::Snapshot* SnapshotIntake::latest() const {
  return pending_.has_value() ? &*pending_ : ring_->current();
}

absl::Status SnapshotIntake::Take(domain::Snapshot snapshot, uint64_t digest) {
  for (domain::MigrationRouting& routing : snapshot.migrations) {
    routing.digest = domain::RoutingDigest(routing);
  }
  return Check(std::move(snapshot), digest);
}

absl::Status SnapshotIntake::Take(domain::SnapshotDelta delta, uint64_t digest) {
  const domain::Snapshot* base = latest();
  if (base == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("a delta to revision ", delta.base_revision, ", but no snapshot is in force"));
  }
  // A rollback may have been sent before the server knew that we have something newer.
  const domain::Snapshot* const current = ring_->current();
  if (base->revision != delta.base_revision && current != nullptr) base = current;
  for (domain::MigrationRouting& routing : delta.changed) routing.digest = domain::RoutingDigest(routing);
  LOCKSTEP_ASSIGN_OR_RETURN(domain::Snapshot next, domain::ApplyDelta(*base, std::move(delta)));
  return Check(std::move(next), digest);
}

absl::Status SnapshotIntake::Check(domain::Snapshot snapshot, uint64_t digest) {
  const uint64_t computed = domain::SnapshotDigest(snapshot);
  if (computed != digest) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the digest of revision ", snapshot.revision, " is ", absl::Hex(computed, absl::kZeroPad16),
        " here, but the server says ", absl::Hex(digest, absl::kZeroPad16)));
  }
  const domain::Snapshot* const last = latest();
  if (last != nullptr && last->store_epoch == snapshot.store_epoch && snapshot.revision < last->revision) {
    return absl::InvalidArgumentError(absl::StrCat("the server's data is older: it sent revision ",
                                                   snapshot.revision, ", but revision ", last->revision,
                                                   " of the same store is in force"));
  }
  LOCKSTEP_RETURN_IF_ERROR(domain::ValidateSnapshot(snapshot, last));
  to_accept_ = snapshot.revision;
  // After a reconnect the server repeats what we have.
  if (last == nullptr || computed != domain::SnapshotDigest(*last)) pending_ = std::move(snapshot);
  return absl::OkStatus();
}

std::optional<uint64_t> SnapshotIntake::Publish(absl::Duration now) {
  if (pending_.has_value()) {
    if (!ring_->TryPublish(*pending_, now)) return std::nullopt;
    pending_.reset();
  }
  return std::exchange(to_accept_, std::nullopt);
}

}  // namespace lockstep::internal
