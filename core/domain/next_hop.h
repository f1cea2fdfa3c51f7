// The way from the published routing state to another one, one publish at a time: where the two can't
// coexist, through states that can. Pure.
//
// Write authority moves by slices of buckets. A slice's writes are first held (drain_weight beyond
// write_weight), and when nothing acts on an older epoch any more, write_weight follows; back likewise. For
// example, with slices of 10 %, from CANARY_READ at 100 % to CUTOVER at 15 %:
//
//   CUTOVER write 0 drain 10 % -> write 10 % drain 10 % -> write 10 % drain 15 % -> write 15 % drain 15 %
//
// and from there back to CANARY_READ at 0 %:
//
//   write 5 % drain 15 % -> write 5 % drain 5 % -> write 0 drain 5 % -> CANARY_READ
//
// When a hop may be published is for the publish rule to say (server/engine/publish_rule.h), not for this.
#pragma once

#include <cstdint>
#include <optional>

#include "core/domain/routing_state.h"

namespace lockstep::domain {

// The state to publish next on the way from `published` to `goal`, epoch 0; it may coexist with `published`,
// save that it may have to wait for instances that are further behind. The last one is `goal` itself.
// Nothing: there is no way, because `goal` has the old side written and `published` no longer writes it
// (NEW_ONLY, COMPLETE). `slice_weight`, in [1, kBucketCount], bounds what is held at a time.
std::optional<RoutingState> NextHop(const RoutingState& published, const RoutingState& goal,
                                    uint32_t slice_weight);

// Whether `to` holds the writes of buckets that `from` does not hold.
bool BeginsToHold(const RoutingState& from, const RoutingState& to);

// Whether writes of some bucket are held.
inline bool HoldsWrites(const RoutingState& state) { return state.drain_weight > state.write_weight; }

// The side that has the authority over the buckets that `published` holds, on the way to `goal`: it moves
// away from there. kOld when `goal` moves none.
Side AuthorityOfHeld(const RoutingState& published, const RoutingState& goal);

// `state` with nothing held: authority over what it held is with `authority`. Epoch 0.
RoutingState Released(RoutingState state, Side authority);

}  // namespace lockstep::domain
