// The time seam. Wall time is for people and event-time buckets; monotonic time is for intervals
// (leases, back-off, bake times within a process). Domain code takes time as an argument instead.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace lockstep {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Wall-clock time; may jump.
  virtual absl::Time Now() const = 0;
  // Time since an arbitrary point, counting time spent suspended (CLOCK_BOOTTIME); never goes back.
  virtual absl::Duration SinceBoot() const = 0;

  // The same two for paths on which nanoseconds count.
  virtual int64_t NanosecondsSinceBoot() const;
  // At most kCoarseness late, and several times as cheap. CoarseNanoseconds() may stand still while the
  // machine is suspended, so its readings are compared with each other only.
  static constexpr absl::Duration kCoarseness = absl::Milliseconds(10);
  virtual absl::Time CoarseNow() const;
  virtual int64_t CoarseUnixSeconds() const;
  virtual int64_t CoarseNanoseconds() const;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override;
  absl::Duration SinceBoot() const override;
  int64_t NanosecondsSinceBoot() const override;
  absl::Time CoarseNow() const override;
  int64_t CoarseUnixSeconds() const override;
  int64_t CoarseNanoseconds() const override;
  // One instance for the whole process.
  static SystemClock* Get();
};

// Time stands still until a test moves it; both readings move together.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(absl::Time start) : now_(start) {}
  absl::Time Now() const override;
  absl::Duration SinceBoot() const override;
  void Advance(absl::Duration by);

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
  absl::Duration since_boot_ ABSL_GUARDED_BY(mutex_) = absl::Hours(1);
};

}  // namespace lockstep
