// Writes of a bucket whose authority is moving: they wait without a thread and a route, go on with the next
// snapshot, and end at their deadline, by their caller or with the client.
#include <stop_token>
#include <thread>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/internal/held_writes.h"
#include "tests/client/migrator_fixture.h"

namespace lockstep {
namespace {

using domain::Stage;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_support::Eventually;
using testing_support::MigratorTest;
using testing_support::Order;
using testing_support::OrderMigrator;

using Written = absl::StatusOr<WriteResult<Order>>;

class MigratorHoldTest : public MigratorTest {
 protected:
  // Every bucket below `drain` is held, but for those below `write`.
  void Cutover(uint32_t write, uint32_t drain) {
    domain::RoutingState state = domain::StateOfStage(Stage::kCutover, 0);
    state.write_weight = write;
    state.drain_weight = drain;
    SetState(state);
  }
  void HoldAll() { Cutover(0, domain::kBucketCount); }
  void MoveAll() { Cutover(domain::kBucketCount, domain::kBucketCount); }
  uint64_t Waiting() const { return client_->held_writes().Stats().waiting; }
};

TEST_F(MigratorHoldTest, AsynchronousWritesGoOnWithTheNextSnapshot) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  HoldAll();
  std::vector<std::optional<Written>> written(50);
  for (int64_t id = 0; id < 50; ++id) {
    orders->WriteAsync(id, {id, "ann"}, {}, [&, id](Written result) { written[id] = std::move(result); });
  }
  executor_->RunDue();
  EXPECT_EQ(Waiting(), 50u);
  EXPECT_EQ(client_->Stats().operations_pinned, 0u) << "a held write acts on no epoch";
  EXPECT_THAT(calls_.Take(), IsEmpty());
  MoveAll();
  ASSERT_TRUE(Eventually([&] { return Waiting() == 0; }));
  executor_->RunDue();
  for (int64_t id = 0; id < 50; ++id) {
    ASSERT_TRUE(written[id].has_value());
    ASSERT_TRUE(written[id]->ok()) << written[id]->status();
    EXPECT_EQ((*written[id])->token.authoritative, domain::Side::kNew) << "routed anew";
    EXPECT_EQ((*written[id])->token.epoch, plane_->EpochOf(testing_support::kMigration));
    EXPECT_EQ(new_.Get(id)->row, (Order{id, "ann"}));
    EXPECT_EQ(old_.Get(id)->row, (Order{id, "ann"}));
  }
  EXPECT_EQ(client_->held_writes().Stats().resumed, 50u);
}

TEST_F(MigratorHoldTest, HeldByOneEpochAfterTheOtherItWaitsOnTheSameClock) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  HoldAll();
  std::optional<Written> written;
  orders->WriteAsync(1, {10, "ann"}, {}, [&](Written result) { written = std::move(result); });
  executor_->RunDue();
  for (int i = 0; i < 3; ++i) {
    clock_.Advance(absl::Seconds(3));
    HoldAll();  // another epoch that holds it
    ASSERT_TRUE(Eventually([&] { return Waiting() == 0 || executor_->waiting() > 1; }));
    executor_->RunDue();
    EXPECT_EQ(Waiting(), 1u);
    EXPECT_FALSE(written.has_value());
  }
  clock_.Advance(absl::Seconds(1));  // ten in all
  executor_->RunDue();
  ASSERT_TRUE(written.has_value());
  EXPECT_TRUE(absl::IsUnavailable(written->status()));
  EXPECT_THAT(written->status().message(), HasSubstr("nothing was written"));
  EXPECT_THAT(written->status().message(), HasSubstr("10s"));
  EXPECT_THAT(calls_.Take(), IsEmpty());
}

struct DeadlineCase {
  const char* name;
  absl::Duration own;  // of the call
  absl::Duration max_hold_wait;
  absl::Duration expected;
};

TEST_F(MigratorHoldTest, WaitsUntilItsDeadlineOrTheMaximum) {
  const std::vector<DeadlineCase> cases = {
      {"its own", absl::Seconds(2), absl::Seconds(10), absl::Seconds(2)},
      {"the maximum", absl::InfiniteDuration(), absl::Seconds(5), absl::Seconds(5)},
      {"none at all", absl::Seconds(2), absl::ZeroDuration(), absl::ZeroDuration()},
  };
  HoldAll();
  for (const DeadlineCase& c : cases) {
    SCOPED_TRACE(c.name);
    const std::unique_ptr<OrderMigrator> orders = Build({.max_hold_wait = c.max_hold_wait});
    const absl::Time start = clock_.Now();
    std::optional<Written> written;
    orders->WriteAsync(1, {10, "ann"}, {.deadline = clock_.Now() + c.own},
                       [&](Written result) { written = std::move(result); });
    while (!written.has_value()) executor_->RunAll(1);
    EXPECT_TRUE(absl::IsUnavailable(written->status()));
    EXPECT_EQ(clock_.Now() - start, c.expected);
  }
  EXPECT_THAT(calls_.Take(), IsEmpty());
}

TEST_F(MigratorHoldTest, TheBlockingFormBlocksItsCallerAlone) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  HoldAll();
  std::vector<std::thread> callers;
  std::atomic<int> ok{0};
  for (int64_t id = 0; id < 4; ++id) {
    callers.emplace_back([&, id] {
      if (orders->Write(id, {id, "ann"}).ok() && orders->Delete(id).ok()) ok.fetch_add(1);
    });
  }
  ASSERT_TRUE(Eventually([&] { return Waiting() == 4; }));
  EXPECT_EQ(client_->Stats().operations_pinned, 0u);
  EXPECT_TRUE(orders->Read(1).ok()) << "reads go on";
  MoveAll();
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(ok.load(), 4);
}

TEST_F(MigratorHoldTest, TheHoldMayBeReleasedToTheOldSide) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  HoldAll();
  std::optional<Written> written;
  orders->WriteAsync(1, {10, "ann"}, {}, [&](Written result) { written = std::move(result); });
  executor_->RunDue();
  Cutover(0, 0);
  ASSERT_TRUE(Eventually([&] { return Waiting() == 0; }));
  executor_->RunDue();
  ASSERT_TRUE(written->ok());
  EXPECT_THAT(calls_.Take(), ElementsAre("old.write", "new.mirror@1"));
}

TEST_F(MigratorHoldTest, GivenUpWhileItWaits) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  HoldAll();
  for (const bool before : {false, true}) {
    SCOPED_TRACE(before ? "stopped before the call" : "stopped while held");
    std::stop_source stop;
    if (before) stop.request_stop();
    std::optional<Written> written;
    orders->WriteAsync(1, {10, "ann"}, {.stop = stop.get_token()},
                       [&](Written result) { written = std::move(result); });
    executor_->RunDue();
    if (!before) {
      EXPECT_EQ(Waiting(), 1u);
      stop.request_stop();
      executor_->RunDue();
    }
    ASSERT_TRUE(written.has_value());
    EXPECT_TRUE(absl::IsCancelled(written->status())) << written->status();
    EXPECT_EQ(Waiting(), 0u);
  }
  // The blocking form, from another thread.
  std::stop_source stop;
  std::thread stopper([&] {
    EXPECT_TRUE(Eventually([&] { return Waiting() == 1; }));
    stop.request_stop();
  });
  EXPECT_TRUE(absl::IsCancelled(orders->Write(1, {10, "ann"}, {.stop = stop.get_token()}).status()));
  stopper.join();
  EXPECT_THAT(calls_.Take(), IsEmpty());
}

TEST_F(MigratorHoldTest, TheEndOfTheClientEndsTheWait) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  HoldAll();
  std::optional<Written> written;
  orders->WriteAsync(1, {10, "ann"}, {}, [&](Written result) { written = std::move(result); });
  executor_->RunDue();
  EXPECT_TRUE(client_->Shutdown(clock_.Now()).ok());
  executor_->RunDue();
  ASSERT_TRUE(written.has_value());
  EXPECT_FALSE(written->ok());
  EXPECT_THAT(calls_.Take(), IsEmpty());
}

// Deadline, snapshot, caller and end at once, on real threads: every call is answered once, and what was
// answered OK was written once.
TEST_F(MigratorHoldTest, RacesOfEverythingThatEndsAWait) {
  constexpr int kWrites = 300;
  ThreadPoolExecutor pool(3);
  ClientOptions options = {.transport = plane_,
                           .service = "orders",
                           .migrations = {testing_support::kMigration},
                           .instance_id = "i-2",
                           .executor = std::shared_ptr<Executor>(&pool, [](Executor*) {}),
                           .seed = 2};
  std::unique_ptr<Client> client = *Client::Create(std::move(options));
  ASSERT_TRUE(client->WaitUntilReady(absl::InfiniteFuture()).ok());
  const std::unique_ptr<OrderMigrator> orders = *testing_support::BuilderOver(client.get(), &old_, &new_)
                                                     .Options({.max_hold_wait = absl::Milliseconds(3)})
                                                     .Build();
  std::vector<std::stop_source> stops(kWrites);
  std::atomic<int> answered{0};
  std::atomic<int> written{0};
  HoldAll();
  std::thread stopper([&] {
    for (int i = 0; i < kWrites; i += 3) stops[i].request_stop();
  });
  for (int i = 0; i < kWrites; ++i) {
    orders->WriteAsync(i, {i, "ann"}, {.stop = stops[i].get_token()}, [&](const Written& result) {
      // Given up between its two writes, it says that the first one stands.
      if (result.ok() || absl::StrContains(result.status().message(), "stands")) written.fetch_add(1);
      answered.fetch_add(1);
    });
    if (i % 20 == 0) (i % 40 == 0) ? MoveAll() : HoldAll();
  }
  MoveAll();
  stopper.join();
  ASSERT_TRUE(Eventually([&] { return answered.load() == kWrites; }));
  EXPECT_TRUE(client->Shutdown(absl::Now() + absl::Seconds(10)).ok());
  EXPECT_EQ(answered.load(), kWrites);
  int there = 0;
  for (int i = 0; i < kWrites; ++i) {
    if (!new_.Get(i).has_value()) continue;
    ++there;
    EXPECT_EQ(new_.Get(i)->version, 1);
  }
  EXPECT_EQ(there, written.load());
  client.reset();
  pool.Stop();
}

}  // namespace
}  // namespace lockstep
