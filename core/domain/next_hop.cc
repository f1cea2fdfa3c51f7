#include "core/domain/next_hop.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/domain/bucketing.h"
#include "core/domain/compatibility.h"

namespace lockstep::domain {
namespace {

// A state on the way, in the name of `goal`. While the two don't agree on pins or generation, those that are
// in force stay in force: a goal before CUTOVER may have pins that CUTOVER must not have, and OFF begins
// another generation.
RoutingState OnTheWay(const RoutingState& published, const RoutingState& goal, Stage stage) {
  RoutingState state = StateOfStage(stage, kBucketCount);
  state.generation = published.generation;
  state.comparison_weight = goal.comparison_weight;
  state.salt_seed = goal.salt_seed;
  const bool falls_below_cutover = stage == Stage::kCutover && goal.stage < Stage::kCutover;
  state.pins = falls_below_cutover ? published.pins : goal.pins;
  return state;
}

RoutingState Cutover(const RoutingState& published, const RoutingState& goal, uint32_t write,
                     uint32_t drain) {
  RoutingState state = OnTheWay(published, goal, Stage::kCutover);
  state.write_weight = write;
  state.drain_weight = drain;
  return state;
}

// Authority over [write_weight, wanted) is to move to new: hold the next slice, or move the one that is held.
RoutingState TowardsNew(const RoutingState& published, const RoutingState& goal, uint32_t wanted,
                        uint32_t slice) {
  const uint32_t write = published.write_weight;
  const uint32_t drain = published.drain_weight;
  if (drain > write) return Cutover(published, goal, std::min(drain, wanted), drain);
  return Cutover(published, goal, write, write + std::min(slice, wanted - write));
}

// Authority over [wanted, write_weight) is to move back: release what is held, then hold the next slice
// below.
RoutingState TowardsOld(const RoutingState& published, const RoutingState& goal, uint32_t wanted,
                        uint32_t slice) {
  const uint32_t write = published.write_weight;
  if (published.drain_weight > write) return Cutover(published, goal, write, write);
  return Cutover(published, goal, write - std::min(slice, write - wanted), write);
}

// Neither of the two is beyond CUTOVER.
RoutingState HopUpToCutover(const RoutingState& published, const RoutingState& goal, uint32_t slice) {
  const uint32_t wanted = goal.write_weight;  // 0 before CUTOVER
  if (published.write_weight < wanted && published.stage == Stage::kOff)
    return OnTheWay(published, goal, Stage::kDualWrite);
  if (published.write_weight < wanted) return TowardsNew(published, goal, wanted, slice);
  if (published.write_weight > wanted) return TowardsOld(published, goal, wanted, slice);
  // Authority is where it shall be; what is held now, and not by the goal, is released with it. OFF has no
  // neighbour but DUAL_WRITE.
  return MayCoexist(published, goal) ? goal : OnTheWay(published, goal, Stage::kDualWrite);
}

}  // namespace

std::optional<RoutingState> NextHop(const RoutingState& published, const RoutingState& goal,
                                    uint32_t slice_weight) {
  LOCKSTEP_CHECK(slice_weight > 0 && slice_weight <= kBucketCount, "a slice has at least one bucket");
  std::optional<RoutingState> hop;
  if (published.stage <= Stage::kCutover) {
    const bool ends_beyond = goal.stage > Stage::kCutover;
    if (ends_beyond && published.write_weight == kBucketCount) {
      // NEW_ONLY is the only neighbour of COMPLETE.
      hop = goal.stage == Stage::kComplete ? OnTheWay(published, goal, Stage::kNewOnly) : goal;
    } else if (ends_beyond) {
      hop = HopUpToCutover(published, Cutover(published, goal, kBucketCount, kBucketCount), slice_weight);
    } else {
      hop = HopUpToCutover(published, goal, slice_weight);
    }
  } else if (goal.stage > Stage::kCutover) {
    hop = goal;
  }
  if (hop) hop->epoch = 0;
  return hop;
}

bool BeginsToHold(const RoutingState& from, const RoutingState& to) {
  if (!HoldsWrites(to)) return false;
  return !HoldsWrites(from) || to.write_weight < from.write_weight || to.drain_weight > from.drain_weight;
}

Side AuthorityOfHeld(const RoutingState& published, const RoutingState& goal) {
  return goal.write_weight <= published.write_weight && HoldsWrites(published) ? Side::kNew : Side::kOld;
}

RoutingState Released(RoutingState state, Side authority) {
  if (authority == Side::kNew) {
    state.write_weight = state.drain_weight;
  } else {
    state.drain_weight = state.write_weight;
  }
  state.epoch = 0;
  return state;
}

}  // namespace lockstep::domain
