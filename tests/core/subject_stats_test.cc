#include "core/domain/subject_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "core/domain/bucketing.h"

namespace lockstep::domain {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr uint64_t kSeed = 4711;

TEST(SlotCountsTest, SlotIsTheLastSixBits) {
  EXPECT_EQ(SlotCounts::SlotOf(0), 0u);
  EXPECT_EQ(SlotCounts::SlotOf(63), 63u);
  EXPECT_EQ(SlotCounts::SlotOf(64), 0u);
  EXPECT_EQ(SlotCounts::SlotOf(~uint64_t{0}), 63u);
}

TEST(SlotCountsTest, AddsAndMerges) {
  SlotCounts a, b;
  a.Add(3, 5);
  b.Add(3, 1);
  b.Add(63, 2);
  a.Merge(b);
  EXPECT_EQ(a[3], 6u);
  EXPECT_EQ(a[63], 2u);
  EXPECT_EQ(a[4], 0u);
  EXPECT_EQ(a.total(), 8u);
}

TEST(SlotCountsTest, NothingLeavesNoTrace) {
  SlotCounts counts;
  counts.Add(3, 0);
  counts.Merge(SlotCounts());
  EXPECT_TRUE(counts.empty());
  EXPECT_EQ(counts, SlotCounts());
  EXPECT_EQ(counts[3], 0u);
  EXPECT_EQ(counts.total(), 0u);
}

TEST(SubjectTrialsTest, RecordsSketchAndSlot) {
  SubjectTrials trials;
  for (int i = 0; i < 3; ++i) trials.Record(0xabc0'0000'0000'0005);
  trials.Record(0xabd0'0000'0000'0006);
  EXPECT_EQ(trials.distinct.hit_registers(), 2u);
  EXPECT_EQ(trials.slots[5], 3u);
  EXPECT_EQ(trials.slots[6], 1u);
  SubjectTrials twice = trials;
  twice.Merge(trials);
  EXPECT_EQ(twice.distinct, trials.distinct);
  EXPECT_EQ(twice.slots.total(), 8u);
}

// The keys of a canary of 1 % agree in the first bits of the hash that decides their bucket.
TEST(SubjectHashTest, SketchOfSmallCanaryCountsItsKeys) {
  constexpr uint64_t kSaltSeed = 77;
  DistinctSketch sketch;
  double canary = 0;
  for (int i = 0; i < 200'000; ++i) {
    const std::string key = absl::StrCat("order-", i);
    if (BucketOfHash(KeyHash(kSaltSeed, key)) >= kBucketCount / 100) continue;
    sketch.Add(SubjectHash(kSaltSeed, key));
    ++canary;
  }
  ASSERT_GT(canary, 1500);
  EXPECT_NEAR(sketch.Estimate(), canary, 4 * DistinctSketch::kStandardError * canary);
}

TEST(SubjectEventsTest, CountsEachSubject) {
  SubjectEvents events;
  events.Record(5, 900);
  events.Record(5, 900);
  events.Record(70, 30);
  EXPECT_THAT(events.affected(), ElementsAre(Pair(30, 1), Pair(900, 2)));
  EXPECT_EQ(events.identified(), 3u);
  EXPECT_EQ(events.slots[5], 2u);
  EXPECT_EQ(events.slots[6], 1u);
  events.AddAffected(30, 0);
  events.AddAffected(31, 0);
  EXPECT_THAT(events.affected(), ElementsAre(Pair(30, 1), Pair(900, 2))) << "no events, no trace";
}

TEST(SubjectEventsTest, KeepsTheLowestIdsInWhateverOrderTheyCome) {
  constexpr uint64_t kSubjects = 1000;
  for (const bool rising : {false, true}) {
    SubjectEvents events;
    for (uint64_t i = 0; i < kSubjects; ++i) {
      const uint64_t id = rising ? i : kSubjects - 1 - i;
      events.Record(id, id);
      events.Record(id, id);
    }
    EXPECT_EQ(events.affected().size(), SubjectEvents::kMaxAffected);
    EXPECT_EQ(events.affected().rbegin()->first, SubjectEvents::kMaxAffected - 1);
    EXPECT_EQ(events.identified(), 2 * SubjectEvents::kMaxAffected);
    EXPECT_EQ(events.slots.total(), 2 * kSubjects) << "those not kept still count";
  }
}

// Events over random parts, merged in a random order: the same sum, bit for bit.
TEST(SubjectEventsTest, MergeDoesNotDependOnSplitOrOrder) {
  for (uint64_t round = 0; round < 100; ++round) {
    SCOPED_TRACE(absl::StrCat("seed ", kSeed + round));
    Prng prng(kSeed + round);
    const uint64_t subjects = 1 + prng.Below(3 * SubjectEvents::kMaxAffected);
    SubjectEvents whole;
    std::vector<SubjectEvents> parts(1 + prng.Below(8));
    for (uint64_t i = 0; i < 3000; ++i) {
      const uint64_t id = prng.Below(subjects) * 0x9e3779b97f4a7c15;
      const uint64_t hash = id >> 7;
      whole.Record(hash, id);
      parts[prng.Below(parts.size())].Record(hash, id);
    }
    while (parts.size() > 1) {
      const size_t into = prng.Below(parts.size());
      const size_t from = (into + 1 + prng.Below(parts.size() - 1)) % parts.size();
      parts[into].Merge(parts[from]);
      parts.erase(parts.begin() + static_cast<ptrdiff_t>(from));
    }
    ASSERT_EQ(parts[0], whole);
  }
}

}  // namespace
}  // namespace lockstep::domain
