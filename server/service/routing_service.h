// RoutingService: the enrol/watch stream and unary decisions. Thin: wire -> engine or domain::Decide -> wire.
#pragma once

#include <atomic>

#include "absl/time/time.h"
#include "core/base/clock.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/service/admission.h"
#include "server/service/instance_stream.h"
#include "server/service/stream_group.h"
#include "server/service/worker_pool.h"

namespace lockstep::service {

struct RoutingServiceOptions {
  int max_enrolments_per_second = 2000;  // at least 1; see Admission
  // Streams older than this are renewed, each when nothing waits for its instance.
  absl::Duration max_stream_age = absl::Minutes(30);
  // For the first message of a stream.
  absl::Duration enrol_timeout = absl::Seconds(10);
};

// Thread-safe. Owns none of the arguments.
class RoutingServiceImpl final
    : public v1::RoutingService::WithRawCallbackMethod_Watch<v1::RoutingService::WithCallbackMethod_Route<
          v1::RoutingService::WithCallbackMethod_BatchRoute<v1::RoutingService::Service>>> {
 public:
  RoutingServiceImpl(engine::Engine* engine, WorkerPool* pool, const Clock* clock,
                     const RoutingServiceOptions& options = {})
      : engine_(engine),
        admission_(options.max_enrolments_per_second),
        stream_context_{engine,
                        pool,
                        &streams_,
                        &admission_,
                        clock,
                        options.max_stream_age,
                        options.enrol_timeout,
                        &states_encoded_} {}

  // Tells every open stream to reconnect, and refuses new ones.
  void EndStreams() { streams_.EndAll(); }

  // Snapshots and deltas that were turned into bytes, each for all streams that were sent it.
  uint64_t states_encoded() const { return states_encoded_.load(); }

  // In bytes, so that streams can share them; InstanceStream parses what comes.
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Watch(grpc::CallbackServerContext*) override;
  grpc::ServerUnaryReactor* Route(grpc::CallbackServerContext*, const v1::RouteRequest*,
                                  v1::RouteResponse*) override;
  grpc::ServerUnaryReactor* BatchRoute(grpc::CallbackServerContext*, const v1::BatchRouteRequest*,
                                       v1::BatchRouteResponse*) override;

 private:
  engine::Engine* const engine_;
  StreamGroup streams_;
  Admission admission_;
  std::atomic<uint64_t> states_encoded_{0};
  const StreamContext stream_context_;
};

}  // namespace lockstep::service
