#include "server/engine/gate_loop.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/engine/gate_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using domain::RunState;
using domain::Stage;
using domain::Verdict;
using ::testing::HasSubstr;

class GateLoopTest : public GateTest {};

TEST_F(GateLoopTest, CleanTrafficAdvancesToTheEnd) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  for (int i = 0; i < 300 && Now().migration->run_state == RunState::kRunning; ++i) Second(100, 0);
  EXPECT_EQ(Now().migration->run_state, RunState::kSucceeded);
  EXPECT_EQ(Now().migration->published.read_weight, 100000u);
  EXPECT_EQ(Gate().verdict, Verdict::kAdvance);
}

TEST_F(GateLoopTest, WithoutComparisonsOnlyStepsThatAskForNoneAreLeft) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Seconds(30, 0, 0);
  EXPECT_EQ(StageNow(), Stage::kShadowRead) << "DUAL_WRITE has no check";
  Seconds(100, 0, 0);
  EXPECT_EQ(StageNow(), Stage::kShadowRead);
  EXPECT_EQ(Gate().verdict, Verdict::kHold);
  EXPECT_TRUE(HasGuard("stale_telemetry"));
}

TEST_F(GateLoopTest, MismatchesRollBack) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  while (StageNow() != Stage::kCanaryRead && !HasFatalFailure()) Second(100, 0);
  for (int i = 0; i < 120 && Now().migration->run_state == RunState::kRunning; ++i) Second(80, 20);
  EXPECT_EQ(Now().migration->run_state, RunState::kRolledBack);
  EXPECT_EQ(StageNow(), Stage::kShadowRead);
  const auto decision = registry().ListDecisions(kName, 0, 1)->front();
  EXPECT_EQ(decision.actor, "gate");
  EXPECT_EQ(decision.action, "rollback");
  ASSERT_TRUE(decision.evidence.has_value());
  EXPECT_THAT(decision.reason, HasSubstr("roll back"));

  // The old evidence counts for nothing after the fix, not even that which arrives late.
  Seconds(20, 80, 20);
  const domain::TelemetryDelta late = DeltaNow(0, 1000);
  clock_.Advance(absl::Seconds(10));
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  clock_.Advance(absl::Seconds(10));
  ASSERT_TRUE(Report({"a", 1, ++sequence_, {late}}).ok());
  for (int i = 0; i < 300 && Now().migration->run_state == RunState::kRunning; ++i) Second(100, 0);
  EXPECT_EQ(Now().migration->run_state, RunState::kSucceeded) << Now().migration->run_state_reason;
}

TEST_F(GateLoopTest, APausedMigrationIsStillRolledBack) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  while (StageNow() != Stage::kCanaryRead && !HasFatalFailure()) Second(100, 0);
  ASSERT_TRUE(Do(CommandKind::kPause).ok());
  Seconds(60, 100, 0);
  EXPECT_EQ(StageNow(), Stage::kCanaryRead);
  EXPECT_EQ(Now().migration->published.read_weight, 1000u);
  for (int i = 0; i < 120 && Now().migration->run_state == RunState::kPaused; ++i) Second(50, 50);
  EXPECT_EQ(StageNow(), Stage::kShadowRead);
}

TEST_F(GateLoopTest, MissingAndUnknownInstancesHoldTheStepIntoCanary) {
  domain::MigrationPlan plan = FullPlan();
  plan.expected_services.push_back({"cities", 2});
  Create(kName, plan);
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Seconds(60, 100, 0);
  EXPECT_EQ(StageNow(), Stage::kShadowRead);
  ASSERT_EQ(Gate().guards.size(), 1u);
  EXPECT_EQ(Gate().guards[0].sentence, "1 of 2 instances of 'cities' are enrolled.");
  Enrol("b");
  Enrol("x", {}, "stranger");
  Seconds(1, 100, 0);
  EXPECT_TRUE(HasGuard("unexpected_instance"));
  ASSERT_TRUE(streams_["x"].session->OnLeave().ok());
  streams_.erase("x");
  Seconds(2, 100, 0);
  EXPECT_EQ(StageNow(), Stage::kCanaryRead);
}

TEST_F(GateLoopTest, APendingPublishIsAGuard) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(engine_->Tick().ok());
  EXPECT_TRUE(HasGuard("pending_publish"));
}

TEST_F(GateLoopTest, ANewContractStartsEvidenceAnew) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  AckAll();
  Seconds(12, 10, 0);
  EXPECT_GT(Gate().checks[0].total, 0u);
  MigrationUpdate update;
  update.contract.emplace().fields.push_back({.path = "name"});
  ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  Seconds(1, 10, 0);
  EXPECT_EQ(Gate().checks[0].total, 0u);
  Seconds(15, 10, 0);
  EXPECT_GT(Gate().checks[0].total, 0u);
}

TEST_F(GateLoopTest, ReasonsOfTheGateAreItsSentences) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(2);
  for (int i = 0; i < 120 && Now().migration->run_state == RunState::kRunning; ++i) Second(80, 20);
  int by_gate = 0;
  for (const domain::DecisionRecord& decision : Decisions()) {
    if (decision.actor != "gate") continue;
    ++by_gate;
    ASSERT_TRUE(decision.evidence.has_value());
    EXPECT_EQ(decision.reason, decision.evidence->sentence);
  }
  EXPECT_EQ(by_gate, 3);
}

// An instance that reports nothing may be broken in a way that stops it from saying so.
TEST_F(GateLoopTest, SilentInstancesHold) {
  domain::MigrationPlan plan = FullPlan();
  plan.telemetry_limits.stale_after = absl::Seconds(30);
  plan.steps[1].min_bake = absl::Hours(1);
  Create(kName, plan);
  Enrol("a");
  Enrol("b");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(1);
  uint64_t sequence = 0;
  const auto b_reports = [&] { ASSERT_TRUE(Report({"b", 1, ++sequence, {}}).ok()); };
  b_reports();
  Seconds(30, 100, 0);
  EXPECT_FALSE(HasGuard("silent_instance"));
  Seconds(1, 100, 0);
  EXPECT_TRUE(HasGuard("silent_instance"));
  EXPECT_EQ(Gate().guards[0].sentence,
            "1 of 2 enrolled instances have sent no telemetry for more than 30s: 'b' of 'cities'; they are "
            "connected.");
  b_reports();  // an empty batch is a word
  Seconds(1, 100, 0);
  EXPECT_FALSE(HasGuard("silent_instance"));

  // Gone without leaving, as after a crash.
  streams_["b"].session.reset();
  streams_.erase("b");
  Seconds(29, 100, 0);
  EXPECT_FALSE(HasGuard("silent_instance"));
  Seconds(2, 100, 0);
  EXPECT_TRUE(HasGuard("silent_instance"));
  EXPECT_THAT(Gate().guards[0].sentence, HasSubstr("1 is disconnected and did not leave"));
  EXPECT_EQ(Gate().verdict, Verdict::kHold);
  // It comes back, says nothing, and leaves.
  Enrol("b", {{kName, Now().migration->published.epoch}});
  Seconds(1, 100, 0);
  EXPECT_TRUE(HasGuard("silent_instance"));
  ASSERT_TRUE(streams_["b"].session->OnLeave().ok());
  streams_.erase("b");
  Seconds(1, 100, 0);
  EXPECT_FALSE(HasGuard("silent_instance"));
}

TEST_F(GateLoopTest, StaleTelemetryIsThePlansToSay) {
  domain::MigrationPlan plan = FullPlan();
  plan.telemetry_limits.stale_after = absl::Seconds(10);
  Create(kName, plan);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(1, 0);
  Seconds(10, 1, 0);
  EXPECT_FALSE(HasGuard("stale_telemetry"));
  Seconds(25, 0, 0);
  EXPECT_TRUE(HasGuard("stale_telemetry"));
  EXPECT_THAT(Gate().guards[0].sentence, HasSubstr("for more than 10s, since 20"));
}

TEST_F(GateLoopTest, AThroughputThatIsNotTheConfiguredOneHolds) {
  domain::MigrationPlan plan = FullPlan();
  plan.steps[3].min_bake = absl::Hours(1);
  Create(kName, plan);
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(3);  // CANARY_READ at 25 %
  const auto second = [&](uint64_t old_reads, uint64_t new_reads) {
    clock_.Advance(absl::Seconds(1));
    domain::TelemetryDelta delta = DeltaNow(1, 0);
    delta.stats.arm(domain::Arm::kOld).requests = old_reads;
    delta.stats.arm(domain::Arm::kNew).requests = new_reads;
    ASSERT_TRUE(Report({"a", 1, ++sequence_, {delta}}).ok());
    ASSERT_TRUE(engine_->Tick().ok());
  };
  for (int i = 0; i < 15; ++i) second(300, 2);
  EXPECT_TRUE(HasGuard("share"));
  ASSERT_TRUE(engine_->gate().ObservedReadRatio(kName).has_value());
  EXPECT_NEAR(*engine_->gate().ObservedReadRatio(kName), 2.0 / 302, 1e-9);
  // Pins move reads as well, so the weight alone says nothing of the share.
  MigrationUpdate update;
  update.pins.emplace().keys["vip"] = domain::Side::kNew;
  ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  second(300, 2);
  EXPECT_FALSE(HasGuard("share"));
  EXPECT_GT(Gate().checks[0].total, 0u) << "pins are no reason to start evidence anew";
}

TEST_F(GateLoopTest, ADeadlineEscalatesAndResumingRestartsIt) {
  domain::MigrationPlan plan = FullPlan();
  plan.steps[1].deadline = absl::Seconds(60);
  Create(kName, plan);
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(1, 0);
  const absl::Time began = Now().migration->step_started_at;
  EXPECT_EQ(domain::DeadlineOf(*Now().migration), began + absl::Seconds(60));
  while (clock_.Now() < began + absl::Seconds(59) && !HasFatalFailure()) Second(1, 0);
  EXPECT_EQ(Now().migration->run_state, RunState::kRunning);
  Restart();
  Second(1, 0);
  EXPECT_EQ(Now().migration->run_state, RunState::kPaused);
  EXPECT_EQ(StageNow(), Stage::kShadowRead) << "a deadline ships and reverts nothing";
  const domain::DecisionRecord escalation = Decisions().front();
  EXPECT_EQ(escalation.action, "escalate");
  EXPECT_EQ(escalation.actor, "gate");
  ASSERT_TRUE(escalation.evidence.has_value());
  EXPECT_EQ(escalation.reason, absl::StrCat("the deadline of step 2 of 5 (SHADOW_READ), 1m, has passed: ",
                                            escalation.evidence->sentence));
  EXPECT_EQ(Now().migration->run_state_reason, escalation.reason);
  EXPECT_TRUE(escalation.evidence->deadline_passed);
  EXPECT_EQ(escalation.evidence->verdict, Verdict::kHold);
  Seconds(30, 1, 0);
  EXPECT_EQ(Decisions().front().number, escalation.number) << "once";

  const uint64_t before = Gate().checks[0].total;
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  EXPECT_EQ(domain::DeadlineOf(*Now().migration), clock_.Now() + absl::Seconds(60));
  Restart();
  Seconds(59, 1, 0);
  EXPECT_EQ(Now().migration->run_state, RunState::kRunning);
  EXPECT_FALSE(Gate().deadline_passed);
  EXPECT_GT(Gate().checks[0].total, before) << "the evidence goes on";
  EXPECT_EQ(Gate().evidence_restarts, 0u);
  Second(1, 0);
  EXPECT_EQ(Now().migration->run_state, RunState::kPaused);
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  WalkTo(2);
}

TEST_F(GateLoopTest, AManualStepThatNobodyLeavesEscalates) {
  domain::MigrationPlan plan = FullPlan();
  plan.steps[0].manual = true;
  plan.steps[0].deadline = absl::Seconds(40);
  Create(kName, plan);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  Seconds(39, 0, 0);
  EXPECT_EQ(Gate().verdict, Verdict::kAdvance);
  EXPECT_EQ(Now().migration->run_state, RunState::kRunning);
  Seconds(1, 0, 0);
  EXPECT_EQ(Now().migration->run_state, RunState::kPaused);
  EXPECT_THAT(Now().migration->run_state_reason, HasSubstr("left by hand only"));
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  Second(0, 0);
  EXPECT_TRUE(Do(CommandKind::kAdvance).ok());
}

TEST_F(GateLoopTest, ABreachThatOnlyNotifiesDoesSoOnceInAStep) {
  domain::MigrationPlan plan = FullPlan();
  for (domain::PlanStep& step : plan.steps) {
    for (domain::Check& check : step.checks) check.on_breach = domain::BreachAction::kNotify;
  }
  Create(kName, plan);
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(1, 0);
  const std::string reason = Now().migration->run_state_reason;
  const auto notifications = [&] {
    int count = 0;
    for (const domain::DecisionRecord& decision : Decisions()) {
      if (decision.action != "notify") continue;
      ++count;
      EXPECT_EQ(decision.actor, "gate");
      EXPECT_THAT(decision.reason, HasSubstr("mismatches: "));
      EXPECT_EQ(decision.before.epoch, decision.after.epoch);
    }
    return count;
  };
  Seconds(60, 80, 20);
  EXPECT_EQ(notifications(), 1);
  Restart();
  Enrol("a", {{kName, Now().migration->published.epoch}});
  Seconds(30, 80, 20);
  EXPECT_EQ(notifications(), 1);
  EXPECT_EQ(Gate().verdict, Verdict::kHold);
  EXPECT_EQ(Now().migration->run_state, RunState::kRunning);
  EXPECT_EQ(Now().migration->run_state_reason, reason);
  EXPECT_EQ(StageNow(), Stage::kShadowRead);
  // Somebody goes on all the same; the next step says it again.
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  EXPECT_TRUE(Now().migration->notified_checks.empty());
  Seconds(30, 80, 20);
  EXPECT_EQ(notifications(), 2);
}

TEST_F(GateLoopTest, AfterARollbackTheCoolDownAndThenHalfTheError) {
  domain::MigrationPlan plan = FullPlan();
  plan.cool_down = absl::Minutes(10);
  Create(kName, plan);
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(2);
  Second(100, 0);
  const double threshold = Gate().log_threshold_rollback;
  for (int i = 0; i < 120 && Now().migration->run_state == RunState::kRunning; ++i) Second(50, 50);
  ASSERT_EQ(Now().migration->run_state, RunState::kRolledBack);
  clock_.Advance(absl::Minutes(10) - absl::Seconds(1));
  EXPECT_EQ(ReasonOf(Do(CommandKind::kResume).status()), "COOL_DOWN");
  clock_.Advance(absl::Seconds(1));
  Restart();
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  Second(100, 0);
  EXPECT_EQ(Gate().evidence_restarts, 1u);
  EXPECT_NEAR(Gate().log_threshold_rollback, threshold + std::log(2.0), 1e-12);
}

TEST_F(GateLoopTest, EveryStartAnewHalvesTheErrorProbabilities) {
  domain::MigrationPlan plan = FullPlan();
  plan.steps[1].min_bake = absl::Hours(1);
  Create(kName, plan);
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(1);
  Second(1, 0);
  const double first = Gate().checks[0].log_threshold_advance;
  const auto expect_restarts = [&](uint32_t restarts) {
    for (const bool restarted : {false, true}) {
      if (restarted) Restart();
      Second(1, 0);
      EXPECT_EQ(Gate().evidence_restarts, restarts);
      EXPECT_NEAR(Gate().checks[0].log_threshold_advance, first + restarts * std::log(2.0), 1e-12);
    }
    Enrol("a", {{kName, Now().migration->published.epoch}});
  };
  expect_restarts(0);
  MigrationUpdate update;
  for (uint32_t edits = 1; edits <= 3; ++edits) {
    update.plan = plan;
    update.plan->alpha_rollback = 0.01 + edits * 0.001;
    ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
    expect_restarts(edits);
  }
  update = MigrationUpdate();
  update.description = "no reason to start anew";
  ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  expect_restarts(3);
  update.contract.emplace().fields.push_back({.path = "name"});
  ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  expect_restarts(4);
  // Another generation is another migration of the data.
  ASSERT_TRUE(Do(CommandKind::kAbort).ok());
  Seconds(6, 0, 0);  // until no decision from before the restart can be acted on
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(1, 0);
  expect_restarts(0);
}

TEST_F(GateLoopTest, ACheckOnAFieldNeedsTheField) {
  domain::MigrationPlan plan = FullPlan();
  plan.steps[1].checks[0].field = "city";
  MigrationDefinition definition;
  definition.name = kName;
  definition.plan = plan;
  EXPECT_EQ(registry().Create(definition, By("user:ann")).status().code(),
            absl::StatusCode::kInvalidArgument);
  definition.contract.fields.push_back({.path = "city"});
  ASSERT_TRUE(registry().Create(definition, By("user:ann")).ok());
  MigrationUpdate update;
  update.contract.emplace();  // takes the field away
  EXPECT_EQ(registry().Update(kName, update, By("user:ann")).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lockstep::engine
