// How a migration lives through its transitions, and what refusals, reasons and announcements say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/error_info.h"
#include "core/domain/bucketing.h"
#include "core/domain/transition.h"
#include "tests/core/transition_cells.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const Position& At(Stage stage, uint32_t weight) {
  for (const Position& position : kPositions) {
    if (position.stage == stage && position.weight == weight) return position;
  }
  LOCKSTEP_CHECK(false, "no such position");
}

// A registry in a line: commits a transition and publishes at once.
void Commit(Migration& migration, const Transition& transition) {
  migration.run_state = transition.run_state;
  migration.step = transition.step;
  if (transition.target) {
    const uint64_t epoch = migration.published.epoch + 1;
    migration.published = *transition.target;
    migration.published.epoch = epoch;
  }
  if (transition.action == "rollback") migration.rolled_back_at = kNow;
}

std::string Stand(const Migration& migration) {
  return absl::StrCat(RunStateName(migration.run_state), " ", StageName(migration.published.stage), " ",
                      migration.published.stage == Stage::kCutover ? migration.published.write_weight
                                                                   : migration.published.read_weight,
                      " step ", migration.step);
}

void Apply(Migration& migration, const Trigger& trigger, GateState gate_state = GateState::kNone) {
  const std::optional<GateResult> gate = MakeGate(gate_state);
  const auto result = Plan(migration, trigger, gate ? &*gate : nullptr, kNow);
  ASSERT_TRUE(result.ok()) << result.status();
  if (result->has_value()) Commit(migration, **result);
}

TEST(TransitionLifeTest, AWholeLife) {
  Migration migration = MakeMigration(kPositions[0], RunState::kDraft, false);
  const GateVerdict advance = {*MakeGate(GateState::kAdvance)};
  const GateVerdict roll_back = {*MakeGate(GateState::kRollback)};
  Apply(migration, Command{.kind = CommandKind::kStart});
  EXPECT_EQ(Stand(migration), "RUNNING DUAL_WRITE 0 step 0");
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "RUNNING SHADOW_READ 0 step 1");
  Apply(migration, roll_back);
  EXPECT_EQ(Stand(migration), "ROLLED_BACK DUAL_WRITE 0 step 0");
  Apply(migration, roll_back);  // nothing more to undo: no user sees new
  EXPECT_EQ(Stand(migration), "ROLLED_BACK DUAL_WRITE 0 step 0");
  Apply(migration, Command{.kind = CommandKind::kResume});
  Apply(migration, advance);
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "RUNNING SHADOW_READ 0 step 2");
  Apply(migration, advance);  // a manual step stays
  EXPECT_EQ(Stand(migration), "RUNNING SHADOW_READ 0 step 2");
  Apply(migration, Command{.kind = CommandKind::kAdvance}, GateState::kAdvance);
  EXPECT_EQ(Stand(migration), "RUNNING CANARY_READ 1000 step 3");
  Apply(migration, Command{.kind = CommandKind::kSetWeight, .weight = 200});
  EXPECT_EQ(Stand(migration), "PAUSED CANARY_READ 200 step 3");
  Apply(migration, Command{.kind = CommandKind::kResume});
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "RUNNING CANARY_READ 1000 step 3");
  Apply(migration, advance);
  Apply(migration, Command{.kind = CommandKind::kAdvance, .override_gate = true, .reason = "seen enough"});
  EXPECT_EQ(Stand(migration), "RUNNING CANARY_READ 100000 step 5");
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "RUNNING CUTOVER 10000 step 6");
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "RUNNING CUTOVER 100000 step 7");
  Apply(migration, roll_back);
  EXPECT_EQ(Stand(migration), "ROLLED_BACK CANARY_READ 0 step 3");
  Apply(migration, Command{.kind = CommandKind::kResume});
  EXPECT_EQ(Stand(migration), "RUNNING CANARY_READ 1000 step 3");
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "RUNNING CANARY_READ 5000 step 4");
  Apply(migration, roll_back);
  EXPECT_EQ(Stand(migration), "ROLLED_BACK SHADOW_READ 0 step 2");
  EXPECT_EQ(migration.published.generation, 3u);
  Apply(migration, Command{.kind = CommandKind::kAbort});
  EXPECT_EQ(Stand(migration), "DRAFT OFF 0 step -1");
  EXPECT_EQ(migration.published.generation, 4u);
  Apply(migration, Command{.kind = CommandKind::kStart});
  Apply(migration, Command{.kind = CommandKind::kRollback});
  EXPECT_EQ(Stand(migration), "ROLLED_BACK OFF 0 step -1");
  EXPECT_EQ(migration.published.generation, 5u);
  Apply(migration, Command{.kind = CommandKind::kResume});
  EXPECT_EQ(Stand(migration), "RUNNING DUAL_WRITE 0 step 0");
}

TEST(TransitionLifeTest, ToTheEnd) {
  Migration migration = MakeMigration(At(Stage::kCutover, kBucketCount), RunState::kRunning, false);
  const GateVerdict advance = {*MakeGate(GateState::kAdvance)};
  EXPECT_TRUE(NextIsPointOfNoReturn(migration));
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "RUNNING CUTOVER 100000 step 7") << "the gate never gives the way back up";
  Apply(migration, Command{.kind = CommandKind::kAdvance, .accept_no_way_back = true}, GateState::kAdvance);
  EXPECT_EQ(Stand(migration), "RUNNING NEW_ONLY 100000 step 8");
  EXPECT_FALSE(NextIsPointOfNoReturn(migration));
  Apply(migration, GateVerdict{*MakeGate(GateState::kRollback)});
  EXPECT_EQ(Stand(migration), "PAUSED NEW_ONLY 100000 step 8") << "the least that can be done";
  Apply(migration, Command{.kind = CommandKind::kResume});
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "RUNNING COMPLETE 100000 step 9");
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "SUCCEEDED COMPLETE 100000 step 9");
}

TEST(TransitionLifeTest, PinsToOldKeepItFromCutover) {
  Migration migration = MakeMigration(At(Stage::kCanaryRead, kBucketCount), RunState::kRunning, false);
  EXPECT_FALSE(PinsGuard(migration).has_value());
  migration.pins.keys["vip"] = Side::kOld;
  migration.pins.rules = {{"tenant", {"big"}, Side::kOld}, {"region", {"eu"}, Side::kNew}};
  const GateResult gate = *MakeGate(GateState::kAdvance);
  const auto held = Plan(migration, GateVerdict{gate}, nullptr, kNow);
  ASSERT_TRUE(held.ok());
  EXPECT_FALSE(held->has_value());
  const auto refused = Plan(migration, Command{.kind = CommandKind::kAdvance}, &gate, kNow);
  EXPECT_EQ(GetErrorInfo(refused.status())->reason, "PINS_TO_OLD");
  EXPECT_THAT(
      std::string(refused.status().message()),
      HasSubstr("pins to the old side must be lifted before CUTOVER: key 'vip', attribute rule 'tenant'"));
  EXPECT_EQ(*PinsGuard(migration), (Guard{"pins_to_old",
                                          "pins to the old side must be lifted before CUTOVER: key 'vip', "
                                          "attribute rule 'tenant'."}));
  const auto late = Plan(migration, GateVerdict{*MakeGate(GateState::kLateAdvance)}, nullptr, kNow);
  ASSERT_TRUE(late.ok() && late->has_value());
  EXPECT_EQ((*late)->action, "escalate");
  EXPECT_THAT((*late)->reason, HasSubstr("key 'vip'"));
}

// A slice of [10 %, 15 %) that was held on the way to `goal`.
Migration Holding(RunState run_state, int step, const RoutingState& goal) {
  Migration migration = MakeMigration(At(Stage::kCutover, 20'000), run_state, true);
  migration.step = step;
  migration.published.write_weight = 10'000;
  migration.published.drain_weight = 15'000;
  migration.pending = goal;
  return migration;
}

TEST(TransitionLifeTest, AFailedSliceStaysWhereItWas) {
  RoutingState forward = StateOfStage(Stage::kCutover, 0);
  forward.write_weight = forward.drain_weight = kBucketCount;
  const RoutingState back = StateOfStage(Stage::kCanaryRead, 0);
  const RoutingState off = StateOfStage(Stage::kOff, 0);
  struct Case {
    const char* name;
    RunState run_state;
    int step;
    RoutingState goal;
    uint32_t weight;  // afterwards
    int step_after;
  };
  const Case kCases[] = {
      {"forward", RunState::kRunning, 7, forward, 10'000, 6},
      {"forward, paused", RunState::kPaused, 7, forward, 10'000, 6},
      {"rollback", RunState::kRolledBack, 5, back, 15'000, 6},
      {"abort", RunState::kDraft, -1, off, 15'000, 6},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const Migration migration = Holding(c.run_state, c.step, c.goal);
    SliceFailure failure{"orders-1", {migration.name, 41, 200, 3, 2, "record #9f: total differs"}};
    const auto result = Plan(migration, failure, nullptr, kNow);
    ASSERT_TRUE(result.ok() && result->has_value());
    const Transition& transition = **result;
    EXPECT_EQ(transition.action, "slice_failed");
    EXPECT_EQ(transition.run_state, RunState::kPaused);
    EXPECT_EQ(transition.step, c.step_after);
    EXPECT_FALSE(transition.new_generation);
    ASSERT_TRUE(transition.target.has_value());
    EXPECT_EQ(transition.target->write_weight, c.weight);
    EXPECT_EQ(transition.target->drain_weight, c.weight);
    EXPECT_EQ(transition.target->epoch, 0u);
    EXPECT_EQ(transition.target->generation, migration.published.generation);
    EXPECT_THAT(
        transition.reason,
        StartsWith("instance 'orders-1' compared 200 records of the slice that was to move, and 2 differ for "
                   "good (3 repaired): record #9f: total differs"));
    const bool way_back = c.weight == migration.published.drain_weight;
    EXPECT_EQ(absl::StrContains(transition.reason, "roll back again"), way_back);
    EXPECT_EQ(transition.differing_records, 2u);
    failure.check.epoch = 40;
    EXPECT_FALSE(Plan(migration, failure, nullptr, kNow)->has_value()) << "of another hold";
    failure.check = {migration.name, 41, 200, 3, 0, ""};
    EXPECT_FALSE(Plan(migration, failure, nullptr, kNow)->has_value()) << "nothing differs";
    failure.check.unchecked = 5;
    const auto unchecked = Plan(migration, failure, nullptr, kNow);
    EXPECT_EQ(unchecked->has_value(), !way_back);
    if (!way_back) {
      EXPECT_THAT((*unchecked)->reason, HasSubstr("and 5 could not be compared, since a side"));
    }
    failure.check.differing = 1;
    Migration accepting = migration;
    accepting.accept_differences = true;
    EXPECT_EQ(Plan(accepting, failure, nullptr, kNow)->has_value(), !way_back);
  }
  const Migration moved = MakeMigration(At(Stage::kCutover, 10'000), RunState::kRunning, false);
  EXPECT_FALSE(
      Plan(moved, SliceFailure{"orders-1", {moved.name, 41, 9, 0, 9, ""}}, nullptr, kNow)->has_value());
}

TEST(TransitionLifeTest, CoolDownHoldsResumeOnly) {
  Migration migration = MakeMigration(kPositions[1], RunState::kRolledBack, false);
  migration.plan.cool_down = absl::Minutes(10);
  migration.rolled_back_at = kNow - absl::Minutes(10) + absl::Milliseconds(1500);
  const Command resume = {.kind = CommandKind::kResume};
  const auto refused = Plan(migration, resume, nullptr, kNow);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("lasts another 2s"));
  EXPECT_EQ(GetErrorInfo(refused.status())->reason, "COOL_DOWN");
  EXPECT_TRUE(Plan(migration, Command{.kind = CommandKind::kRollback}, nullptr, kNow).ok());
  EXPECT_TRUE(Plan(migration, resume, nullptr, kNow + absl::Milliseconds(1500)).ok());
}

TEST(TransitionLifeTest, RefusalsSayWhereWhyAndWhatInstead) {
  struct Case {
    Position position;
    RunState run_state;
    bool pending;
    GateState gate;
    Command command;
    const char* message;
    const char* reason;
  };
  const Case kCases[] = {
      {kPositions[0],
       RunState::kDraft,
       false,
       GateState::kNone,
       {.kind = CommandKind::kAdvance},
       "advance refused: namespaces/shop/migrations/orders is DRAFT at OFF: it has not been started. Allowed "
       "now: start.",
       "ILLEGAL_TRANSITION"},
      {kPositions[4],
       RunState::kRunning,
       false,
       GateState::kHold,
       {.kind = CommandKind::kAdvance},
       "advance refused: namespaces/shop/migrations/orders is RUNNING at CANARY_READ with 1 % of reads: the "
       "gate holds: "
       "mismatches: the gate's sentence. Allowed now: pause, rollback, abort, set-weight.",
       "GATE_HOLDS"},
      {kPositions[4],
       RunState::kRunning,
       false,
       GateState::kPause,
       {.kind = CommandKind::kAdvance, .override_gate = true, .reason = "r"},
       "which no override passes over",
       "GATE_ROLLS_BACK"},
      {kPositions[2],
       RunState::kRunning,
       true,
       GateState::kAdvance,
       {.kind = CommandKind::kAdvance},
       "SHADOW_READ is committed but not published: for 1m30s it has waited",
       "FENCE_WAITS"},
      {At(Stage::kCutover, kBucketCount),
       RunState::kRunning,
       false,
       GateState::kAdvance,
       {.kind = CommandKind::kAdvance},
       "CUTOVER with 100 % of writes: the next step is NEW_ONLY, the point of no return: the old side no "
       "longer "
       "gets the writes",
       "POINT_OF_NO_RETURN"},
      {At(Stage::kNewOnly, kBucketCount),
       RunState::kSucceeded,
       false,
       GateState::kNone,
       {.kind = CommandKind::kAbort},
       "no way back. No command is allowed now.",
       "ILLEGAL_TRANSITION"},
      {kPositions[4],
       RunState::kPaused,
       false,
       GateState::kPause,
       {.kind = CommandKind::kResume},
       "say why",
       "REASON_REQUIRED"},
      {kPositions[4],
       RunState::kRunning,
       false,
       GateState::kAdvance,
       {.kind = CommandKind::kSetWeight, .weight = 5'001},
       "a weight of 5000 at most; 5001 takes an override",
       "ILLEGAL_TRANSITION"},
      {kPositions[4],
       RunState::kRunning,
       false,
       GateState::kAdvance,
       {.kind = CommandKind::kSetWeight, .weight = 1'000},
       "its weight is 1000 already",
       "ILLEGAL_TRANSITION"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.message);
    const Migration migration = MakeMigration(c.position, c.run_state, c.pending);
    const std::optional<GateResult> gate = MakeGate(c.gate);
    const auto result = Plan(migration, c.command, gate ? &*gate : nullptr, kNow);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(c.message));
    const std::optional<ErrorInfo> info = GetErrorInfo(result.status());
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->reason, c.reason);
    EXPECT_EQ(info->metadata.at("command"), CommandName(c.command.kind));
    EXPECT_EQ(info->metadata.at("stage"), StageName(c.position.stage));
    EXPECT_FALSE(info->precondition_violations.empty());
  }
}

TEST(TransitionLifeTest, MalformedCommandsAreRefusedWhereverTheMigrationStands) {
  const Migration migration = MakeMigration(kPositions[4], RunState::kRunning, false);
  const std::pair<Command, const char*> kCases[] = {
      {{.kind = CommandKind::kSetWeight, .weight = kBucketCount + 1}, "weight 100001 is more than 100000"},
      {{.kind = CommandKind::kAdvance, .override_gate = true}, "an override needs a reason"},
      {{.kind = CommandKind::kAdvance, .override_gate = true, .reason = " \t"}, "an override needs a reason"},
      {{.kind = CommandKind::kPause, .override_gate = true, .reason = "r"}, "pause takes no override"},
      {{.kind = CommandKind::kRollback, .accept_no_way_back = true},
       "rollback never takes the step into NEW_ONLY"},
      {{.kind = CommandKind::kAbort, .accept_differences = true, .reason = "r"},
       "abort accepts no differences"},
      {{.kind = CommandKind::kRollback, .accept_differences = true}, "accepting differences needs a reason"},
      {{.kind = CommandKind::kAdvance, .accept_no_way_back = true},
       "does not lead into NEW_ONLY but to CANARY_READ with 5 % of reads"},
  };
  for (const auto& [command, message] : kCases) {
    const auto result = Plan(migration, command, nullptr, kNow);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(message));
    EXPECT_EQ(GetErrorInfo(result.status())->field_violations.size(), 1u);
  }
}

TEST(TransitionLifeTest, TransitionsCarryReasonAndEvidence) {
  const Migration migration = MakeMigration(kPositions[4], RunState::kRunning, false);
  const GateResult gate = *MakeGate(GateState::kHold);
  const auto overridden =
      Plan(migration, Command{.kind = CommandKind::kAdvance, .override_gate = true, .reason = "seen enough"},
           &gate, kNow);
  ASSERT_TRUE(overridden.ok());
  EXPECT_EQ((*overridden)->reason, "gate overridden: seen enough");
  ASSERT_TRUE((*overridden)->evidence.has_value());
  EXPECT_EQ((*overridden)->evidence->verdict, Verdict::kHold);
  const auto verdict = Plan(migration, GateVerdict{*MakeGate(GateState::kRollback)}, nullptr, kNow);
  EXPECT_EQ((*verdict)->reason, "mismatches: the gate's sentence.");
  EXPECT_EQ((*verdict)->evidence->verdict, Verdict::kRollBack);
  const auto notified = Plan(migration, GateVerdict{*MakeGate(GateState::kNotify)}, nullptr, kNow);
  EXPECT_EQ((*notified)->reason, "latency: the check's sentence.");
  EXPECT_EQ((*notified)->evidence->verdict, Verdict::kHold);
  const auto by_hand = Plan(migration, Command{.kind = CommandKind::kRollback}, nullptr, kNow);
  EXPECT_EQ((*by_hand)->reason, "rolled back by hand from CANARY_READ with 1 % of reads");
  EXPECT_FALSE((*by_hand)->evidence.has_value());
}

TEST(TransitionLifeTest, EscalationsNameTheStepTheDeadlineAndWhatIsMissing) {
  const auto reason = [](const Position& position, GateState gate) {
    const Migration migration = MakeMigration(position, RunState::kRunning, false);
    const auto result = Plan(migration, GateVerdict{*MakeGate(gate)}, nullptr, kNow);
    return result.ok() && result->has_value() ? (*result)->reason : "";
  };
  EXPECT_EQ(reason(kPositions[2], GateState::kLateHold),
            "the deadline of step 2 of 10 (SHADOW_READ), 2h, has passed: mismatches: the gate's sentence.");
  EXPECT_EQ(
      reason(kPositions[3], GateState::kLateAdvance),
      "the deadline of step 3 of 10 (SHADOW_READ), 2h, has passed: it is left by hand only, and nobody has. "
      "mismatches: the gate's sentence.");
}

}  // namespace
}  // namespace lockstep::domain
