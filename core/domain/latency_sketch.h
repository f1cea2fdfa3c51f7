// A latency histogram that merges without loss.
//
// Every sketch has the same buckets, on every machine and in every version, so merging is adding counts.
// Bucket i holds the durations in (EdgeNanoseconds(i - 1), EdgeNanoseconds(i)]; edge i is floor(1000 *
// gamma^i) nanoseconds with gamma = 1.01 / 0.99, so a quantile is off by at most 1 % (Masson, Rim, Lee:
// DDSketch, VLDB 2019, here dense and never collapsed). Durations are whole nanoseconds, so the count above
// an edge is exact, and a test on such counts owes nothing to the sketch.
//
// Range: 1 us to 1 h. Anything shorter is in bucket 0; anything longer is in the last bucket and counts as
// its edge.
//
//   LatencySketch sketch;
//   sketch.Record(1'250'000);
//   sketch.Quantile(0.99)->upper_ns;   // no fewer than 99 % of the durations are at or below it
//
// Thread-compatible. Takes no memory for counts (8.6 KiB) before the first one.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace lockstep::domain {

struct LatencyQuantile {
  size_t bucket = 0;         // usable as an edge index: the edge is >= the quantile
  uint64_t upper_ns = 0;     // the bucket's upper edge
  double midpoint_ns = 0.0;  // within 1 % of every duration in the bucket, for buckets 1 to the last but one

  bool operator==(const LatencyQuantile&) const = default;
};

class LatencySketch {
 public:
  static constexpr size_t kBucketCount = 1102;
  static constexpr uint64_t kLowestEdgeNanoseconds = 1000;

  // The bucket a duration belongs to, in [0, kBucketCount). One table look-up and one comparison.
  static size_t BucketIndex(uint64_t nanoseconds);
  // The upper edge of a bucket; `index` < kBucketCount.
  static uint64_t EdgeNanoseconds(size_t index);

  void Record(uint64_t nanoseconds) { RecordBucket(BucketIndex(nanoseconds), 1); }
  // Adds `count` durations to one bucket. The caller keeps the total within kMaxCount (log_math.h).
  void RecordBucket(size_t index, uint64_t count);

  // Adds the other sketch's counts. OutOfRange, and nothing is changed, if the total would pass kMaxCount.
  absl::Status Merge(const LatencySketch& other);

  // The bucket of the ceil(q * count())-th smallest duration (at least the first); `q` in [0, 1]. Empty
  // for an empty sketch.
  std::optional<LatencyQuantile> Quantile(double q) const;

  // How many durations are longer than EdgeNanoseconds(edge_index). Exact, save for the last edge, for which
  // it is 0.
  uint64_t CountAbove(size_t edge_index) const;

  uint64_t count() const { return total_; }
  bool empty() const { return total_ == 0; }

  // The form that travels: (bucket index, count) of the buckets that are not empty, by rising index.
  using SparseCounts = std::vector<std::pair<uint32_t, uint64_t>>;
  SparseCounts NonZero() const;
  // InvalidArgument for an index out of range, not rising, or with a count of 0; OutOfRange for a total above
  // kMaxCount. The message names the entry.
  static absl::StatusOr<LatencySketch> FromNonZero(absl::Span<const std::pair<uint32_t, uint64_t>> counts);

  bool operator==(const LatencySketch&) const = default;

 private:
  // A duration's binary exponent and the next 6 bits select a slot. A slot spans less than 1/64 of its lower
  // end and a bucket more than that, so a slot meets at most two buckets: the one noted for its lower end,
  // and the next.
  static constexpr int kSlotBits = 6;
  static constexpr int kLowestExponent = 9;    // 512 <= kLowestEdgeNanoseconds
  static constexpr int kHighestExponent = 41;  // the last edge is below 2^42
  static constexpr size_t kSlotCount = size_t{kHighestExponent - kLowestExponent + 1} << kSlotBits;

  // Defined in the .cc and computed by the compiler, in integers.
  static const std::array<uint64_t, kBucketCount> kEdges;
  static const std::array<uint16_t, kSlotCount> kSlots;
  friend struct LatencyTables;

  // Empty or kBucketCount long; empty exactly when total_ is 0, which makes the default comparison right.
  std::vector<uint64_t> counts_;
  uint64_t total_ = 0;
};

inline size_t LatencySketch::BucketIndex(uint64_t nanoseconds) {
  if (nanoseconds <= kLowestEdgeNanoseconds) return 0;
  if (nanoseconds >= kEdges[kBucketCount - 1]) return kBucketCount - 1;
  const int exponent = static_cast<int>(std::bit_width(nanoseconds)) - 1;
  const size_t octave = static_cast<size_t>(exponent - kLowestExponent);
  const size_t below_leading_bit = (nanoseconds >> (exponent - kSlotBits)) & ((size_t{1} << kSlotBits) - 1);
  const size_t slot = (octave << kSlotBits) + below_leading_bit;
  const size_t index = kSlots[slot];
  return index + (nanoseconds > kEdges[index] ? 1 : 0);
}

}  // namespace lockstep::domain
