#include "core/domain/latency_sketch.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

constexpr uint64_t kHourNanoseconds = 3'600'000'000'000;
// gamma = 1.01 / 0.99 = 101 / 99.
constexpr unsigned kGammaNumerator = 101;
constexpr unsigned kGammaDenominator = 99;
// 2 * edge / (gamma + 1): the point within the same relative distance of both ends of a bucket.
constexpr double kMidpointOfEdge = 0.99;

}  // namespace

// The edges are part of the wire contract, so they can't depend on a machine's floating point: they are
// computed with 64 fractional bits in 128-bit integers. 1,101 roundings leave an error below 2^-50 ns.
struct LatencyTables {
  static constexpr std::array<uint64_t, LatencySketch::kBucketCount> Edges() {
    std::array<uint64_t, LatencySketch::kBucketCount> edges{};
    unsigned __int128 edge = static_cast<unsigned __int128>(LatencySketch::kLowestEdgeNanoseconds) << 64;
    for (uint64_t& whole : edges) {
      whole = static_cast<uint64_t>(edge >> 64);
      edge = edge * kGammaNumerator / kGammaDenominator;
    }
    return edges;
  }

  static constexpr std::array<uint16_t, LatencySketch::kSlotCount> Slots() {
    const std::array<uint64_t, LatencySketch::kBucketCount> edges = Edges();
    std::array<uint16_t, LatencySketch::kSlotCount> slots{};
    uint16_t bucket = 0;
    for (size_t slot = 0; slot < slots.size(); ++slot) {
      const uint64_t octave = slot >> LatencySketch::kSlotBits;
      const uint64_t offset = slot & ((1u << LatencySketch::kSlotBits) - 1);
      const uint64_t lowest = ((uint64_t{1} << LatencySketch::kSlotBits) + offset)
                              << (LatencySketch::kLowestExponent + octave - LatencySketch::kSlotBits);
      while (bucket + 1u < edges.size() && edges[bucket] < lowest) ++bucket;
      slots[slot] = bucket;
    }
    return slots;
  }
};

constinit const std::array<uint64_t, LatencySketch::kBucketCount> LatencySketch::kEdges =
    LatencyTables::Edges();
constinit const std::array<uint16_t, LatencySketch::kSlotCount> LatencySketch::kSlots =
    LatencyTables::Slots();

static_assert(LatencyTables::Edges()[LatencySketch::kBucketCount - 1] >= kHourNanoseconds);
static_assert(LatencyTables::Edges()[LatencySketch::kBucketCount - 2] < kHourNanoseconds);

uint64_t LatencySketch::EdgeNanoseconds(size_t index) {
  LOCKSTEP_CHECK(index < kBucketCount, "no such latency bucket");
  return kEdges[index];
}

void LatencySketch::RecordBucket(size_t index, uint64_t count) {
  LOCKSTEP_CHECK(index < kBucketCount, "no such latency bucket");
  if (count == 0) return;
  if (counts_.empty()) counts_.resize(kBucketCount);
  counts_[index] += count;
  total_ += count;
}

absl::Status LatencySketch::Merge(const LatencySketch& other) {
  LOCKSTEP_RETURN_IF_ERROR(CheckSum("latency sketch: durations", total_, other.total_));
  if (other.empty()) return absl::OkStatus();
  if (counts_.empty()) counts_.resize(kBucketCount);
  for (size_t i = 0; i < kBucketCount; ++i) counts_[i] += other.counts_[i];
  total_ += other.total_;
  return absl::OkStatus();
}

std::optional<LatencyQuantile> LatencySketch::Quantile(double q) const {
  LOCKSTEP_CHECK(q >= 0 && q <= 1, "a quantile is in [0, 1]");
  if (empty()) return std::nullopt;
  const uint64_t rank =
      std::clamp<uint64_t>(static_cast<uint64_t>(std::ceil(q * static_cast<double>(total_))), 1, total_);
  uint64_t seen = 0;
  size_t bucket = 0;
  while ((seen += counts_[bucket]) < rank) ++bucket;
  return LatencyQuantile{bucket, kEdges[bucket], static_cast<double>(kEdges[bucket]) * kMidpointOfEdge};
}

uint64_t LatencySketch::CountAbove(size_t edge_index) const {
  LOCKSTEP_CHECK(edge_index < kBucketCount, "no such latency bucket");
  uint64_t count = 0;
  for (size_t i = edge_index + 1; i < counts_.size(); ++i) count += counts_[i];
  return count;
}

LatencySketch::SparseCounts LatencySketch::NonZero() const {
  SparseCounts result;
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] != 0) result.emplace_back(static_cast<uint32_t>(i), counts_[i]);
  }
  return result;
}

absl::StatusOr<LatencySketch> LatencySketch::FromNonZero(
    absl::Span<const std::pair<uint32_t, uint64_t>> counts) {
  LatencySketch sketch;
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto [index, count] = counts[i];
    // Put together for a failure only: every batch of telemetry has some hundred entries.
    const auto where = [i] { return absl::StrCat("latency sketch: entry ", i, ": "); };
    if (index >= kBucketCount) {
      return absl::InvalidArgumentError(
          absl::StrCat(where(), "bucket ", index, " does not exist; buckets are 0 to ", kBucketCount - 1));
    }
    if (i > 0 && index <= counts[i - 1].first) {
      return absl::InvalidArgumentError(absl::StrCat(where(), "bucket ", index, " comes after bucket ",
                                                     counts[i - 1].first,
                                                     "; send each bucket once, by rising index"));
    }
    if (count == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(where(), "bucket ", index, " has a count of 0; leave empty buckets out"));
    }
    if (count > kMaxCount - sketch.total_) {
      return CheckSum(absl::StrCat(where(), "durations"), sketch.total_, count);
    }
    sketch.RecordBucket(index, count);
  }
  return sketch;
}

}  // namespace lockstep::domain
