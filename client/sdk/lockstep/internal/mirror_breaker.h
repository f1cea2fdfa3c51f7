// Keeps a sick mirror from taking the service down with it: after some failures in a row mirrors are not
// attempted any more, apart from a probe now and then, and what is attempted at a time is capped.
#pragma once

#include <array>
#include <atomic>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/domain/routing_state.h"

namespace lockstep::internal {

// Whether a failed mirror write says something of the side's health. A side that refuses a row, because of
// the row, is alive.
bool SpeaksOfSickness(const absl::Status& status);

// Of one side. Pure but for its state: time, since boot, is an argument. Thread-safe.
class MirrorBreaker {
 public:
  // Opens after `failures_to_open` failures in a row (at least 1).
  MirrorBreaker(int failures_to_open, absl::Duration probe_interval)
      : failures_to_open_(failures_to_open), probe_interval_(probe_interval) {}

  // Whether to attempt. While open, true once per interval: that is the probe.
  bool Allow(absl::Duration now);
  void OnSuccess();
  void OnFailure(absl::Duration now);
  bool open() const { return failures_.load(std::memory_order_relaxed) >= failures_to_open_; }
  // How long it has been open.
  std::optional<absl::Duration> OpenFor(absl::Duration now) const;

 private:
  const int failures_to_open_;
  const absl::Duration probe_interval_;
  mutable Mutex mutex_;
  // In a row. Written under the mutex, and read without it where a side is well, as nearly always.
  std::atomic<int> failures_{0};
  absl::Duration opened_at_ ABSL_GUARDED_BY(mutex_);
  absl::Duration next_probe_ ABSL_GUARDED_BY(mutex_);
};

// The breakers of both sides and the cap, of one Migrator. Thread-safe.
class MirrorGate {
 public:
  MirrorGate(int failures_to_open, absl::Duration probe_interval, int max_in_flight)
      : max_in_flight_(max_in_flight),
        breakers_{MirrorBreaker(failures_to_open, probe_interval),
                  MirrorBreaker(failures_to_open, probe_interval)} {}

  // OK: attempt it, then Leave. UNAVAILABLE says why not.
  absl::Status Enter(domain::Side side, absl::Duration now);
  void Leave(domain::Side side, const absl::Status& result, absl::Duration now);
  bool IsSick(domain::Side side) const { return breakers_[static_cast<size_t>(side)].open(); }
  int in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

 private:
  const int max_in_flight_;
  std::atomic<int> in_flight_{0};
  std::array<MirrorBreaker, 2> breakers_;  // by side
};

}  // namespace lockstep::internal
