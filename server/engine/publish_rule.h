// Decides whether a routing state may be published now: the one compatibility rule of docs/semantics.md,
// section 3, applied to everything that may still be acted on. Pure. Nothing else in the engine judges
// whether a publish is safe.
//
// Whoever may act on `epoch` may act on every state published since, so all that a candidate asks of an
// instance is how far it has come: FirstSafeEpoch. Comparing that with the lowest recorded epoch
// (InstanceTable::OldestLiveEpoch) settles the matter in constant time however many instances there are; only
// explaining a wait looks at them one by one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/domain/routing_state.h"
#include "server/engine/migration_view.h"

namespace lockstep::engine {

// Every published state that is remembered, oldest first; the published one last.
using StateHistory = std::vector<domain::RoutingState>;

// The lowest epoch that an instance may be at without standing in the way of `candidate`: it and every later
// state in `history` may stand beside it. An epoch that `history` doesn't reach back to is compatible with
// nothing. Above the last one's when that is itself incompatible.
//
// A candidate that takes something back from DUAL_WRITE to CANARY_READ is not held up by what stands badly
// beside the published state already: going down those stages makes no bucket incompatible that was not, so
// that waiting would only keep users on what is not trusted (docs/adr/0007).
uint64_t FirstSafeEpoch(const domain::RoutingState& candidate, const StateHistory& history);

// Somebody who may act on published states from `epoch` on.
struct Holder {
  std::string instance_id;
  std::string service;
  uint64_t epoch = 0;
  // True: acts on `epoch` alone (a remote decision). False: on every state published since, too (an
  // instance).
  bool only_this_epoch = false;
};

// Why `holder` stands in the way of `candidate`, in words; empty if it does not. For an instance it is empty
// exactly when its epoch is at least FirstSafeEpoch.
std::string WhyWait(const domain::RoutingState& candidate, const StateHistory& history, const Holder& holder);

// The same for an instance that is passed by: its lease is over, so that it writes nothing any more. It may
// still read the side that was authoritative for it, and it may owe that side's mirror a write. So it stands
// in the way of nothing as long as the old side has the authority everywhere, then and now, and both sides
// are written; else it counts as anybody.
uint64_t FirstSafeEpochOfPassedBy(const domain::RoutingState& candidate, const StateHistory& history);

// What may be acted on now.
struct LiveStates {
  StateHistory history;
  std::vector<Holder> holders;
};

// Whom `candidate` has to wait for; empty = it may be published. The published state always counts, even if
// nobody is known to act on it. The rule in full, for explanations and for models; the registry gets by with
// FirstSafeEpoch.
std::vector<FenceWait> FindWaits(const domain::RoutingState& candidate, const LiveStates& live);

}  // namespace lockstep::engine
