// Counts durations in fixed cells, for metrics.
#pragma once

#include <array>
#include <cstdint>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace lockstep::engine {

struct DurationCounts {
  // Upper bounds of the cells in seconds, inclusive; the last cell has none.
  static constexpr std::array<double, 18> kBoundsSeconds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                                            0.01,   0.025,   0.05,   0.1,   0.25,   0.5,
                                                            1,      2.5,     5,      10,    30,     60};
  std::array<uint64_t, kBoundsSeconds.size() + 1> cells = {};  // not cumulative
  uint64_t count = 0;
  double sum_seconds = 0;
};

// Thread-safe.
class DurationHistogram {
 public:
  void Add(absl::Duration duration);
  DurationCounts Read() const;

 private:
  mutable Mutex mutex_;
  DurationCounts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::engine
