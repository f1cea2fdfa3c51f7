#include "server/service/migration_service.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"
#include "core/wire/migration.h"
#include "core/wire/page.h"
#include "core/wire/records.h"
#include "core/wire/request.h"
#include "core/wire/resource_name.h"
#include "core/wire/telemetry.h"
#include "core/wire/timestamps.h"
#include "server/service/call.h"
#include "server/service/migration_watch.h"
#include "server/service/unary.h"

namespace lockstep::service {
namespace {

absl::Status Fill(const absl::StatusOr<engine::MigrationView>& view, v1::Migration* response) {
  if (view.ok()) *response = MigrationToProto(*view);
  return view.status();
}

// The fields of `edited` that `mask` names (all that may be updated, when it names none).
engine::MigrationUpdate UpdateOf(const google::protobuf::FieldMask& mask, domain::Migration edited) {
  const bool all = mask.paths().empty() || (mask.paths_size() == 1 && mask.paths(0) == "*");
  const auto named = [&](absl::string_view field) {
    return all || std::find(mask.paths().begin(), mask.paths().end(), field) != mask.paths().end();
  };
  engine::MigrationUpdate update;
  if (named("description")) update.description = std::move(edited.description);
  if (named("labels")) update.labels = std::move(edited.labels);
  if (named("owners")) update.owners = std::move(edited.owners);
  if (named("plan")) update.plan = std::move(edited.plan);
  if (named("contract")) update.contract = std::move(edited.contract);
  if (named("pins")) update.pins = std::move(edited.pins);
  return update;
}

// A position in a list that counts from somewhere: a number in a page token.
absl::StatusOr<uint64_t> NumberIn(const std::string& position) {
  uint64_t number = 0;
  if (!position.empty() && !absl::SimpleAtoi(position, &number)) {
    return InvalidArgumentWithViolations(
        {{"page_token", "is not a token of this list; take it from the previous response"}});
  }
  return number;
}

}  // namespace

engine::MutationContext ContextOf(const grpc::CallbackServerContext& call,
                                  const wire::MutationOptions& options) {
  engine::MutationContext context;
  context.principal = PrincipalOf(call);
  if (options.expected_version.has_value()) context.etag = wire::EtagOf(*options.expected_version);
  context.request_id = options.request_id;
  context.validate_only = options.validate_only;
  context.reason = options.reason;
  return context;
}

v1::Migration MigrationToProto(const engine::MigrationView& view) {
  wire::MigrationView shown;
  if (view.gate != nullptr) {
    shown.gate = &view.gate->result();
    shown.gate_time = view.gate->time;
  }
  for (const engine::FenceWait& wait : view.waiting) {
    v1::FenceWait& out = shown.waiting_for.emplace_back();
    out.set_instance_id(wait.instance_id);
    out.set_service(wait.service);
    out.set_epoch(wait.epoch);
    out.set_reason(wait.reason);
    wire::SetTime(wait.since, out, &v1::FenceWait::mutable_since);
    out.set_pinned_by(wait.pinned_by);
    out.set_unblock(wait.unblock);
  }
  shown.waiting_for_count = view.waiting_count;
  return wire::ToProto(*view.migration, shown);
}

grpc::ServerUnaryReactor* MigrationServiceImpl::CreateMigration(grpc::CallbackServerContext* context,
                                                                const v1::CreateMigrationRequest* request,
                                                                v1::Migration* response) {
  return AnswerFromPool(context, pool_, [this, context, request, response]() -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(wire::CreateRequest create, wire::CreateFromProto(*request));
    domain::Migration& wanted = create.migration;
    engine::MigrationDefinition definition;
    definition.name = std::move(wanted.name);
    definition.description = std::move(wanted.description);
    definition.labels = std::move(wanted.labels);
    definition.owners = std::move(wanted.owners);
    definition.salt = std::move(wanted.salt);
    definition.plan = std::move(wanted.plan);
    definition.contract = std::move(wanted.contract);
    definition.pins = std::move(wanted.pins);
    return Fill(engine_->registry().Create(definition, ContextOf(*context, create.options)), response);
  });
}

grpc::ServerUnaryReactor* MigrationServiceImpl::GetMigration(grpc::CallbackServerContext* context,
                                                             const v1::GetMigrationRequest* request,
                                                             v1::Migration* response) {
  return AnswerInline(context, [&]() -> absl::Status {
    LOCKSTEP_RETURN_IF_ERROR(wire::ValidateMigrationName("name", request->name()));
    return Fill(engine_->registry().Get(request->name()), response);
  });
}

grpc::ServerUnaryReactor* MigrationServiceImpl::ListMigrations(grpc::CallbackServerContext* context,
                                                               const v1::ListMigrationsRequest* request,
                                                               v1::ListMigrationsResponse* response) {
  return AnswerInline(context, [&]() -> absl::Status {
    LOCKSTEP_RETURN_IF_ERROR(wire::ValidateListParent("parent", request->parent()));
    LOCKSTEP_ASSIGN_OR_RETURN(const int32_t page_size, wire::ReadPageSize(request->page_size()));
    const wire::PageScope scope("ListMigrations", request->parent());
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string after, scope.PositionOf(request->page_token()));
    const absl::string_view ns = absl::StripPrefix(request->parent(), "namespaces/");
    const std::vector<engine::MigrationView> page =
        engine_->registry().List(ns == "-" ? "" : ns, after, static_cast<size_t>(page_size) + 1);
    for (const engine::MigrationView& view : page) {
      if (response->migrations_size() == page_size) {
        response->set_next_page_token(scope.TokenFor(response->migrations(page_size - 1).name()));
        break;
      }
      *response->add_migrations() = MigrationToProto(view);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* MigrationServiceImpl::UpdateMigration(grpc::CallbackServerContext* context,
                                                                const v1::UpdateMigrationRequest* request,
                                                                v1::Migration* response) {
  return AnswerFromPool(context, pool_, [this, context, request, response]() -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(const wire::UpdateRequest update, wire::UpdateFromProto(*request));
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::MigrationView current, engine_->registry().Get(update.name));
    domain::Migration edited = *current.migration;
    LOCKSTEP_RETURN_IF_ERROR(wire::ApplyUpdateMask(update.update_mask, update.migration, &edited));
    return Fill(engine_->registry().Update(update.name, UpdateOf(update.update_mask, std::move(edited)),
                                           ContextOf(*context, update.options)),
                response);
  });
}

grpc::ServerUnaryReactor* MigrationServiceImpl::DeleteMigration(grpc::CallbackServerContext* context,
                                                                const v1::DeleteMigrationRequest* request,
                                                                google::protobuf::Empty*) {
  return AnswerFromPool(context, pool_, [this, context, request]() -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(const wire::DeleteRequest wanted, wire::DeleteFromProto(*request));
    return engine_->Delete(wanted.name, ContextOf(*context, wanted.options));
  });
}

template <typename Request>
grpc::ServerUnaryReactor* MigrationServiceImpl::ChangeState(grpc::CallbackServerContext* context,
                                                            const Request* request, v1::Migration* response) {
  return AnswerFromPool(context, pool_, [this, context, request, response]() -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(const wire::StateChangeRequest change, wire::StateChangeFromProto(*request));
    return Fill(engine_->registry().Execute(change.name, change.command, ContextOf(*context, change.options)),
                response);
  });
}

grpc::ServerUnaryReactor* MigrationServiceImpl::StartMigration(grpc::CallbackServerContext* context,
                                                               const v1::StartMigrationRequest* request,
                                                               v1::Migration* response) {
  return ChangeState(context, request, response);
}

grpc::ServerUnaryReactor* MigrationServiceImpl::AdvanceMigration(grpc::CallbackServerContext* context,
                                                                 const v1::AdvanceMigrationRequest* request,
                                                                 v1::Migration* response) {
  return ChangeState(context, request, response);
}

grpc::ServerUnaryReactor* MigrationServiceImpl::PauseMigration(grpc::CallbackServerContext* context,
                                                               const v1::PauseMigrationRequest* request,
                                                               v1::Migration* response) {
  return ChangeState(context, request, response);
}

grpc::ServerUnaryReactor* MigrationServiceImpl::ResumeMigration(grpc::CallbackServerContext* context,
                                                                const v1::ResumeMigrationRequest* request,
                                                                v1::Migration* response) {
  return ChangeState(context, request, response);
}

grpc::ServerUnaryReactor* MigrationServiceImpl::RollbackMigration(grpc::CallbackServerContext* context,
                                                                  const v1::RollbackMigrationRequest* request,
                                                                  v1::Migration* response) {
  return ChangeState(context, request, response);
}

grpc::ServerUnaryReactor* MigrationServiceImpl::AbortMigration(grpc::CallbackServerContext* context,
                                                               const v1::AbortMigrationRequest* request,
                                                               v1::Migration* response) {
  return ChangeState(context, request, response);
}

grpc::ServerUnaryReactor* MigrationServiceImpl::SetMigrationWeight(
    grpc::CallbackServerContext* context, const v1::SetMigrationWeightRequest* request,
    v1::Migration* response) {
  return ChangeState(context, request, response);
}

grpc::ServerWriteReactor<v1::Migration>* MigrationServiceImpl::WatchMigration(
    grpc::CallbackServerContext*, const v1::WatchMigrationRequest* request) {
  return new MigrationWatch(engine_, pool_, &streams_, request->name());
}

grpc::ServerUnaryReactor* MigrationServiceImpl::ListDecisions(grpc::CallbackServerContext* context,
                                                              const v1::ListDecisionsRequest* request,
                                                              v1::ListDecisionsResponse* response) {
  return AnswerFromPool(context, pool_, [this, request, response]() -> absl::Status {
    LOCKSTEP_RETURN_IF_ERROR(wire::ValidateMigrationName("parent", request->parent()));
    LOCKSTEP_ASSIGN_OR_RETURN(const int32_t page_size, wire::ReadPageSize(request->page_size()));
    const wire::PageScope scope("ListDecisions", request->parent());
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string position, scope.PositionOf(request->page_token()));
    LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t before, NumberIn(position));
    LOCKSTEP_ASSIGN_OR_RETURN(
        const std::vector<domain::DecisionRecord> page,
        engine_->registry().ListDecisions(request->parent(), before, static_cast<size_t>(page_size)));
    for (const domain::DecisionRecord& record : page) *response->add_decisions() = wire::ToProto(record);
    if (!page.empty() && page.back().number > 1) {
      response->set_next_page_token(scope.TokenFor(absl::StrCat(page.back().number)));
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* MigrationServiceImpl::ListMismatchSamples(
    grpc::CallbackServerContext* context, const v1::ListMismatchSamplesRequest* request,
    v1::ListMismatchSamplesResponse* response) {
  return AnswerFromPool(context, pool_, [this, request, response]() -> absl::Status {
    LOCKSTEP_RETURN_IF_ERROR(wire::ValidateMigrationName("parent", request->parent()));
    LOCKSTEP_ASSIGN_OR_RETURN(const int32_t page_size, wire::ReadPageSize(request->page_size()));
    const wire::PageScope scope("ListMismatchSamples", request->parent());
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string position, scope.PositionOf(request->page_token()));
    LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t offset, NumberIn(position));
    LOCKSTEP_RETURN_IF_ERROR(engine_->registry().Get(request->parent()).status());
    LOCKSTEP_ASSIGN_OR_RETURN(
        const std::vector<domain::MismatchSample> page,
        engine_->telemetry().ListSamples(request->parent(), offset, static_cast<size_t>(page_size) + 1));
    for (const domain::MismatchSample& sample : page) {
      if (response->samples_size() == page_size) {
        response->set_next_page_token(
            scope.TokenFor(absl::StrCat(offset + static_cast<uint64_t>(page_size))));
        break;
      }
      *response->add_samples() = wire::ToProto(sample);
    }
    return absl::OkStatus();
  });
}

}  // namespace lockstep::service
