#include "server/engine/publish_rule.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/domain/compatibility.h"

namespace lockstep::engine {
namespace {

std::string Describe(const domain::RoutingState& state) {
  return absl::StrCat(domain::StageName(state.stage), " at ", state.read_weight, " of ", domain::kBucketCount,
                      " read buckets");
}

// Why `holder` stands in the way of `candidate`; empty if it does not.
std::string WhyWait(const domain::RoutingState& candidate, const LiveStates& live, const Holder& holder) {
  bool remembered = false;
  for (const domain::RoutingState& state : live.history) {
    if (state.epoch < holder.epoch) continue;
    if (holder.only_this_epoch && state.epoch != holder.epoch) continue;
    remembered = remembered || state.epoch == holder.epoch;
    if (const auto incompatible = domain::FindIncompatibility(state, candidate)) {
      return absl::StrCat("epoch ", state.epoch, " (", Describe(state), ") and the pending state (",
                          Describe(candidate), "): ", incompatible->ToString());
    }
  }
  if (remembered) return "";
  return absl::StrCat("epoch ", holder.epoch, " is not remembered, so nothing may be published beside it");
}

}  // namespace

std::vector<FenceWait> FindWaits(const domain::RoutingState& candidate, const LiveStates& live) {
  std::vector<FenceWait> waits;
  for (const Holder& holder : live.holders) {
    std::string reason = WhyWait(candidate, live, holder);
    if (!reason.empty())
      waits.push_back({holder.instance_id, holder.service, holder.epoch, std::move(reason)});
  }
  if (!waits.empty() || live.history.empty()) return waits;
  // Whoever enrols or asks next is given the published state, so that one is live in any case.
  const domain::RoutingState& published = live.history.back();
  std::string reason = WhyWait(candidate, live, {.epoch = published.epoch, .only_this_epoch = true});
  if (!reason.empty()) waits.push_back({"published state", "", published.epoch, std::move(reason)});
  return waits;
}

std::optional<domain::RoutingState> BridgeState(const domain::RoutingState& from,
                                                const domain::RoutingState& to) {
  const auto& ladder = domain::Ladder();
  const auto try_stage = [&](domain::Stage stage) -> std::optional<domain::RoutingState> {
    domain::RoutingState bridge = domain::StateOfStage(stage, 0);
    bridge.generation = from.generation;
    bridge.comparison_weight = to.comparison_weight;
    bridge.salt_seed = to.salt_seed;
    bridge.pins = to.pins;
    if (!domain::MayCoexist(from, bridge) || !domain::MayCoexist(bridge, to)) return std::nullopt;
    return bridge;
  };
  const auto index = [](domain::Stage stage) { return static_cast<int>(stage); };
  const int step = index(to.stage) < index(from.stage) ? 1 : -1;
  for (int i = index(to.stage) + step; i != index(from.stage); i += step) {
    if (i < 0 || i >= static_cast<int>(ladder.size())) break;
    if (auto bridge = try_stage(ladder[static_cast<size_t>(i)].stage)) return bridge;
  }
  return std::nullopt;
}

}  // namespace lockstep::engine
