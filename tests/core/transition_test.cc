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
#include "core/base/error_info.h"
#include "core/domain/bucketing.h"
#include "core/domain/compatibility.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

constexpr std::array<RunState, 5> kAllRunStates = {RunState::kDraft, RunState::kRunning, RunState::kPaused,
                                                   RunState::kRolledBack, RunState::kSucceeded};

// Steps 2 and 4 are manual; 5 is the last; 1, 2 and 5 have a deadline.
constexpr absl::Duration kDeadline = absl::Hours(2);
bool HasDeadline(int step) { return step == 1 || step == 2 || step == 5; }

MigrationPlan TestPlan() {
  MigrationPlan plan;
  plan.steps = {{.stage = Stage::kDualWrite},
                {.stage = Stage::kShadowRead},
                {.stage = Stage::kShadowRead, .manual = true},
                {.stage = Stage::kCanaryRead, .weight = 1'000},
                {.stage = Stage::kCanaryRead, .weight = 5'000, .manual = true},
                {.stage = Stage::kCanaryRead, .weight = 50'000}};
  for (const int step : {1, 2, 5}) plan.steps[static_cast<size_t>(step)].deadline = kDeadline;
  return plan;
}

// Where a migration can stand, and where its next step leads: `next` < 0 = nowhere.
struct Position {
  Stage stage;
  uint32_t weight;
  int step;
  // What going on means: the step and weight it leads to; step 6 = the plan has passed, -1 = impossible.
  int next_step;
  uint32_t next_weight;
  // Where a rollback leads, and the step there.
  std::optional<Stage> back;
  int back_step;
};
const Position kPositions[] = {
    {Stage::kOff, 0, -1, -1, 0, std::nullopt, -1},
    {Stage::kDualWrite, 0, 0, 1, 0, Stage::kOff, -1},
    {Stage::kShadowRead, 0, 1, 2, 0, Stage::kDualWrite, 0},
    {Stage::kShadowRead, 0, 2, 3, 1'000, Stage::kDualWrite, 0},
    {Stage::kCanaryRead, 1'000, 3, 4, 5'000, Stage::kShadowRead, 2},
    {Stage::kCanaryRead, 0, 3, 3, 1'000, Stage::kShadowRead, 2},         // lowered by hand
    {Stage::kCanaryRead, 5'000, 4, 5, 50'000, Stage::kShadowRead, 2},    // manual
    {Stage::kCanaryRead, 20'000, 4, 5, 50'000, Stage::kShadowRead, 2},   // raised by hand
    {Stage::kCanaryRead, 50'000, 5, 6, 0, Stage::kShadowRead, 2},        // last
    {Stage::kCanaryRead, 20'000, 5, 5, 50'000, Stage::kShadowRead, 2},   // last, lowered by hand
    {Stage::kCanaryRead, kBucketCount, 5, 6, 0, Stage::kShadowRead, 2},  // last, raised by hand
    {Stage::kDualWrite, 0, 6, -1, 0, Stage::kOff, -1},                   // the plan has become shorter
    {Stage::kDualWrite, 0, 3, -1, 0, Stage::kOff, -1},                   // the plan has become another
    {Stage::kCutover, kBucketCount, 5, -1, 0, std::nullopt, -1},
    {Stage::kNewOnly, kBucketCount, 5, -1, 0, std::nullopt, -1},
    {Stage::kComplete, kBucketCount, 5, -1, 0, std::nullopt, -1},
};

// Late: the deadline has passed. Notify: a check is breached that only notifies.
enum class GateState {
  kNone,
  kHold,
  kAdvance,
  kRollback,
  kPause,
  kNotify,
  kLateHold,
  kLateAdvance,
  kLateNotify,
  kLateNotifyRollback,
};
constexpr GateState kGateStates[] = {GateState::kNone,       GateState::kHold,
                                     GateState::kAdvance,    GateState::kRollback,
                                     GateState::kPause,      GateState::kNotify,
                                     GateState::kLateHold,   GateState::kLateAdvance,
                                     GateState::kLateNotify, GateState::kLateNotifyRollback};

bool In(GateState state, std::initializer_list<GateState> states) {
  return std::find(states.begin(), states.end(), state) != states.end();
}
bool IsLate(GateState state) {
  return In(state, {GateState::kLateHold, GateState::kLateAdvance, GateState::kLateNotify,
                    GateState::kLateNotifyRollback});
}
bool Notifies(GateState state) {
  return In(state, {GateState::kNotify, GateState::kLateNotify, GateState::kLateNotifyRollback});
}
bool Holds(GateState state) {
  return In(state, {GateState::kHold, GateState::kNotify, GateState::kLateHold, GateState::kLateNotify});
}
bool Advances(GateState state) { return In(state, {GateState::kAdvance, GateState::kLateAdvance}); }
bool RollsBack(GateState state) {
  return In(state, {GateState::kRollback, GateState::kPause, GateState::kLateNotifyRollback});
}

std::optional<GateResult> MakeGate(GateState state) {
  GateResult result;
  result.sentence = "mismatches: the gate's sentence.";
  if (state == GateState::kNone) return std::nullopt;
  CheckResult check;
  check.check = "mismatches";
  check.sentence = result.sentence;
  if (Advances(state)) result.verdict = check.verdict = Verdict::kAdvance;
  if (RollsBack(state)) {
    result.verdict = check.verdict = Verdict::kRollBack;
    result.action = state == GateState::kPause ? BreachAction::kPause : BreachAction::kRollback;
  }
  result.deadline_passed = IsLate(state);
  result.checks.push_back(check);
  if (Notifies(state)) {
    // Neither of the first two is announced.
    for (const char* name : {"advisory", "unsure", "latency"}) {
      CheckResult notifies;
      notifies.check = name;
      notifies.on_breach = BreachAction::kNotify;
      notifies.verdict = Verdict::kRollBack;
      notifies.sentence = absl::StrCat(name, ": the check's sentence.");
      result.checks.push_back(notifies);
    }
    result.checks[1].advisory = true;
    result.checks[2].verdict = Verdict::kHold;
  }
  return result;
}

Migration MakeMigration(const Position& position, RunState run_state, bool pending) {
  Migration migration;
  migration.name = "namespaces/shop/migrations/orders";
  migration.salt = "salt";
  migration.plan = TestPlan();
  migration.run_state = run_state;
  migration.step = position.step;
  migration.published = StateOfStage(position.stage, position.weight);
  migration.published.epoch = 41;
  migration.published.generation = 3;
  migration.published.comparison_weight = 25'000;
  migration.published.salt_seed = SaltSeed("salt");
  migration.pins.keys["vip"] = Side::kNew;
  if (pending) {
    migration.pending = migration.published;
    migration.pending_since = kNow - absl::Seconds(90);
  }
  return migration;
}

// One cell of the space, with everything the rules look at.
struct Cell {
  Position position;
  RunState run_state;
  bool pending;
  GateState gate;
  bool override_gate;
  bool reason;

  std::string Name() const {
    return absl::StrCat(StageName(position.stage), " ", position.weight, " step ", position.step, ", ",
                        RunStateName(run_state), pending ? ", pending" : "", ", gate ",
                        static_cast<int>(gate), override_gate ? ", override" : "", reason ? ", reason" : "");
  }
};

template <typename Visit>
void ForEachCell(Visit visit) {
  for (const Position& position : kPositions) {
    for (const RunState run_state : kAllRunStates) {
      for (const bool pending : {false, true}) {
        for (const GateState gate : kGateStates) {
          for (const bool override_gate : {false, true}) {
            for (const bool reason : {false, true}) {
              visit(Cell{position, run_state, pending, gate, override_gate, reason});
            }
          }
        }
      }
    }
  }
}

struct Outcome {
  absl::StatusCode code = absl::StatusCode::kOk;
  bool changes = false;  // verdicts may change nothing
  RunState run_state = RunState::kDraft;
  int step = -1;
  std::optional<Stage> stage;  // of the target
  uint32_t weight = 0;
  bool new_generation = false;
  bool via = false;
  bool restart = false;
  bool escalates = false;
  std::string notified;
  bool operator==(const Outcome&) const = default;
};

void PrintTo(const Outcome& o, std::ostream* out) {
  *out << absl::StatusCodeToString(o.code) << (o.changes ? " change to " : " no change ")
       << RunStateName(o.run_state) << " step " << o.step << " target "
       << (o.stage ? StageName(*o.stage) : "none") << " " << o.weight
       << (o.new_generation ? " new generation" : "") << (o.via ? " via" : "")
       << (o.restart ? " restart" : "") << (o.escalates ? " escalates" : "") << " notifies " << o.notified;
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
    outcome.weight = transition.target->read_weight;
  }
  outcome.new_generation = transition.new_generation;
  outcome.via = transition.via.has_value();
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
  if (at.next_step == 6) return {.changes = true, .run_state = RunState::kSucceeded, .step = at.step};
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
    if (at.step > 5) return kRefused;
    const bool breached = RollsBack(cell.gate);
    if (breached && !cell.reason) return kRefused;
    return {.changes = true, .run_state = RunState::kRunning, .step = at.step, .restart = breached};
  }
  switch (at.stage) {
    case Stage::kDualWrite:
      return {.changes = true, .run_state = RunState::kRunning, .step = 0, .restart = true};
    case Stage::kShadowRead:
      return {.changes = true, .run_state = RunState::kRunning, .step = 2, .restart = true};
    case Stage::kCanaryRead:
      return {.changes = true, .run_state = RunState::kRunning, .step = 5, .restart = true};
    case Stage::kOff:
    case Stage::kCutover:
    case Stage::kNewOnly:
    case Stage::kComplete:
      break;
  }
  return kRefused;
}

Outcome ExpectedOf(const Cell& cell, CommandKind kind) {
  const Position& at = cell.position;
  const bool asks_the_gate = kind == CommandKind::kAdvance || kind == CommandKind::kSetWeight;
  if (cell.override_gate && (!asks_the_gate || !cell.reason)) return kMalformed;
  switch (kind) {
    case CommandKind::kStart:
      return cell.run_state == RunState::kDraft && at.stage == Stage::kOff && !cell.pending ? BeginAnew()
                                                                                            : kRefused;
    case CommandKind::kAdvance:
      return GateLetsPass(cell) ? GoOn(cell) : kRefused;
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
              .via = at.stage != Stage::kDualWrite,
              .restart = true};
    case CommandKind::kSetWeight:
      break;  // has a test of its own
  }
  return kRefused;
}

Command MakeCommand(const Cell& cell, CommandKind kind) {
  return {.kind = kind, .override_gate = cell.override_gate, .reason = cell.reason ? "because" : ""};
}

TEST(TransitionTest, EveryCommandEverywhere) {
  int cells = 0;
  ForEachCell([&](const Cell& cell) {
    const Migration migration = MakeMigration(cell.position, cell.run_state, cell.pending);
    const std::optional<GateResult> gate = MakeGate(cell.gate);
    for (const CommandKind kind : kAllCommands) {
      if (kind == CommandKind::kSetWeight) continue;
      const auto result = Plan(migration, MakeCommand(cell, kind), gate ? &*gate : nullptr, kNow);
      ASSERT_EQ(Observe(result), ExpectedOf(cell, kind))
          << CommandName(kind) << " at " << cell.Name() << ": " << result.status();
      ++cells;
    }
  });
  EXPECT_EQ(cells, 16 * 5 * 2 * 10 * 2 * 2 * 6);
}

// What the verdict itself leads to, whatever is late or to be announced.
Outcome MovedBy(const Cell& cell) {
  const bool under_way = In(cell.run_state, {RunState::kRunning, RunState::kPaused, RunState::kSucceeded});
  Outcome outcome = kNothing;
  if (Advances(cell.gate) && cell.position.step != 2 && cell.position.step != 4) outcome = GoOn(cell);
  if (In(cell.gate, {GateState::kRollback, GateState::kLateNotifyRollback}) && under_way)
    outcome = GoBack(cell);
  if (cell.gate == GateState::kPause && In(cell.run_state, {RunState::kRunning, RunState::kSucceeded})) {
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
  const bool manual = step == 2 || step == 4;
  const bool not_passed = Holds(cell.gate) || (Advances(cell.gate) && manual);
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
  const uint32_t kWeights[] = {0, 1, 999, 1'000, 1'001, 5'000, 20'000, 49'999, 50'000, 50'001, kBucketCount};
  // The step whose weight is reached: the last one at or below, else the first CANARY_READ step.
  const auto step_of = [](uint32_t weight) { return weight < 5'000 ? 3 : weight < 50'000 ? 4 : 5; };
  // What ADVANCE at steps 3, 4 and 5 certifies: the next step's weight, or the last one's own.
  const uint32_t kCertified[] = {5'000, 50'000, 50'000};
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
void CheckInvariants(const Cell& cell, const Migration& migration, const Transition& transition,
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
    EXPECT_FALSE(transition.via.has_value());
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
  // Reads move to new only with the gate's consent or over an override with a reason.
  if (target.read_weight > published.read_weight) {
    EXPECT_TRUE(certified);
  }
  // One stage up at most; what serves is never skipped.
  EXPECT_LE(static_cast<int>(target.stage), static_cast<int>(published.stage) + 1);
  // The next state can always be published in the end: each may coexist with the one before it.
  if (transition.via) {
    EXPECT_TRUE(ValidateRoutingState(*transition.via).ok());
    EXPECT_TRUE(MayCoexist(published, *transition.via));
    EXPECT_TRUE(MayCoexist(*transition.via, target));
    EXPECT_EQ(transition.via->generation, published.generation);
  } else {
    EXPECT_TRUE(MayCoexist(published, target));
  }
  EXPECT_EQ(transition.new_generation, target.stage == Stage::kOff);
  EXPECT_EQ(target.generation, published.generation + (transition.new_generation ? 1 : 0));
  if (transition.action == "rollback" && target.stage != Stage::kOff) {
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
      Command command = MakeCommand(cell, kind);
      for (const uint32_t weight : {0u, 3'000u, 50'000u, kBucketCount}) {
        command.weight = weight;
        triggers.emplace_back(command);
      }
    }
    if (gate) triggers.emplace_back(GateVerdict{*gate});
    for (const Trigger& trigger : triggers) {
      const auto result = Plan(migration, trigger, gate ? &*gate : nullptr, kNow);
      if (!result.ok() || !result->has_value()) continue;
      CheckInvariants(cell, migration, **result, certified);
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
      for (const uint32_t weight : {0u, 1'000u, 50'000u}) {
        Command command = MakeCommand(cell, kind);
        command.weight = weight;
        any = any || Plan(migration, command, gate ? &*gate : nullptr, kNow).ok();
      }
      if (any) granted.push_back(kind);
    }
    ASSERT_EQ(AllowedCommands(migration, gate ? &*gate : nullptr, kNow), granted) << cell.Name();
  });
}

// A registry in a line: commits a transition and publishes at once.
void Commit(Migration& migration, const Transition& transition) {
  migration.run_state = transition.run_state;
  migration.step = transition.step;
  if (transition.target) {
    const uint64_t epoch = migration.published.epoch + (transition.via ? 2 : 1);
    migration.published = *transition.target;
    migration.published.epoch = epoch;
  }
  if (transition.action == "rollback") migration.rolled_back_at = kNow;
}

std::string Stand(const Migration& migration) {
  return absl::StrCat(RunStateName(migration.run_state), " ", StageName(migration.published.stage), " ",
                      migration.published.read_weight, " step ", migration.step);
}

void Apply(Migration& migration, const Trigger& trigger, GateState gate_state = GateState::kNone) {
  const std::optional<GateResult> gate = MakeGate(gate_state);
  const auto result = Plan(migration, trigger, gate ? &*gate : nullptr, kNow);
  ASSERT_TRUE(result.ok()) << result.status();
  if (result->has_value()) Commit(migration, **result);
}

TEST(TransitionTest, AWholeLife) {
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
  EXPECT_EQ(Stand(migration), "RUNNING CANARY_READ 50000 step 5");
  Apply(migration, advance);
  EXPECT_EQ(Stand(migration), "SUCCEEDED CANARY_READ 50000 step 5");
  Apply(migration, roll_back);  // success is no protection
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

TEST(TransitionTest, CoolDownHoldsResumeOnly) {
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

TEST(TransitionTest, RefusalsSayWhereWhyAndWhatInstead) {
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
      {kPositions[13],
       RunState::kRunning,
       false,
       GateState::kNone,
       {.kind = CommandKind::kRollback},
       "not available in this version. Allowed now: pause.",
       "ILLEGAL_TRANSITION"},
      {kPositions[14],
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

TEST(TransitionTest, MalformedCommandsAreRefusedWhereverTheMigrationStands) {
  const Migration migration = MakeMigration(kPositions[4], RunState::kRunning, false);
  const std::pair<Command, const char*> kCases[] = {
      {{.kind = CommandKind::kSetWeight, .weight = kBucketCount + 1}, "weight 100001 is more than 100000"},
      {{.kind = CommandKind::kAdvance, .override_gate = true}, "an override needs a reason"},
      {{.kind = CommandKind::kAdvance, .override_gate = true, .reason = " \t"}, "an override needs a reason"},
      {{.kind = CommandKind::kPause, .override_gate = true, .reason = "r"}, "pause takes no override"},
  };
  for (const auto& [command, message] : kCases) {
    const auto result = Plan(migration, command, nullptr, kNow);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(message));
    EXPECT_EQ(GetErrorInfo(result.status())->field_violations.size(), 1u);
  }
}

TEST(TransitionTest, TransitionsCarryReasonAndEvidence) {
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

TEST(TransitionTest, EscalationsNameTheStepTheDeadlineAndWhatIsMissing) {
  const auto reason = [](const Position& position, GateState gate) {
    const Migration migration = MakeMigration(position, RunState::kRunning, false);
    const auto result = Plan(migration, GateVerdict{*MakeGate(gate)}, nullptr, kNow);
    return result.ok() && result->has_value() ? (*result)->reason : "";
  };
  EXPECT_EQ(reason(kPositions[2], GateState::kLateHold),
            "the deadline of step 2 of 6 (SHADOW_READ), 2h, has passed: mismatches: the gate's sentence.");
  EXPECT_EQ(
      reason(kPositions[3], GateState::kLateAdvance),
      "the deadline of step 3 of 6 (SHADOW_READ), 2h, has passed: it is left by hand only, and nobody has. "
      "mismatches: the gate's sentence.");
}

}  // namespace
}  // namespace lockstep::domain
