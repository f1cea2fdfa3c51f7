#include "lockstep/grpc_transport.h"

#include <deque>
#include <set>
#include <utility>

#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/wire/routing.h"
#include "core/wire/status.h"
#include "core/wire/telemetry.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "lockstep/v1/telemetry_service.grpc.pb.h"

namespace lockstep {
namespace {

// Snapshots may carry 100,000 pinned keys.
constexpr int kMaxReceiveBytes = 64 << 20;

absl::Status FromGrpc(const grpc::Status& status) {
  return wire::StatusFromWire(status.error_code(), status.error_message(), status.error_details());
}

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

// The calls of one transport that gRPC still works on. The transport waits for them before it lets go of its
// channel: the last reference to a channel must not fall on one of gRPC's own threads, which would then wait
// for itself.
class CallTracker {
 public:
  // Counts as a call while it lives. The first member of its owner, so that it goes last.
  class Entry {
   public:
    explicit Entry(CallTracker* tracker) : tracker_(tracker) {
      MutexLock lock(&tracker_->mutex_);
      ++tracker_->active_;
    }
    ~Entry() {
      MutexLock lock(&tracker_->mutex_);
      if (--tracker_->active_ == 0) tracker_->idle_.SignalAll();
    }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    CallTracker* const tracker_;
  };

  // Between these two `context` may be cancelled by CancelAndWait.
  void AddCancellable(grpc::ClientContext* context) {
    MutexLock lock(&mutex_);
    cancellable_.insert(context);
  }
  void RemoveCancellable(grpc::ClientContext* context) {
    MutexLock lock(&mutex_);
    cancellable_.erase(context);
  }

  void CancelAndWait() {
    MutexLock lock(&mutex_);
    for (grpc::ClientContext* context : cancellable_) context->TryCancel();
    while (active_ > 0) idle_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar idle_;
  int active_ ABSL_GUARDED_BY(mutex_) = 0;
  std::set<grpc::ClientContext*> cancellable_ ABSL_GUARDED_BY(mutex_);
};

// One Watch call. Keeps itself alive until gRPC is done with it.
class WatchReactor final : public grpc::ClientBidiReactor<v1::WatchRequest, v1::WatchResponse> {
 public:
  static std::shared_ptr<WatchReactor> Start(CallTracker* tracker, v1::RoutingService::StubInterface* stub,
                                             v1::WatchRequest enrol, std::shared_ptr<StreamHandler> handler) {
    std::shared_ptr<WatchReactor> reactor(new WatchReactor(tracker, std::move(handler)));
    reactor->self_ = reactor;
    stub->async()->Watch(&reactor->context_, reactor.get());
    // Writes start on any thread; the hold keeps OnDone away until the last of them can't come any more.
    reactor->AddHold();
    reactor->StartRead(&reactor->response_);
    reactor->Send(std::move(enrol));
    reactor->StartCall();
    return reactor;
  }

  // `last`: closes the sending half after this message.
  void Send(v1::WatchRequest request, bool last = false) {
    MutexLock lock(&mutex_);
    if (ended_ || last_queued_) return;
    last_queued_ = last;
    queue_.push_back(std::move(request));
    if (!writing_) WriteNextLocked();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      {
        MutexLock lock(&mutex_);
        ended_ = true;
        queue_.clear();
      }
      RemoveHold();
      return;
    }
    Dispatch();
    StartRead(&response_);
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mutex_);
    writing_ = false;
    // A failed write means that the call is ending; the read says so next.
    if (ok && !ended_ && !queue_.empty()) WriteNextLocked();
  }

  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<WatchReactor> self = std::move(self_);
    handler_->OnClosed(FromGrpc(status));
  }

 private:
  WatchReactor(CallTracker* tracker, std::shared_ptr<StreamHandler> handler)
      : entry_(tracker), handler_(std::move(handler)) {}

  void WriteNextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // gRPC reads the message until OnWriteDone, and takes one at a time.
    current_ = std::move(queue_.front());
    queue_.pop_front();
    writing_ = true;
    if (last_queued_ && queue_.empty()) {
      StartWriteLast(&current_, grpc::WriteOptions());
    } else {
      StartWrite(&current_);
    }
  }

  void Dispatch() {
    switch (response_.message_case()) {
      case v1::WatchResponse::kSnapshot: {
        absl::StatusOr<domain::Snapshot> snapshot = wire::SnapshotFromProto(response_.snapshot());
        if (snapshot.ok()) {
          handler_->OnSnapshot(*std::move(snapshot), response_.snapshot().digest());
        } else {
          handler_->OnUndecodableSnapshot(response_.snapshot().revision(), snapshot.status());
        }
        return;
      }
      case v1::WatchResponse::kDelta: {
        absl::StatusOr<domain::SnapshotDelta> delta = wire::SnapshotDeltaFromProto(response_.delta());
        if (delta.ok()) {
          handler_->OnDelta(*std::move(delta), response_.delta().digest());
        } else {
          handler_->OnUndecodableSnapshot(response_.delta().revision(), delta.status());
        }
        return;
      }
      case v1::WatchResponse::kHeartbeat:
        return handler_->OnHeartbeat(response_.heartbeat().revision());
      case v1::WatchResponse::kDrain:
        return handler_->OnDrain(FromProto(response_.drain().reconnect_after()));
      case v1::WatchResponse::MESSAGE_NOT_SET:
        return;  // something newer than this SDK
    }
  }

  const CallTracker::Entry entry_;
  const std::shared_ptr<StreamHandler> handler_;
  grpc::ClientContext context_;
  v1::WatchResponse response_;  // belongs to the read under way
  std::shared_ptr<WatchReactor> self_;

  Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool last_queued_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<v1::WatchRequest> queue_ ABSL_GUARDED_BY(mutex_);
  v1::WatchRequest current_ ABSL_GUARDED_BY(mutex_);
};

class GrpcStream final : public Stream {
 public:
  explicit GrpcStream(std::shared_ptr<WatchReactor> reactor) : reactor_(std::move(reactor)) {}
  ~GrpcStream() override { reactor_->Cancel(); }

  void SendAccept(uint64_t revision) override {
    v1::WatchRequest request;
    request.mutable_accept()->set_revision(revision);
    reactor_->Send(std::move(request));
  }
  void SendAck(uint64_t revision, const HeldEpochs& held,
               const std::vector<domain::SliceCheck>& slice_checks) override {
    v1::WatchRequest request;
    *request.mutable_ack() = wire::ToProto(wire::Ack{revision, held, slice_checks});
    reactor_->Send(std::move(request));
  }
  void SendNack(uint64_t revision, absl::string_view reason) override {
    v1::WatchRequest request;
    *request.mutable_nack() = wire::MakeNack(revision, reason);
    reactor_->Send(std::move(request));
  }
  void SendHeartbeat(uint64_t revision, const domain::InstanceStatus& status) override {
    v1::WatchRequest request;
    request.mutable_heartbeat()->set_revision(revision);
    *request.mutable_heartbeat()->mutable_status() = wire::ToProto(status);
    reactor_->Send(std::move(request));
  }
  void SendLeave() override {
    v1::WatchRequest request;
    request.mutable_leave();
    reactor_->Send(std::move(request), /*last=*/true);
  }

 private:
  const std::shared_ptr<WatchReactor> reactor_;
};

// One unary report; freed when its answer has come.
struct ReportCall {
  explicit ReportCall(CallTracker* tracker) : entry(tracker), tracker(tracker) {
    tracker->AddCancellable(&context);
  }
  ~ReportCall() { tracker->RemoveCancellable(&context); }

  void Finish(const grpc::Status& status) {
    if (!status.ok()) return done(FromGrpc(status));
    ReportReply reply{.duplicate = response.duplicate(), .stale_deltas = response.stale_deltas()};
    if (response.has_retry_after()) reply.retry_after = FromProto(response.retry_after());
    if (response.has_samples_per_fingerprint()) {
      reply.samples_per_fingerprint = response.samples_per_fingerprint();
    }
    done(std::move(reply));
  }

  const CallTracker::Entry entry;
  CallTracker* const tracker;
  grpc::ClientContext context;
  v1::ReportComparisonsRequest request;
  v1::ReportComparisonsResponse response;
  Transport::ReportDone done;
};

class GrpcTransport final : public Transport {
 public:
  GrpcTransport(std::shared_ptr<grpc::Channel> channel, absl::Duration report_deadline)
      : report_deadline_(report_deadline),
        routing_(v1::RoutingService::NewStub(channel)),
        telemetry_(v1::TelemetryService::NewStub(channel)) {}
  // Not on one of gRPC's threads, that is, not from a handler or a ReportDone.
  ~GrpcTransport() override { calls_.CancelAndWait(); }

  std::unique_ptr<Stream> OpenStream(const StreamEnrolment& enrolment,
                                     std::shared_ptr<StreamHandler> handler) override {
    v1::WatchRequest request;
    const domain::Enrolment enrol{.instance_id = enrolment.instance_id,
                                  .service = enrolment.service,
                                  .version = enrolment.version,
                                  .migrations = enrolment.migrations,
                                  .acknowledged_epochs = enrolment.held,
                                  .lease_ttl = enrolment.lease_ttl,
                                  .lease_policy = enrolment.lease_policy};
    *request.mutable_enrol() = wire::EnrolToProto(enrol, enrolment.store_epoch);
    return std::make_unique<GrpcStream>(
        WatchReactor::Start(&calls_, routing_.get(), std::move(request), std::move(handler)));
  }

  void ReportComparisons(const domain::TelemetryBatch& batch, ReportDone done) override {
    auto call = std::make_unique<ReportCall>(&calls_);
    call->request = wire::ToProto(batch);
    call->done = std::move(done);
    call->context.set_deadline(absl::ToChronoTime(absl::Now() + report_deadline_));
    ReportCall* const raw = call.release();
    telemetry_->async()->ReportComparisons(
        &raw->context, &raw->request, &raw->response,
        [raw](grpc::Status status) { std::unique_ptr<ReportCall>(raw)->Finish(status); });
  }

 private:
  const absl::Duration report_deadline_;
  CallTracker calls_;
  const std::unique_ptr<v1::RoutingService::Stub> routing_;
  const std::unique_ptr<v1::TelemetryService::Stub> telemetry_;
};

grpc::ChannelArguments ChannelArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // The session has a back-off of its own; the channel must not sit out its default of two minutes on top of
  // it.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  return arguments;
}

}  // namespace

absl::StatusOr<std::shared_ptr<Transport>> MakeGrpcTransport(GrpcTransportOptions options) {
  if (options.address.empty()) {
    return absl::InvalidArgumentError("GrpcTransportOptions::address is empty; give \"host:port\"");
  }
  if (options.report_deadline <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("GrpcTransportOptions::report_deadline must be positive");
  }
  if (options.credentials == nullptr) options.credentials = grpc::InsecureChannelCredentials();
  return std::make_shared<GrpcTransport>(
      grpc::CreateCustomChannel(options.address, options.credentials, ChannelArguments()),
      options.report_deadline);
}

absl::StatusOr<std::unique_ptr<Client>> ConnectGrpc(GrpcTransportOptions transport, ClientOptions options) {
  LOCKSTEP_ASSIGN_OR_RETURN(options.transport, MakeGrpcTransport(std::move(transport)));
  return Client::Create(std::move(options));
}

}  // namespace lockstep
