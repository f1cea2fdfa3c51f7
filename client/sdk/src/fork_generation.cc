#include "lockstep/internal/fork_generation.h"

#include <pthread.h>

#include "core/base/check.h"

namespace lockstep::internal {

void WatchForForks() {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { fork_generation.fetch_add(1, std::memory_order_relaxed); });
  LOCKSTEP_CHECK(registered == 0, "no memory for a fork handler");
}

}  // namespace lockstep::internal
