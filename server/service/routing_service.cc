#include "server/service/routing_service.h"

#include "core/base/status_macros.h"
#include "core/domain/decision.h"
#include "core/wire/enums.h"
#include "core/wire/routing.h"
#include "core/wire/timestamps.h"
#include "server/service/instance_stream.h"
#include "server/service/unary.h"

namespace lockstep::service {
namespace {

// What one and many decisions answer besides the decisions.
template <typename Response>
void FillCommon(const engine::RemoteRouting& remote, Response* response) {
  response->set_epoch(remote.routing->state.epoch);
  response->set_stage(wire::ToProto(remote.routing->state.stage));
  *response->mutable_valid_for() = wire::ToProto(remote.valid_for);
}

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* RoutingServiceImpl::Watch(
    grpc::CallbackServerContext*) {
  return new InstanceStream(stream_context_);
}

grpc::ServerUnaryReactor* RoutingServiceImpl::Route(grpc::CallbackServerContext* context,
                                                    const v1::RouteRequest* request,
                                                    v1::RouteResponse* response) {
  return AnswerInline(context, [&]() -> absl::Status {
    LOCKSTEP_RETURN_IF_ERROR(wire::ValidateRouteRequest(*request));
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::RemoteRouting remote,
                              request->explain_only()
                                  ? engine_->registry().Explain(request->migration())
                                  : engine_->registry().RouteRemotely(request->migration()));
    const domain::Attributes attributes = wire::AttributesFromProto(request->attributes());
    *response->mutable_decision() =
        wire::ToProto(domain::Decide(remote.routing->state, request->key(), &attributes));
    FillCommon(remote, response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* RoutingServiceImpl::BatchRoute(grpc::CallbackServerContext* context,
                                                         const v1::BatchRouteRequest* request,
                                                         v1::BatchRouteResponse* response) {
  return AnswerInline(context, [&]() -> absl::Status {
    LOCKSTEP_RETURN_IF_ERROR(wire::ValidateBatchRouteRequest(*request));
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::RemoteRouting remote,
                              engine_->registry().RouteRemotely(request->migration()));
    const domain::Attributes attributes = wire::AttributesFromProto(request->attributes());
    for (const std::string& key : request->keys()) {
      *response->add_decisions() = wire::ToProto(domain::Decide(remote.routing->state, key, &attributes));
    }
    FillCommon(remote, response);
    return absl::OkStatus();
  });
}

}  // namespace lockstep::service
