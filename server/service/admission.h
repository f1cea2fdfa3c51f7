// Spreads a herd of reconnecting instances: a token bucket that tells whoever it turns away when to come
// back, each a little later than the last, so that the herd arrives at the rate that the server can take.
#pragma once

#include <algorithm>
#include <optional>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace lockstep::service {

// Thread-safe.
class Admission {
 public:
  // `per_second`, at least 1: enrolments admitted in the long run; as many at once after a quiet second.
  explicit Admission(int per_second) : interval_(absl::Seconds(1) / per_second) {}

  // Nothing: admitted. Else: come back after this long; at most kMaxDelay. `now` since boot, never falling.
  std::optional<absl::Duration> TurnAway(absl::Duration now) {
    MutexLock lock(&mutex_);
    // The virtual time of the bucket: a second behind `now` when it is full.
    admitted_until_ = std::max(admitted_until_, now - absl::Seconds(1));
    if (admitted_until_ + interval_ <= now) {
      admitted_until_ += interval_;
      turned_away_until_ = std::max(turned_away_until_, admitted_until_);
      return std::nullopt;
    }
    turned_away_until_ = std::max(turned_away_until_, now) + interval_;
    return std::min(turned_away_until_ - now, kMaxDelay);
  }

  static constexpr absl::Duration kMaxDelay = absl::Seconds(30);

 private:
  const absl::Duration interval_;
  Mutex mutex_;
  absl::Duration admitted_until_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  absl::Duration turned_away_until_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
};

}  // namespace lockstep::service
