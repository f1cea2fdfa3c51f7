// One WatchMigration stream: the migration now and after every change, newest only.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "core/base/mutex.h"
#include "lockstep/v1/migration.pb.h"
#include "server/engine/engine.h"
#include "server/service/stream_group.h"
#include "server/service/worker_pool.h"

namespace lockstep::service {

// Owns itself: gone once gRPC is done with the stream.
class MigrationWatch final : public grpc::ServerWriteReactor<v1::Migration>, public EndableStream {
 public:
  MigrationWatch(engine::Engine* engine, WorkerPool* pool, StreamGroup* group, std::string name);

  void End() override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  ~MigrationWatch() = default;

  // Writes the newest state if there is one to be written and no write is under way.
  void WriteNewest();
  void FinishOnce(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  engine::Engine* const engine_;
  WorkerPool* const pool_;
  StreamGroup* const group_;
  const std::string name_;

  Mutex mutex_;
  std::unique_ptr<engine::Listener> listener_ ABSL_GUARDED_BY(mutex_);
  v1::Migration message_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lockstep::service
