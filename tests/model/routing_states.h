// The routing states that the model of the publish rule moves between, by number, with the production rule's
// answers about them tabulated.
//
// Slices are half of the key space, so that every kind of hop occurs: into and out of a held slice, from one
// slice to the next, and the release of a slice on either side of the way.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/domain/routing_state.h"

namespace lockstep::model {

// Index into States().
using StateId = uint8_t;
inline constexpr StateId kNoState = 0xff;

inline constexpr uint32_t kHalf = domain::kBucketCount / 2;

// Of every stage; epoch 0.
const std::vector<domain::RoutingState>& States();
StateId IdOf(const domain::RoutingState& state);

// domain::MayCoexist.
bool MayCoexist(StateId a, StateId b);
// Whether an instance that reads, for each bucket, the side that `reader` makes authoritative sees what
// `writer` makes others write.
bool MayReadBeside(StateId reader, StateId writer);
// domain::NextHop with slices of kHalf; kNoState: there is no way.
StateId NextHop(StateId published, StateId goal);
bool BeginsToHold(StateId from, StateId to);
bool HoldsWrites(StateId state);
// What is published when the slice that `published` holds is given up on the way to `goal`.
StateId Released(StateId published, StateId goal);

std::string NameOf(StateId state);

}  // namespace lockstep::model
