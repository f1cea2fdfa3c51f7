// What the rules of transition.h share: what they look at, how they put it into words, and the moves that
// commands and verdicts both make. Internal to transition*.cc. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/error_info.h"
#include "core/domain/transition.h"

namespace lockstep::domain::transition_rules {

// What every rule looks at.
struct Situation {
  const Migration& migration;
  const GateResult* gate;
  absl::Time now;

  Stage stage() const { return migration.published.stage; }
  const std::vector<PlanStep>& steps() const { return migration.plan.steps; }
  bool step_exists() const {
    return migration.step >= 0 && static_cast<size_t>(migration.step) < steps().size();
  }
  const PlanStep& step() const { return steps()[static_cast<size_t>(migration.step)]; }
  bool is_last_step() const { return static_cast<size_t>(migration.step) + 1 == steps().size(); }
  Verdict verdict() const { return gate == nullptr ? Verdict::kHold : gate->verdict; }
};

// What a step's weight is compared with.
uint32_t WeightOf(const RoutingState& state);

// "CANARY_READ with 5 % of reads".
std::string DescribeState(Stage stage, uint32_t weight);
std::string DescribeState(const RoutingState& state);

// "step 3 of 7 (CANARY_READ with 5 % of reads)"; steps are counted from 1 for people.
std::string DescribeStep(const MigrationPlan& plan, int step);

// -1 without one.
int LastStepAt(const MigrationPlan& plan, Stage stage);

// The last step at `stage` whose weight `weight` reaches, or the first one; `otherwise` without one.
int StepAtWeight(const MigrationPlan& plan, Stage stage, uint32_t weight, int otherwise);

bool HasWayBack(Stage stage);

// FAILED_PRECONDITION with an ErrorInfo.
absl::Status Refusal(absl::string_view reason, absl::string_view why,
                     std::vector<PreconditionViolation> violations);

absl::Status IllegalTransition(const Situation& s, absl::string_view why);
// Something is pending.
absl::Status FenceWaits(const Situation& s);

// Without a target.
Transition MakeTransition(const Situation& s, absl::string_view action, RunState run_state, int step,
                          std::string reason);

// Has OFF and a new generation for its target.
void GoToOff(const Situation& s, Transition& transition);

// HasWayBack holds.
Transition RollBack(const Situation& s, std::string reason);

// What advancing asks of the migration itself, whoever wants it and whatever the gate says.
absl::Status CheckMayMoveOn(const Situation& s);

// Where going on leads: back to what the step stands for, if the weight was lowered or a slice was given up;
// else to the next step; else nowhere, at the end of the plan.
struct Onward {
  int step = -1;
  Stage stage = Stage::kOff;
  uint32_t weight = 0;
};

// CheckMayMoveOn holds.
std::optional<Onward> OnwardFrom(const Situation& s);

bool LosesTheWayBack(const Situation& s, const std::optional<Onward>& onward);

// Pins that the state it leads to must not have.
absl::Status CheckPinsOnward(const Situation& s, const std::optional<Onward>& onward);

Transition MoveOn(const Situation& s, const std::optional<Onward>& onward, std::string reason);

// What follows from the gate's verdict, which is Situation::gate.
std::optional<Transition> PlanVerdict(const Situation& s);

std::optional<Transition> PlanSliceFailure(const Situation& s, const SliceFailure& failure);

}  // namespace lockstep::domain::transition_rules
