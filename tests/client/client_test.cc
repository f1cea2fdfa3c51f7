// The client with its own thread, against the control plane in memory.
#include "lockstep/client.h"

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/plane_testing.h"

namespace lockstep {
namespace {

using domain::Side;
using domain::Stage;
using testing_support::Eventually;
using testing_support::kFullName;
using testing_support::kMigration;

ClientOptions OptionsFor(std::shared_ptr<FakeControlPlane> plane) {
  return {.transport = std::move(plane),
          .service = "orders",
          .migrations = {kMigration},
          .instance_id = "i-1",
          .seed = 1};
}

absl::Time Soon() { return absl::Now() + absl::Seconds(20); }

TEST(ClientTest, ColdStartIsAnErrorAndNeverOff) {
  auto plane = std::make_shared<FakeControlPlane>();
  plane->SetReachable(false);
  const std::unique_ptr<Client> client = *Client::Create(OptionsFor(plane));
  const absl::StatusOr<RouteHandle> route = client->Route(*client->Resolve(kMigration), "k");
  EXPECT_TRUE(absl::IsUnavailable(route.status())) << route.status();
  EXPECT_THAT(client->Route(kMigration, "k").status().message(), ::testing::HasSubstr("no side is assumed"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(client->WaitUntilReady(absl::Now())));
  plane->SetStage(kMigration, Stage::kOff);
  plane->SetReachable(true);
  EXPECT_TRUE(client->WaitUntilReady(Soon()).ok());
  EXPECT_EQ(client->Route(kMigration, "k")->stage(), Stage::kOff);
}

TEST(ClientTest, OptionsThatMakeNoSense) {
  auto plane = std::make_shared<FakeControlPlane>();
  const std::vector<std::pair<const char*, std::function<void(ClientOptions&)>>> cases = {
      {"transport", [](ClientOptions& o) { o.transport = nullptr; }},
      {"service", [](ClientOptions& o) { o.service = ""; }},
      {"service", [](ClientOptions& o) { o.service = std::string(64, 'x'); }},
      {"migrations", [](ClientOptions& o) { o.migrations.clear(); }},
      {"Orders", [](ClientOptions& o) { o.migrations = {"shop/Orders"}; }},
      {"instance_id", [](ClientOptions& o) { o.instance_id = "a b"; }},
      {"instance_id", [](ClientOptions& o) { o.instance_id = std::string(129, 'x'); }},
      {"heartbeat_interval", [](ClientOptions& o) { o.heartbeat_interval = absl::ZeroDuration(); }},
      {"lease_ttl", [](ClientOptions& o) { o.lease_ttl = o.heartbeat_interval; }},
      {"backoff", [](ClientOptions& o) { o.backoff_max = absl::Milliseconds(1); }},
      {"telemetry_interval", [](ClientOptions& o) { o.telemetry_interval = absl::ZeroDuration(); }},
      {"max_pending_deltas", [](ClientOptions& o) { o.max_pending_deltas = 1; }},
      {"executor_threads", [](ClientOptions& o) { o.executor_threads = 0; }},
      {"clock", [](ClientOptions& o) { o.clock = nullptr; }},
  };
  for (const auto& [word, change] : cases) {
    ClientOptions options = OptionsFor(plane);
    change(options);
    const absl::Status status = Client::Create(std::move(options)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << word << ": " << status;
    EXPECT_THAT(status.message(), ::testing::HasSubstr(word));
  }
}

TEST(ClientTest, InstanceIdIsMadeWhenNoneIsGiven) {
  ClientOptions options = OptionsFor(std::make_shared<FakeControlPlane>());
  options.instance_id.clear();
  const std::unique_ptr<Client> client = *Client::Create(std::move(options));
  EXPECT_EQ(client->instance_id().size(), 36u);
  EXPECT_NE(client->NextIdempotencyKey(), client->NextIdempotencyKey());
}

TEST(ClientTest, RouteErrors) {
  auto plane = std::make_shared<FakeControlPlane>();
  plane->SetStage(kMigration, Stage::kDualWrite);
  ClientOptions options = OptionsFor(plane);
  options.migrations.push_back("shop/unknown");
  const std::unique_ptr<Client> client = *Client::Create(std::move(options));
  ASSERT_TRUE(client->WaitUntilReady(Soon()).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(client->Route(kMigration, "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(client->Route(kMigration, std::string(1025, 'k')).status()));
  EXPECT_TRUE(client->Route(kMigration, std::string(1024, 'k')).ok());
  EXPECT_TRUE(client->Route(kFullName, "k").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(client->Route("no slash", "k").status()));
  EXPECT_TRUE(absl::IsNotFound(client->Route("shop/other", "k").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(client->Route("shop/unknown", "k").status()));
  ASSERT_TRUE(client->Shutdown(Soon()).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(client->Route(kMigration, "k").status()));
}

// Every decision is the domain's own.
TEST(ClientTest, DecidesAsTheDomainDoes) {
  auto plane = std::make_shared<FakeControlPlane>();
  domain::RoutingState state = domain::StateOfStage(Stage::kCanaryRead, 30000);
  state.salt_seed = domain::SaltSeed("salt");
  auto pins = std::make_shared<domain::Pins>();
  pins->keys["pinned"] = Side::kNew;
  pins->rules.push_back({.attribute = "tenant", .values = {"vip"}, .side = Side::kOld});
  state.pins = pins;
  plane->SetState(kMigration, state);
  const std::unique_ptr<Client> client = *Client::Create(OptionsFor(plane));
  ASSERT_TRUE(client->WaitUntilReady(Soon()).ok());
  state.epoch = plane->EpochOf(kMigration);
  const MigrationHandle handle = *client->Resolve(kMigration);
  const domain::Attributes vip = {{"tenant", "vip"}};
  for (int i = 0; i < 200; ++i) {
    const std::string key = i == 0 ? "pinned" : absl::StrCat("key-", i);
    EXPECT_EQ(client->Route(handle, key)->decision(), domain::Decide(state, key, nullptr));
    EXPECT_EQ(client->Route(handle, key, &vip)->decision(), domain::Decide(state, key, &vip));
  }
}

// While the lease is out, reads go to the side that is written first and nothing is compared.
TEST(ClientTest, StaleClientServesFromTheAuthority) {
  auto plane = std::make_shared<FakeControlPlane>();
  plane->SetStage(kMigration, Stage::kCanaryRead, domain::kBucketCount);
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  ClientOptions options = OptionsFor(plane);
  options.clock = &clock;
  const std::unique_ptr<Client> client = *Client::Create(std::move(options));
  ASSERT_TRUE(client->WaitUntilReady(absl::InfiniteFuture()).ok());
  EXPECT_EQ(client->Route(kMigration, "k")->decision().read_side, Side::kNew);
  plane->SetReachable(false);
  clock.Advance(absl::Minutes(1));
  ASSERT_TRUE(Eventually([&] { return client->Stats().stale; }));
  {
    const RouteHandle route = *client->Route(kMigration, "k");
    EXPECT_TRUE(route.stale());
    EXPECT_EQ(route.decision().read_side, Side::kOld);
    EXPECT_EQ(route.decision().write_mode, domain::WriteMode::kOldThenNew) << "writes go on as before";
    EXPECT_FALSE(route.decision().compare);
  }
  plane->SetReachable(true);
  ASSERT_TRUE(Eventually([&] {
    clock.Advance(absl::Seconds(1));
    return !client->Stats().stale;
  }));
  EXPECT_EQ(client->Route(kMigration, "k")->decision().read_side, Side::kNew);
}

TEST(ClientTest, ShutdownSaysWhatIsLeft) {
  auto plane = std::make_shared<FakeControlPlane>();
  plane->SetStage(kMigration, Stage::kDualWrite);
  const std::unique_ptr<Client> client = *Client::Create(OptionsFor(plane));
  ASSERT_TRUE(client->WaitUntilReady(Soon()).ok());
  auto running = std::make_unique<RouteHandle>(*client->Route(kMigration, "k"));
  client->telemetry().RecordRead(running->attribution(), domain::Arm::kOld, true, absl::Milliseconds(1));
  plane->FailNextReport(absl::UnavailableError("later"));
  const absl::Status status = client->Shutdown(absl::Now() + absl::Milliseconds(50));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_THAT(status.message(), ::testing::HasSubstr("1 operations still running"));
  EXPECT_TRUE(plane->Left().empty()) << "the enrolment is kept while an operation runs";
  EXPECT_EQ(client->Shutdown(Soon()), status);
  running.reset();
}

TEST(ClientTest, AnEmptyBatchThatNobodyTakesIsNothingLeft) {
  auto plane = std::make_shared<FakeControlPlane>();
  plane->SetStage(kMigration, Stage::kDualWrite);
  plane->SetReportFaults(/*seed=*/1, /*lose_request=*/1, /*lose_reply=*/0);
  const std::unique_ptr<Client> client = *Client::Create(OptionsFor(plane));
  ASSERT_TRUE(client->WaitUntilReady(Soon()).ok());
  EXPECT_TRUE(client->Shutdown(Soon()).ok());
  EXPECT_EQ(client->Stats().batches_acknowledged, 0u);
}

TEST(ClientTest, ShutdownWaitsForOperationsSendsEverythingAndLeaves) {
  auto plane = std::make_shared<FakeControlPlane>();
  plane->SetStage(kMigration, Stage::kDualWrite);
  const std::unique_ptr<Client> client = *Client::Create(OptionsFor(plane));
  ASSERT_TRUE(client->WaitUntilReady(Soon()).ok());
  plane->SetReportFaults(3, 0.3, 0.3);
  std::thread operation([&client, route = *client->Route(kMigration, "k")]() mutable {
    EXPECT_TRUE(Eventually([&] { return !client->accepts_comparisons(); }));
    client->telemetry().RecordRead(route.attribution(), domain::Arm::kOld, true, absl::Milliseconds(1));
    const RouteHandle ended = std::move(route);
  });
  EXPECT_TRUE(client->Shutdown(Soon()).ok());
  operation.join();
  EXPECT_EQ(plane->Totals(kMigration).arm(domain::Arm::kOld).requests, 1u);
  EXPECT_THAT(plane->Left(), ::testing::ElementsAre("i-1"));
}

// Several threads route, hand handles to others and drop them, while the stage changes: an epoch is
// acknowledged only when nobody acts on an older one.
TEST(ClientTest, AcknowledgementsNeverOvertakeOperations) {
  auto plane = std::make_shared<FakeControlPlane>();
  plane->SetStage(kMigration, Stage::kDualWrite);
  const std::unique_ptr<Client> client = *Client::Create(OptionsFor(plane));
  ASSERT_TRUE(client->WaitUntilReady(Soon()).ok());
  const MigrationHandle handle = *client->Resolve(kMigration);
  std::atomic<bool> stop{false};
  std::atomic<int> violations{0};
  const auto acknowledged = [&] {
    uint64_t epoch = 0;
    for (const FakeControlPlane::Ack& ack : plane->Acks()) epoch = std::max(epoch, ack.held.at(kFullName));
    return epoch;
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      Prng prng(100 + t);
      while (!stop.load()) {
        std::vector<RouteHandle> held;
        for (uint64_t i = 0, n = 1 + prng.Below(4); i < n; ++i) held.push_back(*client->Route(handle, "key"));
        if (prng.Below(2) == 0) std::this_thread::yield();
        // Read after the handles were taken and while they are held.
        if (held.front().epoch() < acknowledged()) ++violations;
        if (prng.Below(4) == 0) {
          std::thread([moved = std::move(held)]() mutable { moved.clear(); }).join();
        }
      }
    });
  }
  for (int i = 1; i <= 60; ++i) {
    plane->SetStage(kMigration, Stage::kCanaryRead, 1000 * i);
    absl::SleepFor(absl::Milliseconds(2));  // lets operations overlap; nothing depends on it
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(violations.load(), 0);
  EXPECT_TRUE(Eventually([&] { return acknowledged() == plane->EpochOf(kMigration); }));
}

}  // namespace
}  // namespace lockstep
