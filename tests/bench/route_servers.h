// The two servers that route_load compares: the real routing service, and the least that a gRPC server can
// do. And what every server of the benchmarks has in common.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/routing_service.pb.h"
#include "server/engine/registry.h"

namespace lockstep::bench {

// Full resource name of the one migration that the routing server has; it is in CANARY_READ.
inline constexpr char kBenchMigration[] = "namespaces/bench/migrations/orders";

// Creates the migration and takes it to CANARY_READ, over the gate's head: there is no evidence to judge.
absl::Status CreateBenchMigration(engine::Registry* registry);

// A server with lockstepd's settings on a port of its own. UNAVAILABLE when it can't listen.
absl::StatusOr<std::unique_ptr<grpc::Server>> StartServer(
    const std::vector<grpc::Service*>& services, const std::shared_ptr<grpc::ServerCredentials>& credentials,
    int* port);

// All of these print their port and serve until standard input ends.

absl::Status ServeAll(const std::vector<grpc::Service*>& services,
                      const std::shared_ptr<grpc::ServerCredentials>& credentials);

// RoutingService on the engine, over a store in memory.
absl::Status ServeRouting(const std::shared_ptr<grpc::ServerCredentials>& credentials);
// Answers every Route with `response`, looking at nothing.
absl::Status ServeEcho(const v1::RouteResponse& response,
                       const std::shared_ptr<grpc::ServerCredentials>& credentials);

}  // namespace lockstep::bench
