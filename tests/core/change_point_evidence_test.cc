#include "core/domain/change_point_evidence.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "core/base/prng.h"
#include "core/domain/log_math.h"
#include "core/domain/records.h"
#include "gtest/gtest.h"

namespace lockstep::domain {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);
constexpr uint64_t kSeed = 1954;

absl::Span<const double> Factors(const std::array<double, kMaxGridSize>& deltas) {
  return absl::MakeConstSpan(deltas.data(), UpGrid().size());
}

// A rate against a null, in a process of its own.
class Rate {
 public:
  explicit Rate(double null_rate) : null_(null_rate) {}

  void AddBucket(absl::Time start, double events, double trials) {
    null_.LogLikelihoodRatiosUp(events, trials, absl::MakeSpan(deltas_));
    process_.AddBucket(start, Factors(deltas_), events, trials);
  }
  const std::array<double, kMaxGridSize>& deltas() const { return deltas_; }
  ChangePointEvidence* operator->() { return &process_; }

 private:
  FixedRate null_;
  ChangePointEvidence process_;
  std::array<double, kMaxGridSize> deltas_ = {};
};

// What a gambler has who places each bet by itself and keeps books on all of them.
class Gambler {
 public:
  void BeginStep(absl::Time start) {
    if (steps_++ > 0) return PlaceParts(120);
    started_at_ = start;
    bets_.push_back({0.5});
  }
  void AddBucket(absl::Time start, absl::Span<const double> deltas) {
    if (steps_ == 0) return;
    // One bet for every full minute, also for those without a bucket.
    for (; start - started_at_ >= absl::Minutes(minutes_ + 1); ++minutes_) PlaceParts(1);
    for (Bet& bet : bets_) {
      for (size_t j = 0; j < deltas.size(); ++j) bet.log_product[j] += deltas[j];
    }
  }
  double LogWealth() const {
    std::vector<double> terms = {std::log(std::max(0.0, 1 - placed()))};
    for (const Bet& bet : bets_) {
      for (double product : bet.log_product) terms.push_back(std::log(bet.mass * 0.1) + product);
    }
    return LogSumExp(terms);
  }
  double placed() const {
    double sum = 0;
    for (const Bet& bet : bets_) sum += bet.mass;
    return sum;
  }

 private:
  struct Bet {
    double mass = 0;
    std::array<double, 10> log_product = {};
  };
  // Of 1,440 parts of a half, as long as there are any.
  void PlaceParts(int parts) {
    for (; parts > 0 && parts_placed_ < 1440; --parts, ++parts_placed_) bets_.push_back({0.5 / 1440});
  }

  int steps_ = 0;
  int parts_placed_ = 0;
  int minutes_ = 0;
  absl::Time started_at_;
  std::vector<Bet> bets_;
};

TEST(ChangePointEvidenceTest, IsTheSumOverAllBets) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Prng prng(seed);
  const struct {
    int steps_begun;
    absl::Duration longest_gap;
  } kCases[] = {
      {1, absl::Seconds(5)},    // every bucket, one step
      {4, absl::Seconds(40)},   // minutes with and without buckets
      {3, absl::Minutes(10)},   // hours
      {3, absl::Minutes(90)},   // beyond the 1,440 minutes
      {15, absl::Seconds(30)},  // steps that use everything up
      {6, absl::Hours(30)},     // all minutes at once
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(testing::Message() << test.steps_begun << " steps, gaps to " << test.longest_gap);
    for (int run = 0; run < 5; ++run) {
      Rate rate(0.01);
      Gambler gambler;
      absl::Time now = kStart;
      int begun = 0;
      for (int bucket = 0; bucket < 300; ++bucket) {
        if (begun < test.steps_begun && (bucket == 20 || prng.Below(30) == 0)) {
          rate->BeginStep(now);
          gambler.BeginStep(now);
          ++begun;
        }
        const double trials = static_cast<double>(prng.Below(200)) / 2;
        const double events = std::min(trials, static_cast<double>(prng.Below(8)) / 2);
        rate.AddBucket(now, events, trials);
        gambler.AddBucket(now, Factors(rate.deltas()));
        ASSERT_NEAR(rate->LogEvidence(), gambler.LogWealth(), 1e-9) << "bucket " << bucket;
        now += kTelemetryBucket * (1 + prng.Below(test.longest_gap / kTelemetryBucket));
      }
    }
  }
}

TEST(ChangePointEvidenceTest, IsOneBeforeTheFirstStep) {
  Rate rate(0.001);
  for (int bucket = 0; bucket < 100; ++bucket) {
    rate.AddBucket(kStart + bucket * kTelemetryBucket, 100, 100);
    ASSERT_EQ(rate->LogEvidence(), 0);
    ASSERT_EQ(rate->MostLikelyRise(), std::nullopt);
  }
  // Beginning a step places bets and changes nothing else.
  rate->BeginStep(kStart + absl::Hours(1));
  EXPECT_NEAR(rate->LogEvidence(), 0, 1e-12);
}

// Whatever is placed comes from the stake of 1: buckets that say nothing leave E at 1, for ever and however
// many steps begin, and the worst that can happen is to lose what is placed.
TEST(ChangePointEvidenceTest, NeverMoreThanTheStakeIsPlaced) {
  for (int minutes_per_step : {16, 400, 2'000}) {
    SCOPED_TRACE(minutes_per_step);
    Rate silent(0.5), losing(0.5);
    for (int bucket = 0; bucket < 1'600; ++bucket) {
      const absl::Time start = kStart + absl::Minutes(bucket);
      if (bucket % minutes_per_step == 0) {
        silent->BeginStep(start);
        losing->BeginStep(start);
      }
      silent.AddBucket(start, 0, 0);
      losing.AddBucket(start, 0, 1'000'000);
      ASSERT_NEAR(silent->LogEvidence(), 0, 1e-9);
      ASSERT_LE(losing->LogEvidence(), 1e-12);
    }
    // Everything is placed: nothing is left.
    EXPECT_LT(losing->LogEvidence(), -20);
  }
  // Half is kept at first, and a twelfth of that is placed when a later step begins.
  Rate rate(0.5);
  rate->BeginStep(kStart);
  rate.AddBucket(kStart, 0, 1'000'000);
  EXPECT_NEAR(rate->LogEvidence(), std::log(0.5), 1e-9);
  rate->BeginStep(kStart);
  rate.AddBucket(kStart + kTelemetryBucket, 0, 1'000'000);
  EXPECT_NEAR(rate->LogEvidence(), std::log(0.5 * 11 / 12), 1e-9);
}

// At the edge of the null, looked at after every bucket through many steps, at most alpha of the runs cross.
TEST(ChangePointEvidenceTest, CalibratedOverManySteps) {
  constexpr int kRuns = 4'000;
  const struct { double rate, trials; } kCases[] = {{.002, 100}, {.01, 50}, {.001, 400}};
  for (const auto& test : kCases) {
    SCOPED_TRACE(testing::Message() << "seed " << kSeed << ", rate " << test.rate);
    std::mt19937_64 random(kSeed);
    // Poisson for binomial is on the far side.
    std::poisson_distribution<int> events(test.rate * test.trials);
    int crossed = 0;
    for (int run = 0; run < kRuns; ++run) {
      Rate rate(test.rate);
      bool is_crossed = false;
      for (int bucket = 0; bucket < 480 && !is_crossed; ++bucket) {
        const absl::Time start = kStart + bucket * kTelemetryBucket;
        if (bucket % 30 == 0) rate->BeginStep(start);
        rate.AddBucket(start, std::min<double>(events(random), test.trials), test.trials);
        is_crossed = rate->LogEvidence() >= std::log(100);
      }
      crossed += is_crossed;
    }
    EXPECT_LE(crossed, kRuns / 100);
    EXPECT_GE(crossed, 1);  // one that never crosses at the edge would be useless beyond it
  }
}

// A tenfold rise after hours is found within minutes, though it dilutes in the sum.
TEST(ChangePointEvidenceTest, FindsALateRise) {
  std::mt19937_64 random(kSeed);
  std::poisson_distribution<int> clean(.001 * 500 / 10), risen(.01 * 500);
  Rate rate(.001);
  rate->BeginStep(kStart);
  int bucket = 0;
  for (; bucket < 4 * 720; ++bucket) rate.AddBucket(kStart + bucket * kTelemetryBucket, clean(random), 500);
  ASSERT_LT(rate->LogEvidence(), 0);
  const int onset = bucket;
  for (; rate->LogEvidence() < std::log(100) && bucket < onset + 100; ++bucket) {
    rate.AddBucket(kStart + bucket * kTelemetryBucket, risen(random), 500);
  }
  EXPECT_LE(bucket - onset, 12) << "seed " << kSeed;
}

TEST(ChangePointEvidenceTest, SaysSinceWhen) {
  constexpr int kSeeds = 200, kOnset = 600, kAfter = 40;
  int close = 0, found = 0, false_rises = 0;
  for (int i = 0; i < kSeeds; ++i) {
    std::mt19937_64 random(kSeed + i);
    std::poisson_distribution<int> before(.5), after(5);
    Rate rate(.001), calm(.001);
    rate->BeginStep(kStart);
    calm->BeginStep(kStart);
    double counted = 0;
    for (int bucket = 0; bucket < kOnset + kAfter; ++bucket) {
      const absl::Time start = kStart + bucket * kTelemetryBucket;
      const int events = bucket < kOnset ? before(random) : after(random);
      if (bucket >= kOnset) counted += events;
      rate.AddBucket(start, events, 1'000);
      calm.AddBucket(start, before(random) > 1 ? 1 : 0, 1'000);
    }
    // Well below the null there is nothing to tell of, but by chance.
    false_rises += calm->MostLikelyRise().has_value();
    const auto rise = rate->MostLikelyRise();
    if (!rise) continue;
    ++found;
    const int off = static_cast<int>((rise->since - kStart) / kTelemetryBucket) - kOnset;
    if (std::abs(off) > 2) continue;
    ++close;
    EXPECT_NEAR(rise->events, counted, 5 * 8);
    EXPECT_NEAR(rise->trials, 1'000 * kAfter, 2'000);
    EXPECT_GT(rise->log_evidence, 50);
  }
  EXPECT_EQ(found, kSeeds);
  EXPECT_GE(close, kSeeds * 8 / 10) << "seeds from " << kSeed;
  EXPECT_LE(false_rises, kSeeds / 50) << "seeds from " << kSeed;
}

}  // namespace
}  // namespace lockstep::domain
