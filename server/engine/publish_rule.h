// Decides whether a routing state may be published now: the one compatibility rule of docs/semantics.md,
// section 3, applied to everything that may still be acted on. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/domain/routing_state.h"
#include "server/engine/migration_view.h"

namespace lockstep::engine {

// Somebody who may act on published states from `epoch` on.
struct Holder {
  std::string instance_id;
  std::string service;
  uint64_t epoch = 0;
  // True: acts on `epoch` alone (a remote decision). False: on every state published since, too (an
  // instance).
  bool only_this_epoch = false;
};

// What may be acted on now: `history` is every state that is remembered, oldest first, the published one
// last.
struct LiveStates {
  std::vector<domain::RoutingState> history;
  std::vector<Holder> holders;
};

// Whom `candidate` has to wait for; empty = it may be published. The published state always counts, even if
// nobody is known to act on it. An epoch whose state is no longer remembered is taken as compatible with
// nothing.
std::vector<FenceWait> FindWaits(const domain::RoutingState& candidate, const LiveStates& live);

// A state that may stand between `from` and `to` where those two can't coexist: compatible with both, and on
// the stage nearest to `to`. For example DUAL_WRITE between CANARY_READ and OFF. Nothing: there is none
// (write authority moves slice by slice instead).
std::optional<domain::RoutingState> BridgeState(const domain::RoutingState& from,
                                                const domain::RoutingState& to);

}  // namespace lockstep::engine
