#include "core/domain/latency_edges.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {

absl::Status LatencyEdges::CheckBucket(const WindowStats& bucket) const {
  return CheckSum("reads of the old arm with a latency", past_.count(),
                  bucket.arm(Arm::kOld).latency.count());
}

void LatencyEdges::AddBucket(const WindowStats& bucket) {
  if (buckets_in_period_ == kBucketsPerPeriod) {
    past_ = period_;
    period_ = LatencySketch();
    buckets_in_period_ = 0;
  }
  ++buckets_in_period_;
  const LatencySketch& old_arm = bucket.arm(Arm::kOld).latency;
  LOCKSTEP_CHECK(period_.Merge(old_arm).ok() && past_.Merge(old_arm).ok(), "the bucket was checked");
}

std::optional<LatencyEdges::SlowReads> LatencyEdges::Count(double q, const WindowStats& bucket) const {
  if (past_.count() < kLeastReads) return std::nullopt;
  const size_t edge = past_.Quantile(q)->bucket;
  const size_t shifted = std::min(edge + kMarginBuckets, LatencySketch::kBucketCount - 1);
  const LatencySketch& old_arm = bucket.arm(Arm::kOld).latency;
  const LatencySketch& new_arm = bucket.arm(Arm::kNew).latency;
  return SlowReads{.new_arm = {new_arm.CountAbove(shifted), new_arm.count()},
                   .old_arm = {old_arm.CountAbove(edge), old_arm.count()}};
}

}  // namespace lockstep::domain
