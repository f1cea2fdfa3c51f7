// Mirrors on their way: written behind, shed by the breaker and the cap, given up between the two writes,
// refused without a lease; and reads that must see a write.
#include <stop_token>
#include <thread>

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
using testing_support::kMigration;
using testing_support::MigratorTest;
using testing_support::Order;
using testing_support::OrderMigrator;

class MigratorMirrorTest : public MigratorTest {};

struct BehindCase {
  Stage stage;
  bool behind;
};

TEST_F(MigratorMirrorTest, WriteBehindUntilSomebodyMayReadTheMirror) {
  const std::unique_ptr<OrderMigrator> orders =
      Build({.paired_latency_share = 0, .mirror_mode = MirrorMode::kWriteBehind});
  const std::vector<BehindCase> cases = {
      {Stage::kDualWrite, true}, {Stage::kShadowRead, true}, {Stage::kCanaryRead, false}};
  int64_t id = 0;
  for (const BehindCase& c : cases) {
    SCOPED_TRACE(domain::StageName(c.stage));
    SetStage(c.stage);
    const uint64_t ok_before = Totals().writes.mirror_ok;
    const auto written = orders->Write(++id, {10, "ann"});
    ASSERT_TRUE(written.ok());
    EXPECT_EQ(written->token.mirrored, !c.behind);
    EXPECT_EQ(new_.Get(id).has_value(), !c.behind);
    EXPECT_EQ(client_->repair_queue()->Counts().queued_mirrors, c.behind ? 1u : 0u);
    if (c.behind) {
      EXPECT_EQ(client_->repair_queue()->OldestEpoch(0), plane_->EpochOf(kMigration));
    }
    executor_->RunDue();
    EXPECT_EQ(new_.Get(id)->row, (Order{10, "ann"}));
    EXPECT_EQ(Totals().writes.mirror_ok, ok_before + 1);
    EXPECT_FALSE(client_->repair_queue()->OldestEpoch(0).has_value());
  }
  EXPECT_EQ(Totals().repairs, domain::RepairStats());
}

TEST_F(MigratorMirrorTest, AFullQueueWritesThroughAndAFailureIsRepaired) {
  const std::unique_ptr<OrderMigrator> orders = Build({.mirror_mode = MirrorMode::kWriteBehind});
  SetStage(Stage::kDualWrite);
  for (int64_t id = 1; id <= 4; ++id) EXPECT_TRUE(orders->Write(id, {10, "ann"}).ok());
  EXPECT_TRUE(new_.Get(4).has_value()) << "there is room for three";
  EXPECT_FALSE(new_.Get(3).has_value());
  new_.FailMirrors(absl::UnavailableError("down"));
  executor_->RunDue();
  EXPECT_EQ(Totals().writes.mirror_failed, 3u);
  EXPECT_EQ(Totals().repairs.queued, 3u);
  new_.FailMirrors(absl::OkStatus());
  executor_->RunAll();
  for (int64_t id = 1; id <= 4; ++id) EXPECT_TRUE(new_.Get(id).has_value());
  EXPECT_EQ(Totals().repairs.done, 3u);
}

TEST_F(MigratorMirrorTest, ASickSideIsShedProbedAndTakenBack) {
  const std::unique_ptr<OrderMigrator> orders = Build({.repair_backoff_initial = absl::Hours(1),
                                                       .repair_backoff_max = absl::Hours(1),
                                                       .breaker_failures = 2,
                                                       .breaker_probe_interval = absl::Seconds(1)});
  SetStage(Stage::kShadowRead);
  new_.FailMirrors(absl::UnavailableError("down"));
  EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  EXPECT_TRUE(orders->Write(2, {10, "ann"}).ok());
  calls_.Take();
  EXPECT_TRUE(orders->Write(3, {10, "ann"}).ok()) << "shed, and in the repair queue";
  EXPECT_THAT(calls_.Take(), ElementsAre("old.write"));
  EXPECT_EQ(Totals().writes.mirror_shed, 1u);
  EXPECT_EQ(Totals().repairs.queued, 3u);
  EXPECT_TRUE(orders->Read(1).ok());
  EXPECT_EQ(Totals().dropped.comparisons_shed, 1u) << "its read would only wait";
  const absl::Status full = orders->Write(4, {10, "ann"}).status();
  EXPECT_THAT(full.message(), HasSubstr("the breaker has been open"));
  calls_.Take();
  clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(orders->Write(5, {10, "ann"}).ok());
  EXPECT_THAT(calls_.Take(), ElementsAre("old.write", "new.mirror@1")) << "the probe";
  EXPECT_FALSE(orders->Write(6, {10, "ann"}).ok());
  EXPECT_THAT(calls_.Take(), ElementsAre("old.write"));
  clock_.Advance(absl::Seconds(1));
  new_.FailMirrors(absl::OkStatus());
  for (int64_t id = 7; id <= 9; ++id) EXPECT_TRUE(orders->Write(id, {10, "ann"}).ok());
  EXPECT_TRUE(new_.Get(9).has_value()) << "one success closes it";
  executor_->RunAll();
  for (int64_t id = 1; id <= 3; ++id) EXPECT_TRUE(new_.Get(id).has_value());
}

TEST_F(MigratorMirrorTest, RepairsWaitForTheProbeToo) {
  const std::unique_ptr<OrderMigrator> orders = Build({.repair_backoff_initial = absl::Milliseconds(1),
                                                       .repair_backoff_max = absl::Milliseconds(1),
                                                       .breaker_failures = 1,
                                                       .breaker_probe_interval = absl::Seconds(1)});
  SetStage(Stage::kDualWrite);
  new_.FailMirrors(absl::UnavailableError("down"));
  EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  calls_.Take();
  const absl::Time start = clock_.Now();
  while (clock_.Now() < start + absl::Seconds(5)) executor_->RunAll(1);
  EXPECT_LE(calls_.Take().size(), 5u) << "a thousand back-offs, five probes";
  new_.FailMirrors(absl::OkStatus());
  executor_->RunAll();
  EXPECT_TRUE(new_.Get(1).has_value());
}

TEST_F(MigratorMirrorTest, MirrorsAboveTheCapAreShed) {
  OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
  OrderMigrator* self = nullptr;
  bool nested = false;
  builder.MirrorToNew(
      [&](const int64_t& id, const Order* order, Version version, const WriteContext& context) {
        if (!std::exchange(nested, true)) {
          EXPECT_TRUE(self->Write(2, {20, "bob"}).ok());  // another call meanwhile
        }
        return new_.Mirror(id, order, version, context);
      });
  const std::unique_ptr<OrderMigrator> orders = *builder.Options({.max_mirrors_in_flight = 1}).Build();
  self = orders.get();
  SetStage(Stage::kDualWrite);
  EXPECT_TRUE(orders->Write(1, {10, "ann"}).ok());
  EXPECT_FALSE(new_.Get(2).has_value());
  EXPECT_EQ(Totals().writes.mirror_shed, 1u);
  executor_->RunAll();
  EXPECT_EQ(new_.Get(2)->row, (Order{20, "bob"}));
}

TEST_F(MigratorMirrorTest, GivenUpBetweenTheTwoWrites) {
  std::stop_source stop;
  OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
  builder.WriteOld([&](const int64_t& id, const Order* order, const WriteContext& context) {
    auto result = old_.Write(id, order, context);
    stop.request_stop();
    return result;
  });
  const std::unique_ptr<OrderMigrator> orders = *builder.Build();
  SetStage(Stage::kDualWrite);
  const absl::Status status = orders->Write(1, {10, "ann"}, {.stop = stop.get_token()}).status();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("the authoritative write stands (version 1)"));
  EXPECT_THAT(status.message(), HasSubstr("the repair is queued"));
  EXPECT_EQ(Totals().writes.mirror_failed, 1u);
  EXPECT_THAT(calls_.Take(), ElementsAre("old.write"));
  executor_->RunAll();
  EXPECT_EQ(new_.Get(1)->row, (Order{10, "ann"}));
}

// Read your writes.

struct TokenCase {
  const char* name;
  bool mirror_fails;
  bool has_current;
  Version new_has;  // before the read
  std::vector<std::string> read;
  int64_t total;
};

TEST_F(MigratorMirrorTest, ReadsAfterAToken) {
  const std::vector<TokenCase> cases = {
      {"the mirror had it", false, false, 2, {"new.read"}, 20},
      {"it had not, and can't be asked", true, false, 1, {"old.read"}, 20},
      {"it had not, and still has not", true, true, 1, {"new.current", "old.read"}, 20},
      {"it had not, but has by now", true, true, 2, {"new.current"}, 20},
      {"it has something newer by now", true, true, 3, {"new.current"}, 30},
  };
  SetStage(Stage::kCanaryRead, domain::kBucketCount);
  for (const TokenCase& c : cases) {
    SCOPED_TRACE(c.name);
    old_.Put(1, 1, Order{10, "ann"});
    new_.Put(1, 1, Order{10, "ann"});
    OrderMigrator::Builder builder = BuilderOver(client_.get(), &old_, &new_);
    if (c.has_current)
      builder.CurrentNew([this](const int64_t& id, const ReadContext&) { return new_.Current(id); });
    const std::unique_ptr<OrderMigrator> orders =
        *builder.Options({.mirror_failure = MirrorFailurePolicy::kRepair}).Build();
    if (c.mirror_fails) new_.FailMirrors(absl::UnavailableError("down"));
    const auto written = orders->Write(1, {20, "ann"});
    ASSERT_TRUE(written.ok());
    EXPECT_EQ(written->token.mirrored, !c.mirror_fails);
    new_.FailMirrors(absl::OkStatus());
    new_.Put(1, c.new_has, Order{c.new_has * 10, "ann"});
    calls_.Take();
    const absl::StatusOr<ReadToken> token = ReadToken::Parse(written->token.ToString());
    ASSERT_TRUE(token.ok()) << token.status();
    EXPECT_EQ(*token, written->token);
    EXPECT_EQ((*orders->Read(1, {.after = *token}))->total, c.total);
    EXPECT_EQ(calls_.Take(), c.read);
    executor_->DropAll();
    client_->repair_queue()->Hasten();
    executor_->RunAll();
    calls_.Take();
  }
}

TEST_F(MigratorMirrorTest, ATokenOfAnAuthorityThatHasMovedSinceNeedsNothing) {
  SetStage(Stage::kCanaryRead, domain::kBucketCount);
  const std::unique_ptr<OrderMigrator> orders = Build();
  ReadToken token{.authoritative = domain::Side::kOld, .version = 5, .epoch = plane_->EpochOf(kMigration)};
  EXPECT_TRUE(orders->Read(1, {.after = token}).ok());
  EXPECT_THAT(calls_.Take(), ElementsAre("old.read"));
  SetStage(Stage::kNewOnly);
  EXPECT_TRUE(orders->Read(1, {.after = token}).ok());
  executor_->DropAll();
  EXPECT_THAT(calls_.Take(), ElementsAre("new.read")) << "the fence has waited for its mirror";
}

TEST(ReadTokenTest, RoundTripsAndRefusesEverythingElse) {
  for (const ReadToken& token : std::vector<ReadToken>{{},
                                                       {domain::Side::kNew, 1, true, 7},
                                                       {domain::Side::kOld, INT64_MAX, false, UINT64_MAX},
                                                       {domain::Side::kOld, INT64_MIN, true, 1}}) {
    const std::string text = token.ToString();
    SCOPED_TRACE(text);
    EXPECT_EQ(*ReadToken::Parse(text), token);
    for (size_t i = 0; i < text.size(); ++i) {
      for (const char c : {'0', '1', 'x', '.', ' ', '\0'}) {
        std::string wrong = text;
        wrong[i] = c;
        if (wrong != text) {
          EXPECT_TRUE(absl::IsInvalidArgument(ReadToken::Parse(wrong).status())) << wrong;
        }
      }
      EXPECT_FALSE(ReadToken::Parse(text.substr(0, i)).ok());
      EXPECT_FALSE(ReadToken::Parse(text.substr(i + 1)).ok());
    }
    EXPECT_FALSE(ReadToken::Parse(text + "0").ok());
  }
}

}  // namespace
}  // namespace lockstep
