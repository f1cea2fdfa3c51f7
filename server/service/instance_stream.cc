#include "server/service/instance_stream.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/wire/routing.h"
#include "core/wire/timestamps.h"
#include "server/service/call.h"

namespace lockstep::service {
namespace {

constexpr char kGoingAway[] = "the server is closing the stream: reconnect";
constexpr char kNeverEnrolled[] = "the first message of a stream has to be enrol, and none has come";
constexpr char kTooMany[] = "too many instances enrol at once: come back a little later";
// What an instance of more migrations says is worth a hop to the pool: it is looked at one by one.
constexpr int kManyMigrations = 32;

grpc::ByteBuffer BytesOf(const v1::WatchResponse& response) {
  grpc::ByteBuffer bytes;
  bool owned = false;
  const grpc::Status status =
      grpc::SerializationTraits<v1::WatchResponse>::Serialize(response, &bytes, &owned);
  LOCKSTEP_CHECK(status.ok(), "a response can be serialised");
  return bytes;
}

v1::WatchResponse ToResponse(const engine::SnapshotMessage& message) {
  v1::WatchResponse response;
  *response.mutable_snapshot() = wire::ToProto(*message.snapshot, message.digest);
  return response;
}

v1::WatchResponse ToResponse(const engine::DeltaMessage& message) {
  v1::WatchResponse response;
  *response.mutable_delta() = wire::ToProto(*message.delta, message.digest);
  return response;
}

}  // namespace

InstanceStream::InstanceStream(const StreamContext& context) : context_(context) {
  if (!context_.group->Add(this)) {
    MutexLock lock(&mutex_);
    FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, kGoingAway));
    return;
  }
  WatchEnrolment();
  StartRead(&request_);
}

void InstanceStream::WatchEnrolment() {
  MutexLock lock(&mutex_);
  references_.fetch_add(1);  // the alarm's, until it has gone off or was cancelled
  enrolment_alarm_.Set(absl::ToChronoTime(absl::Now() + context_.enrol_timeout), [this](bool gone_off) {
    if (gone_off) EndUnlessHeard();
    Release();
  });
}

void InstanceStream::EndUnlessHeard() {
  MutexLock lock(&mutex_);
  if (!heard_) FinishOnce(grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, kNeverEnrolled));
}

void InstanceStream::End() {
  {
    MutexLock lock(&mutex_);
    end_due_ = true;
  }
  Submit(&InstanceStream::WriteNext);  // not here: the group's lock is held
}

void InstanceStream::OnReadDone(bool ok) {
  if (!ok) {  // the instance closed its half or is gone
    MutexLock lock(&mutex_);
    return FinishOnce(grpc::Status::OK);
  }
  {
    MutexLock lock(&mutex_);
    if (!std::exchange(heard_, true)) enrolment_alarm_.Cancel();
  }
  auto request = std::make_unique<v1::WatchRequest>();
  if (!grpc::SerializationTraits<v1::WatchRequest>::Deserialize(&request_, request.get()).ok()) {
    return Fail(absl::InvalidArgumentError("the message is not a WatchRequest: it can't be parsed"));
  }
  if (!MayWait(*request)) return Handle(*request);
  waiting_ = std::move(request);
  Submit(&InstanceStream::HandleWaiting);
}

bool InstanceStream::MayWait(const v1::WatchRequest& request) const {
  if (handled_session_ == nullptr || many_migrations_) return true;
  switch (request.message_case()) {
    case v1::WatchRequest::kAccept:
    case v1::WatchRequest::kHeartbeat:
    case v1::WatchRequest::MESSAGE_NOT_SET:
      return false;
    case v1::WatchRequest::kAck:
      break;
    case v1::WatchRequest::kEnrol:
    case v1::WatchRequest::kLeave:
    case v1::WatchRequest::kNack:  // is logged
      return true;
  }
  // One that a publish waits for is followed by the publish.
  const v1::Ack& ack = request.ack();
  if (ack.held_size() > kManyMigrations || ack.slice_checks_size() > 0) return true;
  const engine::Registry& registry = context_.engine->registry();
  return std::any_of(ack.held().begin(), ack.held().end(),
                     [&](const v1::HeldEpoch& held) { return registry.IsMoving(held.migration()); });
}

void InstanceStream::HandleWaiting() {
  const std::unique_ptr<v1::WatchRequest> request = std::move(waiting_);
  Handle(*request);
}

void InstanceStream::Handle(const v1::WatchRequest& request) {
  absl::Status handled;
  const bool enrolled = handled_session_ != nullptr;
  if (enrolled == request.has_enrol()) {
    handled =
        absl::FailedPreconditionError(enrolled ? "enrol: may be sent once a stream, as its first message"
                                               : "the first message of a stream has to be enrol");
  } else {
    handled = enrolled ? HandleMessage(request) : HandleEnrol(request.enrol());
  }
  if (!handled.ok()) return Fail(handled);
  WriteNext();
  MutexLock lock(&mutex_);
  if (!finished_ && !turned_away_) StartRead(&request_);
}

absl::Status InstanceStream::HandleMessage(const v1::WatchRequest& request) {
  engine::InstanceSession& session = *handled_session_;
  switch (request.message_case()) {
    case v1::WatchRequest::kAccept:
      return session.OnAccept(request.accept().revision());
    case v1::WatchRequest::kAck: {
      LOCKSTEP_ASSIGN_OR_RETURN(const wire::Ack ack, wire::AckFromProto(request.ack()));
      return session.OnAck(ack.revision, ack.held, ack.slice_checks);
    }
    case v1::WatchRequest::kNack: {
      const std::string reason = wire::NackReason(request.nack());
      Log(LogLevel::kWarning, "snapshot rejected", {{"instance", session.instance_id()}, {"reason", reason}});
      return session.OnNack(request.nack().revision(), reason);
    }
    case v1::WatchRequest::kHeartbeat:
      return HandleHeartbeat(request.heartbeat());
    case v1::WatchRequest::kLeave:
      return HandleLeave();
    case v1::WatchRequest::kEnrol:
    case v1::WatchRequest::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("message: one of accept, ack, nack, heartbeat or leave is needed");
}

absl::Status InstanceStream::HandleEnrol(const v1::Enrol& enrol) {
  LOCKSTEP_ASSIGN_OR_RETURN(domain::Enrolment wanted, wire::EnrolFromProto(enrol));
  const absl::Duration now = context_.clock->SinceBoot();
  if (const std::optional<absl::Duration> delay = context_.admission->TurnAway(now)) {
    MutexLock lock(&mutex_);
    turned_away_ = delay;
    return absl::OkStatus();
  }
  engine::EnrolRequest request;
  request.instance_id = std::move(wanted.instance_id);
  request.service = std::move(wanted.service);
  request.version = std::move(wanted.version);
  request.migrations = std::move(wanted.migrations);
  request.held = std::move(wanted.acknowledged_epochs);
  request.store_epoch = enrol.store_epoch();
  request.lease_ttl = wanted.lease_ttl;
  request.lease_policy = wanted.lease_policy;
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<engine::InstanceSession> session,
                            engine::InstanceSession::Open(context_.engine, request, [this] { WriteNext(); }));
  // By instance, so that those that enrolled together don't come back together.
  const double jitter = static_cast<double>(absl::HashOf(request.instance_id) % 1000) / 5000.0;
  drain_at_ = now + context_.max_stream_age * (0.9 + jitter);
  Log(LogLevel::kInfo, "instance enrolled",
      {{"instance", request.instance_id}, {"service", request.service}});
  handled_session_ = session.get();
  many_migrations_ = request.migrations.size() > kManyMigrations;
  MutexLock lock(&mutex_);
  session_ = std::move(session);
  return absl::OkStatus();
}

absl::Status InstanceStream::HandleHeartbeat(const v1::Heartbeat& heartbeat) {
  LOCKSTEP_ASSIGN_OR_RETURN(const domain::InstanceStatus status,
                            wire::InstanceStatusFromProto(heartbeat.status()));
  const absl::Duration now = context_.clock->SinceBoot();
  // Its age is no reason to be without it just when something waits for it.
  if (now >= drain_at_ && handled_session_->settled()) {
    if (renewing_) {
      handled_session_->Drain(kReconnectAfterDrain);
    } else {
      handled_session_->Renew();
    }
    renewing_ = true;
    drain_at_ = now + std::min(kRenewalGrace, context_.max_stream_age);
  }
  return handled_session_->OnHeartbeat(heartbeat.revision(), status);
}

absl::Status InstanceStream::HandleLeave() {
  LOCKSTEP_RETURN_IF_ERROR(handled_session_->OnLeave());
  Log(LogLevel::kInfo, "instance left", {{"instance", handled_session_->instance_id()}});
  MutexLock lock(&mutex_);
  FinishOnce(grpc::Status::OK);
  return absl::OkStatus();
}

void InstanceStream::WriteNext() {
  MutexLock lock(&mutex_);
  if (writing_ || finished_) return;
  if (const grpc::ByteBuffer* const response = NextResponse()) {
    writing_ = true;
    StartWrite(response);
  } else if (drained_) {
    FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, turned_away_ ? kTooMany : kGoingAway));
  }
}

const grpc::ByteBuffer* InstanceStream::NextResponse() {
  if (drained_) return nullptr;
  std::optional<engine::InstanceMessage> message;
  if (turned_away_) {
    message = engine::DrainMessage{*turned_away_};
  } else if (session_ != nullptr) {
    if (end_due_) session_->Drain(kReconnectAfterDrain);
    message = session_->Next();
  } else if (end_due_) {
    message = engine::DrainMessage{kReconnectAfterDrain};
  }
  if (!message) return nullptr;
  if (const auto* snapshot = std::get_if<engine::SnapshotMessage>(&*message)) return SharedBytes(*snapshot);
  if (const auto* delta = std::get_if<engine::DeltaMessage>(&*message)) return SharedBytes(*delta);
  v1::WatchResponse response;
  if (const auto* heartbeat = std::get_if<engine::HeartbeatMessage>(&*message)) {
    response.mutable_heartbeat()->set_revision(heartbeat->revision);
  } else {
    const absl::Duration reconnect_after = std::get<engine::DrainMessage>(*message).reconnect_after;
    drained_ = reconnect_after > absl::ZeroDuration();
    *response.mutable_drain()->mutable_reconnect_after() = wire::ToProto(reconnect_after);
  }
  response_ = BytesOf(response);
  return &response_;
}

template <typename Message>
const grpc::ByteBuffer* InstanceStream::SharedBytes(const Message& message) {
  shared_response_ = message.form;
  return &message.form->template GetOrMake<grpc::ByteBuffer>([&] {
    context_.states_encoded->fetch_add(1);
    return BytesOf(ToResponse(message));
  });
}

void InstanceStream::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    shared_response_.reset();
    if (!ok) return FinishOnce(grpc::Status::CANCELLED);
  }
  WriteNext();
}

void InstanceStream::OnCancel() {
  MutexLock lock(&mutex_);
  FinishOnce(grpc::Status::CANCELLED);
}

// gRPC does not say on whose stack it calls this, so nothing that takes the group's lock happens here.
void InstanceStream::OnDone() { Submit(&InstanceStream::LeaveGroup); }

void InstanceStream::LeaveGroup() {
  context_.group->Remove(this);
  Release();  // gRPC's reference: from here on neither gRPC nor the group knows the stream
}

void InstanceStream::Submit(void (InstanceStream::*method)()) {
  references_.fetch_add(1);
  context_.pool->Submit([this, method] {
    (this->*method)();
    Release();
  });
}

void InstanceStream::Release() {
  if (references_.fetch_sub(1) > 1) return;
  // Only wake-ups may still come, and none once the session is gone.
  std::unique_ptr<engine::InstanceSession> session;
  {
    MutexLock lock(&mutex_);
    session = std::move(session_);
  }
  session.reset();
  delete this;
}

void InstanceStream::FinishOnce(const grpc::Status& status) {
  if (finished_) return;
  finished_ = true;
  enrolment_alarm_.Cancel();
  Finish(status);
}

void InstanceStream::Fail(const absl::Status& status) {
  Log(LogLevel::kWarning, "instance stream refused",
      {{"instance", handled_session_ == nullptr ? "" : handled_session_->instance_id()},
       {"error", status.message()}});
  MutexLock lock(&mutex_);
  FinishOnce(ToGrpcStatus(status));
}

}  // namespace lockstep::service
