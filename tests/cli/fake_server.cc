#include "tests/cli/fake_server.h"

#include <chrono>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/error_info.h"
#include "core/wire/status.h"

namespace lockstep::cli {
namespace {

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), wire::WireMessage(status),
          wire::StatusDetails(status)};
}

// Pages of two, so that every list in the tests needs several.
template <typename Item, typename Add>
std::string FillPage(const std::vector<Item>& items, const std::string& token, Add add) {
  size_t next = 0;
  if (!token.empty()) LOCKSTEP_CHECK(absl::SimpleAtoi(token, &next), "tokens are the fake's own");
  const size_t end = std::min(items.size(), next + 2);
  for (; next < end; ++next) *add() = items[next];
  return next < items.size() ? absl::StrCat(next) : "";
}

}  // namespace

class FakeServer::Migrations final : public v1::MigrationService::Service {
 public:
  explicit Migrations(FakeServer* fake) : fake_(fake) {}

  grpc::Status CreateMigration(grpc::ServerContext* context, const v1::CreateMigrationRequest* request,
                               v1::Migration* response) override {
    const grpc::Status status = fake_->Record(context, "CreateMigration", *request);
    *response = request->migration();
    return status;
  }
  grpc::Status GetMigration(grpc::ServerContext* context, const v1::GetMigrationRequest* request,
                            v1::Migration* response) override {
    const grpc::Status status = fake_->Record(context, "GetMigration", *request);
    if (!status.ok()) return status;
    const auto found = script().migrations.find(request->name());
    if (found == script().migrations.end())
      return ToGrpc(absl::NotFoundError(request->name() + " does not exist"));
    *response = found->second;
    return grpc::Status::OK;
  }
  grpc::Status ListMigrations(grpc::ServerContext* context, const v1::ListMigrationsRequest* request,
                              v1::ListMigrationsResponse* response) override {
    std::vector<v1::Migration> all;
    for (const auto& [name, migration] : script().migrations) all.push_back(migration);
    response->set_next_page_token(
        FillPage(all, request->page_token(), [&] { return response->add_migrations(); }));
    return fake_->Record(context, "ListMigrations", *request);
  }
  grpc::Status UpdateMigration(grpc::ServerContext* context, const v1::UpdateMigrationRequest* request,
                               v1::Migration* response) override {
    *response = request->migration();
    return fake_->Record(context, "UpdateMigration", *request);
  }
  grpc::Status DeleteMigration(grpc::ServerContext* context, const v1::DeleteMigrationRequest* request,
                               google::protobuf::Empty*) override {
    return fake_->Record(context, "DeleteMigration", *request);
  }
  grpc::Status StartMigration(grpc::ServerContext* context, const v1::StartMigrationRequest* request,
                              v1::Migration* response) override {
    return Change(context, "StartMigration", *request, response);
  }
  grpc::Status AdvanceMigration(grpc::ServerContext* context, const v1::AdvanceMigrationRequest* request,
                                v1::Migration* response) override {
    const grpc::Status status = Change(context, "AdvanceMigration", *request, response);
    if (!status.ok() || !script().point_of_no_return || request->accept_no_way_back()) return status;
    return ToGrpc(WithErrorInfo(absl::FailedPreconditionError("the next step is NEW_ONLY"),
                                {.reason = "POINT_OF_NO_RETURN"}));
  }
  grpc::Status EvictInstance(grpc::ServerContext* context, const v1::EvictInstanceRequest* request,
                             v1::EvictInstanceResponse* response) override {
    *response = script().evicted;
    return fake_->Record(context, request->change().validate_only() ? "CheckEviction" : "EvictInstance",
                         *request);
  }
  grpc::Status DrillRollback(grpc::ServerContext* context, const v1::DrillRollbackRequest* request,
                             v1::DrillRollbackResponse* response) override {
    *response = script().drill;
    return fake_->Record(context, "DrillRollback", *request);
  }
  grpc::Status PauseMigration(grpc::ServerContext* context, const v1::PauseMigrationRequest* request,
                              v1::Migration* response) override {
    return Change(context, "PauseMigration", *request, response);
  }
  grpc::Status ResumeMigration(grpc::ServerContext* context, const v1::ResumeMigrationRequest* request,
                               v1::Migration* response) override {
    return Change(context, "ResumeMigration", *request, response);
  }
  grpc::Status RollbackMigration(grpc::ServerContext* context, const v1::RollbackMigrationRequest* request,
                                 v1::Migration* response) override {
    return Change(context, "RollbackMigration", *request, response);
  }
  grpc::Status AbortMigration(grpc::ServerContext* context, const v1::AbortMigrationRequest* request,
                              v1::Migration* response) override {
    return Change(context, "AbortMigration", *request, response);
  }
  grpc::Status SetMigrationWeight(grpc::ServerContext* context, const v1::SetMigrationWeightRequest* request,
                                  v1::Migration* response) override {
    return Change(context, "SetMigrationWeight", *request, response);
  }
  grpc::Status WatchMigration(grpc::ServerContext* context, const v1::WatchMigrationRequest* request,
                              grpc::ServerWriter<v1::Migration>* writer) override {
    const grpc::Status status = fake_->Record(context, "WatchMigration", *request);
    if (!status.ok()) return status;
    // Copied first: the test may write the next script as soon as it has seen the last message.
    const std::vector<v1::Migration> watched = script().watched;
    const absl::Status end = script().watch_end;
    const bool breaks = script().watch_breaks > 0;
    if (breaks) --script().watch_breaks;
    for (const v1::Migration& migration : watched) {
      writer->Write(migration);
      if (breaks) return ToGrpc(absl::UnavailableError("going away"));
    }
    if (!end.ok()) return ToGrpc(end);
    // A watch without news ends with its deadline, or when the client has seen enough.
    while (!context->IsCancelled()) {
      Mutex mutex;
      CondVar never;
      MutexLock lock(&mutex);
      never.WaitFor(&mutex, std::chrono::milliseconds(5));
    }
    return grpc::Status::CANCELLED;
  }
  grpc::Status ListDecisions(grpc::ServerContext* context, const v1::ListDecisionsRequest* request,
                             v1::ListDecisionsResponse* response) override {
    response->set_next_page_token(
        FillPage(script().decisions, request->page_token(), [&] { return response->add_decisions(); }));
    return fake_->Record(context, "ListDecisions", *request);
  }
  grpc::Status ListInstances(grpc::ServerContext* context, const v1::ListInstancesRequest* request,
                             v1::ListInstancesResponse* response) override {
    auto& before = script().instances_before;
    response->set_next_page_token(FillPage(before.empty() ? script().instances : before.front(),
                                           request->page_token(), [&] { return response->add_instances(); }));
    if (!before.empty() && response->next_page_token().empty()) before.erase(before.begin());
    return fake_->Record(context, "ListInstances", *request);
  }
  grpc::Status ListMismatchSamples(grpc::ServerContext* context,
                                   const v1::ListMismatchSamplesRequest* request,
                                   v1::ListMismatchSamplesResponse* response) override {
    response->set_next_page_token(
        FillPage(script().mismatches, request->page_token(), [&] { return response->add_samples(); }));
    return fake_->Record(context, "ListMismatchSamples", *request);
  }

 private:
  Script& script() { return fake_->script_; }

  grpc::Status Change(grpc::ServerContext* context, const std::string& method,
                      const google::protobuf::Message& request, v1::Migration* response) {
    *response = script().changed;
    return fake_->Record(context, method, request);
  }

  FakeServer* const fake_;
};

class FakeServer::Routing final : public v1::RoutingService::Service {
 public:
  explicit Routing(FakeServer* fake) : fake_(fake) {}
  grpc::Status Route(grpc::ServerContext* context, const v1::RouteRequest* request,
                     v1::RouteResponse* response) override {
    *response = fake_->script_.route;
    return fake_->Record(context, "Route", *request);
  }

 private:
  FakeServer* const fake_;
};

class FakeServer::Gate final : public v1::GateService::Service {
 public:
  explicit Gate(FakeServer* fake) : fake_(fake) {}
  grpc::Status ExplainGate(grpc::ServerContext* context, const v1::ExplainGateRequest* request,
                           v1::ExplainGateResponse* response) override {
    *response = fake_->script_.explanation;
    return fake_->Record(context, "ExplainGate", *request);
  }
  grpc::Status ExportEvidence(grpc::ServerContext* context, const v1::ExportEvidenceRequest* request,
                              grpc::ServerWriter<v1::EvidenceLine>* writer) override {
    for (const v1::EvidenceLine& line : fake_->script_.evidence) writer->Write(line);
    return fake_->Record(context, "ExportEvidence", *request);
  }

 private:
  FakeServer* const fake_;
};

class FakeServer::Health final : public grpc::health::v1::Health::Service {
 public:
  explicit Health(FakeServer* fake) : fake_(fake) {}
  grpc::Status Check(grpc::ServerContext* context, const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override {
    response->set_status(fake_->script_.serving ? grpc::health::v1::HealthCheckResponse::SERVING
                                                : grpc::health::v1::HealthCheckResponse::NOT_SERVING);
    return fake_->Record(context, "Check", *request);
  }

 private:
  FakeServer* const fake_;
};

FakeServer::FakeServer()
    : migrations_(std::make_unique<Migrations>(this)),
      routing_(std::make_unique<Routing>(this)),
      gate_(std::make_unique<Gate>(this)),
      health_(std::make_unique<Health>(this)) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(migrations_.get());
  builder.RegisterService(routing_.get());
  builder.RegisterService(gate_.get());
  builder.RegisterService(health_.get());
  server_ = builder.BuildAndStart();
  LOCKSTEP_CHECK(server_ != nullptr && port != 0, "the fake server listens");
  address_ = absl::StrCat("127.0.0.1:", port);
}

FakeServer::~FakeServer() { server_->Shutdown(std::chrono::system_clock::now()); }

grpc::Status FakeServer::Record(grpc::ServerContext* context, const std::string& method,
                                const google::protobuf::Message& request) {
  calls_.push_back(method);
  requests_[request.GetTypeName()] = request.SerializeAsString();
  const auto found = context->client_metadata().find("lockstep-principal");
  principal_ = found == context->client_metadata().end()
                   ? ""
                   : std::string(found->second.data(), found->second.size());
  return ToGrpc(script_.status);
}

}  // namespace lockstep::cli
