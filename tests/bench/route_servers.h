// The two servers that route_load compares: the real routing service, and the least that a gRPC server can
// do.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "lockstep/v1/routing_service.pb.h"
#include "server/engine/registry.h"

namespace lockstep::bench {

// Full resource name of the one migration that the routing server has; it is in CANARY_READ.
inline constexpr char kBenchMigration[] = "namespaces/bench/migrations/orders";

// Creates the migration and takes it to CANARY_READ, over the gate's head: there is no evidence to judge.
absl::Status CreateBenchMigration(engine::Registry* registry);

// All of these print their port, serve until standard input ends, and build their server alike, with
// lockstepd's settings.

absl::Status ServeAll(const std::vector<grpc::Service*>& services);

// RoutingService on the engine, over a store in memory.
absl::Status ServeRouting();
// Answers every Route with `response`, looking at nothing.
absl::Status ServeEcho(const v1::RouteResponse& response);

}  // namespace lockstep::bench
