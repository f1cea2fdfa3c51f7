// What an acknowledgement, a claim and the state directory say of a held slice whose check hasn't ended or
// has found something, and of one migration beside another.
#include "client/sdk/src/client_state.h"
#include "gmock/gmock.h"
#include "lockstep/state_storage_memory.h"
#include "tests/client/session_fixture.h"

namespace lockstep::internal {
namespace {

using domain::Stage;
using ::testing::IsEmpty;
using ::testing::SizeIs;

domain::RoutingState Holding(uint32_t write_weight, uint32_t drain_weight) {
  domain::RoutingState state = domain::StateOfStage(Stage::kCutover, 0);
  state.write_weight = write_weight;
  state.drain_weight = drain_weight;
  state.salt_seed = domain::SaltSeed(kFullName);
  return state;
}

class HeldSliceTest : public SessionTest {
 protected:
  HeldSliceTest() {
    plane_->SetStage(kMigration, Stage::kCanaryRead, domain::kBucketCount);
    Run();
    slice_checker_->Note(0, {.bucket = 5, .identity = "5", .check = [this](bool) {
                               ++checks_;
                               return RecordCheckResult{outcome_, "as the test has it"};
                             }});
  }
  ~HeldSliceTest() override { session_.reset(); }

  // From here on the writes of the record are held, by epoch 2.
  void Hold() {
    plane_->SetState(kMigration, Holding(0, 1000));
    Run();
    ASSERT_TRUE(slice_checker_->Busy());
  }
  void Restart(StateStorage* storage, const StoredClientState& restored) {
    session_ = std::make_unique<Session>(Options(), Parts(storage), 1, restored);
    Run();
  }
  void Reconnect() {
    plane_->Disconnect();
    Run();
    Advance(absl::Seconds(1));
  }
  uint64_t Claimed() const { return plane_->Enrolments().back().held.at(kFullName); }
  uint64_t Acknowledged() const { return plane_->Acks().back().held.at(kFullName); }

  RecordCheck outcome_ = RecordCheck::kEqual;
  int checks_ = 0;
};

// A claim is an acknowledgement. It can't bring what the check finds, so it must not seem to come after it.
TEST_F(HeldSliceTest, AReconnectDuringTheCheckClaimsLess) {
  outcome_ = RecordCheck::kDiffers;
  Hold();
  Reconnect();
  EXPECT_EQ(Claimed(), 1u);
  EXPECT_EQ(Acknowledged(), 1u);
  executor_.RunAll();
  Run();
  EXPECT_EQ(Acknowledged(), 2u) << "with what was found";
  ASSERT_THAT(plane_->Acks().back().slice_checks, SizeIs(1));
  EXPECT_EQ(plane_->Acks().back().slice_checks[0].differing, 1u);
}

TEST_F(HeldSliceTest, AResultWhoseAcknowledgementMayBeLostIsSentAgain) {
  for (const RecordCheck outcome : {RecordCheck::kDiffers, RecordCheck::kUnchecked}) {
    outcome_ = outcome;
    Hold();
    executor_.RunAll();
    Run();
    const uint64_t epoch = plane_->EpochOf(kMigration);
    ASSERT_EQ(Acknowledged(), epoch);
    const size_t acks = plane_->Acks().size();
    Reconnect();
    EXPECT_EQ(Claimed(), epoch - 1);
    ASSERT_THAT(plane_->Acks(), SizeIs(acks + 1));
    EXPECT_EQ(Acknowledged(), epoch);
    ASSERT_THAT(plane_->Acks().back().slice_checks, SizeIs(1));
    EXPECT_EQ(plane_->Acks().back().slice_checks[0].differing, outcome == RecordCheck::kDiffers ? 1u : 0u);
    EXPECT_EQ(plane_->Acks().back().slice_checks[0].unchecked, outcome == RecordCheck::kUnchecked ? 1u : 0u);
    plane_->SetState(kMigration, Holding(0, 0));
    Run();
    EXPECT_EQ(Acknowledged(), epoch + 1) << "that hold is over";
    Reconnect();
    EXPECT_EQ(Claimed(), epoch + 1);
  }
}

TEST_F(HeldSliceTest, ACleanCheckIsClaimed) {
  Hold();
  executor_.RunAll();
  Run();
  ASSERT_EQ(Acknowledged(), 2u);
  Reconnect();
  EXPECT_EQ(Claimed(), 2u);
  EXPECT_EQ(checks_, 1);
}

TEST_F(HeldSliceTest, OnDiskIsWhatACleanCheckAllows) {
  MemoryStateStorage disk(1);
  const auto on_disk = [&] { return *DecodeClientState(**disk.Read(kClientStateFile)); };
  Restart(&disk, {.instance_id = "i-1", .snapshot = *ring_.current(), .held = {{kFullName, 1}}});
  outcome_ = RecordCheck::kDiffers;
  Hold();
  executor_.RunAll();
  Run();
  ASSERT_EQ(Acknowledged(), 2u);
  EXPECT_EQ(on_disk().snapshot->migrations[0].state.epoch, 2u);
  EXPECT_EQ(on_disk().held.at(kFullName), 1u) << "a restart claims this";
  outcome_ = RecordCheck::kEqual;
  plane_->SetState(kMigration, Holding(0, 2000));
  Run();
  executor_.RunAll();
  Run();
  ASSERT_EQ(Acknowledged(), 3u);
  EXPECT_EQ(on_disk().held.at(kFullName), 3u);
  // The next process has written nothing yet.
  slice_checker_ = std::make_shared<SliceChecker>(std::vector<std::string>{kFullName}, &executor_, &clock_);
  Restart(&disk, on_disk());
  EXPECT_EQ(Claimed(), 3u);
}

constexpr char kOther[] = "shop/carts";
constexpr char kOtherFullName[] = "namespaces/shop/migrations/carts";

class TwoMigrationsTest : public ::testing::Test {
 protected:
  TwoMigrationsTest() {
    plane_->SetStage(kMigration, Stage::kDualWrite);
    plane_->SetStage(kOther, Stage::kDualWrite);
    Run();
  }
  void Run() {
    for (int i = 0; i < 10; ++i) session_->RunOnce();
  }
  SessionOptions Options() const {
    return {.enrolment = {.instance_id = "i-1",
                          .service = "shop",
                          .version = "1.0",
                          .migrations = names_,
                          .lease_ttl = absl::Seconds(15)},
            .heartbeat_interval = absl::Seconds(5),
            .backoff_initial = absl::Milliseconds(100),
            .backoff_max = absl::Seconds(10),
            .telemetry_interval = absl::Seconds(1),
            .reporter = {.instance_id = "i-1"}};
  }
  HeldEpochs Acknowledged() const { return plane_->Acks().back().held; }

  const std::vector<std::string> names_{kOtherFullName, kFullName};  // sorted
  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  ManualExecutor executor_{&clock_};
  std::shared_ptr<FakeControlPlane> plane_ = std::make_shared<FakeControlPlane>();
  SnapshotRing ring_{names_};
  TelemetryRecorder telemetry_{{.migrations = names_, .instance_id = "i-1"}, &clock_};
  std::shared_ptr<RepairQueue> repairs_ =
      std::make_shared<RepairQueue>(10, &executor_, &clock_, &telemetry_, 1);
  std::shared_ptr<HeldWrites> held_writes_ = std::make_shared<HeldWrites>(&executor_, &clock_);
  std::shared_ptr<SliceChecker> slice_checker_ = std::make_shared<SliceChecker>(names_, &executor_, &clock_);
  std::unique_ptr<Session> session_ =
      std::make_unique<Session>(Options(),
                                SessionParts{.transport = plane_.get(),
                                             .ring = &ring_,
                                             .telemetry = &telemetry_,
                                             .repairs = repairs_.get(),
                                             .held_writes = held_writes_.get(),
                                             .slice_checker = slice_checker_.get(),
                                             .clock = &clock_},
                                1);
};

TEST_F(TwoMigrationsTest, AnOperationOfOneLeavesTheOtherAlone) {
  const SnapshotPin operation = ring_.PinCurrent(/*migration_index=*/0);
  for (const Stage stage : {Stage::kShadowRead, Stage::kCanaryRead}) {
    plane_->SetStage(kMigration, stage, 1000);
    plane_->SetStage(kOther, stage, 1000);
    Run();
    EXPECT_EQ(Acknowledged().at(kFullName), plane_->EpochOf(kMigration)) << "nothing of it is under way";
    EXPECT_EQ(Acknowledged().at(kOtherFullName), 1u);
  }
  const size_t acks = plane_->Acks().size();
  Run();
  EXPECT_THAT(plane_->Acks(), SizeIs(acks)) << "said once";
  plane_->Disconnect();
  Run();
  clock_.Advance(absl::Seconds(20));
  Run();
  EXPECT_EQ(plane_->Enrolments().back().held,
            (HeldEpochs{{kFullName, plane_->EpochOf(kMigration)}, {kOtherFullName, 1}}));
}

TEST_F(TwoMigrationsTest, TheCheckOfOneLeavesTheOtherAlone) {
  slice_checker_->Note(1, {.bucket = 5, .identity = "5", .check = [](bool) { return RecordCheckResult(); }});
  plane_->SetStage(kMigration, Stage::kCanaryRead, domain::kBucketCount);
  Run();
  plane_->SetState(kMigration, Holding(0, 1000));
  plane_->SetStage(kOther, Stage::kShadowRead);
  Run();
  ASSERT_TRUE(slice_checker_->Busy());
  EXPECT_EQ(Acknowledged().at(kOtherFullName), plane_->EpochOf(kOther));
  EXPECT_EQ(Acknowledged().at(kFullName), plane_->EpochOf(kMigration) - 1);
  EXPECT_THAT(plane_->Acks().back().slice_checks, IsEmpty());
  executor_.RunAll();
  Run();
  EXPECT_EQ(Acknowledged().at(kFullName), plane_->EpochOf(kMigration));
  EXPECT_THAT(plane_->Acks().back().slice_checks, SizeIs(1));
}

}  // namespace
}  // namespace lockstep::internal
