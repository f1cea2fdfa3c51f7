#include "core/domain/trend_alarm.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "core/domain/records.h"
#include "gtest/gtest.h"

namespace lockstep::domain {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);
constexpr uint64_t kSeed = 1963;
constexpr int kHour = 720;  // buckets
constexpr double kTrials = 1'000;
constexpr double kBudget = 0.01;

// A step whose rate is drawn anew for every bucket.
class Step {
 public:
  explicit Step(uint64_t seed, double budget = kBudget) : random_(seed), budget_(budget) {
    alarm_.BeginStep(kStart);
  }

  void Add(double rate, int buckets = 1) {
    std::poisson_distribution<int> draw(rate * kTrials);
    for (int i = 0; i < buckets; ++i) AddEvents(std::min<double>(kTrials, rate == 0 ? 0 : draw(random_)));
  }
  void AddEvents(double events) {
    if (alarm_.WantsReference(kStart + buckets_ * kTelemetryBucket)) alarm_.TakeReference(so_far_, budget_);
    alarm_.AddBucket(events, kTrials);
    EXPECT_TRUE(so_far_.Add(events, kTrials).ok());
    ++buckets_;
  }
  int buckets() const { return buckets_; }
  const RateEvidence& so_far() const { return so_far_; }
  const TrendAlarm& alarm() const { return alarm_; }

 private:
  std::mt19937_64 random_;
  double budget_;
  int buckets_ = 0;
  RateEvidence so_far_;
  TrendAlarm alarm_;
};

TEST(TrendAlarmTest, TheReferenceIsTakenAfterAnHour) {
  Step step(kSeed);
  for (int bucket = 0; bucket < kHour; ++bucket) {
    step.Add(.001);
    ASSERT_EQ(step.alarm().reference_rate(), 0) << bucket;
  }
  const double reference = 1.5 * step.so_far().Interval(.005)->upper;
  step.Add(.001);
  EXPECT_EQ(step.alarm().reference_rate(), reference);
  // It is frozen.
  step.Add(.003, 100);
  EXPECT_EQ(step.alarm().reference_rate(), reference);
}

TEST(TrendAlarmTest, NoReferenceAtOrAboveTheBudget) {
  const struct {
    const char* name;
    double rate, budget;
    bool reference;
  } kCases[] =
      {
          {"well within", .001, .01, true},       {"close to it", .0095, .01, false},
          {"above it", .02, .01, false},          {"clean", 0, .01, true},
          {"clean, tiny budget", 0, 1e-6, false},  // an hour of it does not bound the rate so low
      };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    Step step(kSeed, test.budget);
    step.Add(test.rate, kHour + 1);
    EXPECT_EQ(step.alarm().reference_rate() > 0, test.reference);
    // The check itself watches there.
    step.Add(.5, 100);
    EXPECT_EQ(step.alarm().raised(), test.reference);
  }
  // Exactly at the budget there is none either.
  Step measured(kSeed);
  measured.Add(.001, kHour);
  const double reference = 1.5 * measured.so_far().Interval(.005)->upper;
  for (double budget : {reference, std::nextafter(reference, 1)}) {
    Step step(kSeed, budget);
    step.Add(.001, kHour + 1);
    EXPECT_EQ(step.alarm().reference_rate() > 0, budget > reference);
  }
}

TEST(TrendAlarmTest, RaisedByATripledRateWithinTheBudget) {
  for (int i = 0; i < 50; ++i) {
    SCOPED_TRACE(testing::Message() << "seed " << kSeed + i);
    Step step(kSeed + i);
    step.Add(.001, 2 * kHour);
    ASSERT_FALSE(step.alarm().raised());
    while (!step.alarm().raised() && step.buckets() < 3 * kHour) step.Add(.003);
    EXPECT_TRUE(step.alarm().raised());
    EXPECT_LE(step.buckets(), 2 * kHour + 120);
    // Down again: it falls silent, without anybody's help.
    step.Add(.001, 300);
    EXPECT_FALSE(step.alarm().raised());
  }
}

TEST(TrendAlarmTest, EveryStepStartsAnew) {
  TrendAlarm alarm;
  RateEvidence so_far;
  ASSERT_TRUE(so_far.Add(700, 720'000).ok());
  alarm.BeginStep(kStart);
  const absl::Time later = kStart + absl::Hours(1);
  ASSERT_TRUE(alarm.WantsReference(later));
  alarm.TakeReference(so_far, kBudget);
  alarm.AddBucket(500, 1'000);
  EXPECT_TRUE(alarm.raised());
  alarm.BeginStep(later);
  EXPECT_FALSE(alarm.raised());
  EXPECT_EQ(alarm.reference_rate(), 0);
  EXPECT_FALSE(alarm.WantsReference(later + absl::Minutes(59)));
  alarm.AddBucket(500, 1'000);
  EXPECT_EQ(alarm.reference_rate(), 0);
  // Without a step there is none.
  EXPECT_FALSE(TrendAlarm().raised());
}

// A day at a rate that stays as it is, and hours at the edge of the null, the reference rate itself.
TEST(TrendAlarmTest, FalseAlarmsAreRare) {
  constexpr int kRuns = 400, kDay = 24 * kHour;
  int steady = 0, at_edge = 0;
  for (int run = 0; run < kRuns; ++run) {
    for (int edge = 0; edge < 2; ++edge) {
      Step step(kSeed + run);
      step.Add(.001, kHour + 1);
      const double rate = edge ? step.alarm().reference_rate() : .001;
      bool raised = false;
      for (int bucket = kHour + 1; bucket < (edge ? 3 * kHour : kDay) && !raised; bucket += 10) {
        step.Add(rate, 10);
        raised = step.alarm().raised();
      }
      (edge ? at_edge : steady) += raised;
    }
  }
  EXPECT_LE(steady, kRuns * 5 / 1'000) << "seeds from " << kSeed;
  EXPECT_LE(at_edge, kRuns * 5 / 1'000 + 3) << "seeds from " << kSeed;
}

}  // namespace
}  // namespace lockstep::domain
