// A crash between the two writes, and what the journal makes of it after the restart.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/internal/repair_queue.h"
#include "lockstep/state_storage_memory.h"
#include "tests/client/migrator_fixture.h"

namespace lockstep {
namespace {

using domain::Stage;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_support::BuilderOver;
using testing_support::Eventually;
using testing_support::MigratorTest;
using testing_support::Order;
using testing_support::OrderMigrator;

constexpr char kStateFile[] = "client_state";

class MigratorJournalTest : public MigratorTest {
 protected:
  MigratorJournalTest() { StartClient(disk_); }

  void Crash(MemoryStateStorage::Failure failure = MemoryStateStorage::Failure::kProcess) {
    CrashAndBoot(failure);
    AwaitEpoch();
  }
  // With what is on disk, which may be older than what the control plane has published.
  void CrashAndBoot(MemoryStateStorage::Failure failure = MemoryStateStorage::Failure::kProcess) {
    disk_->Crash(failure);
    StartClient(disk_);
  }
  uint64_t Open() const { return client_->repair_queue()->Counts().repairs; }

  std::shared_ptr<MemoryStateStorage> disk_ = std::make_shared<MemoryStateStorage>(1);
};

// Where the first process is cut off: the callback copies the disk as it is then.
class CrashPoint {
 public:
  explicit CrashPoint(MemoryStateStorage* disk) : disk_(disk) {}
  void Here() {
    if (file_.has_value()) return;
    file_ = *disk_->Read("mirrors.shop.orders");
  }
  void Restore() { disk_->Put("mirrors.shop.orders", file_->value_or("")); }

 private:
  MemoryStateStorage* const disk_;
  std::optional<std::optional<std::string>> file_;
};

struct CrashCase {
  const char* name;
  enum { kBeforeWrite, kAfterWrite, kAfterMirror } at;
  std::optional<Order> in_old;
  std::vector<std::string> repair;  // calls after the restart
};

TEST_F(MigratorJournalTest, CutOffBetweenTheTwoWrites) {
  const Order order = {10, "ann"};
  const std::vector<CrashCase> cases = {
      {"before the authoritative write", CrashCase::kBeforeWrite, std::nullopt, {"old.current"}},
      {"between the two", CrashCase::kAfterWrite, order, {"old.current", "new.mirror@1"}},
      {"after the mirror, before the strike",
       CrashCase::kAfterMirror,
       order,
       {"old.current", "new.mirror@1"}},
  };
  int64_t id = 0;
  for (const CrashCase& c : cases) {
    SCOPED_TRACE(c.name);
    ++id;
    SetStage(Stage::kDualWrite);
    CrashPoint crash(disk_.get());
    {
      OrderMigrator::Builder builder = FullBuilder();
      builder.WriteOld([&](const int64_t& key, const Order* row,
                           const WriteContext& context) -> absl::StatusOr<WriteResult<Order>> {
        if (c.at == CrashCase::kBeforeWrite) {
          crash.Here();
          return absl::AbortedError("never was");
        }
        absl::StatusOr<WriteResult<Order>> result = old_.Write(key, row, context);
        if (c.at == CrashCase::kAfterWrite) crash.Here();
        return result;
      });
      builder.MirrorToNew(
          [&](const int64_t& key, const Order* row, Version version, const WriteContext& context) {
            if (c.at == CrashCase::kAfterWrite) return absl::UnavailableError("never was");
            const absl::Status status = new_.Mirror(key, row, version, context);
            crash.Here();
            return status;
          });
      const std::unique_ptr<OrderMigrator> orders = *builder.Build();
      (void)orders->Write(id, order);
    }
    crash.Restore();
    const uint64_t epoch = plane_->EpochOf(testing_support::kMigration);
    StartClient(disk_);
    EXPECT_EQ(Open(), 1u) << "before a Migrator has been built, too";
    EXPECT_EQ(client_->repair_queue()->OldestEpoch(0), epoch);
    calls_.Take();
    const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
    EXPECT_EQ(Open(), 1u);
    EXPECT_EQ(client_->repair_queue()->OldestEpoch(0), epoch);
    AwaitEpoch();
    executor_->RunAll();
    EXPECT_EQ(calls_.Take(), c.repair);
    EXPECT_EQ(Open(), 0u);
    EXPECT_EQ(old_.Get(id).has_value(), c.in_old.has_value());
    if (c.in_old.has_value()) {
      EXPECT_EQ(new_.Get(id)->row, c.in_old);
    }
    Crash();
    EXPECT_EQ(Open(), 0u) << "struck";
  }
}

TEST_F(MigratorJournalTest, RepairsSurviveTheProcessAndAreCountedOnce) {
  SetStage(Stage::kDualWrite);
  {
    const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
    new_.FailMirrors(absl::UnavailableError("down"));
    EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
    // Refused: nothing to follow up. Unknown: there is.
    old_.FailWrites(absl::AbortedError("conflict"));
    EXPECT_FALSE(orders->Write(2, {10, "ann"}).ok());
    old_.FailWrites(absl::DeadlineExceededError("no answer"), /*after_writing=*/true);
    EXPECT_FALSE(orders->Write(3, {10, "ann"}).ok());
    old_.FailWrites(absl::OkStatus());
    EXPECT_EQ(Totals().repairs.queued, 2u);
    EXPECT_EQ(Open(), 2u);
  }
  Crash();
  new_.FailMirrors(absl::OkStatus());
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
  EXPECT_EQ(Open(), 2u);
  EXPECT_EQ(Totals().repairs.queued, 0u) << "the earlier process has counted them";
  executor_->RunAll();
  EXPECT_EQ(Totals().repairs.done, 2u);
  EXPECT_EQ(new_.Get(1)->row, (Order{10, "ann"}));
  EXPECT_EQ(new_.Get(3)->row, (Order{10, "ann"}));
  EXPECT_FALSE(new_.Get(2).has_value());
}

TEST_F(MigratorJournalTest, WritesBehindSurviveTheProcess) {
  SetStage(Stage::kDualWrite);
  {
    const std::unique_ptr<OrderMigrator> orders =
        *FullBuilder().Options({.mirror_mode = MirrorMode::kWriteBehind}).Build();
    EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
    EXPECT_EQ(client_->repair_queue()->Counts().queued_mirrors, 1u);
  }
  Crash();
  EXPECT_EQ(Open(), 1u);
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
  executor_->RunAll();
  EXPECT_EQ(new_.Get(1)->row, (Order{10, "ann"}));
}

// The call has been answered: nobody but the journal knows of the mirror.
TEST_F(MigratorJournalTest, WritesBehindSurviveTheMachine) {
  SetStage(Stage::kDualWrite);
  {
    const std::unique_ptr<OrderMigrator> orders =
        *FullBuilder().Options({.mirror_mode = MirrorMode::kWriteBehind}).Build();
    EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  }
  Crash(MemoryStateStorage::Failure::kMachine);
  EXPECT_EQ(Open(), 1u);
}

TEST_F(MigratorJournalTest, AnOlderSnapshotFromDiskJudgesNothing) {
  // Stage OFF was acknowledged and is on disk; the write is of DUAL_WRITE, which was not.
  ASSERT_TRUE(Eventually([&] { return client_->Stats().acknowledged_revision == plane_->revision(); }));
  const std::string acknowledged = **disk_->Read(kStateFile);
  SetStage(Stage::kDualWrite);
  {
    const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
    new_.FailMirrors(absl::UnavailableError("down"));
    EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  }
  plane_->SetReachable(false);
  plane_->Disconnect();
  disk_->Put(kStateFile, acknowledged);
  CrashAndBoot();
  new_.FailMirrors(absl::OkStatus());
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
  EXPECT_EQ(client_->Route(testing_support::kMigration, "1")->stage(), Stage::kOff);
  executor_->RunAll(20);
  EXPECT_EQ(Open(), 1u);
  plane_->SetReachable(true);
  ASSERT_TRUE(Eventually([&] {
    clock_.Advance(absl::Milliseconds(100));
    executor_->RunAll(20);
    return Open() == 0;
  }));
  EXPECT_EQ(new_.Get(1)->row, (Order{10, "ann"}));
}

TEST_F(MigratorJournalTest, ObsoleteWhenTheMigrationHasRestarted) {
  SetStage(Stage::kDualWrite);
  {
    const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
    new_.FailMirrors(absl::UnavailableError("down"));
    EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  }
  domain::RoutingState next = domain::StateOfStage(Stage::kDualWrite, 0);
  next.generation = 2;
  SetState(next);
  Crash();
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
  calls_.Take();
  executor_->RunAll();
  EXPECT_THAT(calls_.Take(), IsEmpty());
  EXPECT_EQ(Open(), 0u);
}

TEST_F(MigratorJournalTest, AFullJournalRefusesBeforeTheWrite) {
  SetStage(Stage::kDualWrite);
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Options({.breaker_failures = 1000}).Build();
  new_.FailMirrors(absl::UnavailableError("down"));
  for (int64_t id = 1; id <= 3; ++id) EXPECT_TRUE(orders->Write(id, {10, "ann"}).ok());
  calls_.Take();
  const absl::Status full = orders->Write(4, {10, "ann"}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(full.message(), HasSubstr("nothing was written"));
  EXPECT_THAT(calls_.Take(), IsEmpty());
  new_.FailMirrors(absl::OkStatus());
  executor_->RunAll();
  EXPECT_TRUE(orders->Write(4, {10, "ann"}).ok());
  for (int64_t id = 1; id <= 4; ++id) EXPECT_TRUE(new_.Get(id).has_value());
}

TEST_F(MigratorJournalTest, ADiskThatRefusesTheNoteRefusesTheWrite) {
  SetStage(Stage::kDualWrite);
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
  disk_->FailWrites(absl::ResourceExhaustedError("no space left on device"));
  const absl::Status status = orders->Write(1, {10, "ann"}).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("no space left"));
  EXPECT_THAT(calls_.Take(), IsEmpty());
  disk_->FailWrites(absl::OkStatus());
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok()) << "its place was given back";
}

TEST_F(MigratorJournalTest, SyncedWhenAskedFor) {
  const uint64_t before = disk_->Syncs();
  SetStage(Stage::kDualWrite);
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
  const uint64_t built = disk_->Syncs();
  EXPECT_GE(built, before);
  EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  EXPECT_EQ(disk_->Syncs(), built) << "not by default";
}

TEST_F(MigratorJournalTest, BuilderSaysWhatTheJournalNeeds) {
  const auto why = [](absl::StatusOr<std::unique_ptr<OrderMigrator>> built) {
    return std::string(built.status().message());
  };
  EXPECT_THAT(why(BuilderOver(client_.get(), &old_, &new_).Build()), HasSubstr("KeyCodec is missing"));
  EXPECT_THAT(why(FullBuilder().CurrentOld(nullptr).Build()), HasSubstr("CurrentOld is missing"));
  EXPECT_THAT(why(FullBuilder().CurrentNew(nullptr).Build()), HasSubstr("CurrentNew is missing"));
  EXPECT_TRUE(FullBuilder().CurrentNew(nullptr).WriteNew(nullptr).Build().ok());
  EXPECT_TRUE(BuilderOver(client_.get(), &old_, &new_).Options({.journal = JournalMode::kOff}).Build().ok());
}

TEST_F(MigratorJournalTest, WhatIsLeftOpenIsNotForgotten) {
  SetStage(Stage::kDualWrite);
  {
    const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
    new_.FailMirrors(absl::UnavailableError("down"));
    EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  }
  Crash();
  new_.FailMirrors(absl::OkStatus());
  const absl::Status off =
      BuilderOver(client_.get(), &old_, &new_).Options({.journal = JournalMode::kOff}).Build().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(off));
  EXPECT_THAT(off.message(), HasSubstr("1 open entries"));
  const absl::Status undecodable = FullBuilder()
                                       .KeyCodec([](const int64_t& id) { return absl::StrCat(id); },
                                                 [](absl::string_view) -> absl::StatusOr<int64_t> {
                                                   return absl::InvalidArgumentError("what is this?");
                                                 })
                                       .Build()
                                       .status();
  EXPECT_TRUE(absl::IsFailedPrecondition(undecodable));
  EXPECT_THAT(undecodable.message(), HasSubstr("what is this?"));
  // A Migrator of another kind leaves it alone.
  const std::unique_ptr<OrderMigrator> other = *FullBuilder().Options({.journal_kind = "lines"}).Build();
  executor_->RunAll();
  EXPECT_EQ(Open(), 1u);
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
  const std::unique_ptr<OrderMigrator> again = *FullBuilder().Build();
  EXPECT_EQ(Open(), 1u) << "taken over once";
  executor_->RunAll();
  EXPECT_EQ(Open(), 0u);
  EXPECT_EQ(new_.Get(1)->row, (Order{10, "ann"}));
}

TEST_F(MigratorJournalTest, OffAndTheLastStagesNoteNothing) {
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
  for (Stage stage : {Stage::kOff, Stage::kNewOnly, Stage::kComplete}) {
    SetStage(stage);
    EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  }
  EXPECT_FALSE(disk_->Read("mirrors.shop.orders")->has_value());
}

}  // namespace
}  // namespace lockstep
