// Instances that come back: over a stream that replaces another, after a rollback that they missed, with
// claims that stand beside nothing, and with claims that this server's data knows nothing of.
#include <gmock/gmock.h>

#include "tests/engine/fleet_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using domain::Stage;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ReconnectTest : public FleetTest {
 protected:
  // Whoever had it in force comes back with it.
  void ComeBack(const std::string& id) { Enrol(id, {{kName, Published().epoch}}); }
  void Vanish(const std::string& id) { streams_.at(id).session.reset(); }
  void RollBack() {
    const auto rolled_back = Do(CommandKind::kRollback);
    ASSERT_TRUE(rolled_back.ok()) << rolled_back.status();
  }
  InstanceView Find(const std::string& id) { return *engine_->instances().Find(kName, id); }
  DurationCounts Propagation() { return engine_->Metrics().rollback_propagation; }
};

TEST_F(ReconnectTest, AHoldBeginsThoughAStreamIsBeingRenewed) {
  Create(kName, PlanToComplete());
  Enrol("a");
  Enrol("b");
  WalkToAllReads();
  // The old stream is there until the new one is, and its end says nothing any more.
  const auto old = std::move(streams_.at("b").session);
  EXPECT_TRUE(Find("b").connected);
  ComeBack("b");
  EXPECT_TRUE(Find("b").connected);
  Advance();
  EXPECT_EQ(Where(), "CUTOVER 0/5000 pending");
  EXPECT_EQ(ReasonOf(old->OnHeartbeat(0, {})), "NOT_ENROLLED");
}

TEST_F(ReconnectTest, TheEndOfTheOldStreamIsNotTheInstances) {
  Create();
  Enrol("a");
  auto old = std::move(streams_.at("a").session);
  ComeBack("a");
  old.reset();
  EXPECT_TRUE(Find("a").connected);
}

TEST_F(ReconnectTest, WhatWaitedForAnInstanceIsPublishedWithItsEnrolment) {
  Create(kName, PlanToComplete());
  Enrol("a");
  Enrol("b");
  WalkToAllReads();
  Vanish("b");
  Advance();
  ASSERT_EQ(Where(), "CANARY_READ pending");
  ComeBack("b");
  EXPECT_EQ(Where(), "CUTOVER 0/5000 pending") << "no tick is needed";
}

TEST_F(ReconnectTest, AStreamIsSettledWhenNothingWaitsForIt) {
  Create(kName, PlanToComplete());
  Enrol("a");
  InstanceSession& stream = *streams_.at("a").session;
  Take("a");
  EXPECT_TRUE(stream.settled());
  WalkToAllReads();
  EXPECT_TRUE(stream.settled());
  Advance();
  ASSERT_EQ(Where(), "CUTOVER 0/5000 pending");
  Take("a");
  EXPECT_FALSE(stream.settled()) << "writes are held";
  AckAll();
  Settle();
  ASSERT_EQ(Where(), "CUTOVER 8000/8000");
  EXPECT_TRUE(stream.settled());
  Enrol("b", {{kName, 1}});  // stands in the way of whatever comes next
  Advance();
  ASSERT_EQ(Where(), "CUTOVER 8000/8000 pending");
  EXPECT_FALSE(stream.settled()) << "a goal is pending";
}

TEST_F(ReconnectTest, TheEndOfAHoldIsNoRollback) {
  Create(kName, PlanToComplete());
  Enrol("a");
  WalkTo(Stage::kCutover);
  Settle();
  ASSERT_EQ(Where(), "CUTOVER 8000/8000");
  EXPECT_EQ(Propagation().count, 0u);
  RollBack();
  Settle();
  ASSERT_EQ(Where(), "CANARY_READ");
  EXPECT_EQ(Propagation().count, 3u) << "two slices, and the reads";
}

TEST_F(ReconnectTest, WhoWasAwayDuringARollbackIsTheSlowestOne) {
  Create();
  Enrol("a");
  Enrol("away");
  WalkTo(Stage::kShadowRead);
  const uint64_t before = Published().epoch;
  Vanish("away");
  RollBack();
  Take("a");
  clock_.Advance(absl::Seconds(20));
  Enrol("away", {{kName, before}});
  Take("away");
  EXPECT_EQ(Propagation().count, 2u);
  EXPECT_DOUBLE_EQ(Propagation().sum_seconds, 20);
  EXPECT_EQ(Propagation().cells[DurationCounts::kBoundsSeconds.size() - 2], 1u) << "up to 30 s";
  EXPECT_EQ(Find("away").accept_delay, absl::Seconds(20));

  // Somebody new has followed nothing, and whoever has it already does not follow once more.
  Enrol("new");
  Take("new");
  clock_.Advance(absl::Seconds(5));
  ComeBack("away");
  Take("away");
  EXPECT_EQ(Find("away").accepted_epoch, Published().epoch);
  EXPECT_EQ(Propagation().count, 2u);
  EXPECT_EQ(Find("away").accept_delay, absl::Seconds(20)) << "still the last that was measured";
  EXPECT_EQ(Find("new").accept_delay, std::nullopt);
  // An operation of an older epoch is still there: the claim is older than what it acted on.
  Enrol("away", {{kName, before}});
  Take("away");
  EXPECT_EQ(Propagation().count, 2u);
}

// As after the loss of a journal's end or an older disk image: what comes back stands badly beside what is
// published already. To keep users on what is not trusted would make nothing better.
TEST_F(ReconnectTest, ARollbackDoesNotWaitForWhatIsBadAlready) {
  for (const uint64_t claim : {1u, 0u}) {  // OFF, and an epoch that nobody knows
    SCOPED_TRACE(claim);
    const std::string name = absl::StrCat("namespaces/shop/migrations/claim-", claim);
    Create(name);
    Enrol("a", {}, "cities", {name});
    ASSERT_TRUE(Do(CommandKind::kStart, By("user:ann"), false, 0, name).ok());
    const auto stage = [&] { return Now(name).migration->published.stage; };
    while (Now(name).migration->published.read_weight < 25000) {
      Take("a");
      ASSERT_TRUE(
          streams_.at("a").session->OnAck(0, {{name, Now(name).migration->published.epoch}}, {}).ok());
      ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true, 0, name).ok());
    }
    Enrol("back", {{name, claim}}, "cities", {name});
    for (const Stage down : {Stage::kShadowRead, Stage::kDualWrite}) {
      const auto now = Do(CommandKind::kRollback, By("user:ann"), false, 0, name);
      ASSERT_TRUE(now.ok()) << now.status();
      EXPECT_EQ(stage(), down);
      EXPECT_FALSE(now->migration->pending);
      EXPECT_TRUE(now->waiting.empty());
    }
    // OFF would be worse for who is at SHADOW_READ or later than DUAL_WRITE is.
    ASSERT_TRUE(Do(CommandKind::kRollback, By("user:ann"), false, 0, name).ok());
    EXPECT_EQ(stage(), Stage::kDualWrite);
    EXPECT_TRUE(Now(name).migration->pending);
    EXPECT_FALSE(Now(name).waiting.empty());
  }
}

// Passed by for what it wrote before; what it is sent now it may write by, however late that arrives.
TEST_F(ReconnectTest, WhoWasPassedByCountsAgainFromItsEnrolmentOn) {
  Create();
  EnrolRequest request = FailingWrites("a");
  EnrolAs(request);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  ASSERT_EQ(Where(), "DUAL_WRITE pending") << "it may act on OFF";
  RollBack();
  ASSERT_EQ(Where(), "OFF");
  Tick(absl::Seconds(16));
  ASSERT_TRUE(Find("a").passed_by);
  request.held = {{kName, 1}};
  EnrolAs(request);  // and is sent OFF
  EXPECT_FALSE(Find("a").passed_by);
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  Advance();
  EXPECT_EQ(Where(), "DUAL_WRITE pending");
  Tick(absl::Seconds(14));
  EXPECT_EQ(Where(), "DUAL_WRITE pending");
  Restart();
  EXPECT_FALSE(Find("a").passed_by) << "that it counts is durable before it is sent anything";
  Tick(absl::Seconds(16));
  EXPECT_EQ(Where(), "SHADOW_READ") << "its lease is over again";
}

TEST_F(ReconnectTest, TheWayUpWaitsForWhatIsBadAlready) {
  Create();
  Enrol("a");
  WalkTo(Stage::kShadowRead);
  Enrol("back", {{kName, 1}});
  Advance();
  EXPECT_EQ(Where(), "SHADOW_READ pending");
}

TEST_F(ReconnectTest, NothingIsPublishedFromDataThatIsOlderThanAnInstances) {
  Create();
  Enrol("a");
  WalkTo(Stage::kShadowRead);
  constexpr char kOther[] = "namespaces/shop/migrations/other";
  Create(kOther);
  const uint64_t epoch = Published().epoch;
  Advance();
  ASSERT_EQ(Where(), "CANARY_READ");
  const auto check = [&] {
    EXPECT_THAT(registry().ListBehind(), ElementsAre(kName));
    for (const CommandKind kind : {CommandKind::kAdvance, CommandKind::kRollback, CommandKind::kPause}) {
      EXPECT_EQ(ReasonOf(Do(kind, By("user:ann"), true).status()), "DATA_BEHIND");
    }
    EXPECT_EQ(ReasonOf(registry().Drill(kName, By("user:ann")).status()), "DATA_BEHIND");
    EXPECT_THAT(Now().migration->run_state_reason, HasSubstr("--restored-from-backup"));
    EXPECT_THAT(Now().migration->run_state_reason, HasSubstr("'seen-more'"));
    EXPECT_EQ(ReasonOf(registry().Enrol(RequestOf("new")).status()), "DATA_BEHIND")
        << "it would act on a state that others have left";
    EXPECT_EQ(ReasonOf(registry().RouteRemotely(kName).status()), "DATA_BEHIND");
    EXPECT_TRUE(registry().Explain(kName).ok());
    EXPECT_TRUE(registry().Enrol(RequestOf("a", {{kName, epoch}})).ok());
  };
  EXPECT_TRUE(registry().ListBehind().empty());
  EXPECT_EQ(ReasonOf(registry().Enrol(RequestOf("seen-more", {{kName, 99}})).status()), "EPOCH_AHEAD");
  check();
  EXPECT_TRUE(Do(CommandKind::kStart, By("user:ann"), false, 0, kOther).ok()) << "that one is not concerned";
  Tick(absl::Seconds(1));
  Restart();  // the instance has not been back yet
  check();
  EXPECT_EQ(Where(), "CANARY_READ");

  options_.registry.new_store_epoch = true;
  Restart();
  EXPECT_TRUE(registry().ListBehind().empty());
  EXPECT_TRUE(registry().Enrol(RequestOf("new")).ok());
  ASSERT_TRUE(Do(CommandKind::kPause).ok());
  EXPECT_THAT(Now().migration->run_state_reason, ::testing::Not(HasSubstr("--restored-from-backup")));
}

TEST_F(ReconnectTest, AGoalThatWaitsStaysWhereItIsWhenTheDataIsOld) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  ASSERT_EQ(Where(), "DUAL_WRITE pending");
  EXPECT_EQ(ReasonOf(registry().Enrol(RequestOf("seen-more", {{kName, 99}})).status()), "EPOCH_AHEAD");
  AckAll();
  Tick(absl::Seconds(10));
  EXPECT_EQ(Where(), "DUAL_WRITE pending");
}

}  // namespace
}  // namespace lockstep::engine
