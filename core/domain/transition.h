// What may happen to a migration: (command or verdict) + migration + now -> transition, or a reason why not.
// Admin calls, the gate loop and schedules all go through Plan; Registry::Apply commits what it returns.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/domain/migration.h"
#include "core/domain/records.h"

namespace lockstep::domain {

enum class CommandKind : uint8_t { kStart, kAdvance, kPause, kResume, kRollback, kAbort, kSetWeight };

inline constexpr std::array<CommandKind, 7> kAllCommands = {
    CommandKind::kStart,    CommandKind::kAdvance, CommandKind::kPause,    CommandKind::kResume,
    CommandKind::kRollback, CommandKind::kAbort,   CommandKind::kSetWeight};

absl::string_view CommandName(CommandKind kind);  // "advance", "set-weight"

// What a person asks for.
struct Command {
  CommandKind kind = CommandKind::kStart;
  uint32_t weight = 0;  // kSetWeight: the read weight, in buckets; 0 = nothing but pins reads from new
  // kAdvance, or a kSetWeight that raises: go on although the gate holds. Needs a reason. A gate that says
  // ROLL_BACK can't be overridden: a rollback outranks everything.
  bool override_gate = false;
  // kAdvance into NEW_ONLY, which nothing else takes: the old side no longer gets the writes from there on.
  bool accept_no_way_back = false;
  // kRollback: records of a slice that differ don't stop it. Needs a reason.
  bool accept_differences = false;
  std::string reason;
};

// What the gate found.
struct GateVerdict {
  GateResult result;
};

// Before authority over a slice of buckets moved, an instance found records of it that differ for good, or
// that could not be compared.
struct SliceFailure {
  std::string instance_id;
  SliceCheck check;
};

using Trigger = std::variant<Command, GateVerdict, SliceFailure>;

// The change to commit.
struct Transition {
  // "advance", "rollback", "succeed", "escalate", "notify", ...: for the decision record and metrics.
  std::string action;
  // The goal: the routing state to come to, epoch not yet assigned, over as many states as it takes
  // (NextHop). It replaces whatever is pending. Nothing: routing, and what is pending, stay as they are.
  std::optional<RoutingState> target;
  // Where the migration stands afterwards, changed or not.
  RunState run_state = RunState::kDraft;
  int step = -1;
  bool new_generation = false;  // evidence and coverage are void; `target` has the new generation
  // Evidence gathered so far no longer counts, not even what carries over between steps, and the bake time
  // starts anew. With a `target` the bake time starts anew in any case, when it is published.
  bool restart_evidence = false;
  // The check whose breach this announces (action "notify"): to be added to Migration::notified_checks.
  // Nothing else changes, the reason for the run state included.
  std::string notified_check;
  // As Migration::accept_differences, for the way to `target`.
  bool accept_differences = false;
  // As Migration::differing_records; nothing: as before.
  std::optional<uint32_t> differing_records;
  std::string reason;                  // one sentence
  std::optional<GateResult> evidence;  // the gate's result at that time, if there was one
};

// Pure. `gate` is the newest evaluation (null: none yet), which an advance without override must satisfy.
// Refusals: FAILED_PRECONDITION that says from where, to where and what is allowed instead (or, for a gate
// that holds, which checks and guards, with their numbers); INVALID_ARGUMENT for a command that is malformed
// in itself (weight out of range, override or accept_differences without reason, accept_no_way_back for an
// advance that has a way back). Both carry an ErrorInfo (core/base/error_info.h) with reason
// ILLEGAL_TRANSITION, GATE_HOLDS, GATE_ROLLS_BACK, FENCE_WAITS, COOL_DOWN, PINS_TO_OLD, POINT_OF_NO_RETURN,
// REASON_REQUIRED or INVALID_ARGUMENT. A verdict that changes nothing yields nullopt; neither a verdict nor a
// slice failure is ever refused.
//
//   start      DRAFT at OFF: to the plan's first step.
//   advance    RUNNING, nothing pending, gate ADVANCE or override: to the next step; from the last one
//              SUCCEEDED. With a weight below the step's own (set by hand, or a slice was given up) that
//              weight comes first. Into CUTOVER only without pins to old. Into NEW_ONLY only with
//              accept_no_way_back. A verdict does the same, unless the step is manual or the next one is
//              NEW_ONLY.
//   pause      RUNNING to PAUSED. What is pending is published all the same.
//   resume     PAUSED or (after the plan's cool-down) ROLLED_BACK to RUNNING, at the last step of the stage
//              where it stands; from OFF at the first step, and after a rollback to CANARY_READ at the first
//              one there, with its weight. Evidence starts anew after a rollback, and when a check is
//              breached, which needs a reason.
//   rollback   DUAL_WRITE to CUTOVER in any run state, always granted: one stage back, ROLLED_BACK; from
//              CUTOVER to CANARY_READ at 0, so that the old side is the truth and serves. Reaching OFF starts
//              a new generation. With accept_differences no slice failure stops it.
//   abort      DUAL_WRITE to CUTOVER in any run state: to OFF and DRAFT, with a new generation.
//   set-weight CANARY_READ and RUNNING, PAUSED or SUCCEEDED. Lowering is always granted and pauses, so that
//              the gate does not undo it. Raising needs the gate's ADVANCE and goes to the next CANARY_READ
//              step's weight at most, or an override. The step becomes the last CANARY_READ step whose weight
//              is reached.
//   ROLL_BACK  by action. rollback: as the command, when RUNNING, PAUSED or SUCCEEDED; where there is no way
//              back, as pause. pause: RUNNING or SUCCEEDED to PAUSED.
//   breaches that only notify (any verdict), when RUNNING, PAUSED or SUCCEEDED with nothing pending: action
//              "notify", once for each binding check in the step; it changes nothing else.
//   a passed deadline (HOLD, or ADVANCE of a step that is left by a person), when RUNNING with nothing
//              pending: action "escalate", to PAUSED. It never ships and never reverts anything.
//   a slice failure, while the epoch it was found in is published and holds writes: action "slice_failed", in
//              any run state, to PAUSED at the step whose write weight is reached. The hold is given up, and
//              authority stays where it was before. For an abort that is under way it means that the
//              generation goes on. On the way back to old, records that could not be compared change nothing,
//              and after a rollback with accept_differences neither do records that differ.
// One verdict makes one transition: a rollback or a pause by a breach before an advance, that before a
// notification, that before an escalation.
absl::StatusOr<std::optional<Transition>> Plan(const Migration& migration, const Trigger& trigger,
                                               const GateResult* gate, absl::Time now);

// The commands that Plan would grant now (set-weight: some weight), for error messages and for the CLI.
std::vector<CommandKind> AllowedCommands(const Migration& migration, const GateResult* gate, absl::Time now);

// Whether the next step, as the migration stands, is the point of no return: `advance` takes it with
// accept_no_way_back only, and a verdict never does.
bool NextIsPointOfNoReturn(const Migration& migration);

// The step of `plan` at which a migration stands that was rolled back to `stage`: the last one there, save
// that at CANARY_READ, where no reads are left on new, it is the first. -1: the plan has none.
int StepAfterRollback(const MigrationPlan& plan, Stage stage);

// Whether what an instance found in the slice that `migration` holds keeps it from moving; see Plan.
bool StopsSlice(const Migration& migration, const SliceCheck& check);

// Open as long as pins to old keep the migration from its next step, CUTOVER: "pins_to_old".
std::optional<Guard> PinsGuard(const Migration& migration);

// The migration's routing state for `stage` at `weight` (CANARY_READ: of reads; CUTOVER: of writes, nothing
// held), epoch 0: salt and pins of the migration, comparison weight and generation as published.
RoutingState TargetState(const Migration& migration, Stage stage, uint32_t weight);

}  // namespace lockstep::domain
