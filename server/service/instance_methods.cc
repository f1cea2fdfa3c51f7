// The methods of MigrationService that are about single instances: list, evict, drill.
#include <string>
#include <utility>
#include <vector>

#include "core/base/error_info.h"
#include "core/base/status_macros.h"
#include "core/wire/enums.h"
#include "core/wire/page.h"
#include "core/wire/request.h"
#include "core/wire/resource_name.h"
#include "core/wire/routing.h"
#include "core/wire/timestamps.h"
#include "server/service/migration_service.h"
#include "server/service/unary.h"

namespace lockstep::service {
namespace {

v1::LeaseState ToProto(engine::LeaseState state) {
  switch (state) {
    case engine::LeaseState::kLive:
      return v1::LEASE_STATE_LIVE;
    case engine::LeaseState::kExpired:
      return v1::LEASE_STATE_EXPIRED;
    case engine::LeaseState::kDisconnected:
      return v1::LEASE_STATE_DISCONNECTED;
  }
  return v1::LEASE_STATE_UNSPECIFIED;
}

v1::Instance InstanceToProto(const engine::InstanceView& instance, uint64_t published_epoch) {
  v1::Instance out;
  out.set_instance_id(instance.instance_id);
  out.set_service(instance.service);
  out.set_version(instance.version);
  out.set_connected(instance.connected);
  out.set_sent_epoch(instance.sent_epoch);
  out.set_acknowledged_epoch(instance.acknowledged_epoch);
  out.set_lag(published_epoch > instance.acknowledged_epoch ? published_epoch - instance.acknowledged_epoch
                                                            : 0);
  wire::SetTime(instance.last_seen, out, &v1::Instance::mutable_last_seen_time);
  out.set_last_nack(instance.last_nack);
  out.set_lease(ToProto(instance.lease));
  wire::SetTime(instance.lease_expires_at, out, &v1::Instance::mutable_lease_expire_time);
  out.set_lease_policy(wire::ToProto(instance.lease_policy));
  *out.mutable_status() = wire::ToProto(instance.status);
  out.set_accepted_epoch(instance.accepted_epoch);
  if (instance.accept_delay) *out.mutable_accept_delay() = wire::ToProto(*instance.accept_delay);
  wire::SetTime(instance.enrolled_at, out, &v1::Instance::mutable_enrol_time);
  return out;
}

}  // namespace

grpc::ServerUnaryReactor* MigrationServiceImpl::ListInstances(grpc::CallbackServerContext* context,
                                                              const v1::ListInstancesRequest* request,
                                                              v1::ListInstancesResponse* response) {
  return AnswerInline(context, [&]() -> absl::Status {
    LOCKSTEP_RETURN_IF_ERROR(wire::ValidateMigrationName("parent", request->parent()));
    LOCKSTEP_ASSIGN_OR_RETURN(const int32_t page_size, wire::ReadPageSize(request->page_size()));
    const wire::PageScope scope("ListInstances", request->parent());
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string after, scope.PositionOf(request->page_token()));
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::MigrationView view, engine_->registry().Get(request->parent()));
    // One more than the page has place for, to know whether there is another.
    for (const engine::InstanceView& instance :
         engine_->instances().List(request->parent(), after, static_cast<size_t>(page_size) + 1)) {
      if (response->instances_size() == page_size) {
        response->set_next_page_token(scope.TokenFor(response->instances(page_size - 1).instance_id()));
        break;
      }
      *response->add_instances() = InstanceToProto(instance, view.migration->published.epoch);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* MigrationServiceImpl::EvictInstance(grpc::CallbackServerContext* context,
                                                              const v1::EvictInstanceRequest* request,
                                                              v1::EvictInstanceResponse* response) {
  return AnswerFromPool(context, pool_, [this, context, request, response]() -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(const wire::EvictRequest evict, wire::EvictFromProto(*request));
    LOCKSTEP_ASSIGN_OR_RETURN(
        const engine::Eviction eviction,
        engine_->registry().Evict(evict.name, evict.instance_id, ContextOf(*context, evict.options)));
    *response->mutable_migration() = MigrationToProto(eviction.view);
    *response->mutable_instance() =
        InstanceToProto(eviction.instance, eviction.view.migration->published.epoch);
    for (const std::string& risk : eviction.risks) response->add_risks(risk);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* MigrationServiceImpl::DrillRollback(grpc::CallbackServerContext* context,
                                                              const v1::DrillRollbackRequest* request,
                                                              v1::DrillRollbackResponse* response) {
  return AnswerFromPool(context, pool_, [this, context, request, response]() -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(const wire::DrillRequest drill, wire::DrillFromProto(*request));
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::MigrationView view,
                              engine_->registry().Drill(drill.name, ContextOf(*context, drill.options)));
    *response->mutable_migration() = MigrationToProto(view);
    response->set_enrolled_instances(static_cast<uint32_t>(engine_->instances().CountEnrolled(drill.name)));
    return absl::OkStatus();
  });
}

}  // namespace lockstep::service
