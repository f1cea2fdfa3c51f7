// Exponential back-off with full jitter (M. Brooker, "Exponential Backoff and Jitter", 2015): a uniformly
// random wait between 0 and a bound that doubles, which spreads a crowd of clients best.
#pragma once

#include <algorithm>

#include "absl/time/time.h"
#include "core/base/prng.h"

namespace lockstep::internal {

// min(max, initial * 2^attempt); `attempt` counts from 0.
inline absl::Duration BackoffBound(absl::Duration initial, absl::Duration max, int attempt) {
  absl::Duration bound = initial;
  for (int i = 0; i < attempt && bound < max; ++i) bound *= 2;
  return std::min(bound, max);
}

// Uniform in [0, BackoffBound).
inline absl::Duration FullJitter(absl::Duration initial, absl::Duration max, int attempt, Prng& prng) {
  return BackoffBound(initial, max, attempt) * prng.Unit();
}

}  // namespace lockstep::internal
