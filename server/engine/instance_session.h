// One instance's side of the routing stream, without the network: enrols the instance, says what to send it
// next, takes what it answers. The gRPC stream (server/service/instance_stream.h) and the simulator drive it.
//
// Flow control. At most one snapshot or delta is on its way: the next is due when the instance has accepted
// or rejected the last one, save that a rollback (and a drill of one) is due at once. Deltas are taken
// against what the instance has accepted; after a rejection, or when there is nothing to compare with, the
// whole snapshot is sent. One that is rejected as a whole is sent again with the next heartbeat.
//
// Make before break. An old stream is renewed, not ended: the instance is asked to enrol anew over another
// one, and this one is served until it has. So the instance is never away, and no publish has to wait for it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/domain/records.h"
#include "core/domain/snapshot.h"
#include "server/engine/engine.h"
#include "server/engine/snapshot_group.h"

namespace lockstep::engine {

// What is sent to an instance, besides a SnapshotMessage or DeltaMessage (snapshot_group.h).
struct HeartbeatMessage {
  uint64_t revision = 0;  // the newest one there is for this instance
};
struct DrainMessage {
  absl::Duration
      reconnect_after;  // zero: enrol anew at once, over another stream; this one goes on meanwhile
};
using InstanceMessage = std::variant<SnapshotMessage, DeltaMessage, HeartbeatMessage, DrainMessage>;

// Thread-safe. `wake` of Open may be called from any thread and at any time, also from within these methods;
// then Next has something.
class InstanceSession {
 public:
  // Enrols the instance. Errors: Registry::Enrol.
  static absl::StatusOr<std::unique_ptr<InstanceSession>> Open(Engine* engine, const EnrolRequest& request,
                                                               std::function<void()> wake);
  // The connection is gone; the instance goes on being counted. Not from within `wake`.
  ~InstanceSession();

  // What the instance says. An error ends the stream: it has enrolled anew over another one, was evicted, or
  // claims what can't be.
  absl::Status OnAccept(uint64_t revision);
  absl::Status OnAck(uint64_t revision, const std::map<std::string, uint64_t>& held,
                     const std::vector<domain::SliceCheck>& slice_checks);
  absl::Status OnNack(uint64_t revision, std::string reason);
  absl::Status OnHeartbeat(uint64_t revision, const domain::InstanceStatus& status);
  // The enrolment is given up.
  absl::Status OnLeave();

  // The server is about to end the stream.
  void Drain(absl::Duration reconnect_after);
  // Asks the instance to enrol anew at once; the stream goes on until it has.
  void Renew();
  // Nothing is lost if the instance enrols anew now: every message is answered, and no migration of it is on
  // its way to a goal or holds writes.
  bool settled() const;
  // The drain notice has been taken by Next: nothing else will be sent.
  bool drained() const;

  // The most urgent thing to send, if there is any.
  std::optional<InstanceMessage> Next();

  const std::string& instance_id() const { return instance_id_; }

 private:
  InstanceSession(Engine* engine, const EnrolRequest& request);
  // The message that brings the instance to newest_.
  InstanceMessage StateMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Engine* const engine_;
  const std::string instance_id_;
  const std::vector<std::string> migrations_;
  ConnectionId connection_ = 0;                 // set by Open
  std::unique_ptr<Subscription> subscription_;  // set by Open; thread-safe in itself

  mutable Mutex mutex_;
  // Shared with every session that asked for the same migrations.
  std::shared_ptr<const domain::Snapshot> newest_ ABSL_GUARDED_BY(mutex_);  // null: none yet
  std::shared_ptr<const domain::Snapshot> accepted_
      ABSL_GUARDED_BY(mutex_);                                            // null: what it has is not known
  std::shared_ptr<const domain::Snapshot> sent_ ABSL_GUARDED_BY(mutex_);  // not answered yet; null: none
  bool sent_is_full_ ABSL_GUARDED_BY(mutex_) = false;
  bool send_due_ ABSL_GUARDED_BY(mutex_) = false;  // newest_ has to be sent
  int heartbeats_due_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<absl::Duration> drain_ ABSL_GUARDED_BY(mutex_);
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;
  bool renewal_due_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lockstep::engine
