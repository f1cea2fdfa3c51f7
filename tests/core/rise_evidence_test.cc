#include "core/domain/rise_evidence.h"

#include <array>
#include <cmath>
#include <optional>

#include "core/domain/log_math.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

using Deltas = std::array<double, kMaxGridSize>;

Deltas DeltasOf(const WeightedCount& count) {
  Deltas deltas;
  FixedRate(.01).LogLikelihoodRatiosUp(count.events, count.trials, absl::MakeSpan(deltas));
  return deltas;
}

TEST(RiseEvidenceTest, TheMeanOfTwoWaysToCount) {
  const struct {
    WeightedCount once;
    std::optional<WeightedCount> every;
  } kBuckets[] = {{{1, 100}, std::nullopt},
                  {{2, 50}, std::nullopt},
                  {{0, 100}, WeightedCount{9, 90}},
                  {{3, 100}, std::nullopt},
                  {{0, 100}, WeightedCount{8, 90}}};
  RiseEvidence both;
  ChangePointEvidence once, every;
  both.BeginStep(kGateStart);
  once.BeginStep(kGateStart);
  every.BeginStep(kGateStart);
  absl::Time start = kGateStart;
  bool differ = false;
  for (const auto& test : kBuckets) {
    const WeightedCount every_count = test.every.value_or(test.once);
    const Deltas once_deltas = DeltasOf(test.once), every_deltas = DeltasOf(every_count);
    std::optional<RiseEvidence::Bucket> every_bucket;
    if (test.every) every_bucket = {every_deltas, *test.every};
    both.AddBucket(start, {once_deltas, test.once}, every_bucket ? &*every_bucket : nullptr);
    once.AddBucket(start, once_deltas, test.once.events, test.once.trials);
    every.AddBucket(start, every_deltas, every_count.events, every_count.trials);
    differ = differ || test.every.has_value();
    if (!differ) {
      EXPECT_EQ(both.LogEvidence(), once.LogEvidence());
    } else {
      EXPECT_NEAR(std::exp(both.LogEvidence()),
                  .9 * std::exp(once.LogEvidence()) + .1 * std::exp(every.LogEvidence()),
                  1e-9 * std::exp(both.LogEvidence()));
    }
    start += absl::Minutes(1);
  }
  // The likelier rise, with its own counts.
  ASSERT_TRUE(both.MostLikelyRise().has_value());
  EXPECT_EQ(both.MostLikelyRise()->log_evidence, every.MostLikelyRise()->log_evidence);
  EXPECT_EQ(both.MostLikelyRise()->events, every.MostLikelyRise()->events);
  // A step is a bet for both.
  both.BeginStep(start);
  EXPECT_NEAR(both.LogEvidence(),
              LogAddExp(std::log(.9) + once.LogEvidence(), std::log(.1) + every.LogEvidence()), 1e-12);
}

}  // namespace
}  // namespace lockstep::domain
