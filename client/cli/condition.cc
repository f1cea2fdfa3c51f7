#include "client/cli/condition.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/text.h"
#include "core/base/status_macros.h"

namespace lockstep::cli {
namespace {

struct Reached {
  const v1::Migration& migration;

  bool operator()(const StageReached& condition) const {
    return migration.routing().stage() >= condition.stage;
  }
  bool operator()(const WeightReached& condition) const {
    return migration.routing().read_weight() >= condition.weight;
  }
  bool operator()(const WriteWeightReached& condition) const {
    return migration.routing().write_weight() >= condition.weight;
  }
  bool operator()(const InRunState& condition) const { return migration.run_state() == condition.state; }
  bool operator()(const NothingPending&) const { return !migration.has_pending_routing(); }
};

}  // namespace

absl::StatusOr<Condition> ParseCondition(absl::string_view text) {
  absl::string_view value = text;
  if (absl::ConsumePrefix(&value, "stage=")) {
    const auto* stage = FindEnumValue(*v1::Stage_descriptor(), value);
    if (stage != nullptr) return StageReached{static_cast<v1::Stage>(stage->number())};
    return absl::InvalidArgumentError(absl::StrCat("unknown stage \"", value, "\"; e.g. stage=CANARY_READ"));
  }
  if (absl::ConsumePrefix(&value, "weight=")) {
    LOCKSTEP_ASSIGN_OR_RETURN(const uint32_t weight, ParseWeight(value));
    return WeightReached{weight};
  }
  if (absl::ConsumePrefix(&value, "write_weight=")) {
    LOCKSTEP_ASSIGN_OR_RETURN(const uint32_t weight, ParseWeight(value));
    return WriteWeightReached{weight};
  }
  if (text == "published") return NothingPending{};
  const auto* state = FindEnumValue(*v1::RunState_descriptor(), text);
  if (state != nullptr) return InRunState{static_cast<v1::RunState>(state->number())};
  return absl::InvalidArgumentError(absl::StrCat("unknown condition \"", text, "\": ", kConditionHelp));
}

Progress Judge(const Condition& condition, const v1::Migration& migration) {
  const bool went_back = migration.run_state() == v1::RUN_STATE_ROLLED_BACK;
  const bool reached = std::visit(Reached{migration}, condition);
  const bool about_progress = std::holds_alternative<StageReached>(condition) ||
                              std::holds_alternative<WeightReached>(condition) ||
                              std::holds_alternative<WriteWeightReached>(condition);
  if (reached && !(went_back && about_progress)) return Progress::kReached;
  // Whatever the run state: what pends is published once the instances have moved on.
  if (std::holds_alternative<NothingPending>(condition)) return Progress::kNotYet;
  const bool ended = migration.run_state() == v1::RUN_STATE_SUCCEEDED;
  return went_back || ended ? Progress::kWillNot : Progress::kNotYet;
}

}  // namespace lockstep::cli
