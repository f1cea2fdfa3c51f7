// MigrationService: administration. Thin: wire -> engine -> wire.
#pragma once

#include "core/wire/request.h"
#include "lockstep/v1/migration_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/service/stream_group.h"
#include "server/service/worker_pool.h"

namespace lockstep::service {

// Thread-safe. Owns neither argument.
class MigrationServiceImpl final : public v1::MigrationService::CallbackService {
 public:
  MigrationServiceImpl(engine::Engine* engine, WorkerPool* pool) : engine_(engine), pool_(pool) {}

  // Ends the open WatchMigration streams with UNAVAILABLE and refuses new ones, so that a shutdown need not
  // wait.
  void EndStreams() { streams_.EndAll(); }

  grpc::ServerUnaryReactor* CreateMigration(grpc::CallbackServerContext*, const v1::CreateMigrationRequest*,
                                            v1::Migration*) override;
  grpc::ServerUnaryReactor* GetMigration(grpc::CallbackServerContext*, const v1::GetMigrationRequest*,
                                         v1::Migration*) override;
  grpc::ServerUnaryReactor* ListMigrations(grpc::CallbackServerContext*, const v1::ListMigrationsRequest*,
                                           v1::ListMigrationsResponse*) override;
  grpc::ServerUnaryReactor* UpdateMigration(grpc::CallbackServerContext*, const v1::UpdateMigrationRequest*,
                                            v1::Migration*) override;
  grpc::ServerUnaryReactor* DeleteMigration(grpc::CallbackServerContext*, const v1::DeleteMigrationRequest*,
                                            google::protobuf::Empty*) override;
  grpc::ServerUnaryReactor* StartMigration(grpc::CallbackServerContext*, const v1::StartMigrationRequest*,
                                           v1::Migration*) override;
  grpc::ServerUnaryReactor* AdvanceMigration(grpc::CallbackServerContext*, const v1::AdvanceMigrationRequest*,
                                             v1::Migration*) override;
  grpc::ServerUnaryReactor* PauseMigration(grpc::CallbackServerContext*, const v1::PauseMigrationRequest*,
                                           v1::Migration*) override;
  grpc::ServerUnaryReactor* ResumeMigration(grpc::CallbackServerContext*, const v1::ResumeMigrationRequest*,
                                            v1::Migration*) override;
  grpc::ServerUnaryReactor* RollbackMigration(grpc::CallbackServerContext*,
                                              const v1::RollbackMigrationRequest*, v1::Migration*) override;
  grpc::ServerUnaryReactor* AbortMigration(grpc::CallbackServerContext*, const v1::AbortMigrationRequest*,
                                           v1::Migration*) override;
  grpc::ServerUnaryReactor* SetMigrationWeight(grpc::CallbackServerContext*,
                                               const v1::SetMigrationWeightRequest*, v1::Migration*) override;
  grpc::ServerWriteReactor<v1::Migration>* WatchMigration(grpc::CallbackServerContext*,
                                                          const v1::WatchMigrationRequest*) override;
  grpc::ServerUnaryReactor* ListDecisions(grpc::CallbackServerContext*, const v1::ListDecisionsRequest*,
                                          v1::ListDecisionsResponse*) override;
  grpc::ServerUnaryReactor* ListInstances(grpc::CallbackServerContext*, const v1::ListInstancesRequest*,
                                          v1::ListInstancesResponse*) override;
  grpc::ServerUnaryReactor* EvictInstance(grpc::CallbackServerContext*, const v1::EvictInstanceRequest*,
                                          v1::EvictInstanceResponse*) override;
  grpc::ServerUnaryReactor* DrillRollback(grpc::CallbackServerContext*, const v1::DrillRollbackRequest*,
                                          v1::DrillRollbackResponse*) override;
  grpc::ServerUnaryReactor* ListMismatchSamples(grpc::CallbackServerContext*,
                                                const v1::ListMismatchSamplesRequest*,
                                                v1::ListMismatchSamplesResponse*) override;

 private:
  template <typename Request>
  grpc::ServerUnaryReactor* ChangeState(grpc::CallbackServerContext* context, const Request* request,
                                        v1::Migration* response);

  engine::Engine* const engine_;
  WorkerPool* const pool_;
  StreamGroup streams_;
};

// Who asks, and how.
engine::MutationContext ContextOf(const grpc::CallbackServerContext& call,
                                  const wire::MutationOptions& options);

// The resource as the API shows it.
v1::Migration MigrationToProto(const engine::MigrationView& view);

}  // namespace lockstep::service
