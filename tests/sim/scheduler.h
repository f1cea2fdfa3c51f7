// Simulated time: events in order of their moments, and of their making where those are equal.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "absl/time/time.h"
#include "core/base/clock.h"

namespace lockstep::sim {

class Scheduler {
 public:
  // Since the beginning of the run, by the clock of nobody.
  absl::Duration now() const { return now_; }
  void After(absl::Duration delay, std::function<void()> run) {
    events_.emplace(std::pair(now_ + std::max(delay, absl::ZeroDuration()), next_++), std::move(run));
  }
  // Runs the next event if there is one before `until`; else time is `until`, and false.
  bool RunNext(absl::Duration until) {
    if (events_.empty() || events_.begin()->first.first > until) {
      now_ = std::max(now_, until);
      return false;
    }
    now_ = events_.begin()->first.first;
    const std::function<void()> run = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    ++ran_;
    run();
    return true;
  }
  uint64_t ran() const { return ran_; }
  void Clear() { events_.clear(); }

 private:
  absl::Duration now_ = absl::ZeroDuration();
  uint64_t next_ = 0;
  uint64_t ran_ = 0;
  std::map<std::pair<absl::Duration, uint64_t>, std::function<void()>> events_;
};

// The clock of one machine: runs at `rate` times simulated time.
class DriftingClock final : public Clock {
 public:
  DriftingClock(const Scheduler* scheduler, double rate, absl::Duration since_boot)
      : scheduler_(scheduler), rate_(rate), since_boot_(since_boot) {}

  absl::Time Now() const override { return absl::FromUnixSeconds(1'700'000'000) + scheduler_->now() * rate_; }
  absl::Duration SinceBoot() const override { return since_boot_ + scheduler_->now() * rate_; }
  // What `local` takes in simulated time, rounded up.
  absl::Duration Simulated(absl::Duration local) const { return local / rate_ + absl::Nanoseconds(1); }

 private:
  const Scheduler* const scheduler_;
  const double rate_;
  const absl::Duration since_boot_;
};

}  // namespace lockstep::sim
