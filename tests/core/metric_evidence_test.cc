#include "core/domain/metric_evidence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/base/prng.h"
#include "core/domain/log_math.h"
#include "core/domain/records.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

constexpr double kAlpha = .01;
const double kThreshold = std::log(1 / kAlpha);
constexpr double kNone = -std::numeric_limits<double>::infinity();
constexpr uint64_t kSeed = 90210;
constexpr int kBucketSeconds = 5;

double MostCrossings(int runs, double alpha) {
  return alpha * runs + 2.576 * std::sqrt(alpha * (1 - alpha) * runs);
}

// The evidence on one check, fed with one bucket after the other; its first step has begun.
class Fed {
 public:
  explicit Fed(const Check& check) : evidence_(check) { BeginStep(); }

  void BeginStep(bool tested = true) { evidence_.BeginStep(next_bucket_, tested); }
  void Add(const WindowStats& window) {
    EXPECT_TRUE(window.Validate().ok()) << window.Validate();
    EXPECT_TRUE(evidence_.CheckBucket(window, edges_).ok());
    evidence_.AddBucket(next_bucket_, window, edges_);
    edges_.AddBucket(window);
    next_bucket_ += kTelemetryBucket;
  }
  const MetricEvidence* operator->() const { return &evidence_; }
  const LatencyEdges& edges() const { return edges_; }
  absl::Time next_bucket() const { return next_bucket_; }

 private:
  absl::Time next_bucket_ = kGateStart;
  MetricEvidence evidence_;
  LatencyEdges edges_;
};

// Reads under traffic: per bucket, errors of both arms at given rates.
class Traffic {
 public:
  Traffic(uint64_t seed, double reads_per_second, double new_share) : random_(seed) {
    const double reads = reads_per_second * kBucketSeconds;
    new_reads_ = static_cast<uint64_t>(std::lround(reads * new_share));
    old_reads_ = static_cast<uint64_t>(std::lround(reads * (1 - new_share)));
  }

  WindowStats Next(double new_rate, double old_rate) {
    const uint64_t new_errors = Draw(new_reads_, new_rate);
    return Served(new_errors, new_reads_, Draw(old_reads_, old_rate), old_reads_);
  }

 private:
  uint64_t Draw(uint64_t trials, double rate) {
    // Poisson for binomial is on the far side.
    std::poisson_distribution<uint64_t> errors(static_cast<double>(trials) * rate);
    return std::min(errors(random_), trials);
  }

  std::mt19937_64 random_;
  uint64_t new_reads_;
  uint64_t old_reads_;
};

// The baseline's swing over a bucket's number, from x1 to x5 and back within an hour.
double Swing(int bucket) { return 3 - 2 * std::cos(bucket * 2 * M_PI / 720); }

double LogUp(double events, double trials, double r) {
  RateEvidence rate;
  EXPECT_TRUE(rate.Add(events, trials).ok());
  return *rate.LogUp(r);
}
double LogDown(double events, double trials, double r) {
  RateEvidence rate;
  EXPECT_TRUE(rate.Add(events, trials).ok());
  return *rate.LogDown(r);
}
double LogRatioUp(double lambda, const WeightedCount& new_arm, const WeightedCount& old_arm) {
  std::array<double, kMaxGridSize> terms;
  LogLikelihoodRatios(UpGrid(), lambda, new_arm, old_arm, absl::MakeSpan(terms));
  for (size_t j = 0; j < UpGrid().size(); ++j) terms[j] += UpGrid().log_weights[j];
  return LogSumExp(absl::MakeConstSpan(terms.data(), UpGrid().size()));
}
// With the part of the stake that is not placed in the first minute of the only step.
double Staked(double log_up) { return LogAddExp(std::log(0.5) + log_up, std::log(0.5)); }

// In one bucket, so that there is but one bet.
TEST(MetricEvidenceTest, RatesFollowTheFormula) {
  const struct {
    Check check;
    WindowStats window;
    double events, trials, bound;
  } kCases[] = {
      {MismatchCheck(.01), Compared(7, 400), 7, 400, .01},
      {MismatchCheck(.01), Compared(0, 400), 0, 400, .01},
      {MismatchCheck(.01, "city"), Compared(7, 400), 7, 400, .01},
      {MismatchCheck(.01, "zip"), Compared(7, 400), 0, 400, .01},
      {MirrorCheck(.05), Mirrored(4, 5, 91), 9, 100, .05},
      {PairedLatencyCheck(), TimedPairs(70, 30), 70, 100, .5},
      {PairedLatencyCheck(), TimedPairs(20, 80), 20, 100, .5},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(testing::Message() << test.check.name << " " << test.events << " of " << test.trials);
    Fed fed(test.check);
    EXPECT_NEAR(fed->LogRollback(), 0, 1e-12);
    EXPECT_NEAR(fed->LogAdvance(), 0, 1e-12);
    fed.Add(test.window);
    EXPECT_EQ(fed->null().bound, test.bound);
    EXPECT_NEAR(fed->LogRollback(), Staked(LogUp(test.events, test.trials, test.bound)), 1e-9);
    EXPECT_NEAR(fed->LogAdvance(), LogDown(test.events, test.trials, test.bound), 1e-9);
  }
}

// "New is at most 1.1 times as bad as old, or below the floor": both parts have to be rejected. "Not
// acceptable" is rejected by either.
TEST(MetricEvidenceTest, RatiosFollowTheFormula) {
  const struct {
    double new_errors, new_reads, old_errors, old_reads, floor;
  } kCases[] = {
      {30, 1'000, 5, 9'000, .005},    // above both
      {30, 1'000, 5, 9'000, .1},      // far worse than old, and below the floor
      {50, 1'000, 450, 9'000, .005},  // above the floor, and like old
      {30, 1'000, 5, 9'000, 0},       // no floor
      {0, 2'000, 9, 2'000, .005},    {4, 9'000, 9, 20'000, 0},
  };
  for (const auto& test : kCases) {
    for (const Check& check : {ErrorCheck(test.floor), PairedErrorCheck(test.floor)}) {
      SCOPED_TRACE(testing::Message() << check.name << " " << test.new_errors << " of " << test.new_reads
                                      << ", floor " << test.floor);
      const bool paired = check.metric == Metric::kPairedErrorRatio;
      const auto count = [](double n) { return static_cast<uint64_t>(n); };
      const WeightedCount new_arm = {test.new_errors, test.new_reads};
      const WeightedCount old_arm = {test.old_errors, paired ? test.new_reads : test.old_reads};
      Fed fed(check);
      fed.Add(paired ? PairedFailures(count(test.new_errors), count(test.old_errors), count(test.new_reads))
                     : Served(count(test.new_errors), count(test.new_reads), count(test.old_errors),
                              count(test.old_reads)));
      const double ratio_up = Staked(LogRatioUp(1.1, new_arm, old_arm));
      RatioEvidence ratio_down(2);
      ratio_down.AddBucket(new_arm, old_arm);
      if (test.floor == 0) {
        EXPECT_NEAR(fed->LogAdvance(), ratio_down.LogEvidence(), 1e-9);
      } else {
        const double rate_down = LogDown(test.new_errors, test.new_reads, test.floor);
        EXPECT_NEAR(fed->LogAdvance(), LogAddExp(ratio_down.LogEvidence(), rate_down) - std::log(2), 1e-9);
      }
      if (test.new_errors < 3) {
        EXPECT_EQ(fed->LogRollback(), kNone);
      } else if (test.floor == 0) {
        EXPECT_NEAR(fed->LogRollback(), ratio_up, 1e-9);
      } else {
        const double rate_up = Staked(LogUp(test.new_errors, test.new_reads, test.floor));
        EXPECT_NEAR(fed->LogRollback(), std::min(ratio_up, rate_up), 1e-9);
      }
    }
  }
}

// At 1.1 times the old side's error rate of 5 %, which a floor of 0.5 % does not excuse; and at the floor,
// which is 50 times the old side's rate: each alone would be evidence, together they are none.
TEST(MetricEvidenceTest, BothPartsOfTheNullAreRejectedBeforeARollback) {
  const struct {
    const char* name;
    double new_rate, old_rate;
    bool rolled_back;
  } kCases[] = {
      {"like old, far above the floor", .055, .05, false},
      {"far above old, at the floor", .005, .0001, false},
      {"above both", .02, .0001, true},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    Traffic traffic(kSeed, 200, .5);
    Fed fed(ErrorCheck(.005));
    for (int bucket = 0; bucket < 720; ++bucket) fed.Add(traffic.Next(test.new_rate, test.old_rate));
    EXPECT_EQ(fed->LogRollback() >= kThreshold, test.rolled_back) << fed->LogRollback();
  }
}

TEST(MetricEvidenceTest, LatencyCountsReadsBeyondThePastEdge) {
  const std::vector<double> past(200, 1.0);
  Fed fed(LatencyCheck(.95));
  fed.Add(Timed({}, past));  // gives the edge, and no evidence
  EXPECT_EQ(fed->counted().reported(), EventCount());
  // Within the margin, and beyond it.
  fed.Add(Timed({1.05, 1.05, 1.2, 1.3}, {0.9, 1.1, 1.1, 0.5, 0.5}));
  EXPECT_EQ(fed->counted().reported(), (EventCount{2, 4}));
  EXPECT_EQ(fed->counted_baseline().reported(), (EventCount{2, 5}));
  EXPECT_NEAR(fed->LogRollback(), Staked(LogRatioUp(1, {2, 4}, {2, 5})), 1e-9);
  RatioEvidence down(1.5);
  down.AddBucket({2, 4}, {2, 5});
  EXPECT_NEAR(fed->LogAdvance(), down.LogEvidence(), 1e-9);
}

// A floor or not: one or two subjects are no reason, whatever their evidence.
TEST(MetricEvidenceTest, ThreeAffectedSubjects) {
  for (const double floor : {0., .001}) {
    for (const Check& check : {ErrorCheck(floor), PairedErrorCheck(floor)}) {
      for (uint64_t subjects = 0; subjects <= 4; ++subjects) {
        SCOPED_TRACE(testing::Message() << check.name << ", " << subjects << " subjects, floor " << floor);
        WindowStats window = check.metric == Metric::kErrorRatio ? Served(400, 1'000, 0, 1'000)
                                                                 : PairedFailures(400, 0, 1'000);
        SubjectEvents& events =
            check.metric == Metric::kErrorRatio ? window.subjects.errors[1] : window.subjects.new_failed_only;
        for (uint64_t i = 0; i < subjects; ++i) {
          events.AddAffected(i, i == 0 ? 400 - (subjects - 1) : 1);
        }
        Fed fed(check);
        fed.Add(window);
        // Without names each event stands for itself.
        EXPECT_EQ(fed->LogRollback() > kNone, subjects == 0 || subjects >= 3);
        EXPECT_EQ(fed->counted().affected_subjects(), subjects);
      }
    }
  }
}

// Reports begin to name subjects in the middle of a step, and in what they have named nothing has failed yet.
TEST(MetricEvidenceTest, WhatIsNewlyCountedSaysNothingOfTheRest) {
  Fed fed(ErrorCheck(0));
  fed.Add(Served(6, 1'000, 60, 1'000));
  EXPECT_FALSE(fed->WillNotResolve());
  WindowStats named = Served(0, 64, 0, 64);
  for (uint64_t subject = 0; subject < 64; ++subject) {
    for (SubjectTrials& trials : named.subjects.reads) trials.Record(SubjectHash(1, std::to_string(subject)));
  }
  fed.Add(named);
  EXPECT_FALSE(fed->WillNotResolve());
}

// A customer whose every request fails on the new side, thousands of times, among 2,000 that are served well.
TEST(MetricEvidenceTest, OneBrokenCustomer) {
  for (const Check& check : {ErrorCheck(.005), ErrorCheck(0), PairedErrorCheck(.005), MismatchCheck(.005)}) {
    SCOPED_TRACE(testing::Message() << check.name << ", floor " << check.floor << ", seed " << kSeed);
    Prng prng(kSeed);
    Fed fed(check);
    double highest = kNone;
    int advanced_after = -1;
    for (int bucket = 0; bucket < 720; ++bucket) {
      const uint64_t bad = 20 + prng.Below(20), reads = 500;
      WindowStats window;
      SubjectTrials trials;
      SubjectEvents events;
      for (uint64_t i = 0; i < reads - bad; ++i) trials.Record(prng.Below(2'000) * 0x9e3779b97f4a7c15);
      for (uint64_t i = 0; i < bad; ++i) {
        trials.Record(42);
        events.Record(42, 7);
      }
      switch (check.metric) {
        case Metric::kErrorRatio:
          // A few errors of the old side's own, each of another subject.
          window = Served(bad, reads, 10, 5'000);
          window.subjects.reads[1] = trials;
          window.subjects.errors[1] = events;
          break;
        case Metric::kPairedErrorRatio:
          window = PairedFailures(bad, 0, reads + bad);
          window.subjects.compared = trials;
          window.subjects.new_failed_only = events;
          break;
        default:
          window = Compared(bad, reads);
          window.subjects.compared = trials;
          window.subjects.mismatched = events;
      }
      fed.Add(window);
      highest = std::max(highest, fed->LogRollback());
      if (advanced_after < 0 && fed->LogAdvance() >= kThreshold) advanced_after = bucket;
    }
    EXPECT_GT(fed->counted().reported().events, 10'000u);
    EXPECT_EQ(fed->counted().affected_subjects(), 1u);
    EXPECT_LT(highest, kThreshold);
    EXPECT_GE(advanced_after, 0) << fed->LogAdvance();
  }
}

// Nobody reports who differs in one field: how all mismatches cluster over the slots stands in for it.
TEST(MetricEvidenceTest, OneBrokenRecordInOneField) {
  Prng prng(kSeed);
  Fed fed(MismatchCheck(.005, "city"));
  double highest = kNone;
  for (int bucket = 0; bucket < 720; ++bucket) {
    WindowStats window = Compared(bucket % 20 == 0 ? 20 : 0, 200);
    for (int i = 0; i < 200; ++i) window.subjects.compared.Record(prng.Next());
    for (uint64_t i = 0; i < window.mismatches(); ++i) window.subjects.mismatched.Record(42, 7);
    if (bucket == 0) window = Compared(2, 200);  // the first burst is not known to be one
    fed.Add(window);
    highest = std::max(highest, fed->LogRollback());
  }
  EXPECT_LT(highest, kThreshold);
  EXPECT_GT(fed->dispersion(), 20);
}

// Over all metrics: what does not depend on the share of reads stays, the rest starts anew. Evidence for a
// rollback always stays.
TEST(MetricEvidenceTest, CarriesOverOrRestartsAtAStep) {
  WindowStats window = Compared(8, 1'000);
  ASSERT_TRUE(window.Merge(Served(20, 1'000, 10, 1'000)).ok());
  ASSERT_TRUE(window.Merge(Mirrored(20, 0, 980)).ok());
  ASSERT_TRUE(window.Merge(PairedFailures(20, 10, 1'000)).ok());
  ASSERT_TRUE(window.Merge(TimedPairs(300, 400)).ok());
  window.arm(Arm::kOld).latency.RecordBucket(300, 950);
  window.arm(Arm::kOld).latency.RecordBucket(400, 50);
  window.arm(Arm::kNew).latency.RecordBucket(300, 900);
  window.arm(Arm::kNew).latency.RecordBucket(400, 100);
  for (const Check& check : {MismatchCheck(.01), MismatchCheck(.01, "city"), ErrorCheck(.01),
                             MirrorCheck(.01), PairedErrorCheck(.01), LatencyCheck(), PairedLatencyCheck()}) {
    SCOPED_TRACE(check.name);
    const bool carries_over =
        check.metric == Metric::kMismatchRatio || check.metric == Metric::kPairedErrorRatio;
    Fed fed(check);
    for (int i = 0; i < 3; ++i) fed.Add(window);
    const double rollback = fed->LogRollback(), advance = fed->LogAdvance();
    const EventCount counted = fed->counted().reported();
    ASSERT_GT(counted.trials, 0u);
    ASSERT_NE(advance, 0);
    for (bool tested : {false, true}) {
      fed.BeginStep(tested);
      // Errors have to concern three subjects of the step, whatever is known from before.
      if (check.metric == Metric::kErrorRatio) {
        EXPECT_EQ(fed->LogRollback(), kNone);
      } else {
        EXPECT_NEAR(fed->LogRollback(), rollback, 1e-12);
      }
      EXPECT_NEAR(fed->LogAdvance(), carries_over ? advance : 0, 1e-12);
      EXPECT_EQ(fed->counted().reported(), carries_over ? counted : EventCount());
      EXPECT_EQ(fed->scope_start(), carries_over ? kGateStart : fed.next_bucket());
    }
  }
}

// Once in a step: again in the next one, since the old arm starts counting anew too.
TEST(MetricEvidenceTest, SubjectsCountOncePerStep) {
  WindowStats window = Served(30, 1'000, 0, 1'000);
  for (uint64_t i = 0; i < 10; ++i) window.subjects.errors[1].AddAffected(i, 3);
  Fed fed(ErrorCheck(.005));
  fed.Add(window);
  const double first = fed->LogRollback();
  fed.Add(window);
  const double second = fed->LogRollback();
  EXPECT_LT(second, first);
  fed.BeginStep();
  EXPECT_EQ(fed->counted().affected_subjects(), 0u);
  fed.Add(window);
  EXPECT_GT(fed->LogRollback(), second);
  EXPECT_EQ(fed->counted().affected_subjects(), 10u);
}

// One subject in a hundred always fails, on either side: no reason to roll back, also where the old arm has
// met all of them long before the new one gets its first reads.
TEST(MetricEvidenceTest, SubjectsThatFailOnBothSidesAreNoReason) {
  constexpr uint64_t kSubjects = 20'000, kReads = 2'000;
  for (uint64_t seed = kSeed; seed < kSeed + 10; ++seed) {
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<uint64_t> draw(0, kSubjects - 1);
    Fed fed(ErrorCheck(.001));
    double highest = kNone;
    for (int bucket = 0; bucket < 200; ++bucket) {
      const bool canary = bucket >= 80;
      if (bucket == 80) fed.BeginStep();
      WindowStats window;
      for (uint64_t i = 0; i < kReads; ++i) {
        const uint64_t subject = draw(random);
        const size_t arm = canary && subject % 20 == 0 ? 1 : 0;
        const uint64_t hash = SubjectHash(1, std::to_string(subject));
        ++window.arms[arm].requests;
        window.subjects.reads[arm].Record(hash);
        if (subject / 20 % 100 != 0) continue;
        ++window.arms[arm].errors;
        window.subjects.errors[arm].Record(hash, hash);
      }
      fed.Add(window);
      highest = std::max(highest, fed->LogRollback());
    }
    EXPECT_LT(highest, std::log(100)) << "seed " << seed;
  }
}

// Both arms alike, the baseline swinging fivefold: no rollback, while a window against a fixed limit would
// trip.
TEST(MetricEvidenceTest, HealthyNewSideIsNotRolledBack) {
  constexpr int kRuns = 400;
  for (const double floor : {0., .002}) {
    int crossed = 0;
    for (int run = 0; run < kRuns; ++run) {
      Traffic traffic(kSeed + run, 2000, .05);
      Fed fed(ErrorCheck(floor));
      bool is_crossed = false;
      for (int bucket = 0; bucket < 720 && !is_crossed; ++bucket) {
        const double rate = .001 * Swing(bucket);
        fed.Add(traffic.Next(rate, rate));
        is_crossed = fed->LogRollback() >= kThreshold;
      }
      crossed += is_crossed;
    }
    EXPECT_LE(crossed, kRuns / 200) << "seeds from " << kSeed << ", floor " << floor;
  }
}

// From 0.1 % to 0.5 % at 2000 reads/s: from the start of a step, and after two hours of clean traffic.
TEST(MetricEvidenceTest, SickNewSideIsFoundSoon) {
  const struct {
    double new_share;
    int clean_buckets, runs, median_seconds, p95_seconds;
  } kCases[] = {{.05, 0, 301, 25, 50}, {.01, 0, 301, 95, 220}, {.05, 1440, 61, 50, 90}};
  for (const auto& test : kCases) {
    std::vector<int> seconds;
    int false_alarms = 0, onsets_near = 0;
    for (int run = 0; run < test.runs; ++run) {
      Traffic traffic(kSeed + run, 2000, test.new_share);
      Fed fed(ErrorCheck(0));
      for (int bucket = 0; bucket < test.clean_buckets; ++bucket) fed.Add(traffic.Next(.001, .001));
      false_alarms += fed->LogRollback() >= kThreshold;
      const absl::Time onset = fed.next_bucket();
      int bucket = 0;
      for (; fed->LogRollback() < kThreshold && bucket < 1000; ++bucket) fed.Add(traffic.Next(.005, .001));
      seconds.push_back(bucket * kBucketSeconds);
      const auto rise = fed->MostLikelyRise();
      ASSERT_TRUE(rise.has_value());
      onsets_near += absl::AbsDuration(rise->since - onset) <= absl::Minutes(1);
    }
    std::sort(seconds.begin(), seconds.end());
    SCOPED_TRACE(testing::Message() << "seeds from " << kSeed << ", share " << test.new_share << ", after "
                                    << test.clean_buckets << " clean buckets");
    EXPECT_EQ(false_alarms, 0);
    EXPECT_LE(seconds[seconds.size() / 2], test.median_seconds);
    EXPECT_LE(seconds[seconds.size() * 95 / 100], test.p95_seconds);
    EXPECT_GE(onsets_near, test.runs * 8 / 10);
  }
}

// Twice the old side's errors and above the floor: the edge of the null that advancing must reject.
TEST(MetricEvidenceTest, BadNewSideDoesNotAdvance) {
  constexpr int kRuns = 1'000;
  int at_edge = 0, beyond = 0;
  for (int run = 0; run < kRuns; ++run) {
    Traffic traffic(kSeed + run, 200, .25), worse_traffic(kSeed - 1 - run, 200, .25);
    Fed edge(ErrorCheck(.002)), worse(ErrorCheck(.002));
    bool is_edge = false, is_worse = false;
    for (int bucket = 0; bucket < 360; ++bucket) {
      edge.Add(traffic.Next(.002, .001));
      worse.Add(worse_traffic.Next(.004, .001));
      is_edge = is_edge || edge->LogAdvance() >= kThreshold;
      is_worse = is_worse || worse->LogAdvance() >= kThreshold;
    }
    at_edge += is_edge;
    beyond += is_worse;
  }
  EXPECT_LE(at_edge, MostCrossings(kRuns, kAlpha)) << "seeds from " << kSeed;
  // About 1 in 20,000 by a longer simulation.
  EXPECT_LE(beyond, 1) << "seeds from " << kSeed;
}

TEST(MetricEvidenceTest, HealthyNewSideAdvancesByRatioOrByFloor) {
  Traffic busy(kSeed, 2000, .25);
  Fed by_ratio(ErrorCheck(1e-5));
  for (int bucket = 0; bucket < 120; ++bucket) by_ratio.Add(busy.Next(.001, .001));
  // The floor is below the rate, so only the ratio can show that the new side is no worse.
  EXPECT_GE(by_ratio->LogAdvance(), std::log(4 / kAlpha));

  // A handful of reads without an error: no ratio to speak of, but enough for a floor of 0.5 %.
  Fed by_floor(ErrorCheck(.005)), lower_floor(ErrorCheck(.001));
  for (int bucket = 0; bucket < 140; ++bucket) {
    by_floor.Add(Served(0, 10, 0, 10));
    lower_floor.Add(Served(0, 10, 0, 10));
  }
  EXPECT_GE(by_floor->LogAdvance(), kThreshold);
  EXPECT_LT(lower_floor->LogAdvance(), kThreshold);
}

// What it says it needs is what it needs, to the last one; and whether it will ever get there.
TEST(MetricEvidenceTest, WhatIsMissing) {
  const struct {
    const char* name;
    Check check;
    std::vector<WindowStats> windows;
    bool needed, never;
  } kCases[] = {
      {"nothing yet", MismatchCheck(), {}, true, false},
      {"clean", MismatchCheck(), {Compared(0, 100)}, true, false},
      {"a little below", MismatchCheck(.01), {Compared(5, 1'000)}, true, false},
      {"about the budget", MismatchCheck(.01), {Compared(10, 1'000)}, false, true},
      {"above the budget", MismatchCheck(.01), {Compared(30, 1'000)}, false, true},
      {"clean mirror", MirrorCheck(), {Mirrored(0, 0, 10)}, true, false},
      {"clean reads, a floor", ErrorCheck(.005), {Served(0, 10, 0, 10)}, true, false},
      {"no reads, a floor", ErrorCheck(.005), {}, true, false},
      // How many depends on what the old side does.
      {"no floor", ErrorCheck(0), {Served(0, 10, 4, 10)}, false, false},
      {"no floor, no old side", ErrorCheck(0), {Served(3, 10, 0, 0)}, false, false},
      {"above the floor, like old", ErrorCheck(.005), {Served(50, 1'000, 50, 1'000)}, false, false},
      {"above the floor, twice old", ErrorCheck(.005), {Served(100, 1'000, 50, 1'000)}, false, true},
      {"above the floor, no old side", ErrorCheck(.005), {Served(100, 1'000, 0, 0)}, false, true},
      {"below the floor, worse than old", ErrorCheck(.5), {Served(1, 10, 0, 1'000)}, true, false},
      {"too few to say", MismatchCheck(.01), {Compared(4, 100)}, false, false},
      {"enough to say", MismatchCheck(.01), {Compared(5, 100)}, false, true},
      {"no floor, twice old", ErrorCheck(0), {Served(10, 100, 50, 1'000)}, false, true},
      {"as slow as allowed", PairedLatencyCheck(), {TimedPairs(50, 50)}, false, true},
      {"faster", PairedLatencyCheck(), {TimedPairs(3, 10)}, true, false},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    Fed fed(test.check);
    for (const WindowStats& window : test.windows) fed.Add(window);
    const auto needed = fed->NeededMore(kThreshold);
    EXPECT_EQ(needed.has_value(), test.needed);
    EXPECT_EQ(fed->WillNotResolve(), test.never);
    if (!needed || *needed == 0 || test.check.metric != Metric::kMismatchRatio) continue;
    for (const uint64_t more : {*needed - 1, *needed}) {
      Fed later = fed;
      later.Add(Compared(0, more));
      EXPECT_EQ(later->LogAdvance() >= kThreshold, more == *needed);
    }
  }
}

TEST(MetricEvidenceTest, NullsAreTheSameByMetricFieldQuantileAndBound) {
  std::vector<Check> checks = {MismatchCheck(.1),   MismatchCheck(.2), MismatchCheck(.1, "city"),
                               ErrorCheck(0),       ErrorCheck(.1),    PairedErrorCheck(.1),
                               MirrorCheck(.1),     LatencyCheck(.5),  LatencyCheck(.95),
                               PairedLatencyCheck()};
  for (size_t i = 0; i < checks.size(); ++i) {
    Check renamed = checks[i];
    renamed.name = "other";
    renamed.advisory = true;
    renamed.on_breach = BreachAction::kNotify;
    for (size_t j = 0; j < checks.size(); ++j) {
      EXPECT_EQ(NullHypothesis(renamed) == NullHypothesis(checks[j]), i == j) << i << " " << j;
    }
  }
}

TEST(MetricEvidenceTest, SumsAboveTheLargestCountAreRefused) {
  const struct {
    Check check;
    WindowStats most, more;
  } kCases[] = {
      {MismatchCheck(), Compared(0, kMaxCount), Compared(0, 1)},
      {ErrorCheck(), Served(0, kMaxCount, 0, 0), Served(0, 1, 0, 0)},
      {ErrorCheck(), Served(0, 0, 0, kMaxCount), Served(0, 0, 0, 1)},
      {MirrorCheck(), Mirrored(0, 0, kMaxCount), Mirrored(0, 1, 0)},
      {PairedErrorCheck(), PairedFailures(0, 0, kMaxCount), PairedFailures(0, 0, 1)},
      {PairedLatencyCheck(), TimedPairs(0, kMaxCount), TimedPairs(1, 0)},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.check.name);
    Fed fed(test.check);
    fed.Add(test.most);
    EXPECT_EQ(fed->CheckBucket(test.more, fed.edges()).code(), absl::StatusCode::kOutOfRange);
    EXPECT_TRUE(fed->CheckBucket(WindowStats(), fed.edges()).ok());
  }
}

}  // namespace
}  // namespace lockstep::domain
