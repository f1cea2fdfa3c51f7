// Shared by the SDK's tests: the migration they use, and a way to wait for something that another thread
// brings about.
#pragma once

#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "lockstep/fake_control_plane.h"

namespace lockstep::testing_support {

inline constexpr char kMigration[] = "shop/orders";
inline constexpr char kFullName[] = "namespaces/shop/migrations/orders";

// True as soon as `condition` holds; false when it has not within a time that only a failing test needs.
inline bool Eventually(const std::function<bool()>& condition) {
  const absl::Time give_up = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > give_up) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace lockstep::testing_support
