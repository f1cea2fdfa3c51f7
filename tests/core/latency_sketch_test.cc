#include "core/domain/latency_sketch.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "core/domain/log_math.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSeed = 20240611;
constexpr size_t kLast = LatencySketch::kBucketCount - 1;

// The definition, by logarithm: the least i with value <= 1000 gamma^i. No edge but the first is closer than
// 8e-17 of its size to a whole number, so an 80-bit logarithm decides every whole number of nanoseconds.
size_t BucketByLogarithm(uint64_t nanoseconds) {
  if (nanoseconds <= 1000) return 0;
  const long double position = std::log(static_cast<long double>(nanoseconds) / 1000) / std::log(101.0L / 99);
  return std::min(static_cast<size_t>(std::ceil(position)), kLast);
}

std::vector<uint64_t> LogUniform(size_t count, std::mt19937_64& random) {
  std::uniform_real_distribution<double> exponent(std::log(200.0), std::log(2e13));
  std::vector<uint64_t> values(count);
  for (uint64_t& value : values) value = static_cast<uint64_t>(std::exp(exponent(random)));
  return values;
}

LatencySketch SketchOf(const std::vector<uint64_t>& values) {
  LatencySketch sketch;
  for (uint64_t value : values) sketch.Record(value);
  return sketch;
}

// Edges are part of the wire contract. The numbers are from exact rational arithmetic (1000 * (101/99)^i).
TEST(LatencySketchTest, EdgesAreFixed) {
  const struct {
    size_t index;
    uint64_t edge;
  } kGolden[] = {{0, 1000},
                 {1, 1020},
                 {2, 1040},
                 {3, 1061},
                 {100, 7389},
                 {500, 22033809},
                 {551, 61106123},
                 {1000, 485488766132},
                 {1100, 3587542904260},
                 {1101, 3660018518488}};
  for (const auto& golden : kGolden) EXPECT_EQ(LatencySketch::EdgeNanoseconds(golden.index), golden.edge);
  uint64_t fnv1a = 1469598103934665603u;
  for (size_t i = 0; i < LatencySketch::kBucketCount; ++i) {
    for (int shift = 0; shift < 64; shift += 8) {
      fnv1a = (fnv1a ^ ((LatencySketch::EdgeNanoseconds(i) >> shift) & 0xff)) * 1099511628211u;
    }
  }
  EXPECT_EQ(fnv1a, 8340228870320965090u) << "some edge differs from the exact table";
}

TEST(LatencySketchTest, BucketOfEveryEdgeAndItsNeighbours) {
  for (size_t i = 0; i < kLast; ++i) {
    const uint64_t edge = LatencySketch::EdgeNanoseconds(i);
    for (uint64_t value : {edge - 1, edge, edge + 1}) {
      const size_t expected = value <= edge ? i : i + 1;
      ASSERT_EQ(LatencySketch::BucketIndex(value), expected) << value << ", edge " << i;
      ASSERT_EQ(BucketByLogarithm(value), expected) << value << ", edge " << i;
    }
  }
}

TEST(LatencySketchTest, BucketEqualsTheLogarithm) {
  SCOPED_TRACE(kSeed);
  std::mt19937_64 random(kSeed);
  for (uint64_t value : LogUniform(1'000'000, random)) {
    ASSERT_EQ(LatencySketch::BucketIndex(value), BucketByLogarithm(value)) << value;
  }
  for (uint64_t value = 0; value < 100'000; ++value) {
    ASSERT_EQ(LatencySketch::BucketIndex(value), BucketByLogarithm(value)) << value;
  }
}

TEST(LatencySketchTest, RangeEnds) {
  for (uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{999}, uint64_t{1000}}) {
    EXPECT_EQ(LatencySketch::BucketIndex(value), 0u) << value;
  }
  const uint64_t last_edge = LatencySketch::EdgeNanoseconds(kLast);
  for (uint64_t value : {last_edge - 1, last_edge, last_edge + 1, 100 * last_edge, ~uint64_t{0}}) {
    EXPECT_EQ(LatencySketch::BucketIndex(value), kLast) << value;
  }
}

TEST(LatencySketchTest, CountsAboveEdgesAreExact) {
  std::mt19937_64 random(kSeed);
  std::vector<uint64_t> values = LogUniform(2000, random);
  // Values on an edge are the ones that could be counted on its wrong side.
  for (size_t i = 0; i < kLast; i += 7) values.push_back(LatencySketch::EdgeNanoseconds(i));
  const LatencySketch sketch = SketchOf(values);
  EXPECT_EQ(sketch.count(), values.size());
  for (size_t i = 0; i < kLast; ++i) {
    const uint64_t edge = LatencySketch::EdgeNanoseconds(i);
    const auto above =
        std::count_if(values.begin(), values.end(), [&](uint64_t value) { return value > edge; });
    ASSERT_EQ(sketch.CountAbove(i), static_cast<uint64_t>(above)) << i;
  }
  EXPECT_EQ(sketch.CountAbove(kLast), 0u);
  EXPECT_EQ(LatencySketch().CountAbove(0), 0u);
}

TEST(LatencySketchTest, QuantilesAreWithinOnePercent) {
  std::mt19937_64 random(kSeed);
  std::lognormal_distribution<double> latency(std::log(4e6), 1.0);
  std::vector<uint64_t> values(5001);
  for (uint64_t& value : values) value = static_cast<uint64_t>(latency(random));
  const LatencySketch sketch = SketchOf(values);
  std::sort(values.begin(), values.end());
  for (double q : {0.0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0}) {
    const auto rank =
        std::max<size_t>(1, static_cast<size_t>(std::ceil(q * static_cast<double>(values.size()))));
    const double exact = static_cast<double>(values[rank - 1]);
    const LatencyQuantile quantile = *sketch.Quantile(q);
    EXPECT_GE(static_cast<double>(quantile.upper_ns), exact) << q;
    EXPECT_EQ(quantile.upper_ns, LatencySketch::EdgeNanoseconds(quantile.bucket));
    EXPECT_NEAR(quantile.midpoint_ns, exact, exact * 0.010001) << q;
    EXPECT_LE(sketch.CountAbove(quantile.bucket), values.size() - rank) << q;
  }
}

TEST(LatencySketchTest, QuantileOfFewDurations) {
  EXPECT_EQ(LatencySketch().Quantile(0.5), std::nullopt);
  LatencySketch sketch;
  sketch.Record(5'000'000);
  for (double q : {0.0, 0.5, 1.0})
    EXPECT_EQ(sketch.Quantile(q)->bucket, LatencySketch::BucketIndex(5'000'000));
  sketch.Record(50'000'000);
  EXPECT_EQ(sketch.Quantile(0.5)->bucket, LatencySketch::BucketIndex(5'000'000));
  EXPECT_EQ(sketch.Quantile(0.500001)->bucket, LatencySketch::BucketIndex(50'000'000));
}

TEST(LatencySketchTest, MergeIsAdditionInAnyOrder) {
  std::mt19937_64 random(kSeed);
  const std::vector<uint64_t> values = LogUniform(3000, random);
  std::vector<LatencySketch> parts(4);  // the last stays empty
  for (size_t i = 0; i < values.size(); ++i) parts[i % 3].Record(values[i]);
  const LatencySketch whole = SketchOf(values);
  std::vector<size_t> order = {0, 1, 2, 3};
  do {
    LatencySketch merged;
    for (size_t i : order) ASSERT_TRUE(merged.Merge(parts[i]).ok());
    ASSERT_EQ(merged, whole);
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_NE(parts[0], whole);
}

TEST(LatencySketchTest, MergeRefusesOverflowAndChangesNothing) {
  LatencySketch sketch;
  sketch.RecordBucket(3, kMaxCount);
  LatencySketch one;
  one.RecordBucket(7, 1);
  const LatencySketch before = sketch;
  const absl::Status status = sketch.Merge(one);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()), HasSubstr("9007199254740992 + 1"));
  EXPECT_EQ(sketch, before);
}

TEST(LatencySketchTest, SparseFormRoundTrips) {
  std::mt19937_64 random(kSeed);
  for (const LatencySketch& sketch : {LatencySketch(), SketchOf({1}), SketchOf(LogUniform(500, random))}) {
    const auto restored = LatencySketch::FromNonZero(sketch.NonZero());
    ASSERT_TRUE(restored.ok()) << restored.status();
    EXPECT_EQ(*restored, sketch);
  }
}

TEST(LatencySketchTest, SparseFormIsValidated) {
  const struct {
    LatencySketch::SparseCounts counts;
    absl::StatusCode code;
    std::string message;
  } kCases[] = {
      {{{1, 2}, {1102, 3}}, absl::StatusCode::kInvalidArgument, "entry 1: bucket 1102 does not exist"},
      {{{~0u, 3}}, absl::StatusCode::kInvalidArgument, "buckets are 0 to 1101"},
      {{{5, 1}, {5, 1}}, absl::StatusCode::kInvalidArgument, "entry 1: bucket 5 comes after bucket 5"},
      {{{5, 1}, {4, 1}}, absl::StatusCode::kInvalidArgument, "by rising index"},
      {{{5, 0}}, absl::StatusCode::kInvalidArgument, "entry 0: bucket 5 has a count of 0"},
      {{{5, ~uint64_t{0}}}, absl::StatusCode::kOutOfRange, "entry 0"},
      {{{5, kMaxCount}, {6, 1}}, absl::StatusCode::kOutOfRange, "entry 1"},
  };
  for (const auto& test : kCases) {
    const auto sketch = LatencySketch::FromNonZero(test.counts);
    EXPECT_EQ(sketch.status().code(), test.code) << test.message;
    EXPECT_THAT(std::string(sketch.status().message()), HasSubstr(test.message));
  }
}

}  // namespace
}  // namespace lockstep::domain
