#include "core/domain/subject_counter.h"

#include <algorithm>
#include <set>
#include <vector>

#include "core/base/prng.h"
#include "core/domain/log_math.h"
#include "gtest/gtest.h"

namespace lockstep::domain {
namespace {

constexpr uint64_t kSeed = 1974;

// Any bijection that looks random will do as a hash of small numbers (splitmix64's finaliser).
uint64_t Hash(uint64_t subject) {
  uint64_t x = subject + 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// One bucket of one arm.
struct Bucket {
  EventCount count;
  SubjectTrials trials;
  SubjectEvents events;

  // `times` requests of a subject, of which `bad` were events; its name is sent if `known`.
  Bucket& Of(uint64_t subject, uint64_t times, uint64_t bad, bool known = true) {
    count.trials += times;
    count.events += bad;
    if (!known) return *this;
    for (uint64_t i = 0; i < times; ++i) trials.Record(Hash(subject));
    for (uint64_t i = 0; i < bad; ++i) events.Record(Hash(subject), subject);
    return *this;
  }
  Observation observation() const { return {.count = count, .trials = &trials, .events = &events}; }
};

TEST(SubjectCounterTest, WhatABucketCountsFor) {
  // One after the other into the same counter.
  const struct {
    const char* name;
    Bucket bucket;
    double dispersion;
    WeightedCount counted, rise;
    double affected, certified_events, distinct_trials;
  } kCases[] = {
      {"nothing", Bucket(), 1, {0, 0}, {0, 0}, 0, 0, 0},
      {"a subject's first events count as one", Bucket().Of(1, 1'000, 1'000), 1, {1, 1'000}, {1, 1}, 1, 1, 1},
      {"and its later ones not at all", Bucket().Of(1, 500, 400), 1, {0, 500}, {0, 100}, 1, 1, 1},
      {"another subject", Bucket().Of(1, 10, 10).Of(2, 10, 3), 1, {1, 20}, {1, 8}, 2, 2, 2},
      {"a subject without events", Bucket().Of(3, 50, 0), 1, {0, 50}, {0, 50}, 2, 2, 3},
      {"who is not known counts each time", Bucket().Of(9, 10, 4, false), 1, {4, 10}, {4, 10}, 6, 6, 13},
      {"divided by the dispersion", Bucket().Of(9, 10, 4, false), 4, {1, 2.5}, {1, 2.5}, 7, 7, 15.5},
      {"those who are known are not", Bucket().Of(4, 10, 4), 4, {1, 10}, {1, 7}, 8, 8, 16.5},
      // Which of the trials the two without a name are of is not known: the worst is taken, either way.
      {"both", Bucket().Of(4, 10, 4).Of(5, 1, 1).Of(9, 8, 2, false), 2, {2, 15}, {2, 13.5}, 10, 11, 21.5},
  };
  SubjectCounter counter;
  EventCount reported;
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    const SubjectCounter::Counted once = counter.Add(test.bucket.observation(), test.dispersion).once;
    EXPECT_EQ(once.count, test.counted);
    EXPECT_EQ(once.rise, test.rise);
    reported.events += test.bucket.count.events;
    reported.trials += test.bucket.count.trials;
    EXPECT_EQ(counter.reported(), reported);
    EXPECT_DOUBLE_EQ(counter.affected(), test.affected);
    EXPECT_DOUBLE_EQ(counter.Distinct().events(),
                     std::min(test.certified_events, counter.Distinct().trials()));
    // The sketch of a few subjects is all but exact, and then less three standard errors of 1.6 %.
    EXPECT_NEAR(counter.Distinct().trials(), test.distinct_trials, 0.3);
    EXPECT_LE(counter.Distinct().trials(), test.distinct_trials);
  }
  EXPECT_EQ(counter.affected_subjects(), 4u);
  EXPECT_NEAR(counter.distinct_subjects(), 5, 0.1);
}

TEST(SubjectCounterTest, EveryEvent) {
  const auto spread = [](std::vector<uint64_t> events_in_slots, uint64_t observed_slots) {
    Bucket bucket;
    for (size_t slot = 0; slot < observed_slots; ++slot) {
      bucket.trials.slots.Add(slot, 100);
      bucket.count.trials += 100;
    }
    for (size_t slot = 0; slot < events_in_slots.size(); ++slot) {
      bucket.events.slots.Add(slot, events_in_slots[slot]);
      bucket.count.events += events_in_slots[slot];
    }
    return bucket;
  };
  const struct {
    const char* name;
    Bucket bucket;
    double events, rise_events, cut_down;
  } kCases[] = {
      {"none", spread({}, 64), 0, 0, 0},
      {"all alike", spread({5, 5, 5, 5}, 64), 20, 20, 20},
      {"one outweighs the others", spread({90, 5, 5, 5}, 64), 105, 20, 20},
      {"two do", spread({90, 80, 5, 5}, 64), 180, 20, 20},
      {"three do", spread({90, 80, 70, 5}, 64), 245, 215, 215},
      {"two alone", spread({90, 80}, 64), 170, 2, 2},
      {"of a few slots one is cut down", spread({90, 80, 5}, 15), 175, 15, 165},
      {"of a handful none", spread({90, 80}, 7), 170, 2, 170},
      {"without a slot", spread({5, 5, 5}, 64).Of(1, 10, 8, false), 23, 15, 23},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.name);
    const auto counts = SubjectCounter().Add(test.bucket.observation(), 1);
    ASSERT_TRUE(counts.every.has_value());
    const auto trials = static_cast<double>(test.bucket.count.trials);
    EXPECT_EQ(counts.every->count, (WeightedCount{test.events, trials}));
    EXPECT_EQ(counts.every->rise, (WeightedCount{test.rise_events, trials - test.events + test.rise_events}));
    EXPECT_EQ(counts.every_cut_down, test.cut_down);
  }
  // Nothing says over which slots.
  EXPECT_FALSE(SubjectCounter().Add({.count = {5, 100}}, 1).every.has_value());
  Observation wider = kCases[1].bucket.observation();
  wider.slots_only = true;
  EXPECT_FALSE(SubjectCounter().Add(wider, 1).every.has_value());
}

TEST(SubjectCounterTest, UsedUp) {
  SubjectCounter counter;
  const auto add = [&](uint64_t first, uint64_t last, uint64_t bad) {
    Bucket bucket;
    for (uint64_t subject = first; subject < last; ++subject) bucket.Of(subject, 2, bad);
    counter.Add(bucket.observation(), 1);
    return counter.UsedUp();
  };
  EXPECT_FALSE(add(0, 2, 2));  // two of two
  EXPECT_TRUE(add(2, 3, 1));
  EXPECT_FALSE(add(100, 200, 0));
  EXPECT_FALSE(add(0, 3, 2));  // the same ones
  EXPECT_TRUE(add(300, 310, 1));
  counter.StartAnew();
  EXPECT_FALSE(counter.UsedUp());
}

// Each counter is a scope of its own.
TEST(SubjectCounterTest, OncePerScope) {
  const Bucket bucket = Bucket().Of(1, 5, 5);
  SubjectCounter epoch, step;
  EXPECT_EQ(epoch.Add(bucket.observation(), 1).once.count.events, 1);
  EXPECT_EQ(step.Add(bucket.observation(), 1).once.count.events, 1);
  step.StartAnew();
  EXPECT_EQ(epoch.Add(bucket.observation(), 1).once.count.events, 0);
  EXPECT_EQ(step.Add(bucket.observation(), 1).once.count.events, 1);
}

// Slots that reports send without a sketch say how events cluster, not who they are of.
TEST(SubjectCounterTest, SlotsAlone) {
  Bucket bucket;
  bucket.count = {100, 6'400};
  for (size_t slot = 0; slot < SlotCounts::kSlots; ++slot) bucket.trials.slots.Add(slot, 100);
  bucket.events.slots.Add(17, 100);
  SubjectCounter counter;
  EXPECT_EQ(counter.Dispersion(), 1);
  EXPECT_EQ(counter.Add(bucket.observation(), 1).once.count, (WeightedCount{100, 6'400}));
  EXPECT_EQ(counter.distinct_subjects(), 0);
  EXPECT_EQ(counter.affected_subjects(), 0u);
  // All events in one of 64 slots: Pearson's statistic is 63 n, with 63 degrees of freedom.
  EXPECT_NEAR(counter.Dispersion(), 1.35 * 100, 1e-9);

  // As with an observation whose slots are of a wider kind, though names came with it.
  const Bucket named = Bucket().Of(1, 6'400, 100);
  Observation wider = named.observation();
  wider.count.events = 7;  // fewer than those of the subjects that are named
  wider.slots_only = true;
  SubjectCounter narrow;
  EXPECT_EQ(narrow.Add(wider, 1).once.count, (WeightedCount{7, 6'400}));
  EXPECT_EQ(narrow.distinct_subjects(), 0);
  EXPECT_EQ(narrow.affected_subjects(), 0u);
}

TEST(SubjectCounterTest, DispersionWithoutGroundsIsOne) {
  Bucket no_events = Bucket().Of(1, 10, 0).Of(2, 10, 0);
  Bucket no_trials;
  no_trials.count = {5, 5};
  no_trials.events.slots.Add(3, 5);
  Bucket one_slot;
  one_slot.count = {5, 50};
  one_slot.trials.slots.Add(3, 50);
  one_slot.events.slots.Add(3, 5);
  const Observation unnamed = {.count = {50, 1'000}};
  for (const Observation& observation :
       {Observation(), unnamed, no_events.observation(), no_trials.observation(), one_slot.observation()}) {
    SubjectCounter counter;
    counter.Add(observation, 1);
    EXPECT_EQ(counter.Dispersion(), 1);
  }
}

// Events spread at random over the slots have a dispersion of 1; events in bursts, each of one subject, that
// of the burst's length: its mean weighted by itself, E[L^2] / E[L].
TEST(SubjectCounterTest, DispersionMeasuresBursts) {
  constexpr int kSeeds = 200, kEvents = 2'000;
  constexpr uint64_t kTrialsInSlot = 10'000;
  const struct {
    int burst;  // 0: Poisson slots
    double dispersion;
  } kCases[] = {{0, 1}, {5, 5}, {20, 20}};
  for (const auto& test : kCases) {
    double sum = 0;
    for (int i = 0; i < kSeeds; ++i) {
      Prng prng(kSeed + i);
      Bucket bucket;
      bucket.count = {kEvents, SlotCounts::kSlots * kTrialsInSlot};
      for (size_t slot = 0; slot < SlotCounts::kSlots; ++slot) bucket.trials.slots.Add(slot, kTrialsInSlot);
      const uint64_t burst = test.burst == 0 ? 1 : test.burst;
      for (uint64_t sent = 0; sent < kEvents; sent += burst) {
        bucket.events.slots.Add(prng.Below(SlotCounts::kSlots), burst);
      }
      SubjectCounter counter;
      counter.Add(bucket.observation(), 1);
      const double dispersion = counter.Dispersion();
      ASSERT_GE(dispersion, 1);
      sum += dispersion / SubjectCounter::kDispersionMargin;
    }
    // 63 degrees of freedom: a standard deviation of 18 % in one seed, of 1.3 % in 200. What would be below 1
    // is 1, which the margin of 1.35 makes rare.
    EXPECT_NEAR(sum / kSeeds / test.dispersion, 1, 0.05)
        << "burst " << test.burst << ", seeds from " << kSeed;
  }
}

TEST(SubjectCounterTest, RemembersSoManySubjectsAndNoMore) {
  SubjectCounter counter;
  uint64_t subject = 0;
  double first_events = 0;
  while (counter.affected_subjects() < SubjectCounter::kMaxSubjects) {
    Bucket bucket;
    for (size_t i = 0; i < SubjectEvents::kMaxAffected; ++i) bucket.events.AddAffected(++subject, 1);
    bucket.count = {SubjectEvents::kMaxAffected, 1'000};
    first_events += counter.Add(bucket.observation(), 1).once.count.events;
  }
  EXPECT_EQ(subject, SubjectCounter::kMaxSubjects);
  EXPECT_EQ(first_events, SubjectCounter::kMaxSubjects);
  // Those it knows still count once; of the others it can't tell, so they count each time.
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(counter.Add(Bucket().Of(1, 10, 10).Of(subject, 10, 10).observation(), 1).once.count.events, 0);
    EXPECT_EQ(counter.Add(Bucket().Of(subject + 1, 10, 10).observation(), 1).once.count.events, 1);
  }
  EXPECT_EQ(counter.affected_subjects(), SubjectCounter::kMaxSubjects);
}

TEST(SubjectCounterTest, NeverMoreEventsThanTrials) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Prng prng(seed);
  for (int run = 0; run < 300; ++run) {
    SubjectCounter counter;
    std::set<uint64_t> subjects;
    uint64_t unknown = 0;
    const uint64_t subject_count = 1 + prng.Below(2'000);
    for (int bucket = 0; bucket < 10; ++bucket) {
      Bucket observed;
      for (uint64_t i = prng.Below(30); i > 0; --i) {
        const uint64_t subject = prng.Below(subject_count), times = 1 + prng.Below(3);
        const bool known = prng.Below(4) > 0;
        observed.Of(subject, times, prng.Below(times + 1), known);
        if (known) subjects.insert(subject);
        if (!known) unknown += times;
      }
      const double dispersion = counter.Dispersion();
      const WeightedCount counted = counter.Add(observed.observation(), dispersion).once.count;
      ASSERT_LE(counted.events, counted.trials);
      ASSERT_LE(counted.trials, static_cast<double>(observed.count.trials));
      const RateEvidence distinct = counter.Distinct();
      ASSERT_LE(distinct.events(), distinct.trials());
      // Not more than there are.
      ASSERT_LE(distinct.trials(), static_cast<double>(subjects.size() + unknown) + 1e-9);
    }
  }
}

// A sketch whose registers say more than there were observations certifies no more than those.
TEST(SubjectCounterTest, ForgedSketches) {
  const std::vector<uint8_t> full(DistinctSketch::kRegisters, DistinctSketch::kMaxRank);
  Bucket bucket;
  bucket.trials.distinct = *DistinctSketch::FromRegisters(full);
  bucket.trials.slots.Add(0, DistinctSketch::kRegisters);
  bucket.count.trials = kMaxCount;
  SubjectCounter counter;
  counter.Add(bucket.observation(), 1e6);
  EXPECT_EQ(counter.distinct_subjects(), DistinctSketch::kRegisters);
  EXPECT_NEAR(counter.Distinct().trials(), 4096 + (static_cast<double>(kMaxCount) - 4096) / 1e6, 1);
  SubjectCounter undivided;
  undivided.Add(bucket.observation(), 1);
  EXPECT_EQ(undivided.Distinct().trials(), static_cast<double>(kMaxCount));
}

}  // namespace
}  // namespace lockstep::domain
