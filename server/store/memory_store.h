// A Store in memory, for tests, the simulator and throwaway servers. Same semantics as the durable ones,
// except that nothing survives the process, and it never runs out of space.
#pragma once

#include <memory>

#include "server/store/store.h"

namespace lockstep::store {

std::unique_ptr<Store> NewMemoryStore();

}  // namespace lockstep::store
