// What fences count: reconnects, remote decisions, restored backups, what instances owe.
#include <gmock/gmock.h>

#include <thread>

#include "tests/engine/fleet_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using domain::Stage;
using ::testing::HasSubstr;

using FencesTest = FleetTest;

// The check of a held slice comes with the acknowledgement, so that nothing else may count as one.
TEST_F(FencesTest, AReconnectIsNoAcknowledgementOfAHeldSlice) {
  Create(kName, PlanToComplete());
  Enrol("a");
  WalkTo(Stage::kCutover);
  Advance();
  ASSERT_EQ(Where(), "CUTOVER 8000/13000 pending");
  const uint64_t hold = Published().epoch;
  Take("a");
  // It has accepted the hold, and its connection breaks before it has acknowledged it.
  Enrol("a", {{kName, hold}});
  Tick(absl::Seconds(1));
  EXPECT_EQ(Where(), "CUTOVER 8000/13000 pending");
  // One that nobody here knows has checked nothing, either.
  Enrol("stranger", {{kName, hold}});
  Restart();
  Enrol("a", {{kName, hold}});
  Enrol("stranger", {{kName, hold}});
  Tick(absl::Seconds(6));  // remote decisions of before the restart have ended
  ASSERT_TRUE(Ack("a", hold).ok());
  EXPECT_EQ(Where(), "CUTOVER 8000/13000 pending");
  EXPECT_EQ(Now().waiting[0].instance_id, "stranger");
  ASSERT_TRUE(Ack("stranger", hold).ok());
  EXPECT_EQ(Published().write_weight, 13000u) << "nobody is stuck";
  // What was acknowledged over a stream outlives a reconnect.
  Enrol("a", {{kName, hold}});
  EXPECT_EQ(engine_->instances().Find(kName, "a")->acknowledged_epoch, hold);
}

// The decision is given between the commit of the state that replaces it and that state's being seen.
TEST_F(FencesTest, ARemoteDecisionGivenDuringACommitIsWaitedFor) {
  Create(kName, PlanToComplete());
  WalkToAllReads();
  const uint64_t epoch = Published().epoch;
  store_.BlockCommit(1, store::FaultyStore::Moment::kAfterApply);
  std::thread advance([&] { Advance(); });
  store_.WaitUntilBlocked();
  const auto decision = registry().RouteRemotely(kName);
  ASSERT_TRUE(decision.ok());
  EXPECT_EQ(decision->routing->state.epoch, epoch);
  store_.Release();
  advance.join();
  // The hold may stand beside it, the move may not.
  EXPECT_EQ(Where(), "CUTOVER 0/5000 pending");
  ASSERT_THAT(Now().waiting, ::testing::SizeIs(1));
  EXPECT_EQ(Now().waiting[0].instance_id, "remote decisions");
  EXPECT_EQ(Now().waiting[0].epoch, epoch);
  Tick(decision->valid_for - absl::Milliseconds(1));
  EXPECT_EQ(Where(), "CUTOVER 0/5000 pending");
  Tick(absl::Milliseconds(1));
  EXPECT_EQ(Where(), "CUTOVER 8000/8000");
}

TEST_F(FencesTest, AShorterValidityDoesNotShortenWhatWasGiven) {
  options_.registry.remote_decision_validity = absl::Seconds(60);
  Restart();
  Create();
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_EQ(registry().RouteRemotely(kName)->valid_for, absl::Seconds(60));  // at DUAL_WRITE
  ASSERT_TRUE(Do(CommandKind::kAbort).ok());
  EXPECT_EQ(Where(), "OFF") << "may stand beside it";
  options_.registry.remote_decision_validity = absl::Seconds(5);
  for (int restarts = 0; restarts < 2; ++restarts) {
    Restart();
    Tick(absl::Seconds(20));
  }
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  EXPECT_EQ(Where(), "DUAL_WRITE pending") << "of OFF, as far as anybody knows, until 60 s after the restart";
  Tick(absl::Seconds(41));
  EXPECT_EQ(Where(), "SHADOW_READ");
  // From here on the shorter one counts.
  Restart();
  Tick(absl::Seconds(6));
  Advance();
  ASSERT_TRUE(Do(CommandKind::kAbort).ok());
  Tick(absl::Seconds(6));
  EXPECT_EQ(Where(), "OFF");
}

TEST_F(FencesTest, AfterARestoredBackupWhoeverIsNotKnownIsAwaited) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Settle();
  Advance();
  ASSERT_EQ(Where(), "SHADOW_READ");
  options_.registry.new_store_epoch = true;
  Restart();
  options_.registry.new_store_epoch = false;
  Enrol("a");
  Settle();
  Tick(absl::Seconds(6));  // remote decisions of before the restart have ended
  Advance();
  EXPECT_EQ(Where(), "SHADOW_READ pending");
  ASSERT_THAT(Now().waiting, ::testing::SizeIs(1));
  EXPECT_EQ(Now().waiting[0].instance_id, "restored backup");
  EXPECT_EQ(Now().waiting_count, 1u);
  Restart();  // is no way round it, and begins the time anew
  Enrol("a", {{kName, Published().epoch}});
  Settle();
  Tick(absl::Minutes(11) - absl::Seconds(1));
  EXPECT_EQ(Where(), "SHADOW_READ pending");
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  EXPECT_EQ(Where(), "DUAL_WRITE") << "a rollback does not wait";
  Settle();
  Tick(absl::Seconds(2));
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  Advance();
  EXPECT_EQ(Where(), "SHADOW_READ");
}

// What the flag has said is durable at once: the next start, without it, believes nothing older.
TEST_F(FencesTest, ForgottenEpochsStayForgottenAfterACrash) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  AckAll();
  ASSERT_TRUE(engine_->Tick().ok());
  EXPECT_EQ(engine_->instances().OldestLiveEpoch(kName), 2u);
  options_.registry.new_store_epoch = true;
  Restart();
  options_.registry.new_store_epoch = false;
  Restart();
  EXPECT_EQ(engine_->instances().OldestLiveEpoch(kName), 0u);
}

// The mirror's writes are owed whoever restarts, and whether it is connected or not.
TEST_F(FencesTest, OwedMirrorsAreKnownAfterARestart) {
  Create();
  EnrolRequest request = FailingWrites("a");
  EnrolAs(request);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  domain::InstanceStatus status;
  status.queued_mirrors = 1;
  ASSERT_TRUE(streams_.at("a").session->OnHeartbeat(0, status).ok());
  ASSERT_TRUE(engine_->Tick().ok());
  const uint64_t commits = store_.commits();
  ASSERT_TRUE(streams_.at("a").session->OnHeartbeat(0, status).ok());
  ASSERT_TRUE(engine_->Tick().ok());
  EXPECT_EQ(store_.commits(), commits) << "nothing new";
  Restart();
  Tick(absl::Seconds(20));
  EXPECT_EQ(Where(), "DUAL_WRITE pending");
  request.held = {{kName, 1}};
  request.version = "2";  // a new build of it
  request.store_epoch = registry().store_epoch();
  EnrolAs(request);
  Tick(absl::Seconds(20));
  EXPECT_EQ(Where(), "DUAL_WRITE pending") << "a new connection is no settlement";
  EnrolAs(request);
  ASSERT_TRUE(streams_.at("a").session->OnHeartbeat(0, {}).ok());
  Tick(absl::Seconds(20));
  EXPECT_EQ(Where(), "SHADOW_READ");
}

TEST_F(FencesTest, WhatAHoldIsOfStaysAsItIs) {
  Create(kName, PlanToComplete());
  Enrol("a");
  WalkTo(Stage::kCutover);
  Advance();
  ASSERT_EQ(Where(), "CUTOVER 8000/13000 pending");
  MigrationUpdate pins;
  pins.pins.emplace().keys["vip"] = domain::Side::kNew;
  MigrationUpdate contract;
  contract.contract.emplace().fields.push_back({.path = "name"});
  for (const MigrationUpdate& update : {pins, contract}) {
    const absl::Status refused = registry().Update(kName, update, By("user:ann")).status();
    EXPECT_EQ(ReasonOf(refused), "FENCE_WAITS") << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("try again"));
  }
  MigrationUpdate words;
  words.description = "the orders";
  EXPECT_TRUE(registry().Update(kName, words, By("user:ann")).ok());
  AckAll();
  ASSERT_EQ(Published().write_weight, Published().drain_weight);
  EXPECT_TRUE(registry().Update(kName, pins, By("user:ann")).ok());
}

TEST_F(FencesTest, WaitsAreCountedBeyondThoseThatAreNamed) {
  Create();
  for (int i = 0; i < 130; ++i) Enrol(absl::StrCat("i", i));
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Advance();
  EXPECT_EQ(Now().waiting.size(), 100u);
  EXPECT_EQ(Now().waiting_count, 130u);
  EXPECT_EQ(engine_->Metrics().migrations[0].fence_waiting_instances, 130u);
}

TEST_F(FencesTest, AMigrationThatIsActedOnIsNotDeleted) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_TRUE(Do(CommandKind::kAbort).ok());
  ASSERT_EQ(Where(), "OFF");
  const absl::Status refused = registry().Delete(kName, By("user:ann"));
  EXPECT_EQ(ReasonOf(refused), "MIGRATION_IN_USE");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("'a' of 'cities'"));
  AckAll();
  EXPECT_TRUE(registry().Delete(kName, By("user:ann")).ok()) << "at OFF a new one would begin there, too";
}

TEST_F(FencesTest, ACompleteMigrationIsDeletedWhenNobodyIsEnrolled) {
  domain::MigrationPlan plan = PlanToComplete();
  Create(kName, plan);
  Enrol("a");
  WalkTo(Stage::kComplete);
  EXPECT_EQ(ReasonOf(registry().Delete(kName, By("user:ann"))), "MIGRATION_IN_USE");
  ASSERT_TRUE(streams_.at("a").session->OnLeave().ok());
  EXPECT_TRUE(registry().Delete(kName, By("user:ann")).ok());
}

TEST_F(FencesTest, ChecksOverAnOldConnectionChangeNothing) {
  Create(kName, PlanToComplete());
  Enrol("a");
  WalkTo(Stage::kCutover);
  Advance();
  ASSERT_EQ(Where(), "CUTOVER 8000/13000 pending");
  const auto old = std::move(streams_.at("a").session);
  Enrol("a", {{kName, Published().epoch}});
  domain::SliceCheck check{.migration = kName, .epoch = Published().epoch, .checked = 1, .differing = 1};
  EXPECT_EQ(ReasonOf(old->OnAck(0, {}, {check})), "NOT_ENROLLED");
  EXPECT_EQ(Where(), "CUTOVER 8000/13000 pending");
}

}  // namespace
}  // namespace lockstep::engine
