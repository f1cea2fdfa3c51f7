#include "server/engine/gate_loop.h"

#include "absl/base/casts.h"
#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "tests/engine/engine_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using domain::RunState;
using domain::Stage;
using domain::Verdict;
using ::testing::HasSubstr;

class GateLoopTest : public EngineTest {
 protected:
  GateLoopTest() { SetLogLevel(LogLevel::kError); }

  // One second: traffic, then a tick.
  void Second(uint64_t matches, uint64_t mismatches) {
    clock_.Advance(absl::Seconds(1));
    if (matches + mismatches > 0) {
      const auto receipt = Report({"a", 1, ++sequence_, {DeltaNow(matches, mismatches)}});
      ASSERT_TRUE(receipt.ok()) << receipt.status();
    }
    const absl::Status ticked = engine_->Tick();
    ASSERT_TRUE(ticked.ok()) << ticked;
    if (!streams_.empty()) AckAll();
  }
  void Seconds(int count, uint64_t matches, uint64_t mismatches) {
    for (int i = 0; i < count && !HasFatalFailure(); ++i) Second(matches, mismatches);
  }
  const domain::GateResult& Gate() {
    view_ = Now();
    EXPECT_NE(view_.gate, nullptr);
    return view_.gate->result;
  }
  bool HasGuard(const std::string& name) {
    for (const domain::Guard& guard : Gate().guards) {
      if (guard.name == name) return true;
    }
    return false;
  }
  // Everything a verdict says, to compare two of them.
  static std::string Print(const domain::GateResult& result) {
    std::string text = absl::StrCat(domain::VerdictName(result.verdict), result.sentence,
                                    absl::FormatDuration(result.bake_remaining), result.guards.size());
    for (const domain::CheckResult& check : result.checks) {
      const auto bits = [](double value) { return absl::bit_cast<uint64_t>(value); };
      absl::StrAppend(&text, ";", check.check, " ", check.bad, "/", check.total, " ", bits(check.lower), " ",
                      bits(check.upper), " ", bits(check.log_evidence_advance), " ",
                      bits(check.log_evidence_rollback));
    }
    return text;
  }

  uint64_t sequence_ = 0;
  MigrationView view_;
};

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
  ASSERT_TRUE(engine_->Leave("x", streams_["x"].connection).ok());
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

// With and without restarts, crashes included: the same verdicts, bit for bit.
TEST_F(GateLoopTest, ARestartGoesOnWithTheSameEvidence) {
  const auto run = [&](const std::string& name, int restart_every) {
    std::vector<std::string> verdicts;
    Create(name);
    EXPECT_TRUE(Do(CommandKind::kStart, By("user:ann"), false, 0, name).ok());
    for (int i = 1; i <= 150; ++i) {
      clock_.Advance(absl::Seconds(1));
      domain::TelemetryDelta delta =
          DeltaOf(name, 70 + static_cast<uint64_t>(i * 37 % 11), i % 9 == 0 ? 1 : 0);
      EXPECT_TRUE(Report({"a", std::hash<std::string>()(name) | 1, static_cast<uint64_t>(i), {delta}}).ok());
      EXPECT_TRUE(engine_->Tick().ok());
      const MigrationView view = Now(name);
      verdicts.push_back(absl::StrCat(domain::StageName(view.migration->published.stage), " ",
                                      view.migration->published.read_weight, " ",
                                      view.gate == nullptr ? "-" : Print(view.gate->result)));
      if (restart_every > 0 && i % restart_every == 0) Restart();
    }
    return verdicts;
  };
  // Both start at the same phase of a bucket.
  const std::vector<std::string> without = run("namespaces/a/migrations/without", 0);
  const std::vector<std::string> with = run("namespaces/a/migrations/with", 7);
  ASSERT_EQ(without.size(), with.size());
  for (size_t i = 0; i < with.size(); ++i) ASSERT_EQ(without[i], with[i]) << "second " << i + 1;
}

}  // namespace
}  // namespace lockstep::engine
