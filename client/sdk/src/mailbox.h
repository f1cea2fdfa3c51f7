// Where a transport's threads leave what arrived, for the session's thread to pick up. Bounded: of snapshots
// and refusals only the newest is kept, with the few deltas that came after it; the rest are counters and
// single events.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/domain/snapshot.h"
#include "lockstep/transport.h"

namespace lockstep::internal {

struct SnapshotMail {
  domain::Snapshot snapshot;
  uint64_t digest = 0;
};

struct DeltaMail {
  domain::SnapshotDelta delta;
  uint64_t digest = 0;
};

struct Mail {
  std::optional<SnapshotMail> snapshot;
  std::vector<DeltaMail> deltas;  // later than `snapshot`
  std::optional<std::pair<uint64_t, absl::Status>> undecodable;
  int heartbeats = 0;
  uint64_t announced_revision = 0;  // by the newest of `heartbeats`
  std::optional<absl::Duration> drain;
  std::optional<absl::Status> closed;
  std::optional<absl::StatusOr<ReportReply>> report;
};

class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  // A server sends one delta at a time, and a rollback beside it. Further ones are dropped; the session sees
  // from the revision that heartbeats announce that something is missing.
  static constexpr size_t kMaxDeltas = 8;

  // A handler for a new stream. What handlers of earlier streams still deliver is dropped from now on.
  std::shared_ptr<StreamHandler> NewStream();
  void PutReport(absl::StatusOr<ReportReply> reply);
  void Wake();
  Mail Take();
  // Returns when there is mail or after `timeout`.
  void Wait(absl::Duration timeout);

 private:
  class Handler;

  // Applies `update` to the mail unless `stream` is over.
  template <typename Update>
  void Put(uint64_t stream, Update&& update);

  Mutex mutex_;
  CondVar arrived_;
  bool awake_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t stream_ ABSL_GUARDED_BY(mutex_) = 0;
  Mail mail_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::internal
