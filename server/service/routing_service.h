// RoutingService: the enrol/watch stream and unary decisions. Thin: wire -> engine or domain::Decide -> wire.
#pragma once

#include "absl/time/time.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/service/stream_group.h"
#include "server/service/worker_pool.h"

namespace lockstep::service {

// Thread-safe. Owns neither argument.
class RoutingServiceImpl final : public v1::RoutingService::CallbackService {
 public:
  RoutingServiceImpl(engine::Engine* engine, WorkerPool* pool) : engine_(engine), pool_(pool) {}

  // Tells every open stream to reconnect, and refuses new ones.
  void EndStreams() { streams_.EndAll(); }

  grpc::ServerBidiReactor<v1::WatchRequest, v1::WatchResponse>* Watch(grpc::CallbackServerContext*) override;
  grpc::ServerUnaryReactor* Route(grpc::CallbackServerContext*, const v1::RouteRequest*,
                                  v1::RouteResponse*) override;
  grpc::ServerUnaryReactor* BatchRoute(grpc::CallbackServerContext*, const v1::BatchRouteRequest*,
                                       v1::BatchRouteResponse*) override;

 private:
  engine::Engine* const engine_;
  WorkerPool* const pool_;
  StreamGroup streams_;
};

}  // namespace lockstep::service
