#include "server/service/migration_watch.h"

#include <utility>

#include "core/wire/resource_name.h"
#include "server/service/call.h"
#include "server/service/migration_service.h"

namespace lockstep::service {

MigrationWatch::MigrationWatch(engine::Engine* engine, WorkerPool* pool, StreamGroup* group, std::string name)
    : engine_(engine), pool_(pool), group_(group), name_(std::move(name)) {
  if (!group_->Add(this)) {
    MutexLock lock(&mutex_);
    FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down: reconnect"));
    return;
  }
  if (const absl::Status valid = wire::ValidateMigrationName("name", name_); !valid.ok()) {
    MutexLock lock(&mutex_);
    FinishOnce(ToGrpcStatus(valid));
    return;
  }
  auto listener = engine_->registry().Watch(name_, [this] { WriteNewest(); });
  {
    MutexLock lock(&mutex_);
    listener_ = std::move(listener);
  }
  WriteNewest();
}

void MigrationWatch::End() {
  MutexLock lock(&mutex_);
  FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down: reconnect"));
}

void MigrationWatch::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) return FinishOnce(grpc::Status::CANCELLED);
  }
  WriteNewest();
}

void MigrationWatch::OnCancel() {
  MutexLock lock(&mutex_);
  FinishOnce(grpc::Status::CANCELLED);
}

void MigrationWatch::OnDone() {
  // A listener must not be destroyed where its own wake-up may be on the stack, and gRPC does not say where
  // it calls this.
  pool_->Submit([this] {
    group_->Remove(this);
    std::unique_ptr<engine::Listener> listener;
    {
      MutexLock lock(&mutex_);
      listener = std::move(listener_);
    }
    listener.reset();
    delete this;
  });
}

void MigrationWatch::WriteNewest() {
  MutexLock lock(&mutex_);
  if (writing_ || finished_ || listener_ == nullptr || !listener_->TakeChanged()) return;
  const absl::StatusOr<engine::MigrationView> view = engine_->registry().Get(name_);
  if (!view.ok()) return FinishOnce(ToGrpcStatus(view.status()));
  message_ = MigrationToProto(*view);
  writing_ = true;
  StartWrite(&message_);
}

void MigrationWatch::FinishOnce(grpc::Status status) {
  if (finished_) return;
  finished_ = true;
  Finish(std::move(status));
}

}  // namespace lockstep::service
