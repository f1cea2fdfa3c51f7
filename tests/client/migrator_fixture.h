// Shared by the tests of Migrator.
#pragma once

#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "gtest/gtest.h"
#include "lockstep/manual_executor.h"
#include "tests/client/sdk_testing.h"

namespace lockstep::testing_support {

// A client on a fake clock, with an executor that runs when told, over two stores that note every call.
class MigratorTest : public ::testing::Test {
 protected:
  MigratorTest() {
    plane_->SetStage(kMigration, domain::Stage::kOff);
    StartClient();
  }
  // Also once more, as after a crash: what the executor has not run is lost.
  void StartClient(std::shared_ptr<StateStorage> state_storage = nullptr) {
    executor_->DropAll();
    client_.reset();
    ClientOptions options = {
        .transport = plane_, .service = "orders", .migrations = {kMigration}, .instance_id = "i-1"};
    options.executor = executor_;
    options.clock = &clock_;
    options.seed = 1;
    options.max_outstanding_repairs = 3;
    options.state_storage = std::move(state_storage);
    client_ = *Client::Create(std::move(options));
    EXPECT_TRUE(client_->WaitUntilReady(absl::InfiniteFuture()).ok());
  }
  ~MigratorTest() override { executor_->DropAll(); }

  // Publishes a stage and waits until the client acts on it.
  void SetStage(domain::Stage stage, uint32_t read_weight = 0) {
    plane_->SetStage(kMigration, stage, read_weight);
    AwaitEpoch();
  }
  void SetState(domain::RoutingState state) {
    plane_->SetState(kMigration, std::move(state));
    AwaitEpoch();
  }
  void AwaitEpoch() {
    ASSERT_TRUE(
        Eventually([&] { return client_->Route(kMigration, "1")->epoch() == plane_->EpochOf(kMigration); }));
  }
  // Nothing is timed unless a test asks for it: the reads for it would be among the calls.
  std::unique_ptr<OrderMigrator> Build(MigratorOptions options = {.paired_latency_share = 0}) {
    return *BuilderOver(client_.get(), &old_, &new_).Options(std::move(options)).Build();
  }
  // With KeyCodec, CurrentOld and CurrentNew as well.
  OrderMigrator::Builder FullBuilder() {
    OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
    builder.CurrentOld([this](const int64_t& id, const ReadContext&) { return old_.Current(id); })
        .CurrentNew([this](const int64_t& id, const ReadContext&) { return new_.Current(id); })
        .KeyCodec([](const int64_t& id) { return absl::StrCat(id); },
                  [](absl::string_view text) -> absl::StatusOr<int64_t> {
                    int64_t id = 0;
                    if (absl::SimpleAtoi(text, &id)) return id;
                    return absl::InvalidArgumentError("not a number");
                  });
    return builder;
  }
  domain::WindowStats Totals() const { return client_->telemetry().Totals(0); }
  uint64_t Compared(domain::ComparisonOutcome outcome) const { return Totals().comparison(outcome); }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  CallLog calls_;
  Store old_{"old", &calls_};
  Store new_{"new", &calls_};
  std::shared_ptr<ManualExecutor> executor_ = std::make_shared<ManualExecutor>(&clock_);
  std::shared_ptr<FakeControlPlane> plane_ = std::make_shared<FakeControlPlane>();
  std::unique_ptr<Client> client_;
};

}  // namespace lockstep::testing_support
