// Takes what the control plane says of the routing state into the ring: checks it, applies deltas, and keeps
// the newest one waiting when every slot is pinned.
//
// Belongs to the session's thread.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/domain/snapshot.h"
#include "lockstep/internal/snapshot_ring.h"

namespace lockstep::internal {

class SnapshotIntake {
 public:
  // `ring` is not owned.
  explicit SnapshotIntake(SnapshotRing* ring) : ring_(ring) {}

  // An error is what the NACK says; nothing changes then.
  absl::Status Take(domain::Snapshot snapshot, uint64_t digest);
  absl::Status Take(domain::SnapshotDelta delta, uint64_t digest);

  // Puts what was taken in force; returns its revision if that has not been accepted on this stream.
  std::optional<uint64_t> Publish(absl::Duration now);

  // The newest one taken, in force or waiting; null: none.
  const domain::Snapshot* latest() const;
  bool waits() const { return pending_.has_value(); }
  // What was taken on the last stream needs no accept on the next.
  void NewStream() { to_accept_.reset(); }
  void Close() { pending_.reset(); }

 private:
  // Of a snapshot whose migrations have their digests.
  absl::Status Check(domain::Snapshot snapshot, uint64_t digest);

  SnapshotRing* const ring_;
  std::optional<domain::Snapshot> pending_;  // valid, waits for a free slot
  std::optional<uint64_t> to_accept_;
};

}  // namespace lockstep::internal
