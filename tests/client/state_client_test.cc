// The client with a state directory: what it boots with, what it keeps, and what it refuses.
#include "client/sdk/src/client_state.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/client.h"
#include "lockstep/manual_executor.h"
#include "lockstep/state_storage_memory.h"
#include "tests/client/plane_testing.h"

namespace lockstep {
namespace {

using domain::Side;
using domain::Stage;
using internal::DecodeClientState;
using internal::EncodeClientState;
using internal::StoredClientState;
using ::testing::HasSubstr;
using testing_support::kFullName;
using testing_support::kMigration;

// A snapshot in which nothing has its default.
domain::Snapshot FullSnapshot() {
  domain::RoutingState canary = domain::StateOfStage(Stage::kCanaryRead, 30000);
  canary.epoch = 12;
  canary.generation = 3;
  canary.comparison_weight = 77;
  canary.salt_seed = domain::SaltSeed("salt");
  auto pins = std::make_shared<domain::Pins>();
  pins->keys = {{"a", Side::kNew}, {"b", Side::kOld}, {std::string("\0\xff", 2), Side::kNew}};
  pins->rules = {{.attribute = "tenant", .values = {"vip", ""}, .side = Side::kNew},
                 {.attribute = "plan", .values = {"free"}, .side = Side::kOld}};
  canary.pins = pins;
  domain::Contract contract{.revision = 9};
  contract.fields = {{.path = "total", .old_path = "sum", .new_path = "total_cents", .tolerance = 0.25},
                     {.path = "note", .ignore = true, .has_default = true, .default_value = "-"},
                     {.path = "tags", .list_order = domain::ListOrder::kUnordered, .sensitive = true}};
  domain::RoutingState cutover = domain::StateOfStage(Stage::kCutover, 0);
  cutover.epoch = 5;
  cutover.write_weight = 100;
  cutover.drain_weight = 200;
  return {.revision = 40,
          .store_epoch = 0xfedcba9876543210u,
          .migrations = {{.name = "namespaces/shop/migrations/carts", .state = cutover},
                         {.name = kFullName, .state = canary, .contract = contract}}};
}

StoredClientState FullState() {
  return {.instance_id = "i-1",
          .service = "orders",
          .snapshot = FullSnapshot(),
          .held = {{"namespaces/shop/migrations/carts", 4}, {kFullName, 0}}};
}

TEST(ClientStateCodecTest, RoundTrip) {
  const absl::StatusOr<StoredClientState> full = DecodeClientState(EncodeClientState(FullState()));
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ(full->instance_id, "i-1");
  EXPECT_EQ(full->service, "orders");
  EXPECT_EQ(full->held, FullState().held);
  ASSERT_TRUE(full->snapshot.has_value());
  EXPECT_EQ(full->snapshot->revision, 40u);
  EXPECT_EQ(domain::SnapshotDigest(*full->snapshot), domain::SnapshotDigest(FullSnapshot()));
  EXPECT_EQ(full->snapshot->migrations[1].contract, FullSnapshot().migrations[1].contract);
  EXPECT_EQ(*full->snapshot->migrations[1].state.pins, *FullSnapshot().migrations[1].state.pins);
  const absl::StatusOr<StoredClientState> left =
      DecodeClientState(EncodeClientState({.instance_id = "i-2", .service = "s"}));
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_EQ(left->instance_id, "i-2");
  EXPECT_FALSE(left->snapshot.has_value());
}

TEST(ClientStateCodecTest, EveryTruncationAndEveryFlippedBitIsNoticed) {
  const std::string good = EncodeClientState(FullState());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(DecodeClientState(good.substr(0, size)).status())) << size;
  }
  EXPECT_TRUE(absl::IsDataLoss(DecodeClientState(good + '\0').status()));
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = good;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      EXPECT_TRUE(absl::IsDataLoss(DecodeClientState(damaged).status())) << i << " bit " << bit;
    }
  }
}

// Every run is one process of the instance: a client without a thread, on a disk and a control plane that
// outlive it.
class StateClientTest : public ::testing::Test {
 protected:
  ~StateClientTest() override { Stop(); }

  ClientOptions Options(domain::LeasePolicy policy = domain::LeasePolicy::kKeepServing) {
    ClientOptions options = {.transport = plane_, .service = "orders", .migrations = {kMigration}};
    options.state_storage = disk_;
    options.lease_policy = policy;
    options.executor = executor_;
    options.own_thread = false;
    options.clock = &clock_;
    options.seed = ++seed_;
    return options;
  }
  void Start(ClientOptions options) {
    absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(std::move(options));
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
    Run();
  }
  void Start() { Start(Options()); }
  // Without a word, as a crash does.
  void Stop() {
    executor_->DropAll();
    client_.reset();
  }
  void Run() {
    for (int i = 0; i < 10; ++i) client_->RunOnce();
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    Run();
  }
  StoredClientState OnDisk() { return *DecodeClientState(**disk_->Read(internal::kClientStateFile)); }

  uint64_t seed_ = 0;
  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  std::shared_ptr<ManualExecutor> executor_ = std::make_shared<ManualExecutor>(&clock_);
  std::shared_ptr<MemoryStateStorage> disk_ = std::make_shared<MemoryStateStorage>(1);
  std::shared_ptr<FakeControlPlane> plane_ = std::make_shared<FakeControlPlane>();
  std::unique_ptr<Client> client_;
};

TEST_F(StateClientTest, BootsAndServesWhileTheControlPlaneIsDown) {
  plane_->SetStage(kMigration, Stage::kCanaryRead, domain::kBucketCount);
  Start();
  EXPECT_FALSE(client_->Stats().stale);
  const std::string id = client_->instance_id();
  Stop();
  plane_->SetReachable(false);
  Start();
  EXPECT_EQ(client_->instance_id(), id);
  EXPECT_TRUE(client_->WaitUntilReady(clock_.Now()).ok());
  EXPECT_TRUE(client_->Stats().stale);
  {
    const RouteHandle route = *client_->Route(kMigration, "k");
    EXPECT_EQ(route.epoch(), 1u);
    EXPECT_EQ(route.store_epoch(), plane_->store_epoch());
    EXPECT_EQ(route.decision().read_side, Side::kOld) << "from the authoritative side until the lease is won";
    EXPECT_EQ(route.decision().write_mode, domain::WriteMode::kOldThenNew);
    EXPECT_FALSE(route.decision().compare);
    EXPECT_TRUE(client_->CheckMayWrite(route).ok());
    EXPECT_EQ(*client_->MayWriteUntil(absl::InfiniteFuture(), &route), absl::InfiniteFuture());
  }
  Advance(absl::Minutes(5));
  plane_->SetReachable(true);
  Advance(absl::Seconds(20));
  EXPECT_FALSE(client_->Stats().stale);
  const StreamEnrolment enrolment = plane_->Enrolments().back();
  EXPECT_EQ(enrolment.instance_id, id);
  EXPECT_EQ(enrolment.held, (HeldEpochs{{kFullName, 1}}));
  EXPECT_EQ(enrolment.store_epoch, plane_->store_epoch());
}

TEST_F(StateClientTest, AColdStartWithNeitherIsAnError) {
  plane_->SetReachable(false);
  Start();
  EXPECT_TRUE(absl::IsUnavailable(client_->Route(kMigration, "k").status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(client_->WaitUntilReady(clock_.Now())));
}

TEST_F(StateClientTest, TheIdIsStoredBeforeTheFirstEnrolment) {
  disk_->FailWrites(absl::ResourceExhaustedError("disk full"));
  EXPECT_TRUE(absl::IsResourceExhausted(Client::Create(Options()).status()));
  EXPECT_TRUE(plane_->Enrolments().empty());
  disk_->FailWrites(absl::OkStatus());
  ASSERT_TRUE(Client::Create(Options()).ok());
  EXPECT_EQ(OnDisk().instance_id.size(), 36u);
}

TEST_F(StateClientTest, OfAnotherInstanceOrService) {
  ClientOptions options = Options();
  options.instance_id = "i-1";
  Start(std::move(options));
  Stop();
  options = Options();
  options.instance_id = "i-2";
  absl::Status status = Client::Create(std::move(options)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("'i-1'"));
  options = Options();
  options.service = "carts";
  status = Client::Create(std::move(options)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("'orders'"));
  Start();
  EXPECT_EQ(client_->instance_id(), "i-1");
}

TEST_F(StateClientTest, DamageIsAnErrorAndNeverAFreshStart) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start();
  Stop();
  const std::string good = **disk_->Read(internal::kClientStateFile);
  const size_t enrolments = plane_->Enrolments().size();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string damaged = good;
    damaged[i] ^= 0x20;
    for (std::string contents : {good.substr(0, i), damaged}) {
      disk_->Put(internal::kClientStateFile, std::move(contents));
      const absl::Status status = Client::Create(Options()).status();
      ASSERT_TRUE(absl::IsDataLoss(status)) << i << ": " << status;
      ASSERT_THAT(status.message(), HasSubstr("client_state"));
      ASSERT_THAT(status.message(), HasSubstr("evict"));
    }
  }
  EXPECT_EQ(plane_->Enrolments().size(), enrolments);
  disk_->Put(internal::kClientStateFile, good);
  Start();
  EXPECT_EQ(client_->Route(kMigration, "k")->epoch(), 1u);
}

// Acknowledging is a promise that a restart keeps.
TEST_F(StateClientTest, NothingIsAcknowledgedThatIsNotOnDisk) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start();
  ASSERT_EQ(plane_->Acks().size(), 1u);
  EXPECT_EQ(OnDisk().snapshot->revision, plane_->revision());
  disk_->FailWrites(absl::ResourceExhaustedError("disk full"));
  plane_->SetStage(kMigration, Stage::kShadowRead);
  Run();
  EXPECT_EQ(plane_->Accepts().back().revision, plane_->revision()) << "it is acted on";
  EXPECT_EQ(client_->Route(kMigration, "k")->stage(), Stage::kShadowRead);
  EXPECT_EQ(plane_->Acks().size(), 1u);
  EXPECT_EQ(client_->Stats().state_writes_failed, 1u);
  EXPECT_THAT(client_->Stats().last_state_error, HasSubstr("disk full"));
  Advance(absl::Seconds(1));
  EXPECT_EQ(client_->Stats().state_writes_failed, 2u) << "tried once a second";
  disk_->FailWrites(absl::OkStatus());
  Advance(absl::Seconds(1));
  EXPECT_EQ(plane_->Acks().back().revision, plane_->revision());
  EXPECT_EQ(OnDisk().snapshot->revision, plane_->revision());
}

// A claim is an acknowledgement: were it to end right after, the next process would act on what is on disk.
TEST_F(StateClientTest, NothingIsClaimedThatIsNotOnDisk) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start();
  disk_->FailWrites(absl::ResourceExhaustedError("disk full"));
  plane_->SetStage(kMigration, Stage::kShadowRead);
  Run();
  ASSERT_EQ(client_->Route(kMigration, "k")->epoch(), 2u);
  plane_->Disconnect();
  Run();
  Advance(absl::Seconds(20));
  EXPECT_EQ(plane_->Enrolments().back().held.at(kFullName), 1u);
  disk_->FailWrites(absl::OkStatus());
  Advance(absl::Seconds(2));
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), 2u);
  plane_->Disconnect();
  Run();
  Advance(absl::Seconds(20));
  EXPECT_EQ(plane_->Enrolments().back().held.at(kFullName), 2u);
}

TEST_F(StateClientTest, OnlyWhatIsAcknowledgedNeedsASync) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start();
  const uint64_t syncs = disk_->Syncs();
  for (int i = 0; i < 60; ++i) Advance(absl::Seconds(1));
  plane_->Disconnect();
  for (int i = 0; i < 20; ++i) Advance(absl::Seconds(1));
  EXPECT_EQ(disk_->Syncs(), syncs) << "heartbeats and reconnects cost none";
  const RouteHandle operation = *client_->Route(kMigration, "k");
  plane_->SetStage(kMigration, Stage::kShadowRead);
  plane_->SetStage(kMigration, Stage::kCanaryRead, 1);
  Run();
  EXPECT_EQ(disk_->Syncs(), syncs);
}

// The last process had accepted something newer than it had acknowledged: the next one is at the older one
// again, which the control plane still counts.
TEST_F(StateClientTest, ACrashBetweenAcceptAndAcknowledgementGoesBackToWhatCounts) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start();
  {
    const RouteHandle operation = *client_->Route(kMigration, "k");
    plane_->SetStage(kMigration, Stage::kShadowRead);
    Run();
    EXPECT_EQ(client_->Route(kMigration, "k")->epoch(), 2u);
  }
  Stop();
  disk_->Crash(MemoryStateStorage::Failure::kMachine);
  plane_->SetReachable(false);
  Start();
  EXPECT_EQ(client_->Route(kMigration, "k")->epoch(), 1u);
  plane_->SetReachable(true);
  Advance(absl::Seconds(20));
  EXPECT_EQ(plane_->Enrolments().back().held.at(kFullName), 1u);
  EXPECT_EQ(client_->Route(kMigration, "k")->epoch(), 2u);
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), 2u);
}

TEST_F(StateClientTest, LeavingForgetsTheSnapshotAndKeepsTheId) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start();
  const std::string id = client_->instance_id();
  EXPECT_TRUE(client_->Shutdown(clock_.Now() + absl::Seconds(1), Departure::kForGood).ok());
  EXPECT_THAT(plane_->Left(), ::testing::ElementsAre(id));
  Stop();
  EXPECT_FALSE(OnDisk().snapshot.has_value());
  plane_->SetReachable(false);
  Start();
  EXPECT_EQ(client_->instance_id(), id);
  EXPECT_TRUE(absl::IsUnavailable(client_->Route(kMigration, "k").status())) << "nobody counts it any more";
  plane_->SetReachable(true);
  Advance(absl::Seconds(20));
  EXPECT_TRUE(plane_->Enrolments().back().held.empty());
}

TEST_F(StateClientTest, ACleanRestartGoesOnWhereItEnded) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start();
  EXPECT_TRUE(client_->Shutdown(clock_.Now() + absl::Seconds(1)).ok());
  EXPECT_TRUE(plane_->Left().empty()) << "fences go on counting it";
  Stop();
  plane_->SetReachable(false);
  Start();
  EXPECT_EQ(client_->Route(kMigration, "k")->stage(), Stage::kDualWrite);
  plane_->SetReachable(true);
  Advance(absl::Seconds(20));
  EXPECT_EQ(plane_->Enrolments().back().held.at(kFullName), 1u);
}

TEST_F(StateClientTest, AnEnrolmentThatCannotBeForgottenIsKept) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start();
  disk_->FailWrites(absl::ResourceExhaustedError("disk full"));
  const absl::Status status = client_->Shutdown(clock_.Now() + absl::Seconds(1), Departure::kForGood);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("disk full"));
  EXPECT_TRUE(plane_->Left().empty());
  EXPECT_TRUE(OnDisk().snapshot.has_value());
}

TEST_F(StateClientTest, MigrationsThatComeAndGoWithAVersionOfTheService) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  plane_->SetStage("shop/carts", Stage::kShadowRead);
  ClientOptions options = Options();
  options.migrations = {kMigration, "shop/carts"};
  Start(std::move(options));
  Stop();
  plane_->SetReachable(false);
  options = Options();
  options.migrations = {"shop/carts", "shop/stock"};
  Start(std::move(options));
  EXPECT_TRUE(client_->Route("shop/carts", "k").ok());
  const absl::Status unheard = client_->Route("shop/stock", "k").status();
  EXPECT_TRUE(absl::IsUnavailable(unheard)) << unheard;
  EXPECT_THAT(unheard.message(), HasSubstr("no side is assumed"));
  plane_->SetReachable(true);
  plane_->SetStage("shop/stock", Stage::kDualWrite);
  Advance(absl::Seconds(20));
  EXPECT_FALSE(plane_->Enrolments().back().held.contains(kFullName));
  EXPECT_TRUE(client_->Route("shop/stock", "k").ok());
  EXPECT_EQ(OnDisk().held.size(), 2u);
}

// A backup of the control plane was restored while the instance was down.
TEST_F(StateClientTest, AnotherStoreThanTheOneOnDisk) {
  for (int i = 0; i < 3; ++i) plane_->SetStage(kMigration, Stage::kCanaryRead, 1000);
  Start();
  Stop();
  const uint64_t old_store = plane_->store_epoch();
  plane_->RestoreBackup(99);
  Start();
  EXPECT_EQ(plane_->Enrolments().back().store_epoch, old_store);
  EXPECT_EQ(client_->Route(kMigration, "k")->epoch(), 1u);
  EXPECT_EQ(OnDisk().snapshot->store_epoch, 99u);
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), 1u);
}

TEST_F(StateClientTest, FailWritesRefusesThemWhileTheLeaseIsOver) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start(Options(domain::LeasePolicy::kFailWrites));
  const absl::Time end = clock_.Now() + 0.95 * domain::kDefaultLeaseTtl;
  EXPECT_TRUE(client_->CheckMayWrite().ok());
  EXPECT_EQ(*client_->MayWriteUntil(absl::InfiniteFuture(), nullptr), end);
  EXPECT_EQ(*client_->MayWriteUntil(clock_.Now(), nullptr), clock_.Now());
  auto before = std::make_unique<RouteHandle>(*client_->Route(kMigration, "k"));
  EXPECT_TRUE(client_->CheckMayWrite(*before).ok());
  plane_->SetReachable(false);
  // The process was stopped: nothing of the client has run when the write goes on.
  clock_.Advance(absl::Seconds(16));
  const absl::Status over = client_->CheckMayWrite(*before);
  EXPECT_TRUE(absl::IsUnavailable(over)) << over;
  EXPECT_THAT(over.message(), HasSubstr("ended 1.75s ago"));
  plane_->SetReachable(true);
  Advance(absl::Seconds(20));
  Advance(absl::Seconds(1));
  EXPECT_TRUE(client_->CheckMayWrite().ok()) << client_->CheckMayWrite();
  const absl::Status earlier = client_->CheckMayWrite(*before);
  EXPECT_TRUE(absl::IsUnavailable(earlier)) << "the control plane did not wait for it";
  EXPECT_EQ(client_->MayWriteUntil(absl::InfiniteFuture(), before.get()).status(), earlier);
  EXPECT_TRUE(client_->CheckMayWrite(*client_->Route(kMigration, "k")).ok());
  before.reset();
}

TEST_F(StateClientTest, FailWritesBootsWithoutALease) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Start(Options(domain::LeasePolicy::kFailWrites));
  Stop();
  plane_->SetReachable(false);
  Start(Options(domain::LeasePolicy::kFailWrites));
  EXPECT_TRUE(client_->Route(kMigration, "k").ok()) << "reads go on";
  EXPECT_THAT(client_->CheckMayWrite().message(), HasSubstr("has not been won yet"));
}

TEST_F(StateClientTest, EpochInForce) {
  Start();
  const MigrationHandle migration = *client_->Resolve(kMigration);
  EXPECT_EQ(client_->EpochInForce(migration), 0u);
  plane_->SetStage(kMigration, Stage::kDualWrite);
  plane_->SetStage(kMigration, Stage::kShadowRead);
  Run();
  EXPECT_EQ(client_->EpochInForce(migration), 2u);
}

}  // namespace
}  // namespace lockstep
