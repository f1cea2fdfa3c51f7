// From which duration on a read counts as slow: the old arm's quantile, from past buckets only, so that what
// is counted in a bucket was fixed before it was seen. Which edge it is decides how sharp the test is, not
// whether it is valid.
//
// Remembers 5 to 10 minutes, so that the edge follows the day; two sketches of 8.6 KiB. Thread-compatible.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "core/domain/latency_sketch.h"
#include "core/domain/metric.h"
#include "core/domain/window_stats.h"

namespace lockstep::domain {

class LatencyEdges {
 public:
  // New may be slower by this many histogram buckets: 1.01 / 0.99 to the fifth is 10.5 %.
  static constexpr size_t kMarginBuckets = 5;
  static constexpr uint64_t kLeastReads = 100;
  static constexpr int kBucketsPerPeriod = 60;

  // OutOfRange if the bucket's reads would take a sum above kMaxCount (log_math.h).
  absl::Status CheckBucket(const WindowStats& bucket) const;
  // Adds a bucket that passed CheckBucket().
  void AddBucket(const WindowStats& bucket);

  struct SlowReads {
    EventCount new_arm;  // longer than the edge by more than the margin
    EventCount old_arm;  // longer than the edge
  };
  // What `bucket`, which has not been added yet, says of the old arm's quantile `q`. Nothing before the past
  // has kLeastReads.
  std::optional<SlowReads> Count(double q, const WindowStats& bucket) const;

 private:
  int buckets_in_period_ = 0;
  LatencySketch period_;  // the present one
  LatencySketch past_;    // that and the one before
};

}  // namespace lockstep::domain
