// Routing states and pins: what services act on.
#pragma once

#include "core/domain/routing_state.h"
#include "core/wire/violations.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::wire {

// Keys and values of all pins of a migration together. They travel in every snapshot, three times in a
// migration that waits for a fence, and messages end at 4 MiB.
inline constexpr size_t kMaxPinsBytes = 1 << 20;

// Keys are sorted, so that equal pins are equal bytes.
v1::Pins ToProto(const domain::Pins& pins);
// Violations: a key that is listed twice, an unknown side.
// `salt_seed`: of the state that they belong to; 0 where it is not known yet.
domain::Pins ReadPins(const v1::Pins& pins, const FieldPath& path, Violations& violations,
                      uint64_t salt_seed = 0);
// The API's limits on what a person sends.
void CheckPins(const v1::Pins& pins, const FieldPath& path, Violations& violations);

v1::RoutingState ToProto(const domain::RoutingState& state);
// Whether the state keeps its invariants is for domain::ValidateRoutingState (through ValidateSnapshot).
domain::RoutingState ReadRoutingState(const v1::RoutingState& state, const FieldPath& path,
                                      Violations& violations);

}  // namespace lockstep::wire
