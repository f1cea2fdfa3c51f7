#include "tests/support/api_client.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/wire/status.h"

namespace lockstep::testing {
namespace {

constexpr char kParent[] = "namespaces/test";

template <typename Request>
Request ChangeOf(absl::string_view id) {
  Request request;
  request.set_name(NameOf(id));
  return request;
}

}  // namespace

absl::Status Decode(const grpc::Status& status) {
  return wire::StatusFromWire(status.error_code(), status.error_message(), status.error_details());
}

std::string ReasonOf(const absl::Status& status) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  return info ? info->reason : "";
}

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

ApiClient::ApiClient(std::shared_ptr<grpc::Channel> channel)
    : channel_(std::move(channel)),
      migrations_(v1::MigrationService::NewStub(channel_)),
      routing_(v1::RoutingService::NewStub(channel_)),
      telemetry_(v1::TelemetryService::NewStub(channel_)),
      gate_(v1::GateService::NewStub(channel_)) {}

absl::StatusOr<v1::Migration> ApiClient::Create(absl::string_view id, v1::Migration migration) {
  v1::CreateMigrationRequest request;
  request.set_parent(kParent);
  request.set_migration_id(std::string(id));
  *request.mutable_migration() = std::move(migration);
  return Call(&v1::MigrationService::Stub::CreateMigration, request);
}

absl::StatusOr<v1::Migration> ApiClient::Get(absl::string_view id) {
  return Call(&v1::MigrationService::Stub::GetMigration, ChangeOf<v1::GetMigrationRequest>(id));
}

absl::StatusOr<v1::Migration> ApiClient::Start(absl::string_view id) {
  return Call(&v1::MigrationService::Stub::StartMigration, ChangeOf<v1::StartMigrationRequest>(id));
}

absl::StatusOr<v1::Migration> ApiClient::Advance(absl::string_view id) {
  auto request = ChangeOf<v1::AdvanceMigrationRequest>(id);
  request.set_override_gate(true);
  request.mutable_change()->set_reason("the test says so");
  return Call(&v1::MigrationService::Stub::AdvanceMigration, request);
}

absl::StatusOr<v1::ReportComparisonsResponse> ApiClient::Report(const v1::ReportComparisonsRequest& request) {
  return Call(&v1::TelemetryService::Stub::ReportComparisons, request);
}

std::string NameOf(absl::string_view id) { return absl::StrCat(kParent, "/migrations/", id); }

v1::Migration SampleMigration() {
  v1::Migration migration;
  migration.set_description("a sample");
  const auto add = [&](v1::Stage stage, uint32_t weight) {
    v1::PlanStep* step = migration.mutable_plan()->add_steps();
    step->set_stage(stage);
    step->set_weight(weight);
    step->set_manual(true);
  };
  add(v1::STAGE_DUAL_WRITE, 0);
  add(v1::STAGE_SHADOW_READ, 0);
  add(v1::STAGE_CANARY_READ, 1000);
  add(v1::STAGE_CANARY_READ, 100000);
  migration.mutable_contract()->add_fields()->set_path("name");
  return migration;
}

v1::ReportComparisonsRequest SampleBatch(absl::string_view instance, uint64_t session, uint64_t sequence,
                                         absl::string_view id, uint64_t matches) {
  v1::ReportComparisonsRequest batch;
  batch.set_instance_id(std::string(instance));
  batch.set_session(session);
  batch.set_sequence(sequence);
  v1::MigrationDelta* delta = batch.add_deltas();
  delta->set_migration(NameOf(id));
  delta->set_generation(1);
  delta->set_epoch(1);
  delta->set_contract_revision(1);
  delta->mutable_bucket_start()->set_seconds(absl::ToUnixSeconds(absl::Now()) / 5 * 5);
  v1::OutcomeCount* count = delta->mutable_stats()->add_comparisons();
  count->set_outcome(v1::COMPARISON_OUTCOME_MATCH);
  count->set_count(matches);
  return batch;
}

std::string RequestId(uint64_t number) {
  return absl::StrFormat("%08x-0000-4000-8000-%012x", number >> 32, number & 0xffffffff);
}

namespace {

void Apply(const v1::SnapshotDelta& delta, v1::Snapshot* snapshot) {
  std::map<std::string, v1::MigrationRouting> by_name;
  for (const v1::MigrationRouting& migration : snapshot->migrations()) by_name[migration.name()] = migration;
  for (const v1::MigrationRouting& migration : delta.changed()) by_name[migration.name()] = migration;
  for (const std::string& name : delta.removed()) by_name.erase(name);
  snapshot->set_revision(delta.revision());
  snapshot->set_digest(delta.digest());
  snapshot->clear_migrations();
  for (auto& [name, migration] : by_name) *snapshot->add_migrations() = std::move(migration);
}

}  // namespace

WatchClient::WatchClient(ApiClient* api) {
  context_.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
  stream_ = api->routing()->Watch(&context_);
}

WatchClient::~WatchClient() {
  if (finished_) return;
  Cancel();
  Finish().IgnoreError();
}

bool WatchClient::Enrol(absl::string_view instance, const std::vector<std::string>& ids,
                        const std::map<std::string, uint64_t>& held, uint64_t store_epoch) {
  v1::WatchRequest request;
  request.mutable_enrol()->set_store_epoch(store_epoch);
  request.mutable_enrol()->set_instance_id(std::string(instance));
  request.mutable_enrol()->set_service("tests");
  request.mutable_enrol()->set_version("1");
  for (const std::string& id : ids) request.mutable_enrol()->add_migrations(NameOf(id));
  for (const auto& [id, epoch] : held) {
    v1::HeldEpoch* added = request.mutable_enrol()->add_held();
    added->set_migration(NameOf(id));
    added->set_epoch(epoch);
  }
  return Send(request);
}

v1::Snapshot WatchClient::ReadSnapshot() {
  v1::WatchResponse response;
  while (Read(&response)) {
    if (response.has_snapshot()) {
      in_force_ = response.snapshot();
    } else if (response.has_delta()) {
      Apply(response.delta(), &in_force_);
    } else {
      continue;
    }
    v1::WatchRequest accept;
    accept.mutable_accept()->set_revision(in_force_.revision());
    Send(accept);
    return in_force_;
  }
  return {};
}

bool WatchClient::Acknowledge(const v1::Snapshot& snapshot) {
  v1::WatchRequest request;
  request.mutable_ack()->set_revision(snapshot.revision());
  for (const v1::MigrationRouting& migration : snapshot.migrations()) {
    v1::HeldEpoch* held = request.mutable_ack()->add_held();
    held->set_migration(migration.name());
    held->set_epoch(migration.state().epoch());
  }
  return Send(request);
}

absl::Status WatchClient::Finish() {
  stream_->WritesDone();
  v1::WatchResponse ignored;
  while (stream_->Read(&ignored)) {
  }
  finished_ = true;
  return Decode(stream_->Finish());
}

}  // namespace lockstep::testing
