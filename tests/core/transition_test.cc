// Every stage x run state x command or verdict x gate x override x pending, against rules written down as
// tables, and invariants over all of it. The tables say what is granted; the code says how.
#include "core/domain/transition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/bucketing.h"
#include "core/domain/compatibility.h"
#include "core/domain/next_hop.h"
#include "tests/core/transition_cells.h"

namespace lockstep::domain {
namespace {

struct Outcome {
  absl::StatusCode code = absl::StatusCode::kOk;
  bool changes = false;  // verdicts may change nothing
  RunState run_state = RunState::kDraft;
  int step = -1;
  std::optional<Stage> stage;  // of the target
  uint32_t weight = 0;
  bool new_generation = false;
  bool restart = false;
  bool escalates = false;
  std::string notified;
  bool operator==(const Outcome&) const = default;
};

void PrintTo(const Outcome& o, std::ostream* out) {
  *out << absl::StatusCodeToString(o.code) << (o.changes ? " change to " : " no change ")
       << RunStateName(o.run_state) << " step " << o.step << " target "
       << (o.stage ? StageName(*o.stage) : "none") << " " << o.weight
       << (o.new_generation ? " new generation" : "") << (o.restart ? " restart" : "")
       << (o.escalates ? " escalates" : "") << " notifies " << o.notified;
}

Outcome Observe(const absl::StatusOr<std::optional<Transition>>& result) {
  Outcome outcome;
  outcome.code = result.status().code();
  if (!result.ok() || !result->has_value()) return outcome;
  const Transition& transition = **result;
  outcome.changes = true;
  outcome.run_state = transition.run_state;
  outcome.step = transition.step;
  if (transition.target) {
    outcome.stage = transition.target->stage;
    const RoutingState& target = *transition.target;
    // Where the weight is not the step's to say, it is the stage's.
    if (target.stage == Stage::kCanaryRead) outcome.weight = target.read_weight;
    if (target.stage == Stage::kCutover) outcome.weight = target.write_weight;
  }
  outcome.new_generation = transition.new_generation;
  outcome.restart = transition.restart_evidence;
  outcome.escalates = transition.action == "escalate";
  outcome.notified = transition.notified_check;
  return outcome;
}

const Outcome kRefused = {.code = absl::StatusCode::kFailedPrecondition};
const Outcome kMalformed = {.code = absl::StatusCode::kInvalidArgument};
const Outcome kNothing = {};

bool In(RunState state, std::initializer_list<RunState> states) {
  return std::find(states.begin(), states.end(), state) != states.end();
}

// The gate lets a person go on: it says so itself, or it holds and is overridden.
bool GateLetsPass(const Cell& cell) {
  return Advances(cell.gate) || (cell.override_gate && (cell.gate == GateState::kNone || Holds(cell.gate)));
}

Outcome GoOn(const Cell& cell) {
  const Position& at = cell.position;
  if (cell.run_state != RunState::kRunning || cell.pending || at.next_step < 0) return kRefused;
  if (at.next_step == kEnd) return {.changes = true, .run_state = RunState::kSucceeded, .step = at.step};
  return {.changes = true,
          .run_state = RunState::kRunning,
          .step = at.next_step,
          .stage = TestPlan().steps[at.next_step].stage,
          .weight = at.next_weight};
}

Outcome GoBack(const Cell& cell) {
  const Position& at = cell.position;
  if (!at.back) return kRefused;
  return {.changes = true,
          .run_state = RunState::kRolledBack,
          .step = at.back_step,
          .stage = at.back,
          .new_generation = at.back == Stage::kOff,
          .restart = true};
}

Outcome BeginAnew() {
  return {.changes = true,
          .run_state = RunState::kRunning,
          .step = 0,
          .stage = Stage::kDualWrite,
          .restart = true};
}

Outcome Resume(const Cell& cell) {
  const Position& at = cell.position;
  const bool rolled_back = cell.run_state == RunState::kRolledBack;
  if (!rolled_back && cell.run_state != RunState::kPaused) return kRefused;
  if ((rolled_back || at.stage == Stage::kOff) && cell.pending) return kRefused;
  if (at.stage == Stage::kOff) return BeginAnew();
  if (!rolled_back) {
    if (at.step >= kEnd) return kRefused;
    const bool breached = RollsBack(cell.gate);
    if (breached && !cell.reason) return kRefused;
    return {.changes = true, .run_state = RunState::kRunning, .step = at.step, .restart = breached};
  }
  switch (at.stage) {
    case Stage::kDualWrite:
      return {.changes = true, .run_state = RunState::kRunning, .step = 0, .restart = true};
    case Stage::kShadowRead:
      return {.changes = true, .run_state = RunState::kRunning, .step = 2, .restart = true};
    case Stage::kCanaryRead: {
      Outcome outcome = {.changes = true, .run_state = RunState::kRunning, .step = 3, .restart = true};
      if (at.weight < 1'000) {  // with the first share, since without one there is nothing to judge by
        outcome.stage = Stage::kCanaryRead;
        outcome.weight = 1'000;
      }
      return outcome;
    }
    case Stage::kCutover:
      return {.changes = true, .run_state = RunState::kRunning, .step = 7, .restart = true};
    case Stage::kNewOnly:
      return {.changes = true, .run_state = RunState::kRunning, .step = 8, .restart = true};
    case Stage::kComplete:
      return {.changes = true, .run_state = RunState::kRunning, .step = 9, .restart = true};
    case Stage::kOff:
      break;
  }
  return kRefused;
}

Outcome Advance(const Cell& cell, bool accept) {
  const Outcome onward = GoOn(cell);
  if (onward == kRefused) return kRefused;
  if (accept && !GoesIntoNewOnly(cell.position)) return kMalformed;
  if (!GateLetsPass(cell) || accept != GoesIntoNewOnly(cell.position)) return kRefused;
  return onward;
}

Outcome ExpectedOf(const Cell& cell, CommandKind kind, bool accept) {
  const Position& at = cell.position;
  const bool asks_the_gate = kind == CommandKind::kAdvance || kind == CommandKind::kSetWeight;
  if (cell.override_gate && (!asks_the_gate || !cell.reason)) return kMalformed;
  if (accept && kind != CommandKind::kAdvance) return kMalformed;
  switch (kind) {
    case CommandKind::kStart:
      return cell.run_state == RunState::kDraft && at.stage == Stage::kOff && !cell.pending ? BeginAnew()
                                                                                            : kRefused;
    case CommandKind::kAdvance:
      return Advance(cell, accept);
    case CommandKind::kPause:
      if (cell.run_state != RunState::kRunning) return kRefused;
      return {.changes = true, .run_state = RunState::kPaused, .step = at.step};
    case CommandKind::kResume:
      return Resume(cell);
    case CommandKind::kRollback:
      return GoBack(cell);
    case CommandKind::kAbort:
      if (!at.back) return kRefused;
      return {.changes = true,
              .run_state = RunState::kDraft,
              .step = -1,
              .stage = Stage::kOff,
              .new_generation = true,
              .restart = true};
    case CommandKind::kSetWeight:
      break;  // has a test of its own
  }
  return kRefused;
}

Command MakeCommand(const Cell& cell, CommandKind kind, bool accept = false) {
  return {.kind = kind,
          .override_gate = cell.override_gate,
          .accept_no_way_back = accept,
          .reason = cell.reason ? "because" : ""};
}

TEST(TransitionTest, EveryCommandEverywhere) {
  int cells = 0;
  ForEachCell([&](const Cell& cell) {
    const Migration migration = MakeMigration(cell.position, cell.run_state, cell.pending);
    const std::optional<GateResult> gate = MakeGate(cell.gate);
    for (const CommandKind kind : kAllCommands) {
      if (kind == CommandKind::kSetWeight) continue;
      for (const bool accept : {false, true}) {
        const auto result = Plan(migration, MakeCommand(cell, kind, accept), gate ? &*gate : nullptr, kNow);
        ASSERT_EQ(Observe(result), ExpectedOf(cell, kind, accept))
            << CommandName(kind) << (accept ? " accepting" : "") << " at " << cell.Name() << ": "
            << result.status();
        ++cells;
      }
    }
  });
  EXPECT_EQ(cells, 19 * 5 * 2 * 10 * 2 * 2 * 6 * 2);
}

// What the verdict itself leads to, whatever is late or to be announced.
Outcome MovedBy(const Cell& cell) {
  const bool under_way = In(cell.run_state, {RunState::kRunning, RunState::kPaused, RunState::kSucceeded});
  Outcome outcome = kNothing;
  const bool left_by_hand = IsManual(cell.position.step) || GoesIntoNewOnly(cell.position);
  if (Advances(cell.gate) && !left_by_hand) outcome = GoOn(cell);
  const bool rollback = In(cell.gate, {GateState::kRollback, GateState::kLateNotifyRollback});
  if (rollback && under_way) outcome = GoBack(cell);
  const bool beyond_the_way_back = cell.position.stage >= Stage::kNewOnly;
  const bool pauses = cell.gate == GateState::kPause || (rollback && beyond_the_way_back);
  if (pauses && In(cell.run_state, {RunState::kRunning, RunState::kSucceeded})) {
    outcome = {.changes = true, .run_state = RunState::kPaused, .step = cell.position.step};
  }
  return outcome == kRefused ? kNothing : outcome;  // a verdict is never refused
}

// A rollback outranks all, then an advance; then a breach is announced, once; then a deadline escalates.
Outcome ExpectedOfVerdict(const Cell& cell, bool notified) {
  const int step = cell.position.step;
  const bool under_way = In(cell.run_state, {RunState::kRunning, RunState::kPaused, RunState::kSucceeded});
  if (const Outcome moved = MovedBy(cell); moved.changes) return moved;
  if (cell.pending) return kNothing;  // the step has been left
  if (Notifies(cell.gate) && under_way && !notified) {
    return {.changes = true, .run_state = cell.run_state, .step = step, .notified = "latency"};
  }
  const bool left_by_hand = IsManual(step) || GoesIntoNewOnly(cell.position);
  const bool not_passed = Holds(cell.gate) || (Advances(cell.gate) && left_by_hand);
  if (IsLate(cell.gate) && not_passed && cell.run_state == RunState::kRunning && HasDeadline(step)) {
    return {.changes = true, .run_state = RunState::kPaused, .step = step, .escalates = true};
  }
  return kNothing;
}

TEST(TransitionTest, EveryVerdictEverywhere) {
  int escalations = 0, notifications = 0;
  ForEachCell([&](const Cell& cell) {
    if (cell.gate == GateState::kNone || cell.override_gate || cell.reason) return;
    for (const bool notified : {false, true}) {
      Migration migration = MakeMigration(cell.position, cell.run_state, cell.pending);
      if (notified) migration.notified_checks = {"another", "latency"};
      const auto result = Plan(migration, GateVerdict{*MakeGate(cell.gate)}, nullptr, kNow);
      const Outcome expected = ExpectedOfVerdict(cell, notified);
      ASSERT_EQ(Observe(result), expected) << cell.Name() << (notified ? ", notified" : "");
      escalations += expected.escalates ? 1 : 0;
      notifications += expected.notified.empty() ? 0 : 1;
    }
  });
  EXPECT_GT(escalations, 20);
  EXPECT_GT(notifications, 50);
}

TEST(TransitionTest, EveryWeightEverywhere) {
  const uint32_t kWeights[] = {0, 1, 999, 1'000, 1'001, 5'000, 20'000, 99'999, kBucketCount};
  // The step whose weight is reached: the last one at or below, else the first CANARY_READ step.
  const auto step_of = [](uint32_t weight) { return weight < 5'000 ? 3 : weight < kBucketCount ? 4 : 5; };
  // What ADVANCE at steps 3, 4 and 5 certifies: the next CANARY_READ step's weight, or the last one's own.
  const uint32_t kCertified[] = {5'000, kBucketCount, kBucketCount};
  ForEachCell([&](const Cell& cell) {
    const Position& at = cell.position;
    const Migration migration = MakeMigration(at, cell.run_state, cell.pending);
    const std::optional<GateResult> gate = MakeGate(cell.gate);
    for (const uint32_t weight : kWeights) {
      Command command = MakeCommand(cell, CommandKind::kSetWeight);
      command.weight = weight;
      const auto result = Plan(migration, command, gate ? &*gate : nullptr, kNow);
      Outcome expected = kRefused;
      const bool possible = at.stage == Stage::kCanaryRead && weight != at.weight &&
                            In(cell.run_state, {RunState::kRunning, RunState::kPaused, RunState::kSucceeded});
      const Outcome done = {.changes = true,
                            .run_state = weight < at.weight ? RunState::kPaused : cell.run_state,
                            .step = step_of(weight),
                            .stage = Stage::kCanaryRead,
                            .weight = weight};
      if (cell.override_gate && !cell.reason) {
        expected = kMalformed;
      } else if (possible && weight < at.weight) {
        expected = done;
      } else if (possible && !cell.pending && GateLetsPass(cell) &&
                 (cell.override_gate || weight <= kCertified[at.step - 3])) {
        expected = done;
      }
      ASSERT_EQ(Observe(result), expected) << weight << " at " << cell.Name() << ": " << result.status();
    }
  });
}

// Whatever is granted, wherever, for whatever reason.
void CheckInvariants(const Migration& migration, const Trigger& trigger, const Transition& transition,
                     bool certified) {
  EXPECT_FALSE(transition.reason.empty());
  EXPECT_FALSE(transition.action.empty());
  EXPECT_LT(transition.step, static_cast<int>(migration.plan.steps.size()) + 1);
  EXPECT_EQ(transition.action == "notify", !transition.notified_check.empty());
  if (transition.action == "notify" || transition.action == "escalate") {
    EXPECT_FALSE(transition.target.has_value());
    EXPECT_FALSE(transition.restart_evidence);
    EXPECT_EQ(transition.step, migration.step);
  }
  if (!transition.target) {
    EXPECT_FALSE(transition.new_generation);
    return;
  }
  const RoutingState& target = *transition.target;
  const RoutingState& published = migration.published;
  EXPECT_TRUE(ValidateRoutingState(target).ok()) << ValidateRoutingState(target);
  EXPECT_EQ(target.epoch, 0u);
  EXPECT_EQ(target.salt_seed, published.salt_seed);
  EXPECT_EQ(target.comparison_weight, published.comparison_weight);
  ASSERT_NE(target.pins, nullptr);
  EXPECT_EQ(*target.pins, migration.pins);
  // Reads and writes move to new only with the gate's consent or over an override with a reason; and with the
  // first share when a person goes on after a rollback that left none.
  const bool begins_anew = transition.action == "resume" && migration.run_state == RunState::kRolledBack &&
                           target.read_weight == 1'000 && target.write_weight == 0;
  if (target.read_weight > published.read_weight || target.write_weight > published.write_weight) {
    EXPECT_TRUE(certified || begins_anew);
  }
  // One stage up at most; what serves is never skipped.
  EXPECT_LE(static_cast<int>(target.stage), static_cast<int>(published.stage) + 1);
  // The way back is given up by a person who says so, and never got back.
  if (target.stage >= Stage::kNewOnly && published.stage < Stage::kNewOnly) {
    const Command* command = std::get_if<Command>(&trigger);
    EXPECT_TRUE(command != nullptr && command->accept_no_way_back);
  }
  if (published.stage >= Stage::kNewOnly) {
    EXPECT_GT(target.stage, published.stage);
  }
  EXPECT_TRUE(NextHop(published, target, 5'000).has_value()) << "there is a way";
  EXPECT_FALSE(HoldsWrites(target)) << "no state to stay in holds writes";
  EXPECT_EQ(transition.new_generation, target.stage == Stage::kOff);
  EXPECT_EQ(target.generation, published.generation + (transition.new_generation ? 1 : 0));
  if (transition.action == "rollback" && target.stage != Stage::kOff && published.stage < Stage::kCutover) {
    for (const Stage live : {Stage::kDualWrite, Stage::kShadowRead, Stage::kCanaryRead}) {
      EXPECT_TRUE(MayCoexist(StateOfStage(live, kBucketCount), target));
    }
  }
  if (transition.run_state == RunState::kRunning) {
    ASSERT_GE(transition.step, 0);
    EXPECT_EQ(migration.plan.steps[transition.step].stage, target.stage);
  }
}

TEST(TransitionTest, InvariantsHoldEverywhere) {
  int granted = 0;
  ForEachCell([&](const Cell& cell) {
    SCOPED_TRACE(cell.Name());
    const Migration migration = MakeMigration(cell.position, cell.run_state, cell.pending);
    const std::optional<GateResult> gate = MakeGate(cell.gate);
    const bool certified = Advances(cell.gate) || (cell.override_gate && cell.reason);
    std::vector<Trigger> triggers;
    for (const CommandKind kind : kAllCommands) {
      for (const bool accept : {false, true}) {
        Command command = MakeCommand(cell, kind, accept);
        for (const uint32_t weight : {0u, 3'000u, 50'000u, kBucketCount}) {
          command.weight = weight;
          triggers.emplace_back(command);
        }
      }
    }
    if (gate) triggers.emplace_back(GateVerdict{*gate});
    for (const Trigger& trigger : triggers) {
      const auto result = Plan(migration, trigger, gate ? &*gate : nullptr, kNow);
      if (!result.ok() || !result->has_value()) continue;
      CheckInvariants(migration, trigger, **result, certified);
      ++granted;
    }
  });
  EXPECT_GT(granted, 5'000);
}

TEST(TransitionTest, AllowedCommandsAreThoseThatAreGranted) {
  ForEachCell([&](const Cell& cell) {
    if (cell.override_gate || !cell.reason) return;
    const Migration migration = MakeMigration(cell.position, cell.run_state, cell.pending);
    const std::optional<GateResult> gate = MakeGate(cell.gate);
    std::vector<CommandKind> granted;
    for (const CommandKind kind : kAllCommands) {
      bool any = false;
      for (const bool accept : {false, true}) {
        for (const uint32_t weight : {0u, 1'000u, 50'000u}) {
          Command command = MakeCommand(cell, kind, accept);
          command.weight = weight;
          any = any || Plan(migration, command, gate ? &*gate : nullptr, kNow).ok();
        }
      }
      if (any) granted.push_back(kind);
    }
    ASSERT_EQ(AllowedCommands(migration, gate ? &*gate : nullptr, kNow), granted) << cell.Name();
  });
}

}  // namespace
}  // namespace lockstep::domain
