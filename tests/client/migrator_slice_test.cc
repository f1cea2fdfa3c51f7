// The check of a held slice through a Migrator and its client, and what an instance without a lease leaves
// alone.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/internal/repair_queue.h"
#include "tests/client/migrator_fixture.h"

namespace lockstep {
namespace {

using domain::Stage;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_support::BuilderOver;
using testing_support::Eventually;
using testing_support::kMigration;
using testing_support::MigratorTest;
using testing_support::Order;
using testing_support::OrderMigrator;

class MigratorSliceTest : public MigratorTest {
 protected:
  // Holds every bucket and returns what the instance says of the slice in its acknowledgement.
  domain::SliceCheck HoldAndCheck() {
    domain::RoutingState state = domain::StateOfStage(Stage::kCutover, 0);
    state.drain_weight = domain::kBucketCount;
    SetState(state);
    const uint64_t epoch = plane_->EpochOf(kMigration);
    domain::SliceCheck found;
    EXPECT_TRUE(Eventually([&] {
      executor_->RunAll(100);
      for (const FakeControlPlane::Ack& ack : plane_->Acks()) {
        for (const domain::SliceCheck& check : ack.slice_checks) {
          if (check.epoch == epoch) found = check;
        }
      }
      return found.epoch == epoch;
    }));
    return found;
  }
};

struct RecordCase {
  const char* name;
  bool has_current;
  std::function<void(testing_support::Store& old_store, testing_support::Store& new_store)> damage;
  uint32_t repaired;
  uint32_t differing;
  const char* example;
  uint32_t unchecked = 0;
};

TEST_F(MigratorSliceTest, WhatTheMirrorMissedIsFoundAndRepaired) {
  using testing_support::Store;
  const std::vector<RecordCase> cases = {
      {"equal", true, [](Store&, Store&) {}, 0, 0, ""},
      {"equal, by reads", false, [](Store&, Store&) {}, 0, 0, ""},
      {"the mirror is behind", true,
       [](Store&, Store& n) {
         n.Put(1, 1, Order{5, "early"});
       },
       1, 0, ""},
      {"the mirror lacks it", true, [](Store&, Store& n) { n.Put(1, 0, std::nullopt); }, 1, 0, ""},
      {"it was deleted, and the mirror lacks the tombstone", true,
       [](Store& o, Store&) { o.Put(1, 3, std::nullopt); }, 1, 0, ""},
      {"the mirror is behind, and there is nothing to repair it by", false,
       [](Store&, Store& n) {
         n.Put(1, 1, Order{5, "early"});
       },
       0, 1, "built without CurrentOld"},
      {"it lacks it, and there is nothing to repair it by", false,
       [](Store&, Store& n) { n.Put(1, 0, std::nullopt); }, 0, 1, "the NEW side has no such record"},
      {"the same version with other content", true,
       [](Store&, Store& n) {
         n.Put(1, 2, Order{6, "ann"});
       },
       0, 1, "differing fields: total, also after a repair"},
      {"another instance wrote the other side since", true,
       [](Store&, Store& n) {
         n.Put(1, 7, Order{7, "bob"});
       },
       1, 0, ""},
      {"a side can't be read", true,
       [](Store&, Store& n) { n.FailReads(absl::UnavailableError("no route to host")); }, 0, 0,
       "could not be compared: no route to host", 1},
      {"new is behind and can't be written", true,
       [](Store&, Store& n) {
         n.Put(1, 1, Order{5, "early"});
         n.FailMirrors(absl::UnavailableError("read-only"));
       },
       0, 0, "could not be repaired: read-only", 1},
  };
  for (const RecordCase& c : cases) {
    SCOPED_TRACE(c.name);
    new_.FailReads(absl::OkStatus());
    new_.FailMirrors(absl::OkStatus());
    old_.Put(1, 1, Order{5, "early"});
    new_.Put(1, 1, Order{5, "early"});
    SetStage(Stage::kCanaryRead, domain::kBucketCount);
    const std::unique_ptr<OrderMigrator> orders =
        c.has_current ? *FullBuilder().Build()
                      : *BuilderOver(client_.get(), &old_, &new_)
                             .KeyCodec([](const int64_t& id) { return absl::StrCat(id); },
                                       [](absl::string_view) -> absl::StatusOr<int64_t> { return 1; })
                             .Build();
    ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
    c.damage(old_, new_);
    const domain::SliceCheck check = HoldAndCheck();
    EXPECT_EQ(check.migration, testing_support::kFullName);
    EXPECT_EQ(check.checked, 1u - c.unchecked);
    EXPECT_EQ(check.unchecked, c.unchecked) << check.example;
    EXPECT_EQ(check.repaired, c.repaired) << check.example;
    EXPECT_EQ(check.differing, c.differing) << check.example;
    EXPECT_THAT(check.example, HasSubstr(c.example));
    if (c.differing + c.unchecked == 0) {
      EXPECT_EQ(old_.Get(1)->row, new_.Get(1)->row);
      EXPECT_EQ(old_.Get(1)->version, new_.Get(1)->version);
    }
  }
}

TEST_F(MigratorSliceTest, ARecordThatAnotherInstanceIsWritingIsItsToCheck) {
  SetStage(Stage::kCanaryRead, domain::kBucketCount);
  Version version = 1;
  OrderMigrator::Builder builder = FullBuilder();
  builder.CurrentOld([&](const int64_t& id, const ReadContext&) {
    ++version;
    old_.Put(id, version, Order{version, "somebody else"});
    return old_.Current(id);
  });
  const std::unique_ptr<OrderMigrator> orders = *builder.Build();
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  const domain::SliceCheck check = HoldAndCheck();
  EXPECT_EQ(check.checked, 1u);
  EXPECT_EQ(check.differing, 0u);
}

TEST_F(MigratorSliceTest, ARepairMattersWhileItsAuthorityIsHeldAndIsDoneBeforeTheCheck) {
  SetStage(Stage::kCanaryRead, domain::kBucketCount);
  const std::unique_ptr<OrderMigrator> orders =
      *FullBuilder().Options({.mirror_failure = MirrorFailurePolicy::kRepair}).Build();
  new_.FailMirrors(absl::UnavailableError("down"));
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  const uint64_t written_epoch = plane_->EpochOf(kMigration);
  domain::RoutingState state = domain::StateOfStage(Stage::kCutover, 0);
  state.drain_weight = domain::kBucketCount;
  SetState(state);
  executor_->RunAll(10);
  EXPECT_EQ(client_->repair_queue()->OldestEpoch(0), written_epoch);
  new_.FailMirrors(absl::OkStatus());
  const domain::SliceCheck check = HoldAndCheck();
  EXPECT_EQ(check.checked, 1u);
  EXPECT_EQ(check.repaired, 0u) << "by then the repair had brought it";
  EXPECT_EQ(new_.Get(1)->row, (Order{10, "ann"}));
  EXPECT_EQ(Totals().repairs.done, 1u);
}

TEST_F(MigratorSliceTest, OnlyWhatWasWrittenInThisGenerationCounts) {
  SetStage(Stage::kCanaryRead, domain::kBucketCount);
  const std::unique_ptr<OrderMigrator> orders = *FullBuilder().Build();
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  new_.Put(1, 0, std::nullopt);
  domain::RoutingState next = domain::StateOfStage(Stage::kCutover, 0);
  next.generation = 2;
  next.drain_weight = domain::kBucketCount;
  SetState(next);
  calls_.Take();
  ASSERT_TRUE(Eventually([&] {
    executor_->RunAll(100);
    return !plane_->Acks().empty() && !plane_->Acks().back().slice_checks.empty();
  }));
  EXPECT_EQ(plane_->Acks().back().slice_checks[0].differing, 0u);
  EXPECT_THAT(calls_.Take(), IsEmpty());
}

// The new side fails every call, and the fleet goes back to old, slice by slice.
TEST_F(MigratorSliceTest, TheWayBackDoesNotWaitForTheSideItLeaves) {
  SetStage(Stage::kCanaryRead, domain::kBucketCount);
  const std::unique_ptr<OrderMigrator> orders =
      *FullBuilder().Options({.mirror_failure = MirrorFailurePolicy::kRepair}).Build();
  domain::RoutingState state = domain::StateOfStage(Stage::kCutover, 0);
  state.salt_seed = client_->Route(kMigration, "1")->state().salt_seed;
  state.write_weight = state.drain_weight = domain::kBucketCount;
  SetState(state);
  // Its mirror failed, and what it resulted in is known.
  old_.FailMirrors(absl::UnavailableError("blip"));
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  old_.FailMirrors(absl::OkStatus());
  // What became of this one only new can tell.
  new_.FailReads(absl::UnavailableError("down"));
  new_.FailWrites(absl::UnavailableError("down"), /*after_writing=*/true);
  new_.FailMirrors(absl::UnavailableError("down"));
  EXPECT_FALSE(orders->Write(2, {20, "bob"}).ok());
  // Most of the keys go back first. Epochs in between are acknowledged, though these two are not repaired.
  const uint32_t bucket_1 = client_->Route(kMigration, "1")->decision().bucket;
  const uint32_t bucket_2 = client_->Route(kMigration, "2")->decision().bucket;
  const uint32_t first = std::max(bucket_1, bucket_2) + 1;
  const auto acknowledged = [&] {
    executor_->RunAll(20);
    return plane_->Acks().back().held.at(testing_support::kFullName) == plane_->EpochOf(kMigration);
  };
  state.write_weight = first;
  SetState(state);
  EXPECT_TRUE(Eventually(acknowledged));
  state.drain_weight = first;
  SetState(state);
  EXPECT_TRUE(Eventually(acknowledged));
  state.write_weight = 0;
  SetState(state);
  EXPECT_TRUE(Eventually([&] { return acknowledged() && !plane_->Acks().back().slice_checks.empty(); }));
  const domain::SliceCheck check = plane_->Acks().back().slice_checks[0];
  EXPECT_EQ(check.differing, 0u);
  EXPECT_GE(check.unchecked, 2u) << "what can't be compared is said";
  EXPECT_EQ(old_.Get(1)->row, (Order{10, "ann"})) << "it takes what is known of the write";
  // Old has the authority, and new comes back.
  SetStage(Stage::kCanaryRead, 0);
  ASSERT_TRUE(orders->Write(2, {30, "carl"}).ok()) << "mirrored later";
  new_.FailReads(absl::OkStatus());
  new_.FailWrites(absl::OkStatus());
  new_.FailMirrors(absl::OkStatus());
  ASSERT_TRUE(Eventually([&] {
    executor_->RunAll(20);
    return client_->repair_queue()->outstanding() == 0;
  }));
  EXPECT_EQ(old_.Get(2)->row, (Order{30, "carl"})) << "what new had is not put over it";
  EXPECT_EQ(Totals().repairs.queued - Totals().repairs.done, 1u) << "and that it is lost stays evidence";
  EXPECT_TRUE(Eventually(acknowledged));
}

class MigratorLeaseTest : public MigratorTest {
 protected:
  MigratorLeaseTest() {
    client_.reset();
    ClientOptions options = {
        .transport = plane_, .service = "orders", .migrations = {kMigration}, .instance_id = "i-1"};
    options.lease_policy = domain::LeasePolicy::kFailWrites;
    options.executor = executor_;
    options.clock = &clock_;
    options.seed = 1;
    client_ = *Client::Create(std::move(options));
    EXPECT_TRUE(client_->WaitUntilReady(absl::InfiniteFuture()).ok());
    EXPECT_TRUE(Eventually([this] { return client_->CheckMayWrite().ok(); }));
  }
  void LoseTheLease() {
    plane_->SetReachable(false);
    plane_->Disconnect();
    clock_.Advance(absl::Seconds(20));
  }
};

TEST_F(MigratorLeaseTest, NothingIsWrittenWithoutALeaseAndNothingRepaired) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  new_.FailMirrors(absl::UnavailableError("down"));
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  new_.FailMirrors(absl::OkStatus());
  LoseTheLease();
  calls_.Take();
  const absl::Status status = orders->Write(2, {10, "ann"}).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(status.message(), HasSubstr("FAIL_WRITES"));
  executor_->RunAll(50);
  EXPECT_THAT(calls_.Take(), IsEmpty()) << "the repair waits for the next lease, too";
  EXPECT_EQ(client_->repair_queue()->Counts().repairs, 1u);
  plane_->SetReachable(true);
  ASSERT_TRUE(Eventually([&] {
    clock_.Advance(absl::Seconds(1));
    return client_->CheckMayWrite().ok();
  }));
  ASSERT_TRUE(Eventually([&] {
    executor_->RunAll(50);
    return client_->repair_queue()->outstanding() == 0;
  }));
  EXPECT_TRUE(new_.Get(1).has_value());
}

TEST_F(MigratorLeaseTest, ALeaseThatEndsBetweenTheTwoWritesLeavesTheMirrorAlone) {
  OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
  absl::Time deadline;
  builder.WriteOld([&](const int64_t& id, const Order* order, const WriteContext& context) {
    deadline = context.deadline;
    LoseTheLease();
    return old_.Write(id, order, context);
  });
  const std::unique_ptr<OrderMigrator> orders = *builder.Build();
  SetStage(Stage::kCanaryRead);
  const absl::Time start = clock_.Now();
  const absl::Status status = orders->Write(1, {10, "ann"}).status();
  EXPECT_THAT(status.message(), HasSubstr("the authoritative write stands"));
  EXPECT_THAT(status.message(), HasSubstr("the lease has ended"));
  EXPECT_LE(deadline, start + absl::Seconds(15));
  EXPECT_THAT(calls_.Take(), ElementsAre("old.write"));
  EXPECT_EQ(client_->repair_queue()->Counts().repairs, 1u);
}

}  // namespace
}  // namespace lockstep
