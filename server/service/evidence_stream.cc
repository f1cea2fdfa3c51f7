#include "server/service/evidence_stream.h"

#include <utility>

#include "core/base/status_macros.h"
#include "core/wire/evidence_log.h"
#include "core/wire/gate.h"
#include "server/service/call.h"

namespace lockstep::service {
namespace {

// A bucket takes some ten kilobytes.
constexpr size_t kBucketsPerRead = 32;

}  // namespace

EvidenceStream::EvidenceStream(engine::Engine* engine, WorkerPool* pool, StreamGroup* group,
                               const v1::ExportEvidenceRequest& request)
    : engine_(engine), pool_(pool), group_(group), name_(request.name()) {
  const bool added = group_->Add(this);
  MutexLock lock(&mutex_);
  if (!added) {
    FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down: reconnect"));
  } else if (const absl::Status valid = wire::ValidateExportEvidenceRequest(request); !valid.ok()) {
    FinishOnce(ToGrpcStatus(valid));
  } else {
    WriteNext();
  }
}

void EvidenceStream::End() {
  MutexLock lock(&mutex_);
  FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down: export again"));
}

void EvidenceStream::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  if (!ok) return FinishOnce(grpc::Status::CANCELLED);
  WriteNext();
}

void EvidenceStream::OnCancel() {
  MutexLock lock(&mutex_);
  FinishOnce(grpc::Status::CANCELLED);
}

void EvidenceStream::OnDone() {
  // gRPC does not say where it calls this, so no lock may be taken here.
  pool_->Submit([this] {
    group_->Remove(this);
    bool last = false;
    {
      MutexLock lock(&mutex_);
      done_ = true;
      last = !loading_;
    }
    if (last) delete this;
  });
}

void EvidenceStream::Load() {
  absl::StatusOr<std::vector<domain::EvidenceLine>> lines = ReadSome();
  bool last = false;
  {
    MutexLock lock(&mutex_);
    loading_ = false;
    last = done_;
    if (!lines.ok()) {
      FinishOnce(ToGrpcStatus(lines.status()));
    } else if (lines->empty()) {
      FinishOnce(grpc::Status::OK);
    } else {
      lines_ = *std::move(lines);
      next_line_ = 0;
      WriteNext();
    }
  }
  if (last) delete this;
}

absl::StatusOr<std::vector<domain::EvidenceLine>> EvidenceStream::ReadSome() {
  if (export_ == nullptr) {
    LOCKSTEP_ASSIGN_OR_RETURN(export_, engine_->gate().Export(name_));
  }
  return export_->Next(kBucketsPerRead);
}

void EvidenceStream::WriteNext() {
  if (finished_) return;
  if (next_line_ < lines_.size()) {
    message_ = wire::ToProto(lines_[next_line_++]);
    StartWrite(&message_);
  } else {
    loading_ = true;
    pool_->Submit([this] { Load(); });
  }
}

void EvidenceStream::FinishOnce(grpc::Status status) {
  if (finished_) return;
  finished_ = true;
  Finish(std::move(status));
}

}  // namespace lockstep::service
