// What follows from the gate's verdicts, and from what instances find in a held slice.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/next_hop.h"
#include "core/domain/transition_rules.h"

namespace lockstep::domain::transition_rules {
namespace {

std::optional<Transition> PlanBreach(const Situation& s) {
  const RunState run_state = s.migration.run_state;
  const bool moving = run_state == RunState::kRunning || run_state == RunState::kSucceeded;
  switch (s.gate->action) {
    case BreachAction::kRollback:
      if (HasWayBack(s.stage())) {
        if (!moving && run_state != RunState::kPaused) return std::nullopt;
        return RollBack(s, s.gate->sentence);
      }
      // At OFF there is nothing to undo; beyond the way back the least that can be done is not to go on.
      if (s.stage() == Stage::kOff) return std::nullopt;
      [[fallthrough]];
    case BreachAction::kPause:
      if (!moving) return std::nullopt;
      return MakeTransition(s, "pause", RunState::kPaused, s.migration.step, s.gate->sentence);
    case BreachAction::kNotify:
      break;
  }
  return std::nullopt;
}

bool IsUnderWay(RunState state) {
  switch (state) {
    case RunState::kRunning:
    case RunState::kPaused:
    case RunState::kSucceeded:
      return true;
    case RunState::kDraft:
    case RunState::kRolledBack:
      return false;
  }
  return false;
}

// The next breach of this step that has to be announced and has not been.
std::optional<Transition> PlanNotification(const Situation& s) {
  // The checks of a step that has been left are those of another one.
  if (!IsUnderWay(s.migration.run_state) || s.migration.pending.has_value()) return std::nullopt;
  const std::vector<std::string>& notified = s.migration.notified_checks;
  for (const CheckResult& check : s.gate->checks) {
    if (check.advisory || check.verdict != Verdict::kRollBack || check.on_breach != BreachAction::kNotify ||
        std::find(notified.begin(), notified.end(), check.check) != notified.end()) {
      continue;
    }
    Transition transition =
        MakeTransition(s, "notify", s.migration.run_state, s.migration.step, check.sentence);
    transition.notified_check = check.check;
    return transition;
  }
  return std::nullopt;
}

// The gate alone does not leave the step, whatever it finds. CheckMayMoveOn holds.
bool WaitsForAPerson(const Situation& s) {
  const std::optional<Onward> onward = OnwardFrom(s);
  return s.step().manual || LosesTheWayBack(s, onward) || !CheckPinsOnward(s, onward).ok();
}

std::string WhatThePersonHasToDo(const Situation& s) {
  const absl::Status pins = CheckPinsOnward(s, OnwardFrom(s));
  return pins.ok() ? "it is left by hand only, and nobody has. " : absl::StrCat(pins.message(), ". ");
}

std::optional<Transition> PlanEscalation(const Situation& s) {
  if (!s.gate->deadline_passed || DeadlineOf(s.migration) == absl::InfiniteFuture()) return std::nullopt;
  if (!CheckMayMoveOn(s).ok() && s.gate->verdict == Verdict::kAdvance) return std::nullopt;
  const bool waits_for_a_person = s.gate->verdict == Verdict::kAdvance && WaitsForAPerson(s);
  if (s.gate->verdict != Verdict::kHold && !waits_for_a_person) return std::nullopt;
  return MakeTransition(s, "escalate", RunState::kPaused, s.migration.step,
                        absl::StrCat("the deadline of ", DescribeStep(s.migration.plan, s.migration.step),
                                     ", ", absl::FormatDuration(s.step().deadline), ", has passed: ",
                                     waits_for_a_person ? WhatThePersonHasToDo(s) : "", s.gate->sentence));
}

std::string CountRecords(uint32_t count, absl::string_view one, absl::string_view many) {
  return absl::StrCat(count, " ", count == 1 ? one : many);
}

// "instance 'a' compared 10 records of the slice that was to move, and 2 differ for good (1 repaired): ..."
std::string DescribeFailure(const SliceFailure& failure) {
  const SliceCheck& check = failure.check;
  std::string text = absl::StrCat("instance '", failure.instance_id, "' compared ", check.checked,
                                  " records of the slice that was to move, and ");
  if (check.differing > 0) {
    absl::StrAppend(&text, CountRecords(check.differing, "differs", "differ"), " for good");
  }
  if (check.unchecked > 0) {
    absl::StrAppend(&text, check.differing > 0 ? ", " : "", check.unchecked,
                    " could not be compared, since a side can't be read");
  }
  if (check.repaired > 0) absl::StrAppend(&text, " (", check.repaired, " repaired)");
  if (!check.example.empty()) absl::StrAppend(&text, ": ", check.example);
  return text;
}

}  // namespace

std::optional<Transition> PlanVerdict(const Situation& s) {
  std::optional<Transition> transition;
  switch (s.gate->verdict) {
    case Verdict::kAdvance:
      if (CheckMayMoveOn(s).ok() && !WaitsForAPerson(s)) {
        transition = MoveOn(s, OnwardFrom(s), s.gate->sentence);
      }
      break;
    case Verdict::kHold:
      break;
    case Verdict::kRollBack:
      transition = PlanBreach(s);
      break;
  }
  if (!transition) transition = PlanNotification(s);
  if (!transition) transition = PlanEscalation(s);
  return transition;
}

// Authority stays where it is, and a person looks at the records. A rollback gets away from new, so that it
// must not depend on new's being readable.
std::optional<Transition> PlanSliceFailure(const Situation& s, const SliceFailure& failure) {
  const RoutingState& published = s.migration.published;
  // A report about a slice that has been released, or has moved, meanwhile.
  if (!HoldsWrites(published) || failure.check.epoch != published.epoch) return std::nullopt;
  const Side authority = AuthorityOfHeld(published, s.migration.pending.value_or(published));
  if (!StopsSlice(s.migration, failure.check)) return std::nullopt;
  std::string reason = DescribeFailure(failure);
  if (authority == Side::kNew) {
    absl::StrAppend(
        &reason,
        "; the way back is stopped here, where new has the authority: repair the records and roll "
        "back again, or roll back with accept_differences and a reason");
  }
  const RoutingState released = Released(published, authority);
  Transition transition =
      MakeTransition(s, "slice_failed", RunState::kPaused,
                     StepAtWeight(s.migration.plan, Stage::kCutover, released.write_weight, s.migration.step),
                     std::move(reason));
  transition.target = released;
  transition.differing_records = failure.check.differing;
  return transition;
}

}  // namespace lockstep::domain::transition_rules

namespace lockstep::domain {

bool StopsSlice(const Migration& migration, const SliceCheck& check) {
  const RoutingState& published = migration.published;
  const bool way_back = AuthorityOfHeld(published, migration.pending.value_or(published)) == Side::kNew;
  if (!way_back) return check.differing > 0 || check.unchecked > 0;
  return check.differing > 0 && !migration.accept_differences;
}

}  // namespace lockstep::domain
