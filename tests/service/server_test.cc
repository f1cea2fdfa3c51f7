// What every gRPC server owes its operators: health, reflection, a drain that loses nothing, cancelled calls
// that leave nothing behind, errors whose details decode.
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "google/protobuf/descriptor_database.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "tests/service/service_fixture.h"
#include "tests/support/http_client.h"

namespace lockstep::service {
namespace {

using Code = absl::StatusCode;
namespace health = grpc::health::v1;
namespace reflection = grpc::reflection::v1alpha;

class ServerTest : public ServiceTest {
 protected:
  int ServingStatus(const std::string& service = "") {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + testing::kPatience));
    health::HealthCheckRequest request;
    request.set_service(service);
    health::HealthCheckResponse response;
    const grpc::Status status = health::Health::NewStub(api_.channel())->Check(&context, request, &response);
    return status.ok() ? response.status() : -status.error_code();
  }
};

TEST_F(ServerTest, HealthIsServing) {
  EXPECT_EQ(ServingStatus(), health::HealthCheckResponse::SERVING);
  EXPECT_EQ(ServingStatus("no.such.Service"), -grpc::StatusCode::NOT_FOUND);
}

// Asks as buf curl and grpcurl do: list the services, then the files of each, and build their descriptors
// from nothing else.
TEST_F(ServerTest, ReflectionResolvesEveryService) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + testing::kPatience));
  const auto stub = reflection::ServerReflection::NewStub(api_.channel());
  const auto stream = stub->ServerReflectionInfo(&context);
  const auto ask = [&](const reflection::ServerReflectionRequest& request) {
    reflection::ServerReflectionResponse response;
    EXPECT_TRUE(stream->Write(request));
    EXPECT_TRUE(stream->Read(&response));
    return response;
  };
  reflection::ServerReflectionRequest list;
  list.set_list_services("*");
  std::vector<std::string> services;
  const reflection::ServerReflectionResponse listed = ask(list);
  for (const auto& service : listed.list_services_response().service()) services.push_back(service.name());
  EXPECT_THAT(services, ::testing::IsSupersetOf({"lockstep.v1.MigrationService", "lockstep.v1.RoutingService",
                                                 "lockstep.v1.TelemetryService", "lockstep.v1.GateService",
                                                 "grpc.health.v1.Health"}));

  google::protobuf::SimpleDescriptorDatabase files;
  std::set<std::string> known;
  std::vector<std::string> wanted;
  const auto add = [&](const reflection::ServerReflectionResponse& response, const std::string& what) {
    EXPECT_TRUE(response.has_file_descriptor_response())
        << what << ": " << response.error_response().error_message();
    for (const std::string& bytes : response.file_descriptor_response().file_descriptor_proto()) {
      google::protobuf::FileDescriptorProto file;
      ASSERT_TRUE(file.ParseFromString(bytes));
      if (!known.insert(file.name()).second) continue;
      files.Add(file);
      wanted.insert(wanted.end(), file.dependency().begin(), file.dependency().end());
    }
  };
  for (const std::string& service : services) {
    reflection::ServerReflectionRequest request;
    request.set_file_containing_symbol(service);
    add(ask(request), service);
  }
  while (!wanted.empty()) {
    const std::string name = wanted.back();
    wanted.pop_back();
    if (known.count(name) > 0) continue;
    reflection::ServerReflectionRequest request;
    request.set_file_by_filename(name);
    add(ask(request), name);
  }
  google::protobuf::DescriptorPool pool(&files);
  for (const std::string& service : services) {
    EXPECT_NE(pool.FindServiceByName(service), nullptr) << service;
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, TheGateExplainsItself) {
  CreateSampleAt("orders", 1);
  v1::ExplainGateRequest request;
  request.set_name(NameOf("orders"));
  const auto explained = api_.Call(&v1::GateService::Stub::ExplainGate, request);
  ASSERT_TRUE(IsOk(explained));
  EXPECT_EQ(explained->step(), 1u);
  EXPECT_EQ(explained->gate().evidence_restarts(), 0u);
  EXPECT_EQ(explained->last_decision().action(), "advance");
}

TEST_F(ServerTest, RichDetailsArriveAsGoogleRpcStatus) {
  const absl::Status refused = api_.Get("ghost").status();
  const auto info = GetErrorInfo(refused);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->reason, "MIGRATION_NOT_FOUND");
  EXPECT_EQ(info->metadata.at("migration"), NameOf("ghost"));
}

TEST_F(ServerTest, ADrainTellsStreamsToReconnectAndShowsInHealthAndReadiness) {
  CreateSample("orders");
  WatchClient watch(&api_);
  ASSERT_TRUE(watch.Enrol("i-1", {"orders"}));
  ASSERT_EQ(watch.ReadSnapshot().migrations_size(), 1);
  grpc::ClientContext context;
  v1::WatchMigrationRequest request;
  request.set_name(NameOf("orders"));
  const auto migration_watch = api_.migrations()->WatchMigration(&context, request);
  v1::Migration seen;
  ASSERT_TRUE(migration_watch->Read(&seen));
  // Holds the drain open, as a slow call does: a bidirectional stream of gRPC's own that is not told to end.
  grpc::ClientContext health_context;
  health::HealthCheckResponse serving;
  const auto health_watch = health::Health::NewStub(api_.channel())->Watch(&health_context, {});
  ASSERT_TRUE(health_watch->Read(&serving));
  EXPECT_EQ(serving.status(), health::HealthCheckResponse::SERVING);
  EXPECT_EQ(testing::HttpGet(server_->http_port(), "/readyz").status, 200);

  const uint16_t http_port = server_->http_port();
  std::thread drain([&] { server_->Drain(); });
  ASSERT_TRUE(health_watch->Read(&serving));
  EXPECT_EQ(serving.status(), health::HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(testing::HttpGet(http_port, "/readyz").status, 503);
  EXPECT_EQ(testing::HttpGet(http_port, "/healthz").status, 200);

  v1::WatchResponse response;
  ASSERT_TRUE(watch.Read(&response));
  EXPECT_TRUE(response.has_drain());
  EXPECT_GT(response.drain().reconnect_after().seconds(), 0);
  // The server ends the stream; ending it from this side first would race with that.
  while (watch.Read(&response)) {
  }
  EXPECT_EQ(watch.Finish().code(), Code::kUnavailable);
  EXPECT_FALSE(migration_watch->Read(&seen));
  EXPECT_EQ(migration_watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  health_context.TryCancel();
  while (health_watch->Read(&serving)) {
  }
  health_watch->Finish();
  drain.join();
  EXPECT_EQ(api_.Get("orders").status().code(), Code::kUnavailable);
  server_->Drain();  // again: nothing
}

// Calls that are given up at every moment; the address sanitizer sees what they leave behind.
TEST_F(ServerTest, CancelledAndExpiredCallsLeaveNothing) {
  CreateSample("orders");
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      ApiClient api(testing::AddressOf(*server_));
      for (int i = 0; i < 50; ++i) {
        const auto timeout = absl::Microseconds(100 * i);
        switch (caller) {
          case 0: {
            v1::MigrationService::Stub* const stub = api.migrations();
            grpc::ClientContext context;
            context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
            v1::WatchMigrationRequest request;
            request.set_name(NameOf("orders"));
            const auto stream = stub->WatchMigration(&context, request);
            v1::Migration seen;
            while (stream->Read(&seen)) {
            }
            stream->Finish();
            break;
          }
          case 1: {
            WatchClient watch(&api);
            watch.Enrol(absl::StrCat("i-", i % 5), {"orders"});
            if (i % 2 == 0) watch.ReadSnapshot();
            watch.Cancel();
            break;
          }
          case 2:
            api.Call(&v1::TelemetryService::Stub::ReportComparisons,
                     SampleBatch("i-1", static_cast<uint64_t>(i) + 1, 1, "orders", 1), timeout)
                .IgnoreError();
            break;
          default: {
            v1::PauseMigrationRequest request;
            request.set_name(NameOf("orders"));
            api.Call(&v1::MigrationService::Stub::PauseMigration, request, timeout).IgnoreError();
          }
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_TRUE(IsOk(api_.Get("orders")));
  v1::ListInstancesRequest request;
  request.set_parent(NameOf("orders"));
  EXPECT_TRUE(Eventually([&] {
    const auto listed = api_.Call(&v1::MigrationService::Stub::ListInstances, request);
    if (!listed.ok()) return false;
    for (const v1::Instance& instance : listed->instances()) {
      if (instance.connected()) return false;
    }
    return true;
  }));
}

TEST(ServerStartTest, APortInUseIsAClearError) {
  const auto first = testing::StartServer();
  app::Config config = testing::QuietConfig();
  config.listen = testing::AddressOf(*first);
  auto second = app::Server::Start(config);
  EXPECT_EQ(second.status().code(), Code::kUnavailable) << second.status();
  EXPECT_TRUE(absl::StrContains(second.status().message(), config.listen)) << second.status();
  EXPECT_TRUE(absl::StrContains(second.status().message(), "in use")) << second.status();

  config = testing::QuietConfig();
  config.http_port = first->http_port();
  second = app::Server::Start(config);
  EXPECT_EQ(second.status().code(), Code::kUnavailable) << second.status();
  EXPECT_TRUE(absl::StrContains(second.status().message(), absl::StrCat(first->http_port())))
      << second.status();
}

}  // namespace
}  // namespace lockstep::service
