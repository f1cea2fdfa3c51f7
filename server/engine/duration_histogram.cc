#include "server/engine/duration_histogram.h"

#include <algorithm>

namespace lockstep::engine {

void DurationHistogram::Add(absl::Duration duration) {
  const double seconds = absl::ToDoubleSeconds(duration);
  const auto& bounds = DurationCounts::kBoundsSeconds;
  const auto cell = std::lower_bound(bounds.begin(), bounds.end(), seconds) - bounds.begin();
  MutexLock lock(&mutex_);
  ++counts_.cells[static_cast<size_t>(cell)];
  ++counts_.count;
  counts_.sum_seconds += seconds;
}

DurationCounts DurationHistogram::Read() const {
  MutexLock lock(&mutex_);
  return counts_;
}

}  // namespace lockstep::engine
