// The Watch stream as bytes: made once for all who are sent them, and parsed with care.
#include <grpcpp/generic/generic_stub.h>

#include "server/service/routing_service.h"
#include "tests/engine/engine_fixture.h"
#include "tests/support/api_client.h"
#include "tests/support/status_matchers.h"

namespace lockstep::service {
namespace {

using testing::ApiClient;
using testing::NameOf;
using testing::WatchClient;

class InstanceStreamTest : public engine::EngineTest {
 protected:
  InstanceStreamTest()
      : name_(NameOf("orders")),
        pool_(std::make_unique<WorkerPool>(2)),
        service_(std::make_unique<RoutingServiceImpl>(engine_.get(), pool_.get(), &clock_)) {
    Create(name_);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    api_ = std::make_unique<ApiClient>(absl::StrCat("127.0.0.1:", port));
  }
  ~InstanceStreamTest() override {
    watches_.clear();
    service_->EndStreams();
    server_->Shutdown();
    server_->Wait();
    pool_.reset();
  }

  void Open(int instances, const std::vector<std::string>& ids) {
    for (int i = 0; i < instances; ++i) {
      watches_.push_back(std::make_unique<WatchClient>(api_.get()));
      ASSERT_TRUE(watches_.back()->Enrol(absl::StrCat("i-", watches_.size()), ids));
    }
  }
  // Everyone reads, and accepts, one state.
  void ExpectAllAreSent(uint64_t epoch) {
    for (const auto& watch : watches_) {
      const v1::Snapshot snapshot = watch->ReadSnapshot();
      ASSERT_GE(snapshot.migrations_size(), 1);
      EXPECT_EQ(snapshot.migrations(snapshot.migrations_size() - 1).state().epoch(), epoch);
      ASSERT_TRUE(watch->Acknowledge(snapshot));
    }
  }
  // Waits for nobody and overtakes nothing: it is sent once the last one has been accepted.
  void Change() {
    engine::MigrationUpdate update;
    update.pins = domain::Pins{{{absl::StrCat("key-", ++changes_), domain::Side::kNew}}, {}};
    ASSERT_TRUE(registry().Update(name_, update, engine::By("user:ann")).ok());
  }
  uint64_t Epoch() { return Now(name_).migration->published.epoch; }

  int changes_ = 0;
  const std::string name_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<RoutingServiceImpl> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ApiClient> api_;
  std::vector<std::unique_ptr<WatchClient>> watches_;
};

TEST_F(InstanceStreamTest, IdenticalStreamsCauseOneSerialisationForEachRevision) {
  Open(30, {"orders"});
  ExpectAllAreSent(Epoch());
  EXPECT_EQ(service_->states_encoded(), 1u);
  for (uint64_t revision = 1; revision <= 5; ++revision) {
    Change();
    ExpectAllAreSent(Epoch());
    EXPECT_EQ(service_->states_encoded(), 1 + revision);
  }
}

TEST_F(InstanceStreamTest, OtherMigrationsAreOtherBytes) {
  Create(NameOf("customers"));
  Open(5, {"orders"});
  Open(5, {"customers", "orders"});
  ExpectAllAreSent(Epoch());
  EXPECT_EQ(service_->states_encoded(), 2u);
  Change();
  ExpectAllAreSent(Epoch());
  EXPECT_EQ(service_->states_encoded(), 4u);
}

TEST_F(InstanceStreamTest, WhatCanNotBeParsedEndsTheStreamAndSaysWhy) {
  grpc::GenericStub stub(api_->channel());
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const auto stream = stub.PrepareCall(&context, "/lockstep.v1.RoutingService/Watch", &queue);
  void* tag = nullptr;
  bool ok = false;
  const auto wait = [&] { return queue.Next(&tag, &ok); };
  stream->StartCall(nullptr);
  ASSERT_TRUE(wait() && ok);
  const grpc::Slice garbage("\x0a\xff garbage");
  stream->Write(grpc::ByteBuffer(&garbage, 1), nullptr);
  ASSERT_TRUE(wait());
  grpc::Status status;
  stream->Finish(&status, nullptr);
  ASSERT_TRUE(wait() && ok);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), ::testing::HasSubstr("can't be parsed"));
}

}  // namespace
}  // namespace lockstep::service
