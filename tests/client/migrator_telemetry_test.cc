// What a Migrator reports besides counts of calls: whom they concern, which side is slower, what is still to
// be repaired.
#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/internal/digest.h"
#include "lockstep/migrator.h"
#include "tests/client/migrator_fixture.h"

namespace lockstep {
namespace {

using domain::Arm;
using domain::ComparisonOutcome;
using domain::Stage;
using ::testing::HasSubstr;
using testing_support::BuilderOver;
using testing_support::Eventually;
using testing_support::kMigration;
using testing_support::MigratorTest;
using testing_support::Order;
using testing_support::OrderMigrator;

using MigratorTelemetryTest = MigratorTest;

// The migration's subjects as the recorder would count these names.
domain::SubjectTrials TrialsOf(const std::vector<std::string>& names, uint64_t salt_seed) {
  domain::SubjectTrials trials;
  for (const std::string& name : names) trials.Record(domain::SubjectHash(salt_seed, name));
  return trials;
}

TEST_F(MigratorTelemetryTest, SubjectsAreTheRoutingKeysUnlessTheServiceNamesOthers) {
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

TEST_F(MigratorTelemetryTest, ComparedSidesAreTimed) {
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

TEST_F(MigratorTelemetryTest, AShareOfTheComparisonsIsTimedInEitherOrder) {
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

TEST_F(MigratorTelemetryTest, RefusesAShareThatIsNone) {
  for (const double share : {-0.1, 1.1, std::nan("")}) {
    EXPECT_THAT(BuilderOver(client_.get(), &old_, &new_)
                    .Options({.paired_latency_share = share})
                    .Build()
                    .status()
                    .message(),
                HasSubstr("paired_latency_share"));
  }
}

TEST_F(MigratorTelemetryTest, RepairsAreCountedOnceEach) {
  const std::unique_ptr<OrderMigrator> orders = Build({.paired_latency_share = 0, .breaker_failures = 1000});
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

  // What finds no place is outstanding for good.
  new_.FailMirrors(absl::UnavailableError("down"));
  for (int64_t id = 1; id <= 3; ++id) EXPECT_TRUE(orders->Write(id, {10, "ann"}).ok());
  EXPECT_FALSE(orders->Write(4, {10, "ann"}).ok());
  EXPECT_EQ(counted(), (domain::RepairStats{.queued = 6, .done = 2}));
}

TEST_F(MigratorTelemetryTest, RepairsBelongToTheGenerationOfTheirWrite) {
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

TEST_F(MigratorTelemetryTest, BackfillWorkersReportForTheStateInForce) {
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

}  // namespace
}  // namespace lockstep
