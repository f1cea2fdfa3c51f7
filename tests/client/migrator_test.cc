// What a Migrator calls, in which order, at each stage; what it does when a side fails. On a fake clock, with
// an executor that runs when told, so that nothing here depends on timing.
#include "lockstep/migrator.h"

#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/migrator_fixture.h"

namespace lockstep {
namespace {

using domain::Arm;
using domain::ComparisonOutcome;
using domain::Stage;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_support::BuilderOver;
using testing_support::CallLog;
using testing_support::Eventually;
using testing_support::kMigration;
using testing_support::MigratorTest;
using testing_support::Order;
using testing_support::OrderMigrator;
using testing_support::Store;

struct StageCase {
  Stage stage;
  uint32_t read_weight;
  std::vector<std::string> read;     // before the executor runs
  std::vector<std::string> compare;  // on the executor
  std::vector<std::string> write;
};

TEST_F(MigratorTest, OrderOfCallsByStage) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  const std::vector<StageCase> cases = {
      {Stage::kOff, 0, {"old.read"}, {}, {"old.write"}},
      {Stage::kDualWrite, 0, {"old.read"}, {}, {"old.write", "new.mirror@2"}},
      {Stage::kShadowRead, 0, {"old.read"}, {"new.read"}, {"old.write", "new.mirror@3"}},
      {Stage::kCanaryRead, 0, {"old.read"}, {"new.read"}, {"old.write", "new.mirror@4"}},
      {Stage::kCanaryRead, domain::kBucketCount, {"new.read"}, {"old.read"}, {"old.write", "new.mirror@5"}},
      {Stage::kNewOnly, 0, {"new.read"}, {}, {"new.write"}},
      {Stage::kComplete, 0, {"new.read"}, {}, {"new.write"}},
  };
  for (const StageCase& c : cases) {
    SCOPED_TRACE(absl::StrCat(domain::StageName(c.stage), " ", c.read_weight));
    SetStage(c.stage, c.read_weight);
    EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
    EXPECT_EQ(calls_.Take(), c.write);
    EXPECT_TRUE(orders->Read(1).ok());
    EXPECT_EQ(calls_.Take(), c.read);
    executor_->RunDue();
    EXPECT_EQ(calls_.Take(), c.compare);
  }
  EXPECT_EQ(orders->comparisons_in_flight(), 0);
}

TEST_F(MigratorTest, CutoverTurnsTheOrderRoundAndHoldsTheSliceInBetween) {
  const std::unique_ptr<OrderMigrator> orders = Build({.max_hold_wait = absl::ZeroDuration()});
  domain::RoutingState state = domain::StateOfStage(Stage::kCutover, 0);
  state.drain_weight = domain::kBucketCount;
  SetState(state);
  const absl::Status held = orders->Write(1, {10, "ann"}).status();
  EXPECT_TRUE(absl::IsUnavailable(held));
  EXPECT_THAT(held.message(), HasSubstr("held"));
  EXPECT_THAT(calls_.Take(), IsEmpty());
  state.write_weight = domain::kBucketCount;
  SetState(state);
  EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  EXPECT_THAT(calls_.Take(), ElementsAre("new.write", "old.mirror@1"));
}

TEST_F(MigratorTest, WithoutCallbacksForCutoverNothingIsWritten) {
  OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
  const std::unique_ptr<OrderMigrator> orders = *builder.WriteNew(nullptr).MirrorToOld(nullptr).Build();
  SetStage(Stage::kNewOnly);
  const absl::Status status = orders->Write(1, {10, "ann"}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(status.message(), HasSubstr("WriteNew"));
  EXPECT_THAT(calls_.Take(), IsEmpty());
}

TEST_F(MigratorTest, BuilderNamesWhatIsMissing) {
  EXPECT_THAT(BuilderOver(client_.get(), &old_, &new_).ReadNew(nullptr).Build().status().message(),
              HasSubstr("ReadNew"));
  EXPECT_THAT(BuilderOver(client_.get(), &old_, &new_).Fields(nullptr).Build().status().message(),
              HasSubstr("Fields"));
  EXPECT_THAT(BuilderOver(client_.get(), &old_, &new_)
                  .Options({.mirror_deadline = absl::ZeroDuration()})
                  .Build()
                  .status()
                  .message(),
              HasSubstr("mirror_deadline"));
  EXPECT_TRUE(absl::IsNotFound(OrderMigrator::Builder(client_.get(), "shop/other").Build().status()));
}

TEST_F(MigratorTest, DeletesAreMirroredAsTombstones) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  const absl::StatusOr<WriteResult<Order>> deleted = orders->Delete(1);
  ASSERT_TRUE(deleted.ok());
  EXPECT_FALSE(deleted->row.has_value());
  EXPECT_EQ(deleted->version, 2);
  EXPECT_THAT(calls_.Take(),
              ElementsAre("old.write", "new.mirror@1", "old.delete", "new.mirror-tombstone@2"));
  EXPECT_EQ(new_.Get(1)->version, 2);
  EXPECT_FALSE(new_.Get(1)->row.has_value());
}

TEST_F(MigratorTest, MirrorGetsTheSameIdempotencyKey) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  EXPECT_FALSE(old_.last_idempotency_key().empty());
  EXPECT_EQ(old_.last_idempotency_key(), new_.last_idempotency_key());
  ASSERT_TRUE(orders->Write(1, {10, "ann"}, {.idempotency_key = "mine"}).ok());
  EXPECT_EQ(new_.last_idempotency_key(), "mine");
}

TEST_F(MigratorTest, FailedAuthoritativeWriteSkipsTheMirror) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  old_.FailWrites(absl::AbortedError("conflict"));
  EXPECT_TRUE(absl::IsAborted(orders->Write(1, {10, "ann"}).status()));
  EXPECT_THAT(calls_.Take(), ElementsAre("old.write"));
  EXPECT_EQ(Totals().writes.authoritative_failed, 1u);
  EXPECT_EQ(Totals().writes.mirror_attempts(), 0u);
}

struct PolicyCase {
  const char* name;
  MirrorFailurePolicy policy;
  Stage stage;
  bool call_fails;
};

TEST_F(MigratorTest, FailedMirrorByPolicyIsAlwaysRepaired) {
  const std::vector<PolicyCase> cases = {
      {"default below canary", MirrorFailurePolicy::kByStage, Stage::kDualWrite, false},
      {"default in shadow", MirrorFailurePolicy::kByStage, Stage::kShadowRead, false},
      {"default from canary", MirrorFailurePolicy::kByStage, Stage::kCanaryRead, true},
      {"repair in canary", MirrorFailurePolicy::kRepair, Stage::kCanaryRead, false},
      {"fail early", MirrorFailurePolicy::kFailCall, Stage::kDualWrite, true},
  };
  int64_t id = 0;
  for (const PolicyCase& c : cases) {
    SCOPED_TRACE(c.name);
    ++id;
    const std::unique_ptr<OrderMigrator> orders = Build({.mirror_failure = c.policy});
    SetStage(c.stage);
    new_.FailMirrors(absl::ResourceExhaustedError("disk full"));
    const absl::Status status = orders->Write(id, {10, "ann"}).status();
    EXPECT_EQ(!status.ok(), c.call_fails) << status;
    if (c.call_fails) {
      EXPECT_TRUE(absl::IsResourceExhausted(status));
      EXPECT_THAT(status.message(), HasSubstr("authoritative write stands (version 1)"));
    }
    EXPECT_EQ(client_->Stats().repairs_outstanding, 1u);
    executor_->RunAll(5);
    EXPECT_EQ(client_->Stats().repairs_outstanding, 1u) << "goes on trying";
    new_.FailMirrors(absl::OkStatus());
    executor_->RunAll();
    EXPECT_EQ(client_->Stats().repairs_outstanding, 0u);
    EXPECT_EQ(new_.Get(id)->row, (Order{10, "ann"}));
  }
  EXPECT_EQ(Totals().writes.mirror_failed, cases.size());
  EXPECT_EQ(Totals().writes.mirror_ok, cases.size()) << "each was repaired once";
}

TEST_F(MigratorTest, RepairNeverOverwritesANewerState) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  new_.FailMirrors(absl::UnavailableError("down"));
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  new_.FailMirrors(absl::OkStatus());
  ASSERT_TRUE(orders->Write(1, {20, "bob"}).ok());
  executor_->RunAll();
  EXPECT_EQ(client_->Stats().repairs_outstanding, 0u);
  EXPECT_EQ(new_.Get(1)->row, (Order{20, "bob"}));
  EXPECT_EQ(new_.Get(1)->version, 2);
}

TEST_F(MigratorTest, RepairCopiesTheCurrentRowWhereTheSideCanBeAsked) {
  OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
  builder.CurrentOld([this](const int64_t& id, const ReadContext& context) {
    EXPECT_EQ(context.purpose, ReadPurpose::kRepair);
    return old_.Current(id);
  });
  const std::unique_ptr<OrderMigrator> orders = *builder.Build();
  SetStage(Stage::kDualWrite);
  new_.FailMirrors(absl::UnavailableError("down"));
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  new_.FailMirrors(absl::OkStatus());
  old_.Put(1, 7, Order{70, "carl"});  // written elsewhere meanwhile
  calls_.Take();
  executor_->RunAll();
  EXPECT_THAT(calls_.Take(), ElementsAre("old.current", "new.mirror@7"));
  EXPECT_EQ(new_.Get(1)->row, (Order{70, "carl"}));

  // An authoritative write that fails after having taken effect is followed up.
  old_.FailWrites(absl::DeadlineExceededError("no answer"), /*after_writing=*/true);
  EXPECT_TRUE(absl::IsDeadlineExceeded(orders->Write(1, {80, "dora"}).status()));
  executor_->RunAll();
  EXPECT_EQ(new_.Get(1)->row, (Order{80, "dora"}));
  // One that was refused is not.
  old_.FailWrites(absl::AbortedError("conflict"));
  calls_.Take();
  EXPECT_TRUE(absl::IsAborted(orders->Write(1, {90, "eve"}).status()));
  executor_->RunAll();
  EXPECT_THAT(calls_.Take(), ElementsAre("old.write"));
}

TEST_F(MigratorTest, FullRepairQueueFailsTheCall) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  new_.FailMirrors(absl::UnavailableError("down"));
  for (int64_t id = 1; id <= 3; ++id) EXPECT_TRUE(orders->Write(id, {10, "ann"}).ok());
  const absl::Status status = orders->Write(4, {10, "ann"}).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(status.message(), HasSubstr("repair queue is full"));
  EXPECT_EQ(client_->Stats().repairs_outstanding, 4u) << "nothing will repair it, and it isn't forgotten";
  EXPECT_EQ(Totals().repairs.queued, 4u);
}

TEST_F(MigratorTest, AnUnknownOutcomeThatNothingCanTellIsOutstanding) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  const uint64_t epoch = plane_->EpochOf(kMigration);
  old_.FailWrites(absl::DeadlineExceededError("late"), /*after_writing=*/true);
  EXPECT_TRUE(absl::IsDeadlineExceeded(orders->Write(1, {10, "ann"}).status()));
  EXPECT_EQ(Totals().repairs.queued, 1u);
  EXPECT_EQ(Totals().repairs.done, 0u);
  EXPECT_EQ(client_->Stats().repairs_outstanding, 1u);
  EXPECT_EQ(client_->repair_queue()->OldestEpoch(0), epoch);
  old_.FailWrites(absl::AbortedError("conflict"));
  EXPECT_TRUE(absl::IsAborted(orders->Write(1, {10, "ann"}).status()));
  EXPECT_EQ(client_->Stats().repairs_outstanding, 1u) << "this one has told";
}

TEST_F(MigratorTest, RepairsOfAnEarlierGenerationAreObsolete) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  new_.FailMirrors(absl::UnavailableError("down"));
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  SetStage(Stage::kOff);
  calls_.Take();
  executor_->RunAll();
  EXPECT_THAT(calls_.Take(), IsEmpty());
  EXPECT_EQ(client_->Stats().repairs_outstanding, 0u);
}

TEST_F(MigratorTest, ReadsAreCountedByArm) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kCanaryRead, domain::kBucketCount);
  old_.Put(1, 1, Order{10, "ann"});
  new_.Put(1, 1, Order{10, "ann"});
  EXPECT_EQ(**orders->Read(1), (Order{10, "ann"}));
  EXPECT_FALSE((*orders->Read(2)).has_value());
  new_.FailReads(absl::InternalError("broken"));
  EXPECT_TRUE(absl::IsInternal(orders->Read(1).status())) << "no silent fall-back to the other side";
  executor_->RunAll();
  EXPECT_EQ(Totals().arm(Arm::kNew).requests, 3u);
  EXPECT_EQ(Totals().arm(Arm::kNew).errors, 1u);
  EXPECT_EQ(Totals().arm(Arm::kNew).latency.count(), 3u);
  EXPECT_EQ(Totals().arm(Arm::kOld).requests, 0u) << "shadow reads serve nobody";
  EXPECT_EQ(Compared(ComparisonOutcome::kMatch), 2u);
  EXPECT_EQ(Compared(ComparisonOutcome::kErrorInNew), 1u);
  EXPECT_EQ(Totals().paired_errors.new_only, 1u);
  EXPECT_TRUE(Totals().Validate().ok());
}

// What the two sides hold, and what happens to them between the passes (at 0, 20, 80 and 260 ms), makes the
// outcome.
struct SettleCase {
  const char* name;
  std::optional<Order> old_order;
  std::optional<Order> new_order;
  // Called with the number of the old side's read, from 1; the first one is served.
  std::function<void(Store& old_store, Store& new_store, int old_reads)> between;
  ComparisonOutcome expected;
};

TEST_F(MigratorTest, ComparisonsSettle) {
  const Order a = {1, "a"};
  const Order b = {2, "b"};
  const std::vector<SettleCase> cases = {
      {"equal", a, a, nullptr, ComparisonOutcome::kMatch},
      {"both missing", std::nullopt, std::nullopt, nullptr, ComparisonOutcome::kMatch},
      {"differs for good", a, b, nullptr, ComparisonOutcome::kMismatch},
      {"missing in new", a, std::nullopt, nullptr, ComparisonOutcome::kMissingInNew},
      {"missing in old", std::nullopt, a, nullptr, ComparisonOutcome::kMissingInOld},
      {"new catches up", a, b, [=](Store&, Store& n, int reads) { n.Put(1, reads, reads >= 2 ? a : b); },
       ComparisonOutcome::kLagged},
      {"new appears", a, std::nullopt,
       [=](Store&, Store& n, int reads) {
         if (reads == 3) n.Put(1, 1, a);
       },
       ComparisonOutcome::kLagged},
      {"old keeps changing", a, b,
       [](Store& o, Store&, int reads) {
         o.Put(1, reads, Order{100 + reads, "x"});
       },
       ComparisonOutcome::kRaced},
      {"old changed once, and the mirror never followed", a, a,
       [](Store& o, Store&, int reads) {
         if (reads == 1) o.Put(1, 5, Order{7, "late"});
       },
       ComparisonOutcome::kMatch},
      {"new breaks while settling", a, b,
       [](Store&, Store& n, int) { n.FailReads(absl::InternalError("broken")); },
       ComparisonOutcome::kErrorInNew},
  };
  SetStage(Stage::kShadowRead);
  // What the service holds for equal at once must not change what comes out.
  for (size_t i = 0; i < 2 * cases.size(); ++i) {
    const SettleCase& c = cases[i / 2];
    const bool with_equal = i % 2 == 1;
    SCOPED_TRACE(absl::StrCat(c.name, with_equal ? ", with Equal" : ""));
    CallLog log;
    Store old_store("old", &log);
    Store new_store("new", &log);
    old_store.Put(1, 1, c.old_order);
    new_store.Put(1, 1, c.new_order);
    OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_store, &new_store);
    if (with_equal) builder.Equal(std::equal_to<Order>());
    int old_reads = 0;
    builder.ReadOld([&](const int64_t& id, const ReadContext&) {
      absl::StatusOr<std::optional<Order>> order = old_store.Read(id);
      ++old_reads;
      // After the shadow read of this pass, before the next pass.
      if (c.between)
        executor_->Submit(absl::Milliseconds(10), [&, n = old_reads] { c.between(old_store, new_store, n); });
      return order;
    });
    const std::unique_ptr<OrderMigrator> orders = *builder.Build();
    const uint64_t before = Compared(c.expected);
    const uint64_t all_before = Totals().compared();
    ASSERT_TRUE(orders->Read(1).ok());
    executor_->RunAll();
    EXPECT_EQ(Totals().compared(), all_before + 1);
    EXPECT_EQ(Compared(c.expected), before + 1);
    EXPECT_EQ(orders->comparisons_in_flight(), 0);
  }
  EXPECT_TRUE(Totals().Validate().ok());
}

TEST_F(MigratorTest, WhatIsEqualIsNotTakenApart) {
  const Order a = {1, "a"};
  const Order b = {2, "b"};
  struct Case {
    std::optional<Order> old_order;
    std::optional<Order> new_order;
    int asked;  // Equal
    int taken_apart;
    ComparisonOutcome expected;
  };
  const Case cases[] = {
      {a, a, 1, 0, ComparisonOutcome::kMatch},
      {a, b, 1, 2, ComparisonOutcome::kMismatch},
      {a, std::nullopt, 0, 1, ComparisonOutcome::kMissingInNew},
      {std::nullopt, b, 0, 1, ComparisonOutcome::kMissingInOld},
      {std::nullopt, std::nullopt, 0, 0, ComparisonOutcome::kMatch},
  };
  SetStage(Stage::kShadowRead);
  int asked = 0;
  int taken_apart = 0;
  OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
  builder.Options({.settle_delays = {}, .paired_latency_share = 0})
      .Equal([&](const Order& x, const Order& y) {
        ++asked;
        return x == y;
      })
      .Fields([&](const Order& order) {
        ++taken_apart;
        return FieldsOf(order);
      });
  const std::unique_ptr<OrderMigrator> orders = *builder.Build();
  for (const Case& c : cases) {
    SCOPED_TRACE(absl::StrCat(c.old_order.has_value(), " ", c.new_order.has_value(), " ", c.taken_apart));
    old_.Put(1, 1, c.old_order);
    new_.Put(1, 1, c.new_order);
    asked = taken_apart = 0;
    const uint64_t before = Compared(c.expected);
    ASSERT_TRUE(orders->Read(1).ok());
    executor_->RunAll();
    EXPECT_EQ(Compared(c.expected), before + 1);
    EXPECT_EQ(asked, c.asked);
    EXPECT_EQ(taken_apart, c.taken_apart);
  }
}

TEST_F(MigratorTest, WhatIsEqualButLateIsATimeout) {
  SetStage(Stage::kShadowRead);
  OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
  const std::unique_ptr<OrderMigrator> orders =
      *builder.Options({.comparison_deadline = absl::Milliseconds(50)}).Equal(std::equal_to<Order>()).Build();
  old_.Put(1, 1, Order{1, "a"});
  new_.Put(1, 1, Order{1, "a"});
  new_.OnRead([this] { clock_.Advance(absl::Milliseconds(51)); });
  ASSERT_TRUE(orders->Read(1).ok());
  executor_->RunAll();
  EXPECT_EQ(Compared(ComparisonOutcome::kTimeout), 1u);
  EXPECT_EQ(Compared(ComparisonOutcome::kMatch), 0u);
}

TEST_F(MigratorTest, BothSidesFailingIsNoComparison) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kShadowRead);
  old_.FailReads(absl::InternalError("broken"));
  new_.FailReads(absl::InternalError("broken"));
  EXPECT_FALSE(orders->Read(1).ok());
  executor_->RunAll();
  EXPECT_EQ(Totals().compared(), 0u);
  EXPECT_EQ(Totals().arm(Arm::kOld).errors, 1u);
}

TEST_F(MigratorTest, LateShadowReadIsATimeout) {
  SetStage(Stage::kShadowRead);
  // The short ones are timed by the exact clock.
  uint64_t late = 0;
  for (const int milliseconds : {1, 99, 100, 1000}) {
    const std::unique_ptr<OrderMigrator> orders =
        Build({.comparison_deadline = absl::Milliseconds(milliseconds), .paired_latency_share = 0});
    for (const int over : {0, 1}) {
      SCOPED_TRACE(absl::StrCat(milliseconds, " + ", over));
      new_.OnRead([&] { clock_.Advance(absl::Milliseconds(milliseconds + over)); });
      ASSERT_TRUE(orders->Read(1).ok());
      executor_->RunAll();
      late += over;
      EXPECT_EQ(Compared(ComparisonOutcome::kTimeout), late);
      EXPECT_EQ(Totals().paired_errors.new_only, late);
    }
  }
}

TEST_F(MigratorTest, ComparisonsAboveTheCapAreShed) {
  const std::unique_ptr<OrderMigrator> orders = Build({.max_comparisons_in_flight = 2});
  SetStage(Stage::kShadowRead);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(orders->Read(1).ok());
  EXPECT_EQ(orders->comparisons_in_flight(), 2);
  executor_->RunAll();
  EXPECT_EQ(Compared(ComparisonOutcome::kMatch), 2u);
  EXPECT_EQ(Totals().dropped.comparisons_shed, 3u);
  ASSERT_TRUE(orders->Read(1).ok());
  executor_->DropAll();
  EXPECT_EQ(orders->comparisons_in_flight(), 0) << "dropped tasks give their places back";
}

TEST_F(MigratorTest, ComparisonsHoldTheirEpochAndOutliveTheMigrator) {
  std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kShadowRead);
  ASSERT_TRUE(orders->Read(1).ok());
  orders.reset();
  EXPECT_EQ(client_->Stats().operations_pinned, 1u);
  executor_->RunAll();
  EXPECT_EQ(client_->Stats().operations_pinned, 0u);
  EXPECT_EQ(Compared(ComparisonOutcome::kMatch), 1u);
}

TEST_F(MigratorTest, FieldMismatchesAndSamples) {
  plane_->SetContract(kMigration, {.fields = {{.path = "customer", .sensitive = true}}, .revision = 4});
  SetStage(Stage::kShadowRead);
  const std::unique_ptr<OrderMigrator> orders = Build({.settle_delays = {}});
  for (int64_t id = 1; id <= 5; ++id) {
    old_.Put(id, 1, Order{10, "ann"});
    new_.Put(id, 1, Order{11, "bobby"});
    ASSERT_TRUE(orders->Read(id, {.trace_id = "trace-1"}).ok());
  }
  executor_->RunAll();
  EXPECT_EQ(Totals().fields().at("customer")[domain::MismatchKind::kValue], 5u);
  EXPECT_EQ(Totals().fields().at("_other")[domain::MismatchKind::kValue], 5u)
      << "not declared in the contract";
  clock_.Advance(absl::Seconds(2));
  ASSERT_TRUE(Eventually([&] { return !plane_->Deltas().empty(); }));
  const std::vector<domain::TelemetryDelta> deltas = plane_->Deltas();
  const domain::TelemetryDelta& delta = deltas.back();
  EXPECT_EQ(delta.contract_revision, 4u);
  EXPECT_EQ(delta.bucket_start, absl::FromUnixSeconds(1'700'000'000));
  EXPECT_EQ(delta.samples.size(), 4u) << "two for each fingerprint";
  EXPECT_EQ(delta.stats.dropped.samples_dropped, 6u);
  for (const domain::MismatchSample& sample : delta.samples) {
    EXPECT_EQ(sample.key_digest.size(), 32u);
    EXPECT_EQ(sample.trace_id, "trace-1");
    EXPECT_EQ(sample.instance_id, "i-1");
    if (sample.field == "customer") {
      EXPECT_TRUE(sample.old_digest.empty() && sample.new_digest.empty()) << "sensitive";
      EXPECT_EQ(sample.old_length, 3u);
      EXPECT_EQ(sample.new_length, 5u);
    } else {
      EXPECT_EQ(sample.field, "total");
      EXPECT_NE(sample.old_digest, sample.new_digest);
    }
  }
}

TEST_F(MigratorTest, ShutdownRepairsWhatItCan) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  new_.FailMirrors(absl::UnavailableError("down"));
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  const absl::Status status = client_->Shutdown(absl::InfinitePast());
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_THAT(status.message(), HasSubstr("1 mirror writes not repaired"));
}

// A crash would be waited for; so is a shutdown that owes as much.
TEST_F(MigratorTest, ShutdownKeepsTheEnrolmentWhileItOwesMirrors) {
  for (const bool refused : {false, true}) {
    StartClient();
    const std::unique_ptr<OrderMigrator> orders = Build();
    SetStage(Stage::kDualWrite);
    if (refused) {
      old_.FailWrites(absl::DeadlineExceededError("late"), /*after_writing=*/true);
    } else {
      new_.FailMirrors(absl::UnavailableError("down"));
    }
    EXPECT_EQ(orders->Write(1, {10, "ann"}).ok(), !refused);
    const absl::Status status = client_->Shutdown(clock_.Now(), Departure::kForGood);
    EXPECT_THAT(status.message(), HasSubstr("the enrolment was kept"));
    EXPECT_THAT(status.message(), HasSubstr("evict instance i-1"));
    EXPECT_THAT(status.message(), HasSubstr("the authority may move to the side that lacks these writes"));
    EXPECT_THAT(plane_->Left(), IsEmpty());
  }
  StartClient();
  EXPECT_TRUE(client_->Shutdown(absl::InfiniteFuture()).ok());
  EXPECT_THAT(plane_->Left(), ElementsAre("i-1"));
}

TEST_F(MigratorTest, AsynchronousForms) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  SetStage(Stage::kDualWrite);
  std::optional<absl::StatusOr<WriteResult<Order>>> written;
  orders->WriteAsync(1, {10, "ann"}, {}, [&](auto result) { written = std::move(result); });
  std::optional<absl::StatusOr<std::optional<Order>>> read;
  orders->ReadAsync(1, {}, [&](auto result) { read = std::move(result); });
  EXPECT_FALSE(written.has_value());
  executor_->RunAll();
  EXPECT_EQ((*written)->version, 1);
  EXPECT_EQ(***read, (Order{10, "ann"}));
}

}  // namespace
}  // namespace lockstep
