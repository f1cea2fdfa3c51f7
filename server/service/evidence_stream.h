// One ExportEvidence stream: the evidence of a migration, line by line, read from the store as fast as the
// client takes it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base/mutex.h"
#include "core/domain/rehearsal.h"
#include "lockstep/v1/gate_service.pb.h"
#include "server/engine/engine.h"
#include "server/service/stream_group.h"
#include "server/service/worker_pool.h"

namespace lockstep::service {

// Owns itself: gone once gRPC is done with the stream and the pool with its last read.
class EvidenceStream final : public grpc::ServerWriteReactor<v1::EvidenceLine>, public EndableStream {
 public:
  EvidenceStream(engine::Engine* engine, WorkerPool* pool, StreamGroup* group,
                 const v1::ExportEvidenceRequest& request);

  void End() override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  ~EvidenceStream() = default;

  // On the pool: the next lines from the store.
  void Load();
  absl::StatusOr<std::vector<domain::EvidenceLine>> ReadSome();
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishOnce(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  engine::Engine* const engine_;
  WorkerPool* const pool_;
  StreamGroup* const group_;
  const std::string name_;

  // Of Load alone, which never runs twice at a time.
  std::unique_ptr<engine::EvidenceExport> export_;

  Mutex mutex_;
  std::vector<domain::EvidenceLine> lines_ ABSL_GUARDED_BY(mutex_);
  size_t next_line_ ABSL_GUARDED_BY(mutex_) = 0;
  v1::EvidenceLine message_ ABSL_GUARDED_BY(mutex_);
  bool loading_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lockstep::service
