#include "core/domain/transition.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/check.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"
#include "core/domain/bucketing.h"
#include "core/domain/transition_rules.h"

namespace lockstep::domain {
namespace transition_rules {
namespace {

using Result = absl::StatusOr<std::optional<Transition>>;

bool IsBlank(absl::string_view text) { return absl::StripAsciiWhitespace(text).empty(); }

absl::Status Malformed(absl::string_view reason, absl::string_view field, absl::string_view why) {
  return WithErrorInfo(absl::InvalidArgumentError(why),
                       {.reason = std::string(reason),
                        .metadata = {},
                        .field_violations = {{std::string(field), std::string(why)}},
                        .precondition_violations = {}});
}

absl::Status GateHolds(const Situation& s) {
  if (s.gate == nullptr) {
    const std::string why =
        "the gate has not evaluated this step yet; wait for it, or override with a reason";
    return Refusal("GATE_HOLDS", why, {{"GATE_HOLDS", "gate", why}});
  }
  const bool rolls_back = s.gate->verdict == Verdict::kRollBack;
  const absl::string_view type = rolls_back ? "GATE_ROLLS_BACK" : "GATE_HOLDS";
  std::vector<PreconditionViolation> violations;
  for (const Guard& guard : s.gate->guards)
    violations.push_back({std::string(type), guard.name, guard.sentence});
  for (const CheckResult& check : s.gate->checks) {
    if (check.advisory || check.verdict == Verdict::kAdvance) continue;
    violations.push_back({std::string(type), check.check, check.sentence});
  }
  if (s.gate->bake_remaining > absl::ZeroDuration()) {
    violations.push_back(
        {std::string(type), "min_bake",
         absl::StrCat(absl::FormatDuration(s.gate->bake_remaining), " of the minimum bake time left")});
  }
  return Refusal(type,
                 absl::StrCat(rolls_back ? "the gate says ROLL_BACK, which no override passes over: "
                                         : "the gate holds: ",
                              s.gate->sentence),
                 std::move(violations));
}

std::string ReasonOr(const Command& command, std::string otherwise) {
  if (IsBlank(command.reason)) return otherwise;
  return command.override_gate ? absl::StrCat("gate overridden: ", command.reason) : command.reason;
}

// The first step, from OFF.
Transition BeginPlan(const Situation& s, absl::string_view action, std::string reason) {
  Transition transition = MakeTransition(s, action, RunState::kRunning, 0, std::move(reason));
  transition.target = TargetState(s.migration, s.steps()[0].stage, s.steps()[0].weight);
  transition.restart_evidence = true;
  return transition;
}

absl::Status CheckWellFormed(const Command& command) {
  const bool may_override = command.kind == CommandKind::kAdvance || command.kind == CommandKind::kSetWeight;
  if (command.override_gate && !may_override) {
    return Malformed("INVALID_ARGUMENT", "override_gate",
                     absl::StrCat(CommandName(command.kind), " takes no override: it does not ask the gate"));
  }
  if (command.override_gate && IsBlank(command.reason)) {
    return Malformed("REASON_REQUIRED", "reason",
                     "an override needs a reason; it goes into the decision record");
  }
  if (command.accept_no_way_back && command.kind != CommandKind::kAdvance) {
    return Malformed("INVALID_ARGUMENT", "accept_no_way_back",
                     absl::StrCat(CommandName(command.kind), " never takes the step into NEW_ONLY"));
  }
  if (command.accept_differences && command.kind != CommandKind::kRollback) {
    return Malformed(
        "INVALID_ARGUMENT", "accept_differences",
        absl::StrCat(CommandName(command.kind), " accepts no differences: only a rollback does"));
  }
  if (command.accept_differences && IsBlank(command.reason)) {
    return Malformed("REASON_REQUIRED", "reason",
                     "accepting differences needs a reason; it goes into the decision record");
  }
  if (command.kind == CommandKind::kSetWeight && command.weight > kBucketCount) {
    return Malformed("INVALID_ARGUMENT", "weight",
                     absl::StrCat("weight ", command.weight, " is more than ", kBucketCount, " (100 %)"));
  }
  return absl::OkStatus();
}

Result Start(const Situation& s, const Command& command) {
  if (s.migration.run_state != RunState::kDraft) {
    return IllegalTransition(s, s.migration.run_state == RunState::kRolledBack
                                    ? "only a DRAFT is started; after a rollback, resume it"
                                    : "only a DRAFT is started; this migration has been");
  }
  if (s.migration.pending.has_value()) return FenceWaits(s);
  if (s.stage() != Stage::kOff) return IllegalTransition(s, "a migration starts from OFF only");
  if (s.steps().empty()) return IllegalTransition(s, "its plan has no steps");
  return BeginPlan(s, "start",
                   ReasonOr(command, absl::StrCat("started with ", DescribeStep(s.migration.plan, 0))));
}

absl::Status PointOfNoReturn() {
  const std::string why =
      "the next step is NEW_ONLY, the point of no return: the old side no longer gets the writes, so that "
      "neither "
      "rollback nor abort is possible from there on; go on only with accept_no_way_back";
  return Refusal("POINT_OF_NO_RETURN", why, {{"POINT_OF_NO_RETURN", "NEW_ONLY", why}});
}

Result Advance(const Situation& s, const Command& command) {
  LOCKSTEP_RETURN_IF_ERROR(CheckMayMoveOn(s));
  const std::optional<Onward> onward = OnwardFrom(s);
  const bool loses_the_way_back = LosesTheWayBack(s, onward);
  if (command.accept_no_way_back && !loses_the_way_back) {
    return Malformed("INVALID_ARGUMENT", "accept_no_way_back",
                     absl::StrCat("this advance does not lead into NEW_ONLY but ",
                                  onward ? absl::StrCat("to ", DescribeState(onward->stage, onward->weight))
                                         : "to the end of the plan",
                                  "; leave accept_no_way_back out"));
  }
  const bool may_override = command.override_gate && s.verdict() == Verdict::kHold;
  if (s.verdict() != Verdict::kAdvance && !may_override) return GateHolds(s);
  if (const absl::Status pins = CheckPinsOnward(s, onward); !pins.ok()) {
    return Refusal("PINS_TO_OLD", pins.message(), {{"PINS_TO_OLD", "pins", std::string(pins.message())}});
  }
  if (loses_the_way_back && !command.accept_no_way_back) return PointOfNoReturn();
  return MoveOn(s, onward,
                ReasonOr(command, absl::StrCat("advanced by hand from ",
                                               DescribeStep(s.migration.plan, s.migration.step))));
}

Result Pause(const Situation& s, const Command& command) {
  if (s.migration.run_state != RunState::kRunning) {
    return IllegalTransition(s, "only a RUNNING migration is paused; this one does not move by itself");
  }
  return MakeTransition(s, "pause", RunState::kPaused, s.migration.step, ReasonOr(command, "paused by hand"));
}

Result Resume(const Situation& s, const Command& command) {
  const bool after_rollback = s.migration.run_state == RunState::kRolledBack;
  if (!after_rollback && s.migration.run_state != RunState::kPaused) {
    return IllegalTransition(s, "only a PAUSED or ROLLED_BACK migration is resumed");
  }
  const absl::Time resumable = s.migration.rolled_back_at + s.migration.plan.cool_down;
  if (after_rollback && s.now < resumable) {
    const std::string why =
        absl::StrCat("the cool-down after the rollback lasts another ",
                     absl::FormatDuration(absl::Ceil(resumable - s.now, absl::Seconds(1))));
    return Refusal("COOL_DOWN", why, {{"COOL_DOWN", "plan.cool_down", why}});
  }
  if (after_rollback && s.migration.pending.has_value()) return FenceWaits(s);
  if (s.stage() == Stage::kOff) {
    if (s.migration.pending.has_value()) return FenceWaits(s);
    if (s.steps().empty()) return IllegalTransition(s, "its plan has no steps");
    return BeginPlan(s, "resume",
                     ReasonOr(command, absl::StrCat("resumed with ", DescribeStep(s.migration.plan, 0))));
  }
  const int step = after_rollback ? StepAfterRollback(s.migration.plan, s.stage()) : s.migration.step;
  if (step < 0 || static_cast<size_t>(step) >= s.steps().size()) {
    return IllegalTransition(
        s, absl::StrCat("the plan has no step at ", StageName(s.stage()), "; correct the plan"));
  }
  const bool breached = !after_rollback && s.verdict() == Verdict::kRollBack;
  if (breached && IsBlank(command.reason)) {
    return Refusal(
        "REASON_REQUIRED",
        absl::StrCat("a check is breached and its evidence would start anew; say why: ", s.gate->sentence),
        {{"GATE_ROLLS_BACK", "gate", s.gate->sentence}});
  }
  Transition transition =
      MakeTransition(s, "resume", RunState::kRunning, step,
                     ReasonOr(command, absl::StrCat("resumed at ", DescribeStep(s.migration.plan, step))));
  transition.restart_evidence = after_rollback || breached;
  const PlanStep& at = s.steps()[static_cast<size_t>(step)];
  if (after_rollback && s.stage() == Stage::kCanaryRead && s.migration.published.read_weight < at.weight) {
    // Reads start over with the first share: at none there would be nothing to judge by.
    transition.target = TargetState(s.migration, at.stage, at.weight);
  }
  return transition;
}

// Why neither a rollback nor an abort is possible at this stage.
absl::Status NoWayBack(const Situation& s) {
  switch (s.stage()) {
    case Stage::kOff:
      return IllegalTransition(
          s, "it is at OFF, where nothing is written to the new side: there is nothing to undo");
    case Stage::kNewOnly:
    case Stage::kComplete:
      return IllegalTransition(s, "the old side no longer has every write: there is no way back");
    case Stage::kDualWrite:
    case Stage::kShadowRead:
    case Stage::kCanaryRead:
    case Stage::kCutover:
      break;
  }
  LOCKSTEP_CHECK(false, "the stage has a way back");
  return absl::InternalError("");
}

Result Rollback(const Situation& s, const Command& command) {
  if (!HasWayBack(s.stage())) return NoWayBack(s);
  Transition transition = RollBack(
      s, ReasonOr(command, absl::StrCat("rolled back by hand from ", DescribeState(s.migration.published))));
  if (!command.accept_differences) return transition;
  transition.accept_differences = true;
  const uint32_t known = s.migration.differing_records;
  transition.reason = absl::StrCat("whatever differs is accepted (",
                                   known == 0   ? "no record is known to"
                                   : known == 1 ? "1 record is known to"
                                                : absl::StrCat(known, " records are known to"),
                                   "): ", transition.reason);
  return transition;
}

Result Abort(const Situation& s, const Command& command) {
  if (!HasWayBack(s.stage())) return NoWayBack(s);
  Transition transition = MakeTransition(
      s, "abort", RunState::kDraft, -1,
      ReasonOr(command, absl::StrCat("aborted by hand at ", DescribeState(s.migration.published))));
  GoToOff(s, transition);
  transition.restart_evidence = true;
  return transition;
}

// The highest read weight that the gate's ADVANCE at this step, of CANARY_READ, allows.
uint32_t CertifiedWeight(const Situation& s) {
  if (!s.step_exists()) return 0;
  if (s.is_last_step()) return s.step().weight;
  const PlanStep& next = s.steps()[static_cast<size_t>(s.migration.step) + 1];
  return next.stage == Stage::kCanaryRead ? std::max(s.step().weight, next.weight) : s.step().weight;
}

Result SetWeight(const Situation& s, const Command& command) {
  const uint32_t current = s.migration.published.read_weight;
  if (s.stage() != Stage::kCanaryRead)
    return IllegalTransition(s, "only CANARY_READ has a weight that can be set");
  if (s.migration.run_state == RunState::kDraft || s.migration.run_state == RunState::kRolledBack) {
    return IllegalTransition(s, "the weight of a migration that is not under way can't be set");
  }
  if (command.weight == current)
    return IllegalTransition(s, absl::StrCat("its weight is ", current, " already"));
  RunState run_state = RunState::kPaused;
  if (command.weight > current) {
    if (s.migration.pending.has_value()) return FenceWaits(s);
    const bool may_override = command.override_gate && s.verdict() == Verdict::kHold;
    if (s.verdict() != Verdict::kAdvance && !may_override) return GateHolds(s);
    if (!command.override_gate && command.weight > CertifiedWeight(s)) {
      return IllegalTransition(
          s, absl::StrCat("the gate's ADVANCE at this step allows a weight of ", CertifiedWeight(s),
                          " at most; ", command.weight, " takes an override with a reason"));
    }
    run_state = s.migration.run_state;
  }
  Transition transition = MakeTransition(
      s, "set-weight", run_state,
      StepAtWeight(s.migration.plan, Stage::kCanaryRead, command.weight, s.migration.step),
      ReasonOr(command, absl::StrCat("weight set by hand from ", current, " to ", command.weight)));
  transition.target = TargetState(s.migration, Stage::kCanaryRead, command.weight);
  return transition;
}

Result PlanCommand(const Situation& s, const Command& command) {
  LOCKSTEP_RETURN_IF_ERROR(CheckWellFormed(command));
  switch (command.kind) {
    case CommandKind::kStart:
      return Start(s, command);
    case CommandKind::kAdvance:
      return Advance(s, command);
    case CommandKind::kPause:
      return Pause(s, command);
    case CommandKind::kResume:
      return Resume(s, command);
    case CommandKind::kRollback:
      return Rollback(s, command);
    case CommandKind::kAbort:
      return Abort(s, command);
    case CommandKind::kSetWeight:
      return SetWeight(s, command);
  }
  LOCKSTEP_CHECK(false, "not an enumerator of CommandKind");
  return std::nullopt;
}

// Adds what every refusal says: what was asked, where the migration stands, what is allowed instead.
absl::Status Decorate(const Situation& s, const Command& command, const absl::Status& refusal) {
  std::vector<absl::string_view> allowed;
  for (const CommandKind kind : AllowedCommands(s.migration, s.gate, s.now))
    allowed.push_back(CommandName(kind));
  const std::string where = absl::StrCat(s.migration.name, " is ", RunStateName(s.migration.run_state),
                                         " at ", DescribeState(s.migration.published));
  ErrorInfo info = GetErrorInfo(refusal).value_or(ErrorInfo{});
  info.metadata = {{"migration", s.migration.name},
                   {"command", std::string(CommandName(command.kind))},
                   {"stage", std::string(StageName(s.stage()))},
                   {"run_state", std::string(RunStateName(s.migration.run_state))},
                   {"allowed", absl::StrJoin(allowed, ",")}};
  const std::string message =
      absl::StrCat(CommandName(command.kind), " refused: ", where, ": ", refusal.message(),
                   absl::EndsWith(refusal.message(), ".") ? " " : ". ",
                   allowed.empty() ? "No command is allowed now."
                                   : absl::StrCat("Allowed now: ", absl::StrJoin(allowed, ", "), "."));
  return WithErrorInfo(absl::Status(refusal.code(), message), info);
}

}  // namespace
}  // namespace transition_rules

absl::string_view CommandName(CommandKind kind) {
  switch (kind) {
    case CommandKind::kStart:
      return "start";
    case CommandKind::kAdvance:
      return "advance";
    case CommandKind::kPause:
      return "pause";
    case CommandKind::kResume:
      return "resume";
    case CommandKind::kRollback:
      return "rollback";
    case CommandKind::kAbort:
      return "abort";
    case CommandKind::kSetWeight:
      return "set-weight";
  }
  return "";
}

absl::StatusOr<std::optional<Transition>> Plan(const Migration& migration, const Trigger& trigger,
                                               const GateResult* gate, absl::Time now) {
  if (const auto* verdict = std::get_if<GateVerdict>(&trigger)) {
    return transition_rules::PlanVerdict({migration, &verdict->result, now});
  }
  if (const auto* failure = std::get_if<SliceFailure>(&trigger)) {
    return transition_rules::PlanSliceFailure({migration, gate, now}, *failure);
  }
  const auto& command = std::get<Command>(trigger);
  const transition_rules::Situation situation{migration, gate, now};
  absl::StatusOr<std::optional<Transition>> result = transition_rules::PlanCommand(situation, command);
  if (absl::IsFailedPrecondition(result.status()))
    return transition_rules::Decorate(situation, command, result.status());
  return result;
}

std::vector<CommandKind> AllowedCommands(const Migration& migration, const GateResult* gate, absl::Time now) {
  const transition_rules::Situation situation{migration, gate, now};
  std::vector<CommandKind> allowed;
  for (const CommandKind kind : kAllCommands) {
    Command command;
    command.kind = kind;
    command.reason = "asked for";
    command.accept_no_way_back = kind == CommandKind::kAdvance && NextIsPointOfNoReturn(migration);
    if (kind == CommandKind::kSetWeight) {
      // Lowering is always granted where anything is; at 0 only raising is left.
      command.weight = migration.published.read_weight > 0 ? 0 : transition_rules::CertifiedWeight(situation);
    }
    if (transition_rules::PlanCommand(situation, command).ok()) allowed.push_back(kind);
  }
  return allowed;
}

}  // namespace lockstep::domain
