// What a Migrator calls, in which order, at each stage; what it does when a side fails. On a fake clock, with
// an executor that runs when told, so that nothing here depends on timing.
#include "lockstep/migrator.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/internal/digest.h"
#include "lockstep/manual_executor.h"
#include "tests/client/sdk_testing.h"

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
using testing_support::Order;
using testing_support::OrderMigrator;
using testing_support::Store;

class MigratorTest : public ::testing::Test {
 protected:
  MigratorTest() {
    plane_->SetStage(kMigration, Stage::kOff);
    ClientOptions options = {
        .transport = plane_, .service = "orders", .migrations = {kMigration}, .instance_id = "i-1"};
    options.executor = executor_;
    options.clock = &clock_;
    options.seed = 1;
    options.max_outstanding_repairs = 3;
    client_ = *Client::Create(std::move(options));
    EXPECT_TRUE(client_->WaitUntilReady(absl::InfiniteFuture()).ok());
  }
  ~MigratorTest() override { executor_->DropAll(); }

  // Publishes a stage and waits until the client acts on it.
  void SetStage(Stage stage, uint32_t read_weight = 0) {
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
  domain::WindowStats Totals() const { return client_->telemetry().Totals(0); }
  uint64_t Compared(ComparisonOutcome outcome) const { return Totals().comparison(outcome); }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  CallLog calls_;
  Store old_{"old", &calls_};
  Store new_{"new", &calls_};
  std::shared_ptr<ManualExecutor> executor_ = std::make_shared<ManualExecutor>(&clock_);
  std::shared_ptr<FakeControlPlane> plane_ = std::make_shared<FakeControlPlane>();
  std::unique_ptr<Client> client_;
};

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
  const std::unique_ptr<OrderMigrator> orders = Build();
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
  EXPECT_EQ(client_->Stats().repairs_outstanding, 3u);
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
  for (const SettleCase& c : cases) {
    SCOPED_TRACE(c.name);
    CallLog log;
    Store old_store("old", &log);
    Store new_store("new", &log);
    old_store.Put(1, 1, c.old_order);
    new_store.Put(1, 1, c.new_order);
    OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_store, &new_store);
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
  const std::unique_ptr<OrderMigrator> orders = Build({.comparison_deadline = absl::Milliseconds(100)});
  SetStage(Stage::kShadowRead);
  new_.OnRead([this] { clock_.Advance(absl::Milliseconds(101)); });
  ASSERT_TRUE(orders->Read(1).ok());
  executor_->RunAll();
  EXPECT_EQ(Compared(ComparisonOutcome::kTimeout), 1u);
  EXPECT_EQ(Totals().paired_errors.new_only, 1u);
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

// The migration's subjects as the recorder would count these names.
domain::SubjectTrials TrialsOf(const std::vector<std::string>& names, uint64_t salt_seed) {
  domain::SubjectTrials trials;
  for (const std::string& name : names) trials.Record(domain::SubjectHash(salt_seed, name));
  return trials;
}

TEST_F(MigratorTest, SubjectsAreTheRoutingKeysUnlessTheServiceNamesOthers) {
  SetStage(Stage::kShadowRead);
  const uint64_t salt_seed = client_->Route(kMigration, "1")->state().salt_seed;
  const std::unique_ptr<OrderMigrator> by_key = Build();
  OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
  const std::unique_ptr<OrderMigrator> by_tenant =
      *builder.Subject([](const int64_t& id) { return absl::StrCat("tenant-", id / 10); }).Build();
  for (const int64_t id : {1, 2}) ASSERT_TRUE(by_key->Read(id).ok());
  for (const int64_t id : {11, 12}) ASSERT_TRUE(by_tenant->Read(id).ok());
  ASSERT_TRUE(by_tenant->Read(13, {.subject = "tenant of the request"}).ok());
  ASSERT_TRUE(by_key->Read(3, {.subject = "tenant of the request"}).ok());
  const domain::SubjectTrials expected = TrialsOf(
      {"1", "2", "tenant-1", "tenant-1", "tenant of the request", "tenant of the request"}, salt_seed);
  EXPECT_EQ(Totals().subjects.reads[0], expected);
  executor_->RunAll();
  EXPECT_EQ(Totals().subjects.compared, expected);
  old_.FailReads(absl::InternalError("broken"));
  ASSERT_FALSE(by_tenant->Read(14).ok());
  executor_->RunAll();
  const uint64_t affected = internal::KeyedId(internal::KeyFromSalt(salt_seed), "subject", "tenant-1");
  EXPECT_EQ(Totals().subjects.errors[0].affected(), (std::map<uint64_t, uint64_t>{{affected, 1}}));
  EXPECT_EQ(Totals().subjects.old_failed_only.affected(), (std::map<uint64_t, uint64_t>{{affected, 1}}));
  EXPECT_EQ(Totals().subjects.compared, expected) << "an error is not comparable";
  EXPECT_TRUE(Totals().Validate().ok());
}

// How long both sides take and how they end once they are timed.
struct TimingCase {
  const char* name;
  absl::Duration old_takes;
  absl::Status old_status;
  absl::Duration new_takes;
  absl::Status new_status;
  uint64_t slower;
  uint64_t not_slower;
};

TEST_F(MigratorTest, ComparedSidesAreTimed) {
  const absl::Status broken = absl::InternalError("broken");
  const absl::Status expired = absl::DeadlineExceededError("no answer");
  const auto ms = [](int n) { return absl::Milliseconds(n); };
  const std::vector<TimingCase> cases = {
      {"new is slower", ms(10), {}, ms(12), {}, 1, 0},
      {"new is faster", ms(12), {}, ms(10), {}, 0, 1},
      {"within the tolerance", ms(100), {}, ms(109), {}, 0, 1},
      {"tie", ms(100), {}, ms(110), {}, 0, 0},
      {"new takes too long", ms(10), {}, ms(1001), {}, 1, 0},
      {"new gives up", ms(10), {}, ms(5), expired, 1, 0},
      {"old gives up", ms(5), expired, ms(10), {}, 0, 1},
      {"both give up", ms(5), expired, ms(5), expired, 0, 0},
      {"new fails", ms(10), {}, ms(1), broken, 0, 0},
      {"old fails", ms(1), broken, ms(10), {}, 0, 0},
      {"old fails, new gives up", ms(1), broken, ms(10), expired, 0, 0},
  };
  SetStage(Stage::kShadowRead);
  for (const TimingCase& c : cases) {
    SCOPED_TRACE(c.name);
    OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
    int old_reads = 0;
    int new_reads = 0;
    // Each side's first read is served or compared, its second one is timed.
    builder.ReadOld([&](const int64_t& id, const ReadContext&) -> absl::StatusOr<std::optional<Order>> {
      if (++old_reads == 1) return old_.Read(id);
      clock_.Advance(c.old_takes);
      if (!c.old_status.ok()) return c.old_status;
      return old_.Read(id);
    });
    builder.ReadNew(
        [&](const int64_t& id, const ReadContext& context) -> absl::StatusOr<std::optional<Order>> {
          EXPECT_EQ(context.purpose, ReadPurpose::kCompare);
          if (++new_reads == 1) return new_.Read(id);
          clock_.Advance(c.new_takes);
          if (!c.new_status.ok()) return c.new_status;
          return new_.Read(id);
        });
    const std::unique_ptr<OrderMigrator> orders = *builder.Options({.paired_latency_share = 1}).Build();
    const domain::WindowStats before = Totals();
    ASSERT_TRUE(orders->Read(1).ok());
    executor_->RunAll();
    const domain::WindowStats after = Totals();
    EXPECT_EQ(after.paired_latency.slower - before.paired_latency.slower, c.slower);
    EXPECT_EQ(after.paired_latency.not_slower - before.paired_latency.not_slower, c.not_slower);
    EXPECT_EQ(after.comparison(ComparisonOutcome::kMatch), before.comparison(ComparisonOutcome::kMatch) + 1)
        << "timing changes no outcome";
    EXPECT_EQ(after.arm(Arm::kOld).requests, before.arm(Arm::kOld).requests + 1) << "serves nobody";
    EXPECT_EQ(orders->comparisons_in_flight(), 0);
    EXPECT_TRUE(after.Validate().ok()) << after.Validate();
  }
}

TEST_F(MigratorTest, AShareOfTheComparisonsIsTimedInEitherOrder) {
  SetStage(Stage::kShadowRead);
  constexpr int kReads = 2000;
  const std::unique_ptr<OrderMigrator> orders = Build({.paired_latency_share = 0.25});
  int old_first = 0;
  int new_first = 0;
  for (int i = 0; i < kReads; ++i) {
    ASSERT_TRUE(orders->Read(1).ok());
    executor_->RunAll();
    const std::vector<std::string> calls = calls_.Take();
    if (calls.size() == 2) continue;
    ASSERT_EQ(calls.size(), 4u);
    ++(calls[2] == "old.read" ? old_first : new_first);
    EXPECT_NE(calls[2], calls[3]);
  }
  // Five standard deviations of a binomial share either way; the client's seed is fixed.
  EXPECT_NEAR(old_first + new_first, 500, 97);
  EXPECT_NEAR(old_first, new_first, 112);
  EXPECT_EQ(Compared(ComparisonOutcome::kMatch), static_cast<uint64_t>(kReads));
}

TEST_F(MigratorTest, RefusesAShareThatIsNone) {
  for (const double share : {-0.1, 1.1, std::nan("")}) {
    EXPECT_THAT(BuilderOver(client_.get(), &old_, &new_)
                    .Options({.paired_latency_share = share})
                    .Build()
                    .status()
                    .message(),
                HasSubstr("paired_latency_share"));
  }
}

TEST_F(MigratorTest, RepairsAreCountedOnceEach) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  const auto counted = [this] { return Totals().repairs; };
  SetStage(Stage::kDualWrite);
  new_.FailMirrors(absl::UnavailableError("down"));
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  ASSERT_TRUE(orders->Write(1, {20, "ann"}).ok());
  EXPECT_EQ(counted(), (domain::RepairStats{.queued = 2, .done = 0}));
  executor_->RunAll(20);
  EXPECT_EQ(counted(), (domain::RepairStats{.queued = 2, .done = 0})) << "trying again is no other repair";
  new_.FailMirrors(absl::OkStatus());
  // The newer write makes both unnecessary; they are outstanding until they find that out.
  ASSERT_TRUE(orders->Write(1, {30, "ann"}).ok());
  EXPECT_EQ(counted().queued - counted().done, client_->Stats().repairs_outstanding);
  executor_->RunAll();
  EXPECT_EQ(counted(), (domain::RepairStats{.queued = 2, .done = 2}));
  EXPECT_EQ(new_.Get(1)->row, (Order{30, "ann"}));
  EXPECT_EQ(client_->Stats().repairs_outstanding, 0u);

  // What finds no place is a failed mirror write of a failed call, and no repair.
  new_.FailMirrors(absl::UnavailableError("down"));
  for (int64_t id = 1; id <= 3; ++id) EXPECT_TRUE(orders->Write(id, {10, "ann"}).ok());
  EXPECT_FALSE(orders->Write(4, {10, "ann"}).ok());
  EXPECT_EQ(counted(), (domain::RepairStats{.queued = 5, .done = 2}));
}

TEST_F(MigratorTest, RepairsBelongToTheGenerationOfTheirWrite) {
  const std::unique_ptr<OrderMigrator> orders = Build();
  domain::RoutingState state = domain::StateOfStage(Stage::kDualWrite, 0);
  state.generation = 3;
  SetState(state);
  const uint64_t epoch = plane_->EpochOf(kMigration);
  new_.FailMirrors(absl::UnavailableError("down"));
  ASSERT_TRUE(orders->Write(1, {10, "ann"}).ok());
  state.generation = 4;
  SetState(state);
  executor_->RunAll();
  EXPECT_EQ(client_->Stats().repairs_outstanding, 0u) << "obsolete";
  clock_.Advance(absl::Seconds(2));
  domain::RepairStats repairs;
  ASSERT_TRUE(Eventually([&] {
    repairs = plane_->Totals(kMigration).repairs;
    return repairs.done == 1;
  }));
  EXPECT_EQ(repairs.queued, 1u);
  for (const domain::TelemetryDelta& delta : plane_->Deltas()) {
    if (delta.stats.repairs == domain::RepairStats{}) continue;
    EXPECT_EQ(delta.generation, 3u);
    EXPECT_EQ(delta.epoch, epoch);
  }
}

TEST_F(MigratorTest, BackfillWorkersReportForTheStateInForce) {
  SetStage(Stage::kDualWrite);
  const MigrationHandle handle = *client_->Resolve(kMigration);
  const absl::StatusOr<Attribution> first = client_->PresentAttribution(handle);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(*first, client_->Route(handle, "1")->attribution());
  client_->telemetry().RecordBackfill(*first, 10, 0);
  SetStage(Stage::kShadowRead);
  EXPECT_EQ(client_->PresentAttribution(handle)->epoch, first->epoch + 1);
  client_->telemetry().RecordBackfill(*client_->PresentAttribution(handle), 0, 7);
  EXPECT_EQ(Totals().backfill, (domain::BackfillStats{.rows_to_copy = 10, .rows_copied = 7}));
  plane_->RemoveMigration(kMigration);
  ASSERT_TRUE(Eventually([&] { return !client_->PresentAttribution(handle).ok(); }));
  EXPECT_TRUE(absl::IsFailedPrecondition(client_->PresentAttribution(handle).status()));
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
