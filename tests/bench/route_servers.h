// The two servers that route_load compares: the real routing service, and the least that a gRPC server can
// do.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "lockstep/v1/routing_service.pb.h"

namespace lockstep::bench {

// Full resource name of the one migration that the routing server has; it is in CANARY_READ.
inline constexpr char kBenchMigration[] = "namespaces/bench/migrations/orders";

// Both print their port, serve until standard input ends, and build their server alike, with lockstepd's
// settings.

// RoutingService on the engine, over a store in memory.
absl::Status ServeRouting();
// Answers every Route with `response`, looking at nothing.
absl::Status ServeEcho(const v1::RouteResponse& response);

}  // namespace lockstep::bench
