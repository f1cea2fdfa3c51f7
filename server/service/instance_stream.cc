#include "server/service/instance_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/wire/routing.h"
#include "core/wire/timestamps.h"
#include "server/service/call.h"

namespace lockstep::service {

InstanceStream::InstanceStream(engine::Engine* engine, WorkerPool* pool, StreamGroup* group)
    : engine_(engine), pool_(pool), group_(group) {
  if (!group_->Add(this)) {
    MutexLock lock(&mutex_);
    FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down: reconnect"));
    return;
  }
  StartRead(&request_);
}

void InstanceStream::End() {
  {
    MutexLock lock(&mutex_);
    drain_due_ = true;
  }
  Submit(&InstanceStream::WriteNext);  // not here: the group's lock is held
}

void InstanceStream::OnReadDone(bool ok) {
  if (!ok) {  // the instance closed its half or is gone
    MutexLock lock(&mutex_);
    return FinishOnce(grpc::Status::OK);
  }
  Submit(&InstanceStream::Handle);
}

void InstanceStream::Handle() {
  absl::Status handled;
  const bool enrolled = connection_ != 0;
  if (enrolled == request_.has_enrol()) {
    handled =
        absl::FailedPreconditionError(enrolled ? "enrol: may be sent once a stream, as its first message"
                                               : "the first message of a stream has to be enrol");
  } else {
    switch (request_.message_case()) {
      case v1::WatchRequest::kEnrol:
        handled = HandleEnrol(request_.enrol());
        break;
      case v1::WatchRequest::kAck:
        handled = HandleAck(request_.ack());
        break;
      case v1::WatchRequest::kNack: {
        const std::string reason = wire::NackReason(request_.nack());
        Log(LogLevel::kWarning, "snapshot rejected", {{"instance", instance_id_}, {"reason", reason}});
        handled = engine_->instances().Nack(instance_id_, connection_, reason);
        break;
      }
      case v1::WatchRequest::kHeartbeat: {
        handled = engine_->instances().Heartbeat(instance_id_, connection_);
        MutexLock lock(&mutex_);
        ++heartbeats_due_;
        break;
      }
      case v1::WatchRequest::kLeave:
        handled = HandleLeave();
        break;
      case v1::WatchRequest::MESSAGE_NOT_SET:
        handled =
            absl::InvalidArgumentError("message: one of enrol, ack, nack, heartbeat or leave is needed");
        break;
    }
  }
  if (!handled.ok()) return Fail(handled);
  WriteNext();
  MutexLock lock(&mutex_);
  if (!finished_) StartRead(&request_);
}

absl::Status InstanceStream::HandleEnrol(const v1::Enrol& enrol) {
  LOCKSTEP_ASSIGN_OR_RETURN(domain::Enrolment wanted, wire::EnrolFromProto(enrol));
  engine::EnrolRequest request;
  request.instance_id = wanted.instance_id;
  request.service = std::move(wanted.service);
  request.version = std::move(wanted.version);
  request.migrations = std::move(wanted.migrations);
  request.held = std::move(wanted.acknowledged_epochs);
  LOCKSTEP_ASSIGN_OR_RETURN(engine::InstanceStream stream, engine_->Enrol(request, [this] { WriteNext(); }));
  instance_id_ = std::move(wanted.instance_id);
  connection_ = stream.connection;
  Log(LogLevel::kInfo, "instance enrolled", {{"instance", instance_id_}, {"service", request.service}});
  MutexLock lock(&mutex_);
  subscription_ = std::move(stream.subscription);
  return absl::OkStatus();
}

absl::Status InstanceStream::HandleAck(const v1::Ack& ack) {
  LOCKSTEP_ASSIGN_OR_RETURN(const wire::Ack acknowledged, wire::AckFromProto(ack));
  return engine_->Acknowledge(instance_id_, connection_, acknowledged.held);
}

absl::Status InstanceStream::HandleLeave() {
  LOCKSTEP_RETURN_IF_ERROR(engine_->Leave(instance_id_, connection_));
  Log(LogLevel::kInfo, "instance left", {{"instance", instance_id_}});
  MutexLock lock(&mutex_);
  FinishOnce(grpc::Status::OK);
  return absl::OkStatus();
}

void InstanceStream::WriteNext() {
  MutexLock lock(&mutex_);
  if (writing_ || finished_) return;
  if (NextResponse()) {
    writing_ = true;
    StartWrite(&response_);
  } else if (drained_) {
    FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down: reconnect"));
  }
}

bool InstanceStream::NextResponse() {
  response_.Clear();
  if (std::shared_ptr<const domain::Snapshot> snapshot =
          subscription_ == nullptr ? nullptr : subscription_->TakeLatest()) {
    *response_.mutable_snapshot() = wire::ToProto(*snapshot);
    sent_revision_ = snapshot->revision;
    for (const domain::MigrationRouting& migration : snapshot->migrations) {
      engine_->instances().NoteSent(instance_id_, connection_, migration.name, migration.state.epoch);
    }
    return true;
  }
  if (heartbeats_due_ > 0) {
    --heartbeats_due_;
    response_.mutable_heartbeat()->set_revision(sent_revision_);
    return true;
  }
  if (drain_due_ && !drained_) {
    drained_ = true;
    *response_.mutable_drain()->mutable_reconnect_after() = wire::ToProto(kReconnectAfterDrain);
    return true;
  }
  return false;
}

void InstanceStream::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    writing_ = false;
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
  group_->Remove(this);
  Release();  // gRPC's reference: from here on neither gRPC nor the group knows the stream
}

void InstanceStream::Submit(void (InstanceStream::*method)()) {
  references_.fetch_add(1);
  pool_->Submit([this, method] {
    (this->*method)();
    Release();
  });
}

void InstanceStream::Release() {
  if (references_.fetch_sub(1) > 1) return;
  // Only wake-ups may still come, and none once the subscription is gone.
  std::unique_ptr<engine::Subscription> subscription;
  {
    MutexLock lock(&mutex_);
    subscription = std::move(subscription_);
  }
  subscription.reset();
  if (connection_ != 0) engine_->instances().Disconnected(instance_id_, connection_);
  delete this;
}

void InstanceStream::FinishOnce(const grpc::Status& status) {
  if (finished_) return;
  finished_ = true;
  Finish(status);
}

void InstanceStream::Fail(const absl::Status& status) {
  Log(LogLevel::kWarning, "instance stream refused",
      {{"instance", instance_id_}, {"error", status.message()}});
  MutexLock lock(&mutex_);
  FinishOnce(ToGrpcStatus(status));
}

}  // namespace lockstep::service
