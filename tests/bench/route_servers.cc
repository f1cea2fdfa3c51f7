#include "tests/bench/route_servers.h"

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/service/routing_service.h"
#include "server/service/worker_pool.h"
#include "server/store/memory_store.h"
#include "server/store/proto_record_codec.h"
#include "tests/bench/child_process.h"

namespace lockstep::bench {
namespace {

constexpr uint32_t kReadWeight = 5000;  // 5 % of keys
constexpr int kMinPingIntervalMs = 5000;
constexpr uint64_t kSeed = 1;

class EchoService final : public v1::RoutingService::CallbackService {
 public:
  explicit EchoService(const v1::RouteResponse& response) : response_(response) {}

  grpc::ServerUnaryReactor* Route(grpc::CallbackServerContext* context, const v1::RouteRequest*,
                                  v1::RouteResponse* response) override {
    *response = response_;
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  const v1::RouteResponse response_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<grpc::Server>> StartServer(
    const std::vector<grpc::Service*>& services, const std::shared_ptr<grpc::ServerCredentials>& credentials,
    int* port) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", credentials, port);
  for (grpc::Service* service : services) builder.RegisterService(service);
  builder.SetMaxReceiveMessageSize(4 << 20);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::UnavailableError("gRPC: can't listen on loopback");
  return server;
}

absl::Status ServeAll(const std::vector<grpc::Service*>& services,
                      const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  int port = 0;
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<grpc::Server> server,
                            StartServer(services, credentials, &port));
  AnnounceAndWait(absl::StrCat(port));
  server->Shutdown();
  return absl::OkStatus();
}

absl::Status CreateBenchMigration(engine::Registry* registry) {
  engine::MigrationDefinition definition;
  definition.name = kBenchMigration;
  definition.plan.steps = {{.stage = domain::Stage::kDualWrite},
                           {.stage = domain::Stage::kShadowRead},
                           {.stage = domain::Stage::kCanaryRead, .weight = kReadWeight}};
  engine::MutationContext context;
  context.principal = {"user:bench"};
  context.reason = "benchmark";
  LOCKSTEP_RETURN_IF_ERROR(registry->Create(definition, context).status());
  LOCKSTEP_RETURN_IF_ERROR(
      registry->Execute(kBenchMigration, {.kind = domain::CommandKind::kStart}, context).status());
  for (size_t step = 1; step < definition.plan.steps.size(); ++step) {
    const domain::Command advance = {.kind = domain::CommandKind::kAdvance, .override_gate = true};
    LOCKSTEP_RETURN_IF_ERROR(registry->Execute(kBenchMigration, advance, context).status());
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const engine::RemoteRouting routing, registry->Explain(kBenchMigration));
  if (routing.routing->state.stage != domain::Stage::kCanaryRead) {
    return absl::InternalError("the migration did not reach CANARY_READ");
  }
  return absl::OkStatus();
}

absl::Status ServeRouting(const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  const std::unique_ptr<store::Store> store = store::NewMemoryStore();
  const store::ProtoRecordCodec codec;
  engine::Engine engine(store.get(), &codec, SystemClock::Get(), kSeed, {});
  LOCKSTEP_RETURN_IF_ERROR(engine.Start());
  LOCKSTEP_RETURN_IF_ERROR(CreateBenchMigration(&engine.registry()));
  service::WorkerPool pool(1);
  service::RoutingServiceImpl service(&engine, &pool, SystemClock::Get());
  const absl::Status served = ServeAll({&service}, credentials);
  engine.Stop();
  return served;
}

absl::Status ServeEcho(const v1::RouteResponse& response,
                       const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  EchoService service(response);
  return ServeAll({&service}, credentials);
}

}  // namespace lockstep::bench
