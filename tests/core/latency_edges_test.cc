#include "core/domain/latency_edges.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/prng.h"
#include "core/domain/log_math.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

using Durations = std::vector<uint64_t>;  // ns

WindowStats WindowOf(const Durations& new_ns, const Durations& old_ns) {
  WindowStats window = Served(0, new_ns.size(), 0, old_ns.size());
  for (uint64_t ns : new_ns) window.arm(Arm::kNew).latency.Record(ns);
  for (uint64_t ns : old_ns) window.arm(Arm::kOld).latency.Record(ns);
  return window;
}

Durations Draw(Prng& prng, size_t count, double median_ms) {
  Durations durations(count);
  for (uint64_t& ns : durations)
    ns = static_cast<uint64_t>(median_ms * 1e6 * std::exp(3 * prng.Unit() - 1.5));
  return durations;
}

uint64_t CountAbove(const Durations& durations, uint64_t edge_ns) {
  return static_cast<uint64_t>(
      std::count_if(durations.begin(), durations.end(), [&](uint64_t ns) { return ns > edge_ns; }));
}

// The edge that the past gives: at least the quantile, and the counts on either side of it to the last read.
TEST(LatencyEdgesTest, CountsAreExact) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Prng prng(seed);
  for (int run = 0; run < 20; ++run) {
    LatencyEdges edges;
    Durations past;
    for (int bucket = 0; bucket < 50; ++bucket) {
      const Durations new_ns = Draw(prng, prng.Below(60), 2), old_ns = Draw(prng, prng.Below(60), 1);
      const WindowStats window = WindowOf(new_ns, old_ns);
      std::sort(past.begin(), past.end());
      for (double q : kLatencyQuantiles) {
        const auto slow = edges.Count(q, window);
        ASSERT_EQ(slow.has_value(), past.size() >= LatencyEdges::kLeastReads);
        if (!slow) continue;
        const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(past.size())));
        const uint64_t quantile_ns = past[std::max<size_t>(rank, 1) - 1];
        const size_t edge = LatencySketch::BucketIndex(quantile_ns);
        ASSERT_GE(LatencySketch::EdgeNanoseconds(edge), quantile_ns);
        ASSERT_EQ(slow->old_arm,
                  (EventCount{CountAbove(old_ns, LatencySketch::EdgeNanoseconds(edge)), old_ns.size()}));
        ASSERT_EQ(slow->new_arm,
                  (EventCount{CountAbove(new_ns, LatencySketch::EdgeNanoseconds(edge + 5)), new_ns.size()}));
      }
      edges.AddBucket(window);
      past.insert(past.end(), old_ns.begin(), old_ns.end());
    }
  }
}

TEST(LatencyEdgesTest, TheMarginIsTenPercent) {
  for (size_t edge = 200; edge + LatencyEdges::kMarginBuckets < LatencySketch::kBucketCount; edge += 50) {
    EXPECT_NEAR(static_cast<double>(LatencySketch::EdgeNanoseconds(edge + LatencyEdges::kMarginBuckets)) /
                    static_cast<double>(LatencySketch::EdgeNanoseconds(edge)),
                1.105, 0.001);
  }
}

// What is slow in a bucket was decided before it.
TEST(LatencyEdgesTest, ABucketHasNoSayInItsOwnEdge) {
  LatencyEdges edges;
  edges.AddBucket(WindowOf({}, Durations(100, 1'000'000)));
  const Durations slow(1'000, 5'000'000);
  for (int bucket = 0; bucket < 2; ++bucket) {
    const WindowStats window = WindowOf(slow, slow);
    const auto counted = edges.Count(0.5, window);
    ASSERT_TRUE(counted.has_value());
    // 5 ms is above the 1 ms of the past, and not above the 5 ms once that is the past.
    EXPECT_EQ(counted->old_arm.events, bucket == 0 ? 1'000u : 0u);
    EXPECT_EQ(counted->new_arm.events, bucket == 0 ? 1'000u : 0u);
    edges.AddBucket(window);
  }
  // Nor has the new arm, ever.
  const WindowStats probe = WindowOf({}, Durations(1, 4'000'000));
  const auto before = edges.Count(0.5, probe);
  edges.AddBucket(WindowOf(Durations(1'000'000, 1'000), {}));
  EXPECT_EQ(edges.Count(0.5, probe)->old_arm, before->old_arm);
}

TEST(LatencyEdgesTest, NeedsSoManyReads) {
  LatencyEdges edges;
  const WindowStats window = WindowOf(Durations(10, 1'000'000), Durations(33, 1'000'000));
  for (uint64_t reads = 0; reads < 132; reads += 33) {
    EXPECT_EQ(edges.Count(0.95, window).has_value(), reads >= LatencyEdges::kLeastReads) << reads;
    edges.AddBucket(window);
  }
}

// In every bucket of an hour: the edge is that of the last 60 to 119 buckets, the present period and the one
// before.
TEST(LatencyEdgesTest, RemembersFiveToTenMinutes) {
  LatencyEdges edges;
  // Bucket i takes a duration of its own, so that counting above the edge of the smallest quantile tells how
  // far back the past reaches.
  const auto ns_of = [](int bucket) {
    return LatencySketch::EdgeNanoseconds(static_cast<size_t>(100 + bucket));
  };
  for (int bucket = 0; bucket < 720; ++bucket) {
    const int remembered_from = std::max(0, bucket - 1 - (bucket - 1) % 60 - 60);
    if (bucket > 0) {
      Durations probe;
      for (int i = 0; i < bucket; ++i) probe.push_back(ns_of(i));
      const auto counted = edges.Count(0, WindowOf({}, probe));
      ASSERT_TRUE(counted.has_value());
      ASSERT_EQ(counted->old_arm.events, static_cast<uint64_t>(bucket - 1 - remembered_from)) << bucket;
    }
    edges.AddBucket(WindowOf({}, Durations(100, ns_of(bucket))));
  }
}

TEST(LatencyEdgesTest, SumsAboveTheLargestCountAreRefused) {
  LatencyEdges edges;
  WindowStats most = Served(0, 0, 0, kMaxCount);
  most.arm(Arm::kOld).latency.RecordBucket(500, kMaxCount);
  WindowStats one = WindowOf({}, {1'000'000});
  ASSERT_TRUE(edges.CheckBucket(most).ok());
  edges.AddBucket(most);
  EXPECT_EQ(edges.CheckBucket(one).code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(edges.CheckBucket(WindowOf({1'000'000}, {})).ok());
}

// An edge at the end of the scale: nothing is above it.
TEST(LatencyEdgesTest, TheLastEdge) {
  LatencyEdges edges;
  const Durations hours(200, 36'000'000'000'000);
  edges.AddBucket(WindowOf({}, hours));
  const auto counted = edges.Count(0.99, WindowOf(hours, hours));
  ASSERT_TRUE(counted.has_value());
  EXPECT_EQ(counted->new_arm, (EventCount{0, 200}));
  EXPECT_EQ(counted->old_arm, (EventCount{0, 200}));
}

}  // namespace
}  // namespace lockstep::domain
