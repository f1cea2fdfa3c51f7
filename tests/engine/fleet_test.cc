// Leases, evictions, drills, slices of write authority and their holds: what the engine does about a fleet
// that follows, lags, is silent or is gone.
#include <gmock/gmock.h>

#include "core/domain/next_hop.h"
#include "tests/engine/fleet_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using domain::Stage;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(FleetTest, AuthorityMovesSliceBySliceAndBack) {
  Create(kName, PlanToComplete());
  Enrol("a");
  Enrol("b");
  WalkToAllReads();
  // To 8 % in slices of 5 %: a hold, the move, a hold, the move; each needs both instances.
  Advance();
  EXPECT_EQ(Where(), "CUTOVER 0/5000 pending");
  Take("a");
  ASSERT_TRUE(Ack("a", Published().epoch).ok());
  EXPECT_EQ(Where(), "CUTOVER 0/5000 pending");
  ASSERT_THAT(Now().waiting, ::testing::SizeIs(1));
  EXPECT_EQ(Now().waiting[0].instance_id, "b");
  EXPECT_THAT(Now().waiting[0].reason, HasSubstr("opposite orders"));
  ASSERT_TRUE(Ack("b", Published().epoch).ok());
  EXPECT_EQ(Where(), "CUTOVER 5000/5000 pending") << "the next hold waits until both are at this epoch";
  AckAll();
  EXPECT_EQ(Where(), "CUTOVER 5000/8000 pending");
  AckAll();
  EXPECT_EQ(Where(), "CUTOVER 8000/8000");
  EXPECT_THAT(Actions(4), ElementsAre("publish", "slice", "slice", "advance"));

  Settle();
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  EXPECT_EQ(Where(), "CUTOVER 3000/8000 pending");
  AckAll();
  EXPECT_EQ(Where(), "CUTOVER 3000/3000 pending");
  AckAll();
  EXPECT_EQ(Where(), "CUTOVER 0/3000 pending");
  AckAll();
  // Nothing is held any more, and nobody has to be waited for.
  EXPECT_EQ(Where(), "CANARY_READ");
  EXPECT_EQ(Published().read_weight, 0u);
  EXPECT_EQ(Now().migration->run_state, domain::RunState::kRolledBack);
}

TEST_F(FleetTest, TheWholeWayToComplete) {
  Create(kName, PlanToComplete());
  Enrol("a");
  WalkTo(Stage::kCutover);
  while (Published().write_weight < 100000) {
    Advance();
    Settle();
  }
  domain::Command command;
  command.kind = CommandKind::kAdvance;
  command.override_gate = true;
  command.reason = "tested";
  EXPECT_EQ(ReasonOf(registry().Execute(kName, command, By("user:ann")).status()), "POINT_OF_NO_RETURN");
  command.accept_no_way_back = true;
  ASSERT_TRUE(registry().Execute(kName, command, By("user:ann")).ok());
  EXPECT_EQ(Where(), "NEW_ONLY");
  EXPECT_FALSE(Do(CommandKind::kRollback).ok());
  EXPECT_FALSE(Do(CommandKind::kAbort).ok());
  Advance();
  EXPECT_EQ(Where(), "NEW_ONLY pending") << "'a' may still mirror to the old side";
  Settle();
  EXPECT_EQ(Where(), "COMPLETE");
}

TEST_F(FleetTest, NoWritesAreHeldForAnInstanceThatDoesNotFollow) {
  Create(kName, PlanToComplete());
  Enrol("a");
  Enrol("b");
  WalkToAllReads();
  streams_.at("b").session.reset();  // as after a crash
  const uint64_t epoch = Published().epoch;
  Advance();
  EXPECT_EQ(Where(), "CANARY_READ pending");
  EXPECT_EQ(Published().epoch, epoch);
  ASSERT_THAT(Now().waiting, ::testing::SizeIs(1));
  EXPECT_EQ(Now().waiting[0].instance_id, "b");
  EXPECT_THAT(Now().waiting[0].reason, HasSubstr("is not connected"));
  EXPECT_THAT(Now().waiting[0].unblock, HasSubstr("evict it"));
  Enrol("b", {{kName, epoch}});
  Tick(absl::Seconds(1));
  EXPECT_EQ(Where(), "CUTOVER 0/5000 pending");
}

TEST_F(FleetTest, AHoldThatTakesTooLongIsReleasedAndTriedAgain) {
  Create(kName, PlanToComplete());
  Enrol("a");
  Enrol("b");
  WalkTo(Stage::kCutover);  // at 8 %
  Advance();
  EXPECT_EQ(Where(), "CUTOVER 8000/13000 pending");
  ASSERT_TRUE(Ack("a", Published().epoch).ok());
  Tick(absl::Seconds(10));
  EXPECT_EQ(Where(), "CUTOVER 8000/13000 pending");
  Tick(absl::Seconds(1));
  EXPECT_EQ(Where(), "CUTOVER 8000/8000 pending");
  const auto records = registry().ListDecisions(kName, 0, 1);
  EXPECT_EQ(records->front().action, "release");
  EXPECT_THAT(records->front().reason, HasSubstr("because of 'b'"));
  EXPECT_EQ(Now().migration->run_state, domain::RunState::kRunning);
  AckAll();
  EXPECT_EQ(Where(), "CUTOVER 8000/8000 pending") << "not at once, though everybody follows again";
  EXPECT_EQ(Now().waiting[0].instance_id, "pause between holds");
  EXPECT_THAT(Now().waiting[0].unblock, HasSubstr("begins in 11s"));
  Tick(absl::Seconds(10));
  EXPECT_EQ(Where(), "CUTOVER 8000/13000 pending");
  // Released again, the pause is twice as long.
  Tick(absl::Seconds(11));
  AckAll();
  Tick(absl::Seconds(19));
  AckAll();
  EXPECT_EQ(Where(), "CUTOVER 8000/8000 pending");
  Tick(absl::Seconds(1));
  EXPECT_EQ(Where(), "CUTOVER 8000/13000 pending");

  // On the way back the slice stays with the side it was taken from: the new one.
  AckAll();
  Settle();
  const uint32_t reached = Published().write_weight;
  ASSERT_GT(reached, 13000u);
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  EXPECT_EQ(Where(), absl::StrCat("CUTOVER ", reached - 5000, "/", reached, " pending"));
  Tick(absl::Seconds(11));
  EXPECT_EQ(Where(), absl::StrCat("CUTOVER ", reached, "/", reached, " pending"));
}

TEST_F(FleetTest, ARecordThatDiffersForGoodReleasesTheSliceAndPauses) {
  Create(kName, PlanToComplete());
  Enrol("a");
  WalkTo(Stage::kCutover);
  Advance();
  ASSERT_EQ(Where(), "CUTOVER 8000/13000 pending");
  domain::SliceCheck check;
  check.migration = kName;
  check.epoch = Published().epoch - 1;  // of an earlier hold
  check.checked = 10;
  check.differing = 2;
  check.example = "total_cents differs";
  InstanceSession& session = *streams_.at("a").session;
  ASSERT_TRUE(session.OnAck(0, {}, {check}).ok());
  EXPECT_EQ(Where(), "CUTOVER 8000/13000 pending");
  check.epoch = Published().epoch;
  ASSERT_TRUE(session.OnAck(0, {{kName, Published().epoch}}, {check}).ok());
  EXPECT_EQ(Where(), "CUTOVER 8000/8000");
  const domain::Migration& migration = *Now().migration;
  EXPECT_EQ(migration.run_state, domain::RunState::kPaused);
  for (const char* part : {"'a'", "10 records", "2 differ for good", "total_cents differs"}) {
    EXPECT_THAT(migration.run_state_reason, HasSubstr(part));
  }
}

TEST_F(FleetTest, AnEvictedInstanceIsWaitedForNoLongerUntilItIsBack) {
  Create();
  Enrol("gone");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  ASSERT_EQ(Where(), "DUAL_WRITE pending");
  const uint64_t held = Now().waiting[0].epoch;
  auto session = std::move(streams_.at("gone").session);
  MutationContext context = By("user:ann");
  EXPECT_EQ(ReasonOf(registry().Evict(kName, "gone", context).status()), "REASON_REQUIRED");
  context.reason = "its machine was scrapped";
  EXPECT_EQ(ReasonOf(registry().Evict(kName, "nobody", context).status()), "INSTANCE_NOT_FOUND");
  context.validate_only = true;
  const auto asked = registry().Evict(kName, "gone", context);
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_THAT(asked->risks, ElementsAre(HasSubstr("false mismatches"), HasSubstr("step 3 of the plan"),
                                        HasSubstr("it is there")));
  EXPECT_EQ(Where(), "DUAL_WRITE pending");

  context.validate_only = false;
  context.request_id = "id";
  const auto evicted = registry().Evict(kName, "gone", context);
  ASSERT_TRUE(evicted.ok()) << evicted.status();
  EXPECT_EQ(evicted->instance.acknowledged_epoch, held);
  EXPECT_EQ(Where(), "SHADOW_READ");
  EXPECT_TRUE(registry().Evict(kName, "gone", context).ok()) << "a repeat";
  const auto records = registry().ListDecisions(kName, 0, 2);
  EXPECT_EQ((*records)[1].action, "evict");
  EXPECT_EQ((*records)[1].actor, "user:ann");
  EXPECT_THAT((*records)[1].reason, HasSubstr("'gone' of 'cities' at epoch 1 is taken as gone: its machine"));
  EXPECT_THAT((*records)[1].reason, HasSubstr("should it still act: "));
  EXPECT_EQ(ReasonOf(session->OnHeartbeat(0, {})), "NOT_ENROLLED");
  session.reset();
  Restart();
  EXPECT_TRUE(engine_->instances().List(kName).empty());

  // It was not gone after all: what it acts on counts again.
  Enrol("gone", {{kName, held}});
  EXPECT_EQ(engine_->instances().OldestLiveEpoch(kName), held);
}

TEST_F(FleetTest, EvictionIsFromOneMigration) {
  constexpr char kOther[] = "namespaces/shop/migrations/other";
  Create();
  Create(kOther);
  Enrol("a", {}, "cities", {kName, kOther});
  MutationContext context = By("user:ann");
  context.reason = "gone";
  ASSERT_TRUE(registry().Evict(kName, "a", context).ok());
  EXPECT_TRUE(engine_->instances().List(kName).empty());
  EXPECT_EQ(engine_->instances().List(kOther).size(), 1u);
  Restart();
  EXPECT_TRUE(engine_->instances().List(kName).empty());
  EXPECT_EQ(engine_->instances().OldestLiveEpoch(kOther), 1u);
}

TEST_F(FleetTest, ADrillChangesNothingButTheEpochAndIsMeasured) {
  Create();
  Enrol("a");
  Enrol("b");
  WalkTo(Stage::kShadowRead);
  const domain::RoutingState before = Published();
  const auto evaluated = Now().gate;
  const auto drilled = registry().Drill(kName, By("user:ann"));
  ASSERT_TRUE(drilled.ok()) << drilled.status();
  EXPECT_EQ(Published().epoch, before.epoch + 1);
  EXPECT_TRUE(Published().RoutesLike(before));
  EXPECT_EQ(Now().gate, evaluated);
  EXPECT_FALSE(Now().migration->pending);
  clock_.Advance(absl::Milliseconds(40));
  Take("a");
  const auto instances = engine_->instances().List(kName);
  EXPECT_EQ(instances[0].accepted_epoch, Published().epoch);
  EXPECT_EQ(instances[0].accept_delay, absl::Milliseconds(40));
  EXPECT_EQ(instances[1].accepted_epoch, before.epoch);
  EXPECT_EQ(engine_->Metrics().rollback_propagation.count, 1u);

  Advance();  // nothing waits for a drill that is under way
  EXPECT_EQ(StageNow(), Stage::kCanaryRead);
  EXPECT_EQ(Actions(2), (std::vector<std::string>{"advance", "drill"}));
}

TEST_F(FleetTest, ADrillDoesNotOvertakeAPublish) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  ASSERT_EQ(Where(), "DUAL_WRITE pending");
  EXPECT_EQ(ReasonOf(registry().Drill(kName, By("user:ann")).status()), "FENCE_WAITS");
}

struct LeaseCase {
  const char* what;
  domain::LeasePolicy policy;
  Stage from;
  bool passes;  // the step from there, when the lease of the only instance is over
};

TEST_F(FleetTest, WhatTheEndOfALeaseIsEnoughFor) {
  constexpr auto kKeep = domain::LeasePolicy::kKeepServing;
  constexpr auto kFail = domain::LeasePolicy::kFailWrites;
  const LeaseCase cases[] = {
      {"an instance that goes on writing", kKeep, Stage::kDualWrite, false},
      {"one that writes no more", kFail, Stage::kDualWrite, true},
      {"one that may owe the new side a write, before that one has the authority", kFail, Stage::kCanaryRead,
       false},
      {"one that may still read the old side, before that side gets no writes", kFail, Stage::kCutover,
       false},
  };
  int number = 0;
  for (const LeaseCase& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string name = absl::StrCat("namespaces/shop/migrations/m", ++number);
    Create(name, PlanToComplete());
    const auto published = [&] { return Now(name).migration->published; };
    const auto advance = [&] { ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true, 0, name).ok()); };
    ASSERT_TRUE(Do(CommandKind::kStart, By("user:ann"), false, 0, name).ok());
    while (published().stage < c.from || (c.from == Stage::kCanaryRead && published().read_weight < 100000) ||
           (c.from == Stage::kCutover && published().write_weight < 100000)) {
      advance();
    }
    EnrolRequest request = RequestOf("a", {}, "cities", {name});
    // As if it had been there since the epoch before.
    request.held = {{name, published().epoch - 1}};
    request.lease_policy = c.policy;
    request.lease_ttl = absl::Seconds(3);
    EnrolAs(request);
    const Stage before = published().stage;
    advance();
    EXPECT_EQ(published().stage, before);
    Tick(absl::Seconds(3));
    EXPECT_EQ(published().stage, before);
    Tick(absl::Seconds(1));
    EXPECT_EQ(published().stage > before, c.passes);
    EXPECT_EQ(engine_->instances().List(name)[0].lease, LeaseState::kExpired);
    // Whoever was passed by has to enrol anew before it counts, and is counted, again.
    const absl::Status heard = streams_.at("a").session->OnHeartbeat(0, {});
    EXPECT_EQ(ReasonOf(heard), c.policy == kFail ? "NOT_ENROLLED" : "") << heard;
    ASSERT_TRUE(streams_.at("a").session->OnLeave().ok() || c.policy == kFail);
    streams_.clear();
  }
}

// Back, it counts by what it claims, which is bad beside what is published: no reason for a rollback to wait.
TEST_F(FleetTest, ARollbackDoesNotWaitForOneThatWasPassedByAndIsBack) {
  Create();
  EnrolRequest request = FailingWrites("a");
  EnrolAs(request);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  Tick(absl::Seconds(16));
  Advance();
  ASSERT_EQ(Where(), "CANARY_READ");
  Restart();
  request = FailingWrites("a", {{kName, 1}});
  EnrolAs(request);
  EXPECT_EQ(engine_->instances().OldestLiveEpoch(kName), 1u);
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  EXPECT_EQ(Where(), "SHADOW_READ");
  AckAll();
  EXPECT_EQ(engine_->instances().OldestLiveEpochs(kName).passed_by, std::nullopt);
}

// Nothing that is published without waiting for it may be kept from standing beside OFF, by which it writes
// again.
TEST_F(FleetTest, OneThatWasPassedByAndIsBackAtOffCountsAsAnybody) {
  Create();
  EnrolRequest request = FailingWrites("a");
  EnrolAs(request);
  Tick(absl::Seconds(16));
  ASSERT_TRUE(engine_->instances().List(kName)[0].passed_by);
  // A long operation keeps it from acknowledging.
  request.held = {{kName, 1}};
  EnrolAs(request);
  EXPECT_FALSE(engine_->instances().List(kName)[0].passed_by);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_EQ(Where(), "DUAL_WRITE");
  Advance();
  EXPECT_EQ(Where(), "DUAL_WRITE pending");
  Restart();
  EXPECT_FALSE(engine_->instances().List(kName)[0].passed_by);
}

TEST_F(FleetTest, OneThatIsBackCountsAsAnybodyWhenOffIsPublished) {
  Create();
  EnrolRequest request = FailingWrites("a");
  EnrolAs(request);
  Tick(absl::Seconds(16));
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  request.held = {{kName, 1}};
  EnrolAs(request);
  EXPECT_FALSE(engine_->instances().List(kName)[0].passed_by) << "it may write by what it is sent";
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  ASSERT_EQ(Where(), "OFF");
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  ASSERT_EQ(Where(), "DUAL_WRITE");
  Advance();
  EXPECT_EQ(Where(), "DUAL_WRITE pending");
  Restart();
  EXPECT_FALSE(engine_->instances().List(kName)[0].passed_by);
}

TEST_F(FleetTest, OneThatOwesTheOtherSideWritesIsNotPassedBy) {
  Create();
  EnrolRequest request = FailingWrites("a");
  EnrolAs(request);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  domain::InstanceStatus status;
  status.repairs = 1;
  ASSERT_TRUE(streams_.at("a").session->OnHeartbeat(0, status).ok());
  Tick(absl::Seconds(16));
  EXPECT_EQ(Where(), "DUAL_WRITE pending");
  EXPECT_THAT(Now().waiting[0].pinned_by, HasSubstr("1 repair"));
}

TEST_F(FleetTest, ARestartRenewsEveryLease) {
  Create();
  EnrolRequest request = FailingWrites("a");
  EnrolAs(request);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  clock_.Advance(absl::Seconds(14));
  Restart();
  Tick(absl::Seconds(14));
  EXPECT_EQ(Where(), "DUAL_WRITE pending");
  EXPECT_EQ(engine_->instances().List(kName)[0].lease_policy, domain::LeasePolicy::kFailWrites);
  Tick(absl::Seconds(2));
  EXPECT_EQ(Where(), "SHADOW_READ");
}

TEST_F(FleetTest, AnInstanceSaysWhatPinsIt) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  domain::InstanceStatus status;
  status.operations = 3;
  status.oldest_operation = absl::Seconds(12);
  ASSERT_TRUE(streams_.at("a").session->OnHeartbeat(0, status).ok());
  ASSERT_THAT(Now().waiting, ::testing::SizeIs(1));
  EXPECT_THAT(Now().waiting[0].pinned_by, HasSubstr("3 operations, oldest 12"));
  EXPECT_THAT(Now().waiting[0].unblock, HasSubstr("operations have to end"));
}

TEST_F(FleetTest, AfterARestoredBackupNothingIsBelievedThatOnlyItsOwnHistoryKnew) {
  Create();
  Enrol("a");
  Enrol("slow");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  const uint64_t before = registry().store_epoch();
  options_.registry.new_store_epoch = true;
  Restart();
  options_.registry.new_store_epoch = false;
  EXPECT_NE(registry().store_epoch(), before);
  // 'a' has seen epochs that the backup does not know.
  EnrolRequest request = RequestOf("a", {{kName, 9}});
  request.store_epoch = before;
  EnrolAs(request);
  Advance();
  EXPECT_EQ(Where(), "DUAL_WRITE pending");
  EXPECT_THAT(Now().waiting[0].reason, HasSubstr("not remembered"));
  ASSERT_TRUE(Ack("a", Published().epoch).ok());
  EXPECT_EQ(Where(), "DUAL_WRITE pending") << "'slow' may have seen more as well";
  Enrol("slow", {{kName, Published().epoch}});
  Tick(absl::Minutes(12));  // and nobody else is expected any more
  EXPECT_EQ(Where(), "DUAL_WRITE pending") << "what it claims is no acknowledgement";
  ASSERT_TRUE(Ack("slow", Published().epoch).ok());
  EXPECT_EQ(Where(), "SHADOW_READ");
}

}  // namespace
}  // namespace lockstep::engine
