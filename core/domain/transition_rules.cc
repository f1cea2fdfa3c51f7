#include "core/domain/transition_rules.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/domain/bucketing.h"

namespace lockstep::domain {
namespace transition_rules {

uint32_t WeightOf(const RoutingState& state) {
  if (state.stage == Stage::kCanaryRead) return state.read_weight;
  return state.stage == Stage::kCutover ? state.write_weight : 0;
}

std::string DescribeState(Stage stage, uint32_t weight) {
  if (stage != Stage::kCanaryRead && stage != Stage::kCutover) return std::string(StageName(stage));
  return absl::StrCat(StageName(stage), " with ", weight * 100.0 / kBucketCount, " % of ",
                      stage == Stage::kCutover ? "writes" : "reads");
}

std::string DescribeState(const RoutingState& state) { return DescribeState(state.stage, WeightOf(state)); }

std::string DescribeStep(const MigrationPlan& plan, int step) {
  const PlanStep& at = plan.steps[static_cast<size_t>(step)];
  return absl::StrCat("step ", step + 1, " of ", plan.steps.size(), " (", DescribeState(at.stage, at.weight),
                      ")");
}

int LastStepAt(const MigrationPlan& plan, Stage stage) {
  for (size_t i = plan.steps.size(); i > 0; --i) {
    if (plan.steps[i - 1].stage == stage) return static_cast<int>(i - 1);
  }
  return -1;
}

int StepAtWeight(const MigrationPlan& plan, Stage stage, uint32_t weight, int otherwise) {
  int found = -1;
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    if (plan.steps[i].stage != stage) continue;
    if (found >= 0 && plan.steps[i].weight > weight) break;
    found = static_cast<int>(i);
  }
  return found >= 0 ? found : otherwise;
}

bool HasWayBack(Stage stage) { return LadderRowOf(stage).roll_back_to.has_value(); }

absl::Status Refusal(absl::string_view reason, absl::string_view why,
                     std::vector<PreconditionViolation> violations) {
  return WithErrorInfo(absl::FailedPreconditionError(why),
                       {.reason = std::string(reason),
                        .metadata = {},
                        .field_violations = {},
                        .precondition_violations = std::move(violations)});
}

absl::Status IllegalTransition(const Situation& s, absl::string_view why) {
  return Refusal("ILLEGAL_TRANSITION", why, {{"STAGE", std::string(StageName(s.stage())), std::string(why)}});
}

absl::Status FenceWaits(const Situation& s) {
  const std::string why =
      absl::StrCat(StageName(s.migration.pending->stage), " is committed but not published: for ",
                   absl::FormatDuration(absl::Floor(
                       std::max(s.now - s.migration.pending_since, absl::ZeroDuration()), absl::Seconds(1))),
                   " it has waited for instances that may still act on an earlier state");
  return Refusal("FENCE_WAITS", why,
                 {{"FENCE_WAITS", std::string(StageName(s.migration.pending->stage)), why}});
}

Transition MakeTransition(const Situation& s, absl::string_view action, RunState run_state, int step,
                          std::string reason) {
  Transition transition;
  transition.action = std::string(action);
  transition.run_state = run_state;
  transition.step = step;
  transition.reason = std::move(reason);
  if (s.gate != nullptr) transition.evidence = *s.gate;
  return transition;
}

void GoToOff(const Situation& s, Transition& transition) {
  transition.target = TargetState(s.migration, Stage::kOff, 0);
  transition.target->generation = s.migration.published.generation + 1;
  transition.new_generation = true;
  transition.step = -1;
}

std::optional<Onward> OnwardFrom(const Situation& s) {
  const uint32_t weight = WeightOf(s.migration.published);
  if (weight < s.step().weight) return Onward{s.migration.step, s.step().stage, s.step().weight};
  if (s.is_last_step()) return std::nullopt;
  const int step = s.migration.step + 1;
  const PlanStep& next = s.steps()[static_cast<size_t>(step)];
  // Never below what was set by hand.
  return Onward{step, next.stage, next.stage == s.stage() ? std::max(next.weight, weight) : next.weight};
}

bool LosesTheWayBack(const Situation& s, const std::optional<Onward>& onward) {
  return onward && HasWayBack(s.stage()) && !HasWayBack(onward->stage);
}

absl::Status CheckPinsOnward(const Situation& s, const std::optional<Onward>& onward) {
  return onward ? CheckPinsAt(onward->stage, s.migration.pins) : absl::OkStatus();
}

Transition MoveOn(const Situation& s, const std::optional<Onward>& onward, std::string reason) {
  if (!onward) return MakeTransition(s, "succeed", RunState::kSucceeded, s.migration.step, std::move(reason));
  Transition transition = MakeTransition(s, "advance", RunState::kRunning, onward->step, std::move(reason));
  transition.target = TargetState(s.migration, onward->stage, onward->weight);
  return transition;
}

Transition RollBack(const Situation& s, std::string reason) {
  const Stage to = *LadderRowOf(s.stage()).roll_back_to;
  Transition transition = MakeTransition(s, "rollback", RunState::kRolledBack,
                                         StepAfterRollback(s.migration.plan, to), std::move(reason));
  if (to == Stage::kOff) {
    GoToOff(s, transition);
  } else {
    transition.target = TargetState(s.migration, to, 0);
  }
  transition.restart_evidence = true;
  return transition;
}

absl::Status CheckMayMoveOn(const Situation& s) {
  switch (s.migration.run_state) {
    case RunState::kDraft:
      return IllegalTransition(s, "it has not been started");
    case RunState::kPaused:
      return IllegalTransition(s, "it is paused; resume it first");
    case RunState::kRolledBack:
      return IllegalTransition(s, "it was rolled back; resume it first");
    case RunState::kSucceeded:
      return IllegalTransition(s, "the last step of the plan has passed; add steps to the plan to go on");
    case RunState::kRunning:
      break;
  }
  if (s.migration.pending.has_value()) return FenceWaits(s);
  if (!s.step_exists()) {
    return IllegalTransition(
        s, absl::StrCat("the plan has no step ", s.migration.step + 1, "; correct the plan"));
  }
  if (s.step().stage != s.stage()) {
    return IllegalTransition(s, absl::StrCat(DescribeStep(s.migration.plan, s.migration.step),
                                             " of its plan is another stage; correct the plan"));
  }
  return absl::OkStatus();
}

}  // namespace transition_rules

int StepAfterRollback(const MigrationPlan& plan, Stage stage) {
  const int last = transition_rules::LastStepAt(plan, stage);
  return stage == Stage::kCanaryRead ? transition_rules::StepAtWeight(plan, stage, 0, last) : last;
}

RoutingState TargetState(const Migration& migration, Stage stage, uint32_t weight) {
  const RoutingState& published = migration.published;
  RoutingState target = StateOfStage(stage, weight);
  if (stage == Stage::kCutover) target.write_weight = target.drain_weight = weight;
  target.generation = published.generation;
  target.comparison_weight = published.comparison_weight;
  target.salt_seed = SaltSeed(migration.salt);
  if (published.pins != nullptr && *published.pins == migration.pins) {
    target.pins = published.pins;
  } else if (!migration.pins.empty()) {
    target.pins = std::make_shared<const Pins>(migration.pins);
  }
  return target;
}

bool NextIsPointOfNoReturn(const Migration& migration) {
  const transition_rules::Situation s{migration, nullptr, absl::InfinitePast()};
  return CheckMayMoveOn(s).ok() && LosesTheWayBack(s, OnwardFrom(s));
}

std::optional<Guard> PinsGuard(const Migration& migration) {
  const transition_rules::Situation s{migration, nullptr, absl::InfinitePast()};
  if (!CheckMayMoveOn(s).ok()) return std::nullopt;
  const absl::Status pins = CheckPinsOnward(s, OnwardFrom(s));
  if (pins.ok()) return std::nullopt;
  return Guard{"pins_to_old", absl::StrCat(pins.message(), ".")};
}

}  // namespace lockstep::domain
