#include "core/domain/alpha_spending.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/base/prng.h"

namespace lockstep::domain {
namespace {

PlanStep Canary(uint32_t weight, std::vector<Check> checks) {
  return {Stage::kCanaryRead, weight, absl::ZeroDuration(), std::move(checks)};
}
Check Of(Metric metric, double budget = 0, double quantile = 0) {
  return {.name = "c", .metric = metric, .budget = budget, .quantile = quantile};
}

TEST(AlphaSpendingTest, RareEventsWeighDouble) {
  MigrationPlan plan;
  Check advisory = Of(Metric::kMirrorFailureRatio, 0.1);
  advisory.advisory = true;
  plan.steps = {Canary(
      1'000, {Of(Metric::kMismatchRatio, 0.01), Of(Metric::kErrorRatio), Of(Metric::kLatency, 0, 0.5),
              Of(Metric::kLatency, 0, 0.99), Of(Metric::kPairedLatency), advisory, Of(Metric::kCoverage)})};
  const auto nulls = SpendAlpha(plan);
  ASSERT_EQ(nulls.size(), 6u);
  const double kExpected[] = {2. / 7, 2. / 7, 1. / 7, 1. / 7, 1. / 7, 0};
  for (size_t i = 0; i < nulls.size(); ++i) EXPECT_DOUBLE_EQ(nulls[i].rollback_part, kExpected[i]) << i;
}

TEST(AlphaSpendingTest, StepsWithLittleTrafficHaveMoreOfAlpha) {
  const Check errors = Of(Metric::kErrorRatio), mismatches = Of(Metric::kMismatchRatio, 0.01),
              mirror = Of(Metric::kMirrorFailureRatio, 0.01);
  MigrationPlan plan;
  plan.steps = {{Stage::kShadowRead, 0, absl::ZeroDuration(), {mismatches, mirror}},
                Canary(1'000, {errors, mismatches, mirror}),
                Canary(5'000, {errors, mismatches}),
                Canary(50'000, {mismatches})};
  const auto nulls = SpendAlpha(plan);
  ASSERT_EQ(nulls.size(), 3u);
  // Mismatches: one process over all steps.
  EXPECT_EQ(nulls[0].advance_parts, (std::vector<double>{1, 1, 1, 1}));
  // Mirror writes don't depend on the weight.
  EXPECT_EQ(nulls[1].advance_parts, (std::vector<double>{0.5, 0.5, 0, 0}));
  EXPECT_DOUBLE_EQ(nulls[2].advance_parts[1], 5. / 6);
  EXPECT_DOUBLE_EQ(nulls[2].advance_parts[2], 1. / 6);
  EXPECT_FALSE(nulls[2].TestedAt(0));
  EXPECT_TRUE(nulls[2].TestedAt(2));
  EXPECT_FALSE(nulls[2].TestedAt(3));
}

// Whatever the plan, nothing is spent twice.
TEST(AlphaSpendingTest, PartsAddUpToOne) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Prng prng(seed);
  for (int run = 0; run < 500; ++run) {
    MigrationPlan plan;
    for (uint64_t i = 1 + prng.Below(8); i > 0; --i) {
      std::vector<Check> checks;
      for (uint64_t j = prng.Below(6); j > 0; --j) {
        checks.push_back(
            Of(static_cast<Metric>(prng.Below(kMetricCount)), 0.01 * static_cast<double>(1 + prng.Below(2))));
        checks.back().advisory = prng.Below(3) == 0;
      }
      plan.steps.push_back(Canary(static_cast<uint32_t>(1 + prng.Below(100'000)), checks));
    }
    double rollback = 0;
    for (const TestedNull& null : SpendAlpha(plan)) {
      rollback += null.rollback_part;
      if (RowOf(null.check.metric).carries_over) continue;
      EXPECT_NEAR(std::accumulate(null.advance_parts.begin(), null.advance_parts.end(), 0.0), 1, 1e-12);
    }
    EXPECT_TRUE(rollback == 0 || std::abs(rollback - 1) < 1e-12) << rollback;
  }
}

}  // namespace
}  // namespace lockstep::domain
