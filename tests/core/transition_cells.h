// A migration wherever it can stand: stage, weight and step x run state x pending x what the gate says.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/domain/bucketing.h"
#include "core/domain/transition.h"

namespace lockstep::domain {

inline const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

inline constexpr std::array<RunState, 5> kAllRunStates = {
    RunState::kDraft, RunState::kRunning, RunState::kPaused, RunState::kRolledBack, RunState::kSucceeded};

// Steps 2 and 4 are manual; 1, 2, 5, 7 and 8 have a deadline.
inline constexpr absl::Duration kDeadline = absl::Hours(2);
inline bool HasDeadline(int step) { return step == 1 || step == 2 || step == 5 || step == 7 || step == 8; }
inline bool IsManual(int step) { return step == 2 || step == 4; }

inline MigrationPlan TestPlan() {
  MigrationPlan plan;
  plan.steps = {{.stage = Stage::kDualWrite},
                {.stage = Stage::kShadowRead},
                {.stage = Stage::kShadowRead},
                {.stage = Stage::kCanaryRead, .weight = 1'000},
                {.stage = Stage::kCanaryRead, .weight = 5'000},
                {.stage = Stage::kCanaryRead, .weight = kBucketCount},
                {.stage = Stage::kCutover, .weight = 10'000},
                {.stage = Stage::kCutover, .weight = kBucketCount},
                {.stage = Stage::kNewOnly},
                {.stage = Stage::kComplete}};
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    plan.steps[i].manual = IsManual(static_cast<int>(i));
    if (HasDeadline(static_cast<int>(i))) plan.steps[i].deadline = kDeadline;
  }
  return plan;
}

inline constexpr int kEnd = 10;

// Where a migration can stand, and where its next step leads.
struct Position {
  Stage stage;
  uint32_t weight;
  int step;
  // What going on means: the step and weight it leads to; kEnd = the plan has passed, -1 = impossible.
  int next_step;
  uint32_t next_weight;
  // Where a rollback leads, and the step there.
  std::optional<Stage> back;
  int back_step;
};
inline const Position kPositions[] = {
    {Stage::kOff, 0, -1, -1, 0, std::nullopt, -1},
    {Stage::kDualWrite, 0, 0, 1, 0, Stage::kOff, -1},
    {Stage::kShadowRead, 0, 1, 2, 0, Stage::kDualWrite, 0},
    {Stage::kShadowRead, 0, 2, 3, 1'000, Stage::kDualWrite, 0},
    {Stage::kCanaryRead, 1'000, 3, 4, 5'000, Stage::kShadowRead, 2},
    {Stage::kCanaryRead, 0, 3, 3, 1'000, Stage::kShadowRead, 2},              // lowered by hand
    {Stage::kCanaryRead, 5'000, 4, 5, kBucketCount, Stage::kShadowRead, 2},   // manual
    {Stage::kCanaryRead, 20'000, 4, 5, kBucketCount, Stage::kShadowRead, 2},  // raised by hand
    {Stage::kCanaryRead, kBucketCount, 5, 6, 10'000, Stage::kShadowRead, 2},
    {Stage::kCanaryRead, 20'000, 5, 5, kBucketCount, Stage::kShadowRead, 2},  // lowered by hand
    {Stage::kCanaryRead, 0, 5, 5, kBucketCount, Stage::kShadowRead, 2},       // back from CUTOVER
    {Stage::kDualWrite, 0, kEnd, -1, 0, Stage::kOff, -1},                     // the plan has become shorter
    {Stage::kDualWrite, 0, 3, -1, 0, Stage::kOff, -1},                        // the plan has become another
    {Stage::kCutover, 10'000, 6, 7, kBucketCount, Stage::kCanaryRead, 3},
    {Stage::kCutover, 0, 6, 6, 10'000, Stage::kCanaryRead, 3},             // the first slice was given up
    {Stage::kCutover, 20'000, 7, 7, kBucketCount, Stage::kCanaryRead, 3},  // a later one
    {Stage::kCutover, kBucketCount, 7, 8, 0, Stage::kCanaryRead, 3},
    {Stage::kNewOnly, kBucketCount, 8, 9, 0, std::nullopt, -1},
    {Stage::kComplete, kBucketCount, 9, kEnd, 0, std::nullopt, -1},
};

inline bool GoesIntoNewOnly(const Position& position) {
  return position.stage == Stage::kCutover && position.next_step == 8;
}

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
inline constexpr GateState kGateStates[] = {GateState::kNone,       GateState::kHold,
                                            GateState::kAdvance,    GateState::kRollback,
                                            GateState::kPause,      GateState::kNotify,
                                            GateState::kLateHold,   GateState::kLateAdvance,
                                            GateState::kLateNotify, GateState::kLateNotifyRollback};

inline bool In(GateState state, std::initializer_list<GateState> states) {
  return std::find(states.begin(), states.end(), state) != states.end();
}
inline bool IsLate(GateState state) {
  return In(state, {GateState::kLateHold, GateState::kLateAdvance, GateState::kLateNotify,
                    GateState::kLateNotifyRollback});
}
inline bool Notifies(GateState state) {
  return In(state, {GateState::kNotify, GateState::kLateNotify, GateState::kLateNotifyRollback});
}
inline bool Holds(GateState state) {
  return In(state, {GateState::kHold, GateState::kNotify, GateState::kLateHold, GateState::kLateNotify});
}
inline bool Advances(GateState state) { return In(state, {GateState::kAdvance, GateState::kLateAdvance}); }
inline bool RollsBack(GateState state) {
  return In(state, {GateState::kRollback, GateState::kPause, GateState::kLateNotifyRollback});
}

inline std::optional<GateResult> MakeGate(GateState state) {
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

inline Migration MakeMigration(const Position& position, RunState run_state, bool pending) {
  Migration migration;
  migration.name = "namespaces/shop/migrations/orders";
  migration.salt = "salt";
  migration.plan = TestPlan();
  migration.run_state = run_state;
  migration.step = position.step;
  migration.published = StateOfStage(position.stage, position.weight);
  if (position.stage == Stage::kCutover) {
    migration.published.drain_weight = migration.published.write_weight = position.weight;
  }
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

}  // namespace lockstep::domain
