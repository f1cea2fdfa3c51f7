// Waiting for what another thread or process will do: polled, with a deadline that only a failing test
// reaches.
#pragma once

#include "absl/functional/function_ref.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace lockstep::testing {

// Long enough for a loaded machine under a sanitizer.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

// Whether `condition` became true before `patience` was over. Polls; `condition` may be expensive.
inline bool Eventually(absl::FunctionRef<bool()> condition, absl::Duration patience = kPatience) {
  const absl::Time deadline = absl::Now() + patience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

}  // namespace lockstep::testing
