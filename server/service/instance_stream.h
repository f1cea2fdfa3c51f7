// One instance's Watch stream: enrols it, sends it the newest snapshot after every change, takes its
// acknowledgements.
//
// Requests are handled one at a time in the order they came: the next is read when the last has taken effect.
// Responses wait in slots, not in a queue: the newest snapshot, the heartbeats to be answered, a drain
// notice; one write at a time.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "core/base/mutex.h"
#include "lockstep/v1/routing_service.pb.h"
#include "server/engine/engine.h"
#include "server/service/stream_group.h"
#include "server/service/worker_pool.h"

namespace lockstep::service {

// How long a drained instance is asked to stay away, before the SDK's jitter.
inline constexpr absl::Duration kReconnectAfterDrain = absl::Seconds(1);

// Owns itself: gone once gRPC is done with the stream and no task of it is left on the pool.
class InstanceStream final : public grpc::ServerBidiReactor<v1::WatchRequest, v1::WatchResponse>,
                             public EndableStream {
 public:
  InstanceStream(engine::Engine* engine, WorkerPool* pool, StreamGroup* group);

  // Sends a drain notice and then ends the stream.
  void End() override;

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  ~InstanceStream() = default;

  // Runs `method` on the pool; the stream lives until it has returned.
  void Submit(void (InstanceStream::*method)());
  void Release();
  void LeaveGroup();

  // On the worker pool, one at a time.
  void Handle();
  absl::Status HandleEnrol(const v1::Enrol& enrol);
  absl::Status HandleAck(const v1::Ack& ack);
  absl::Status HandleLeave();

  void WriteNext();
  // Fills response_ with whatever is most urgent; false when there is nothing.
  bool NextResponse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishOnce(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(const absl::Status& status);

  engine::Engine* const engine_;
  WorkerPool* const pool_;
  StreamGroup* const group_;

  // One for gRPC until LeaveGroup, one for each task on the pool.
  std::atomic<int> references_{1};

  v1::WatchRequest request_;  // gRPC's while a read is under way, else Handle's

  // Set by the first request, before subscription_, and then constant.
  std::string instance_id_;
  engine::ConnectionId connection_ = 0;

  Mutex mutex_;
  std::unique_ptr<engine::Subscription> subscription_ ABSL_GUARDED_BY(mutex_);
  v1::WatchResponse response_ ABSL_GUARDED_BY(mutex_);
  uint64_t sent_revision_ ABSL_GUARDED_BY(mutex_) = 0;
  int heartbeats_due_ ABSL_GUARDED_BY(mutex_) = 0;
  bool drain_due_ ABSL_GUARDED_BY(mutex_) = false;
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lockstep::service
