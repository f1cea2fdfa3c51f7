#include "core/domain/ratio_evidence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

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

// A service under traffic: per bucket, errors of both arms at given rates.
class Traffic {
 public:
  Traffic(uint64_t seed, double requests_per_second, double new_share) : random_(seed) {
    const double requests = requests_per_second * kBucketSeconds;
    new_trials_ = static_cast<uint64_t>(std::lround(requests * new_share));
    old_trials_ = static_cast<uint64_t>(std::lround(requests * (1 - new_share)));
  }

  EventCount NewArm(double rate) { return Draw(new_trials_, rate); }
  EventCount OldArm(double rate) { return Draw(old_trials_, rate); }

 private:
  EventCount Draw(uint64_t trials, double rate) {
    // Poisson for binomial: for rates this small they differ by less than the tolerance, and Poisson is on
    // the far side.
    std::poisson_distribution<uint64_t> errors(static_cast<double>(trials) * rate);
    return {std::min(errors(random_), trials), trials};
  }

  std::mt19937_64 random_;
  uint64_t new_trials_;
  uint64_t old_trials_;
};

// The baseline's swing over a bucket's number, from x1 to x5 and back within an hour.
double Swing(int bucket) { return 3 - 2 * std::cos(bucket * 2 * M_PI / 720); }

TEST(RatioEvidenceTest, MatchesTheFormula) {
  const EventCount buckets[][2] = {{{3, 500}, {10, 9500}}, {{0, 480}, {7, 9000}}, {{2, 700}, {0, 300}}};
  RatioEvidence up(Direction::kUp, 1.1), down(Direction::kDown, 2);
  double expected_up = 0, expected_down = 0;
  const auto factor_product = [&](double factor, double lambda) {
    double product = 1;
    for (const auto& [new_arm, old_arm] : buckets) {
      const double theta =
          lambda * static_cast<double>(new_arm.trials) /
          (lambda * static_cast<double>(new_arm.trials) + static_cast<double>(old_arm.trials));
      product *= std::pow(factor, new_arm.events) *
                 std::pow(1 + theta * (factor - 1), -static_cast<double>(new_arm.events + old_arm.events));
    }
    return product;
  };
  for (double rho : {1.2, 1.5, 2., 3., 5., 10., 20., 50., 200., 1000.})
    expected_up += .1 * factor_product(rho, 1.1);
  for (double sigma : {.05, .2, .4, .6, .8}) expected_down += .1 * factor_product(sigma, 2);
  expected_down += .5 * factor_product(0, 2);
  for (const auto& [new_arm, old_arm] : buckets) {
    ASSERT_TRUE(up.AddBucket(new_arm, old_arm).ok());
    ASSERT_TRUE(down.AddBucket(new_arm, old_arm).ok());
  }
  EXPECT_NEAR(up.LogEvidence(), std::log(expected_up), 1e-12);
  EXPECT_NEAR(down.LogEvidence(), std::log(expected_down), 1e-12);
}

TEST(RatioEvidenceTest, BucketsThatSayNothing) {
  for (Direction direction : {Direction::kUp, Direction::kDown}) {
    const RatioEvidence fresh(direction, 2);
    EXPECT_NEAR(fresh.LogEvidence(), 0, 1e-15);
    RatioEvidence evidence = fresh;
    ASSERT_TRUE(evidence.AddBucket({0, 0}, {5, 100}).ok());
    ASSERT_TRUE(evidence.AddBucket({5, 100}, {0, 0}).ok());
    ASSERT_TRUE(evidence.AddBucket({0, 100}, {0, 100}).ok());
    EXPECT_EQ(evidence, fresh);
  }
}

TEST(RatioEvidenceTest, BadCountsAreRefusedAndChangeNothing) {
  const EventCount good = {1, 100}, impossible = {101, 100}, too_many = {0, kMaxCount + 1};
  RatioEvidence ratio(Direction::kUp, 1.1);
  ErrorEvidence errors;
  for (const EventCount& bad : {impossible, too_many}) {
    EXPECT_FALSE(ratio.AddBucket(bad, good).ok());
    EXPECT_FALSE(ratio.AddBucket(good, bad).ok());
    EXPECT_FALSE(errors.AddBucket(bad, good).ok());
    EXPECT_FALSE(errors.AddBucket(good, bad).ok());
  }
  EXPECT_EQ(ratio, RatioEvidence(Direction::kUp, 1.1));
  EXPECT_EQ(errors, ErrorEvidence());
}

TEST(RatioEvidenceTest, SameBucketsGiveTheSameBits) {
  const auto run = [] {
    Traffic traffic(kSeed, 2000, .05);
    ErrorEvidence errors;
    for (int bucket = 0; bucket < 500; ++bucket) {
      EXPECT_TRUE(errors.AddBucket(traffic.NewArm(.002), traffic.OldArm(.001)).ok());
    }
    return errors;
  };
  EXPECT_EQ(run(), run());
  EXPECT_EQ(run().LogRollback(), run().LogRollback());
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
      RatioEvidence up(Direction::kUp, 1.1), down(Direction::kDown, 2);
      bool is_up = false, is_down = false;
      for (int bucket = 0; bucket < 360; ++bucket) {
        const double baseline = test.old_rate * Swing(bucket);
        const EventCount old_arm = traffic.OldArm(baseline);
        ASSERT_TRUE(up.AddBucket(traffic.NewArm(1.1 * baseline), old_arm).ok());
        ASSERT_TRUE(down.AddBucket(traffic.NewArm(2 * baseline), old_arm).ok());
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

// Both arms alike, the baseline swinging fivefold: no rollback, while a window against a fixed limit would
// trip.
TEST(ErrorEvidenceTest, HealthyNewSideIsNotRolledBack) {
  constexpr int kRuns = 500;
  int crossed = 0;
  for (int run = 0; run < kRuns; ++run) {
    Traffic traffic(kSeed + run, 2000, .05);
    ErrorEvidence errors;
    bool is_up = false;
    for (int bucket = 0; bucket < 720 && !is_up; ++bucket) {
      const double rate = .001 * Swing(bucket);
      ASSERT_TRUE(errors.AddBucket(traffic.NewArm(rate), traffic.OldArm(rate)).ok());
      is_up = errors.LogRollback() >= kThreshold;
    }
    crossed += is_up;
  }
  EXPECT_LE(crossed, kRuns / 200) << "seeds from " << kSeed;
}

// From 0.1 % to 0.5 % at 2000 requests/s from the start of a step.
TEST(ErrorEvidenceTest, SickNewSideIsFoundSoon) {
  const struct {
    double new_share;
    int median_seconds, p95_seconds;
  } kCases[] = {{.05, 25, 50}, {.01, 95, 220}};
  for (const auto& test : kCases) {
    std::vector<int> seconds;
    for (int run = 0; run < 501; ++run) {
      Traffic traffic(kSeed + run, 2000, test.new_share);
      ErrorEvidence errors;
      int bucket = 0;
      for (; errors.LogRollback() < kThreshold && bucket < 1000; ++bucket) {
        ASSERT_TRUE(errors.AddBucket(traffic.NewArm(.005), traffic.OldArm(.001)).ok());
      }
      seconds.push_back(bucket * kBucketSeconds);
    }
    std::sort(seconds.begin(), seconds.end());
    SCOPED_TRACE(testing::Message() << "seeds from " << kSeed << ", share " << test.new_share);
    EXPECT_LE(seconds[250], test.median_seconds);
    EXPECT_LE(seconds[475], test.p95_seconds);
  }
}

// Twice the old side's errors and above the floor: the edge of the null that advancing must reject.
TEST(ErrorEvidenceTest, BadNewSideDoesNotAdvance) {
  constexpr int kRuns = 2000;
  constexpr double kFloor = .002;
  int at_edge = 0, beyond = 0;
  for (int run = 0; run < kRuns; ++run) {
    Traffic traffic(kSeed + run, 200, .25);
    ErrorEvidence edge, worse;
    bool is_edge = false, is_worse = false;
    for (int bucket = 0; bucket < 360; ++bucket) {
      const EventCount old_arm = traffic.OldArm(.001);
      ASSERT_TRUE(edge.AddBucket(traffic.NewArm(.002), old_arm).ok());
      ASSERT_TRUE(worse.AddBucket(traffic.NewArm(.004), old_arm).ok());
      is_edge = is_edge || *edge.LogAdvance(kFloor) >= kThreshold;
      is_worse = is_worse || *worse.LogAdvance(kFloor) >= kThreshold;
    }
    at_edge += is_edge;
    beyond += is_worse;
  }
  EXPECT_LE(at_edge, MostCrossings(kRuns, kAlpha)) << "seeds from " << kSeed;
  // About 1 in 20,000 by a longer simulation.
  EXPECT_LE(beyond, 1) << "seeds from " << kSeed;
}

TEST(ErrorEvidenceTest, HealthyNewSideAdvancesByRatioOrByFloor) {
  Traffic busy(kSeed, 2000, .25);
  ErrorEvidence by_ratio;
  for (int bucket = 0; bucket < 120; ++bucket) {
    ASSERT_TRUE(by_ratio.AddBucket(busy.NewArm(.001), busy.OldArm(.001)).ok());
  }
  // The floor is below the rate, so only the ratio can show that the new side is no worse.
  EXPECT_GE(*by_ratio.LogAdvance(1e-5), std::log(4 / kAlpha));

  // A handful of requests without an error: no ratio to speak of, but enough for a floor of 0.5 %.
  ErrorEvidence by_floor;
  for (int bucket = 0; bucket < 140; ++bucket) ASSERT_TRUE(by_floor.AddBucket({0, 10}, {0, 10}).ok());
  EXPECT_NEAR(by_floor.LogRollback(), 0, 1e-15);
  EXPECT_GE(*by_floor.LogAdvance(.005), kThreshold);
  EXPECT_LT(*by_floor.LogAdvance(.001), kThreshold);
}

TEST(ErrorEvidenceTest, AdvanceIsHalfRatioHalfFloor) {
  ErrorEvidence errors;
  RatioEvidence ratio(Direction::kDown, 2);
  RateEvidence rate;
  // The second bucket has no old arm: it counts for the floor only.
  const EventCount buckets[][2] = {{{1, 1000}, {4, 3000}}, {{0, 500}, {0, 0}}, {{0, 900}, {3, 2000}}};
  for (const auto& [new_arm, old_arm] : buckets) {
    ASSERT_TRUE(errors.AddBucket(new_arm, old_arm).ok());
    ASSERT_TRUE(ratio.AddBucket(new_arm, old_arm).ok());
    ASSERT_TRUE(rate.Add(new_arm.events, new_arm.trials).ok());
  }
  EXPECT_EQ(errors.new_rate(), rate);
  EXPECT_NEAR(*errors.LogAdvance(.004),
              std::log(.5 * std::exp(ratio.LogEvidence()) + .5 * std::exp(*rate.LogDown(.004))), 1e-12);
  for (double bad : {0.0, 1.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_EQ(errors.LogAdvance(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(ErrorEvidenceTest, RollbackMustBeMaterial) {
  ErrorEvidence errors;
  ASSERT_TRUE(errors.AddBucket({50, 10'000}, {10, 10'000}).ok());
  const double lower = errors.new_rate().Interval(kAlpha)->lower;
  ASSERT_GT(lower, .002);
  const struct {
    uint64_t subjects;
    double floor;
    bool material;
  } kCases[] = {{50, .002, true},  {3, .002, true}, {2, .002, false}, {0, 0, false},
                {50, .005, false}, {50, 0, true},   {3, lower, false}};
  for (const auto& test : kCases) {
    EXPECT_EQ(*errors.RollbackIsMaterial(test.subjects, test.floor, kAlpha), test.material)
        << test.subjects << " " << test.floor;
  }
  EXPECT_FALSE(*ErrorEvidence().RollbackIsMaterial(100, 0, kAlpha));
  for (double bad : {1.0, -.1, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_FALSE(errors.RollbackIsMaterial(5, bad, kAlpha).ok()) << bad;
  }
  EXPECT_FALSE(errors.RollbackIsMaterial(5, .01, 0).ok());
}

}  // namespace
}  // namespace lockstep::domain
