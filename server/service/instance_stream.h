// One instance's Watch stream: engine::InstanceSession over gRPC.
//
// Requests are handled one at a time in the order they came: the next is read when the last has taken effect.
// What only touches memory is handled where it was read, the rest on the worker pool. Responses are asked of
// the session one at a time, when the last has been written. They are written as bytes, which the streams
// that asked for the same migrations share.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "lockstep/v1/routing_service.pb.h"
#include "server/engine/instance_session.h"
#include "server/service/admission.h"
#include "server/service/stream_group.h"
#include "server/service/worker_pool.h"

namespace lockstep::service {

// How long a drained instance is asked to stay away, before the SDK's jitter.
inline constexpr absl::Duration kReconnectAfterDrain = absl::Seconds(1);
// How long a stream that is asked to be renewed is served besides, at most: longer than a reconnect takes,
// several times.
inline constexpr absl::Duration kRenewalGrace = absl::Seconds(30);

// What the streams of one server share.
struct StreamContext {
  engine::Engine* engine;
  WorkerPool* pool;
  StreamGroup* group;
  Admission* admission;
  const Clock* clock;
  absl::Duration
      max_stream_age;  // older ones are renewed, so that load spreads over servers; +-10 % by instance
  absl::Duration enrol_timeout;           // a stream says who it is within it, or ends
  std::atomic<uint64_t>* states_encoded;  // snapshots and deltas that were turned into bytes
};

// Owns itself: gone once gRPC is done with the stream and no task of it is left on the pool.
class InstanceStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                             public EndableStream {
 public:
  explicit InstanceStream(const StreamContext& context);

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

  // Ends the stream when no request comes within the time for the first.
  void WatchEnrolment();
  void EndUnlessHeard();

  // Whether handling it may wait for the disk, or take long.
  bool MayWait(const v1::WatchRequest& request) const;
  // One at a time.
  void HandleWaiting();
  void Handle(const v1::WatchRequest& request);
  absl::Status HandleEnrol(const v1::Enrol& enrol);
  absl::Status HandleMessage(const v1::WatchRequest& request);  // any but enrol
  absl::Status HandleHeartbeat(const v1::Heartbeat& heartbeat);
  absl::Status HandleLeave();

  void WriteNext();
  // Whatever is most urgent; null when there is nothing. Stays as it is until the next call.
  const grpc::ByteBuffer* NextResponse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename Message>
  const grpc::ByteBuffer* SharedBytes(const Message& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishOnce(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(const absl::Status& status);

  const StreamContext context_;

  // One for gRPC until LeaveGroup, one for each task on the pool, one for the alarm.
  std::atomic<int> references_{1};

  grpc::ByteBuffer request_;                   // gRPC's while a read is under way
  std::unique_ptr<v1::WatchRequest> waiting_;  // for HandleWaiting

  // Set by the first request and then constant; Handle's.
  engine::InstanceSession* handled_session_ = nullptr;
  bool many_migrations_ = false;
  absl::Duration drain_at_ = absl::InfiniteDuration();  // since boot
  bool renewing_ = false;                               // it has been asked to enrol anew

  Mutex mutex_;
  std::unique_ptr<engine::InstanceSession> session_ ABSL_GUARDED_BY(mutex_);
  // What is being written: one of these.
  std::shared_ptr<const engine::TransportForm> shared_response_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer response_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Duration> turned_away_ ABSL_GUARDED_BY(mutex_);  // come back after this long
  bool end_due_ ABSL_GUARDED_BY(mutex_) = false;                       // the server is going away
  bool heard_ ABSL_GUARDED_BY(mutex_) = false;                         // its first request has come
  grpc::Alarm enrolment_alarm_ ABSL_GUARDED_BY(mutex_);
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lockstep::service
