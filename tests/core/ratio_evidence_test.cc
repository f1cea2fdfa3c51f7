#include "core/domain/ratio_evidence.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "core/domain/log_math.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::domain {
namespace {

constexpr double kAlpha = .01;
const double kThreshold = std::log(1 / kAlpha);
constexpr uint64_t kSeed = 90210;
constexpr int kBucketSeconds = 5;

double MostCrossings(int runs, double alpha) {
  return alpha * runs + 2.576 * std::sqrt(alpha * (1 - alpha) * runs);
}

// E_up: what a rollback rests on, without the change point.
class UpMixture {
 public:
  explicit UpMixture(double lambda) : lambda_(lambda) {
    std::copy(UpGrid().log_weights.begin(), UpGrid().log_weights.end(), log_terms_.begin());
  }
  void AddBucket(const WeightedCount& new_arm, const WeightedCount& old_arm) {
    std::array<double, kMaxGridSize> deltas;
    LogLikelihoodRatios(UpGrid(), lambda_, new_arm, old_arm, absl::MakeSpan(deltas));
    for (size_t j = 0; j < UpGrid().size(); ++j) log_terms_[j] += deltas[j];
  }
  double LogEvidence() const { return LogSumExp(absl::MakeConstSpan(log_terms_.data(), UpGrid().size())); }

 private:
  double lambda_;
  std::array<double, kMaxGridSize> log_terms_ = {};
};

// A service under traffic: per bucket, errors of both arms at given rates.
class Traffic {
 public:
  Traffic(uint64_t seed, double requests_per_second, double new_share) : random_(seed) {
    const double requests = requests_per_second * kBucketSeconds;
    new_trials_ = static_cast<uint64_t>(std::lround(requests * new_share));
    old_trials_ = static_cast<uint64_t>(std::lround(requests * (1 - new_share)));
  }

  WeightedCount NewArm(double rate) { return Draw(new_trials_, rate); }
  WeightedCount OldArm(double rate) { return Draw(old_trials_, rate); }

 private:
  WeightedCount Draw(uint64_t trials, double rate) {
    // Poisson for binomial: for rates this small they differ by less than the tolerance, and Poisson is on
    // the far side.
    std::poisson_distribution<uint64_t> errors(static_cast<double>(trials) * rate);
    return {static_cast<double>(std::min(errors(random_), trials)), static_cast<double>(trials)};
  }

  std::mt19937_64 random_;
  uint64_t new_trials_;
  uint64_t old_trials_;
};

// The baseline's swing over a bucket's number, from x1 to x5 and back within an hour.
double Swing(int bucket) { return 3 - 2 * std::cos(bucket * 2 * M_PI / 720); }

TEST(RatioEvidenceTest, MatchesTheFormula) {
  const WeightedCount buckets[][2] = {{{3, 500}, {10, 9500}}, {{0, 480}, {7, 9000}}, {{2, 700}, {0.5, 300}}};
  UpMixture up(1.1);
  RatioEvidence down(2);
  double expected_up = 0, expected_down = 0;
  const auto factor_product = [&](double factor, double lambda) {
    double product = 1;
    for (const auto& [new_arm, old_arm] : buckets) {
      const double theta = lambda * new_arm.trials / (lambda * new_arm.trials + old_arm.trials);
      product *= std::pow(factor, new_arm.events) *
                 std::pow(1 + theta * (factor - 1), -(new_arm.events + old_arm.events));
    }
    return product;
  };
  for (double rho : {1.2, 1.5, 2., 3., 5., 10., 20., 50., 200., 1000.})
    expected_up += .1 * factor_product(rho, 1.1);
  for (double sigma : {.05, .2, .4, .6, .8}) expected_down += .1 * factor_product(sigma, 2);
  expected_down += .5 * factor_product(0, 2);
  for (const auto& [new_arm, old_arm] : buckets) {
    up.AddBucket(new_arm, old_arm);
    down.AddBucket(new_arm, old_arm);
  }
  EXPECT_NEAR(up.LogEvidence(), std::log(expected_up), 1e-12);
  EXPECT_NEAR(down.LogEvidence(), std::log(expected_down), 1e-12);
}

TEST(RatioEvidenceTest, BucketsThatSayNothing) {
  UpMixture up(2);
  RatioEvidence down(2);
  for (const auto& [new_arm, old_arm] : {std::pair<WeightedCount, WeightedCount>{{0, 0}, {5, 100}},
                                         {{5, 100}, {0, 0}},
                                         {{0, 100}, {0, 100}},
                                         {{0, 0}, {0, 0}}}) {
    up.AddBucket(new_arm, old_arm);
    down.AddBucket(new_arm, old_arm);
    EXPECT_NEAR(up.LogEvidence(), 0, 1e-15);
    EXPECT_NEAR(down.LogEvidence(), 0, 1e-15);
  }
}

// The share of one arm rounds to 1 where the other has next to nothing.
TEST(RatioEvidenceTest, LopsidedArmsAreFinite) {
  constexpr double kMany = static_cast<double>(kMaxCount);
  for (const auto& [new_arm, old_arm] : {std::pair<WeightedCount, WeightedCount>{{3, kMany}, {0, 1}},
                                         {{3, kMany}, {1, 1}},
                                         {{0, kMany}, {1, 1}},
                                         {{kMany, kMany}, {1, 1}},
                                         {{0, 1}, {3, kMany}},
                                         {{1, 1}, {kMany, kMany}},
                                         {{1e-9, 1e-9}, {kMany, kMany}},
                                         {{kMany, kMany}, {kMany, kMany}}}) {
    SCOPED_TRACE(testing::Message() << new_arm.events << " of " << new_arm.trials << ", " << old_arm.events
                                    << " of " << old_arm.trials);
    UpMixture up(1.1);
    RatioEvidence down(2);
    up.AddBucket(new_arm, old_arm);
    down.AddBucket(new_arm, old_arm);
    EXPECT_TRUE(std::isfinite(up.LogEvidence()));
    EXPECT_TRUE(std::isfinite(down.LogEvidence()));
  }
}

TEST(RatioEvidenceTest, SameBucketsGiveTheSameBits) {
  const auto run = [] {
    Traffic traffic(kSeed, 2000, .05);
    RatioEvidence evidence(2);
    for (int bucket = 0; bucket < 500; ++bucket) {
      evidence.AddBucket(traffic.NewArm(.002), traffic.OldArm(.001));
    }
    return evidence.LogEvidence();
  };
  EXPECT_EQ(run(), run());
}

TEST(RatioEvidenceTest, DriftSaysWhereMoreOfTheSameLeads) {
  const struct {
    double share, null_share;
    bool certifies;
  } kCases[] = {
      {0, .5, true},     // no event on the new side
      {.3, .5, true},    // well below
      {.5, .5, false},   // the null itself
      {.6, .5, false},   // above
      {.49, .5, false},  // so close that no factor of the grid gains
      {1, .9, false},   {.5, 2. / 3, true}, {0, 1e-9, true},
  };
  for (const auto& test : kCases) {
    EXPECT_EQ(RatioEvidence::DriftPerEvent(test.share, test.null_share) > 0, test.certifies)
        << test.share << " " << test.null_share;
  }
}

// At the edge of the null, p_N = lambda p_O in every bucket, while the baseline swings.
TEST(RatioEvidenceTest, CalibratedAtTheEdgeOfTheNull) {
  constexpr int kRuns = 4000;
  const struct {
    double requests_per_second, new_share, old_rate;
  } kCases[] = {{200, .05, .002}, {200, .5, .001}};
  for (const auto& test : kCases) {
    int crossed_up = 0, crossed_down = 0;
    for (int run = 0; run < kRuns; ++run) {
      Traffic traffic(kSeed + run, test.requests_per_second, test.new_share);
      UpMixture up(1.1);
      RatioEvidence down(2);
      bool is_up = false, is_down = false;
      for (int bucket = 0; bucket < 360; ++bucket) {
        const double baseline = test.old_rate * Swing(bucket);
        const WeightedCount old_arm = traffic.OldArm(baseline);
        up.AddBucket(traffic.NewArm(1.1 * baseline), old_arm);
        down.AddBucket(traffic.NewArm(2 * baseline), old_arm);
        is_up = is_up || up.LogEvidence() >= kThreshold;
        is_down = is_down || down.LogEvidence() >= kThreshold;
      }
      crossed_up += is_up;
      crossed_down += is_down;
    }
    SCOPED_TRACE(testing::Message() << "seeds from " << kSeed << ", share " << test.new_share);
    EXPECT_LE(crossed_up, MostCrossings(kRuns, kAlpha));
    EXPECT_LE(crossed_down, MostCrossings(kRuns, kAlpha));
  }
}

}  // namespace
}  // namespace lockstep::domain
