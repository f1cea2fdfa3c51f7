#include "core/domain/rate_evidence.h"

#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "core/base/prng.h"
#include "core/domain/log_math.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr uint64_t kSeed = 424242;

RateEvidence Evidence(uint64_t events, uint64_t trials) {
  RateEvidence evidence;
  EXPECT_TRUE(evidence.Add(static_cast<double>(events), static_cast<double>(trials)).ok());
  return evidence;
}

// The most crossings that chance explains, at 99 %, if each run crosses with probability `alpha`.
double MostCrossings(int runs, double alpha) {
  return alpha * runs + 2.576 * std::sqrt(alpha * (1 - alpha) * runs);
}

TEST(LogMathTest, LogAddExp) {
  const struct {
    double a, b, sum;
  } kCases[] = {
      {0, 0, std::log(2.0)},
      {std::log(3.0), std::log(4.0), std::log(7.0)},
      {-kInf, -kInf, -kInf},
      {-kInf, 2.5, 2.5},
      {kInf, 1, kInf},
      {1e6, 0, 1e6},
      {-1e6, -1e6, -1e6 + std::log(2.0)},
      {-1e300, 1e300, 1e300},
  };
  for (const auto& test : kCases) {
    EXPECT_DOUBLE_EQ(LogAddExp(test.a, test.b), test.sum) << test.a << " " << test.b;
    EXPECT_DOUBLE_EQ(LogAddExp(test.b, test.a), test.sum) << test.b << " " << test.a;
    EXPECT_DOUBLE_EQ(LogSumExp({test.a, test.b}), test.sum) << test.a << " " << test.b;
  }
  EXPECT_EQ(LogSumExp({}), -kInf);
  EXPECT_DOUBLE_EQ(LogSumExp({1000, 1000, -kInf, 1000, 1000}), 1000 + std::log(4.0));
}

TEST(LogMathTest, CheckSum) {
  EXPECT_TRUE(CheckSum("x", kMaxCount - 1, 1).ok());
  EXPECT_FALSE(CheckSum("x", kMaxCount, 1).ok());
  EXPECT_FALSE(CheckSum("x", ~uint64_t{0}, ~uint64_t{0}).ok());
  EXPECT_FALSE(CheckSum("x", ~uint64_t{0}, 0).ok());
}

TEST(RateEvidenceTest, GridsAreDistributions) {
  for (const MixtureGrid* grid : {&UpGrid(), &DownGrid()}) {
    EXPECT_LE(grid->size(), kMaxGridSize);
    EXPECT_NEAR(LogSumExp(grid->log_weights), 0, 1e-15);
    for (size_t j = 0; j < grid->size(); ++j) {
      EXPECT_EQ(grid->log_factors[j], std::log(grid->factors[j]));
      EXPECT_EQ(grid->factors[j] > 1, grid == &UpGrid());
    }
  }
}

// docs/gate.md, part (a): clean sample sizes as multiples of 1/r, for a small r.
TEST(RateEvidenceTest, CleanSampleSizes) {
  constexpr double kR = 1e-6;
  const struct {
    double alpha, n_times_r;
  } kCases[] = {{.05, 3.37986}, {.01, 5.06130}, {.001, 7.42153}, {.01 / 4, 6.48626}};
  for (const auto& test : kCases) {
    const uint64_t needed = *RateEvidence::CleanSampleNeeded(kR, test.alpha);
    EXPECT_NEAR(static_cast<double>(needed) * kR, test.n_times_r, 1e-4) << test.alpha;
    EXPECT_GE(*Evidence(0, needed).LogDown(kR), -std::log(test.alpha));
    EXPECT_LT(*Evidence(0, needed - 1).LogDown(kR), -std::log(test.alpha));
  }
  // A budget that is not small is a little cheaper.
  EXPECT_LT(*RateEvidence::CleanSampleNeeded(.1, .01), 51u);
}

TEST(RateEvidenceTest, SampleSizesWithEvents) {
  constexpr double kR = 1e-6;
  const double threshold = -std::log(.01);
  const struct {
    uint64_t events;
    double n_times_r;
  } kCases[] = {{0, 5.06}, {1, 9.54}, {2, 11.90}, {3, 13.98}, {5, 17.73}, {10, 26.08}};
  for (const auto& test : kCases) {
    // One trial past the observed rate of r, so that it is below.
    const RateEvidence seen = Evidence(test.events, test.events * 1'000'000 + 1);
    const auto further = *seen.AdditionalCleanNeeded(kR, threshold);
    ASSERT_TRUE(further.has_value()) << test.events;
    ASSERT_GT(*further, 0u);
    const uint64_t total = static_cast<uint64_t>(seen.trials()) + *further;
    EXPECT_NEAR(static_cast<double>(total) * kR, test.n_times_r, .006) << test.events;
    EXPECT_GE(*Evidence(test.events, total).LogDown(kR), threshold);
    EXPECT_LT(*Evidence(test.events, total - 1).LogDown(kR), threshold);
    EXPECT_EQ(**Evidence(test.events, total).AdditionalCleanNeeded(kR, threshold), 0u);
  }
}

TEST(RateEvidenceTest, NeverCertifiedAtOrAboveTheBudget) {
  const double threshold = -std::log(.01);
  EXPECT_FALSE(Evidence(10, 1000).AdditionalCleanNeeded(.01, threshold)->has_value());
  EXPECT_FALSE(Evidence(11, 1000).AdditionalCleanNeeded(.01, threshold)->has_value());
  EXPECT_TRUE(Evidence(9, 1000).AdditionalCleanNeeded(.01, threshold)->has_value());
  EXPECT_EQ(Evidence(0, 0).AdditionalCleanNeeded(.01, threshold)->value(),
            *RateEvidence::CleanSampleNeeded(.01, .01));
}

TEST(RateEvidenceTest, MatchesTheFormula) {
  // E_up and E_down of 3 events in 200 trials at r = 0.01, term by term.
  double up = 0, down = 0;
  for (double rho : {1.2, 1.5, 2., 3., 5., 10., 20., 50., 200., 1000.}) {
    up += .1 * std::pow(rho, 3) * std::pow(1 + .01 * (rho - 1), -200);
  }
  for (double sigma : {.05, .2, .4, .6, .8}) {
    down += .1 * std::pow(sigma, 3) * std::pow(1 - .01 * (1 - sigma), -200);
  }
  EXPECT_NEAR(*Evidence(3, 200).LogUp(.01), std::log(up), 1e-12);
  EXPECT_NEAR(*Evidence(3, 200).LogDown(.01), std::log(down), 1e-12);
}

TEST(RateEvidenceTest, NoDataIsNoEvidence) {
  for (double r : {1e-12, .5, .999}) {
    EXPECT_NEAR(*RateEvidence().LogUp(r), 0, 1e-15);
    EXPECT_NEAR(*RateEvidence().LogDown(r), 0, 1e-15);
  }
  EXPECT_EQ(*RateEvidence().Interval(.01), (RateInterval{0, 1}));
  EXPECT_EQ(RateEvidence().Estimate(), 0);
}

TEST(RateEvidenceTest, IntervalInvertsTheEvidence) {
  for (double alpha : {.05, .01, 1e-6}) {
    for (uint64_t n : {uint64_t{1}, uint64_t{100}, uint64_t{54'321}, uint64_t{10'000'000'000'000}}) {
      for (uint64_t k : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{7}, n / 1000, n / 2, n - 1, n}) {
        if (k > n) continue;
        SCOPED_TRACE(testing::Message() << k << " of " << n << " at " << alpha);
        const RateEvidence evidence = Evidence(k, n);
        const double threshold = -std::log(alpha);
        const RateInterval interval = *evidence.Interval(alpha);
        ASSERT_LE(0, interval.lower);
        ASSERT_LE(interval.lower, evidence.Estimate());
        ASSERT_LE(evidence.Estimate(), interval.upper);
        ASSERT_LE(interval.upper, 1);
        if (k == 0) {
          ASSERT_EQ(interval.lower, 0);
        }
        if (interval.lower > 0) {
          ASSERT_GE(*evidence.LogUp(interval.lower), threshold);
          ASSERT_LT(*evidence.LogUp(std::nextafter(interval.lower, 1)), threshold);
        }
        if (interval.upper < 1) {
          ASSERT_GE(*evidence.LogDown(interval.upper), threshold);
          ASSERT_LT(*evidence.LogDown(std::nextafter(interval.upper, 0)), threshold);
        }
      }
    }
  }
}

TEST(RateEvidenceTest, ExtremesAreFinite) {
  constexpr uint64_t kMany = 10'000'000'000'000;
  for (uint64_t n : {uint64_t{1}, kMany, kMaxCount}) {
    for (uint64_t k : {uint64_t{0}, uint64_t{1}, n}) {
      for (double r : {1e-300, 1e-12, .5, std::nextafter(1.0, 0.0)}) {
        SCOPED_TRACE(testing::Message() << k << " of " << n << " at " << r);
        EXPECT_TRUE(std::isfinite(*Evidence(k, n).LogUp(r)));
        EXPECT_TRUE(std::isfinite(*Evidence(k, n).LogDown(r)));
      }
    }
  }
}

TEST(RateEvidenceTest, BadInputIsRefused) {
  const RateEvidence evidence = Evidence(1, 100);
  for (double bad : {0.0, 1.0, -0.1, 1.5, kInf, -kInf, kNaN}) {
    SCOPED_TRACE(bad);
    EXPECT_EQ(evidence.LogUp(bad).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(evidence.LogDown(bad).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(evidence.Interval(bad).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(RateEvidence::CleanSampleNeeded(bad, .01).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(RateEvidence::CleanSampleNeeded(.01, bad).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(evidence.AdditionalCleanNeeded(bad, 4).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_THAT(std::string(evidence.LogUp(0).status().message()), HasSubstr("the budget is 0"));
  EXPECT_EQ(evidence.AdditionalCleanNeeded(.01, kNaN).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RateEvidence::CleanSampleNeeded(1e-300, .01).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_FALSE(Evidence(0, 5).AdditionalCleanNeeded(1e-300, 4)->has_value());

  RateEvidence full = Evidence(0, kMaxCount);
  EXPECT_THAT(std::string(full.Add(3, 2).message()), HasSubstr("3 events in 2 trials"));
  EXPECT_EQ(full.Add(0, 1).code(), absl::StatusCode::kOutOfRange);
  for (double bad : {-1.0, kNaN}) {
    EXPECT_EQ(full.Add(bad, 5).code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_EQ(full.Add(0, bad).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_EQ(full, Evidence(0, kMaxCount));
}

// What a counter of subjects divides by the dispersion.
TEST(RateEvidenceTest, CountsNeedNotBeWhole) {
  RateEvidence evidence;
  ASSERT_TRUE(evidence.Add(0.25, 12.5).ok());
  ASSERT_TRUE(evidence.Add(0.5, 87.5).ok());
  EXPECT_EQ(evidence.events(), 0.75);
  EXPECT_EQ(evidence.trials(), 100);
  EXPECT_LT(*Evidence(1, 100).LogDown(.1), *evidence.LogDown(.1));
  EXPECT_LT(*evidence.LogDown(.1), *Evidence(0, 100).LogDown(.1));
  const double threshold = -std::log(.01);
  const uint64_t further = **evidence.AdditionalCleanNeeded(.05, threshold);
  ASSERT_GT(further, 0u);
  ASSERT_TRUE(evidence.Add(0, static_cast<double>(further) - 1).ok());
  EXPECT_LT(*evidence.LogDown(.05), threshold);
  ASSERT_TRUE(evidence.Add(0, 1).ok());
  EXPECT_GE(*evidence.LogDown(.05), threshold);
}

// The same formulas, with what they need of a fixed rate computed once.
TEST(FixedRateTest, AgreesWithTheFormulas) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Prng prng(seed);
  for (int i = 0; i < 1'000; ++i) {
    const double r = std::pow(10, -6 * prng.Unit()) * .999;
    const double trials = 1 + static_cast<double>(prng.Below(1'000'000)) / 3;
    const double events = prng.Below(4) == 0 ? 0 : trials * std::pow(prng.Unit(), 6);
    RateEvidence evidence;
    ASSERT_TRUE(evidence.Add(events, trials).ok());
    const FixedRate fixed(r);
    const double tolerance = 1e-9 * (1 + trials);
    ASSERT_EQ(fixed.rate(), r);
    ASSERT_NEAR(fixed.LogDown(events, trials), *evidence.LogDown(r), tolerance);
    std::array<double, kMaxGridSize> up;
    fixed.LogLikelihoodRatiosUp(events, trials, absl::MakeSpan(up));
    for (size_t j = 0; j < UpGrid().size(); ++j) up[j] += UpGrid().log_weights[j];
    ASSERT_NEAR(LogSumExp(absl::MakeConstSpan(up.data(), UpGrid().size())), *evidence.LogUp(r), tolerance);
  }
}

// At the edge of both nulls, the rate being r itself, runs that ever cross are at most alpha. E_up peaks at
// an event and E_down just before one, so jumping from event to event looks after every single trial.
TEST(RateEvidenceTest, CalibratedUnderContinuousMonitoring) {
  constexpr double kAlpha = .01;
  constexpr int kRuns = 10'000;
  const double threshold = -std::log(kAlpha);
  for (double r : {1e-5, .02}) {
    SCOPED_TRACE(testing::Message() << "seed " << kSeed << ", r = " << r);
    std::mt19937_64 random(kSeed);
    std::geometric_distribution<uint64_t> clean_before_event(r);
    int crossed_up = 0, crossed_down = 0;
    for (int run = 0; run < kRuns; ++run) {
      RateEvidence evidence;
      bool up = false, down = false;
      for (int event = 0; event < 60; ++event) {
        ASSERT_TRUE(evidence.Add(0, static_cast<double>(clean_before_event(random))).ok());
        down = down || *evidence.LogDown(r) >= threshold;
        ASSERT_TRUE(evidence.Add(1, 1).ok());
        up = up || *evidence.LogUp(r) >= threshold;
      }
      crossed_up += up;
      crossed_down += down;
    }
    EXPECT_LE(crossed_up, MostCrossings(kRuns, kAlpha));
    EXPECT_LE(crossed_down, MostCrossings(kRuns, kAlpha));
    // Evidence that never crosses at the edge would be useless beyond it.
    EXPECT_GE(crossed_up, 10);
    EXPECT_GE(crossed_down, 10);
  }
}

}  // namespace
}  // namespace lockstep::domain
