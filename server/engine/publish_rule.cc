#include "server/engine/publish_rule.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/domain/compatibility.h"

namespace lockstep::engine {
namespace {

std::string Describe(const domain::RoutingState& state) {
  const auto percent = [](uint32_t weight) { return weight * 100.0 / domain::kBucketCount; };
  std::string text(domain::StageName(state.stage));
  if (state.stage == domain::Stage::kCanaryRead) {
    absl::StrAppend(&text, ", ", percent(state.read_weight), " % of reads");
  }
  if (state.stage == domain::Stage::kCutover) {
    absl::StrAppend(&text, ", ", percent(state.write_weight), " % of writes");
    if (state.drain_weight > state.write_weight) {
      absl::StrAppend(&text, ", held up to ", percent(state.drain_weight), " %");
    }
  }
  return text;
}

// Both sides are written, the old one first.
bool Mirrors(const domain::RoutingState& state) {
  return state.stage >= domain::Stage::kDualWrite && state.stage <= domain::Stage::kCanaryRead;
}

bool TakesBackAmongMirrors(const domain::RoutingState& candidate, const domain::RoutingState& published) {
  return Mirrors(published) && Mirrors(candidate) &&
         (candidate.stage < published.stage ||
          (candidate.stage == published.stage && candidate.read_weight < published.read_weight));
}

// Whether whoever acts on `state` stands in the way of `candidate`. Null: on a state that is not known.
bool IsInTheWay(const domain::RoutingState* state, const domain::RoutingState& candidate,
                const domain::RoutingState& published) {
  if (state != nullptr && domain::MayCoexist(*state, candidate)) return false;
  // No worse than now.
  const bool is_now = state == nullptr || !domain::MayCoexist(*state, published);
  return !(is_now && TakesBackAmongMirrors(candidate, published));
}

}  // namespace

uint64_t FirstSafeEpoch(const domain::RoutingState& candidate, const StateHistory& history) {
  LOCKSTEP_CHECK(!history.empty(), "a migration has a published state");
  for (size_t i = history.size(); i > 0; --i) {
    if (IsInTheWay(&history[i - 1], candidate, history.back())) return history[i - 1].epoch + 1;
  }
  return IsInTheWay(nullptr, candidate, history.back()) ? history.front().epoch : 0;
}

std::string WhyWait(const domain::RoutingState& candidate, const StateHistory& history,
                    const Holder& holder) {
  const bool remembered = std::any_of(history.begin(), history.end(),
                                      [&](const auto& state) { return state.epoch == holder.epoch; });
  if (!remembered && IsInTheWay(nullptr, candidate, history.back())) {
    return absl::StrCat("epoch ", holder.epoch, " is not remembered, so nothing may be published beside it");
  }
  for (const domain::RoutingState& state : history) {
    if (state.epoch < holder.epoch) continue;
    if (holder.only_this_epoch && state.epoch != holder.epoch) continue;
    if (!IsInTheWay(&state, candidate, history.back())) continue;
    if (const auto incompatible = domain::FindIncompatibility(state, candidate)) {
      return absl::StrCat("epoch ", state.epoch, " (", Describe(state), ") and the next state (",
                          Describe(candidate), "): ", incompatible->ToString());
    }
  }
  return "";
}

uint64_t FirstSafeEpochOfPassedBy(const domain::RoutingState& candidate, const StateHistory& history) {
  const uint64_t safe = FirstSafeEpoch(candidate, history);
  if (candidate.stage < domain::Stage::kDualWrite || candidate.stage > domain::Stage::kCanaryRead)
    return safe;
  uint64_t since_cutover = history.front().epoch;
  for (const domain::RoutingState& state : history) {
    if (state.stage >= domain::Stage::kCutover) since_cutover = state.epoch + 1;
  }
  return std::min(safe, since_cutover);
}

std::vector<FenceWait> FindWaits(const domain::RoutingState& candidate, const LiveStates& live) {
  std::vector<FenceWait> waits;
  const auto add = [&](const Holder& holder) {
    std::string reason = WhyWait(candidate, live.history, holder);
    if (reason.empty()) return;
    FenceWait wait;
    wait.instance_id = holder.instance_id;
    wait.service = holder.service;
    wait.epoch = holder.epoch;
    wait.reason = std::move(reason);
    waits.push_back(std::move(wait));
  };
  for (const Holder& holder : live.holders) add(holder);
  // Whoever enrols or asks next is given the published state, so that one is live in any case.
  if (waits.empty()) add({"published state", "", live.history.back().epoch, true});
  return waits;
}

}  // namespace lockstep::engine
