#include "core/domain/window_stats.h"

#include <algorithm>
#include <functional>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/log_math.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSeed = 7331;

// Some of `count` observations have a subject, from a pool that is shared by all windows.
void FillTrials(std::mt19937_64& random, uint64_t count, SubjectTrials& trials) {
  const uint64_t known = std::min<uint64_t>(count, random() % 300);
  for (uint64_t i = 0; i < known; ++i) trials.Record((random() % 5000) * 0x9e3779b97f4a7c15);
}

void FillEvents(std::mt19937_64& random, uint64_t count, SubjectEvents& events) {
  const uint64_t known = std::min<uint64_t>(count, random() % 300);
  for (uint64_t i = 0; i < known; ++i) {
    const uint64_t subject = random() % 600;
    events.Record(subject * 0x9e3779b97f4a7c15, subject * 0xd6e8feb86659fd93);
  }
}

void FillSubjects(std::mt19937_64& random, WindowStats& stats) {
  for (size_t i = 0; i < kArmCount; ++i) {
    FillTrials(random, stats.arms[i].requests, stats.subjects.reads[i]);
    FillEvents(random, stats.arms[i].errors, stats.subjects.errors[i]);
  }
  FillTrials(random, stats.comparable(), stats.subjects.compared);
  FillEvents(random, stats.mismatches(), stats.subjects.mismatched);
  FillEvents(random, stats.paired_errors.new_only, stats.subjects.new_failed_only);
  FillEvents(random, stats.paired_errors.old_only, stats.subjects.old_failed_only);
}

// A valid window. `field_names` beyond WindowStats::kMaxFields make folding happen.
WindowStats RandomWindow(std::mt19937_64& random, int field_names) {
  const auto below = [&](uint64_t bound) {
    return std::uniform_int_distribution<uint64_t>(0, bound - 1)(random);
  };
  WindowStats stats;
  for (ArmStats& arm : stats.arms) {
    arm.requests = below(100'000);
    arm.errors = below(arm.requests + 1);
    for (uint64_t i = 0; i < std::min<uint64_t>(arm.requests, 20); ++i)
      arm.latency.Record(below(2'000'000'000));
  }
  stats.writes = {below(1000), below(1000), below(1000), below(1000), below(1000)};
  for (uint64_t& count : stats.comparisons) count = below(5000);
  stats.paired_errors = {below(stats.compared() / 2 + 1), below(stats.compared() / 2 + 1)};
  stats.paired_latency = {below(stats.compared() / 2 + 1), below(stats.compared() / 2 + 1)};
  stats.repairs = {below(100), below(100)};
  stats.backfill = {below(1000), below(1000)};
  stats.dropped = {below(100), below(100), below(100)};
  FillSubjects(random, stats);
  const uint64_t mismatches = stats.comparison(ComparisonOutcome::kMismatch);
  for (uint64_t i = 0; mismatches > 0 && i < below(60); ++i) {
    // Each field at most once, with a count that a field may have.
    const std::string field = absl::StrCat("field.", below(field_names));
    if (stats.fields().contains(field)) continue;
    FieldMismatches counts;
    counts.by_kind[below(kMismatchKindCount)] = 1 + below(mismatches);
    EXPECT_TRUE(stats.AddFieldMismatches(field, counts).ok());
  }
  return stats;
}

WindowStats Sum(std::initializer_list<const WindowStats*> parts) {
  WindowStats sum;
  for (const WindowStats* part : parts) EXPECT_TRUE(sum.Merge(*part).ok());
  return sum;
}

FieldMismatches ValueMismatches(uint64_t count) {
  FieldMismatches counts;
  counts[MismatchKind::kValue] = count;
  return counts;
}

TEST(WindowStatsTest, OutcomeTable) {
  const struct {
    ComparisonOutcome outcome;
    absl::string_view name;
    bool comparable;
    bool mismatch;
  } kCases[] = {
      {ComparisonOutcome::kMatch, "match", true, false},
      {ComparisonOutcome::kMismatch, "mismatch", true, true},
      {ComparisonOutcome::kMissingInNew, "missing_in_new", true, true},
      {ComparisonOutcome::kMissingInOld, "missing_in_old", true, true},
      {ComparisonOutcome::kErrorInOld, "error_in_old", false, false},
      {ComparisonOutcome::kErrorInNew, "error_in_new", false, false},
      {ComparisonOutcome::kTimeout, "timeout", false, false},
      {ComparisonOutcome::kRaced, "raced", false, false},
      {ComparisonOutcome::kLagged, "lagged", true, false},
      {ComparisonOutcome::kIgnored, "ignored", true, false},
  };
  static_assert(std::size(kCases) == kComparisonOutcomeCount);
  for (const auto& test : kCases) {
    EXPECT_EQ(InfoOf(test.outcome).name, test.name);
    WindowStats stats;
    stats.comparison(test.outcome) = 3;
    EXPECT_EQ(stats.comparable(), test.comparable ? 3u : 0u) << test.name;
    EXPECT_EQ(stats.mismatches(), test.mismatch ? 3u : 0u) << test.name;
    EXPECT_EQ(stats.not_comparable(), test.comparable ? 0u : 3u) << test.name;
    EXPECT_EQ(stats.compared(), 3u);
  }
}

TEST(WindowStatsTest, MergeIsAssociativeAndCommutative) {
  for (int field_names : {10, 64, 300}) {
    for (uint64_t round = 0; round < 100; ++round) {
      SCOPED_TRACE(absl::StrCat("seed ", kSeed + round, ", ", field_names, " field names"));
      std::mt19937_64 random(kSeed + round);
      const WindowStats a = RandomWindow(random, field_names), b = RandomWindow(random, field_names),
                        c = RandomWindow(random, field_names);
      const WindowStats ab = Sum({&a, &b}), bc = Sum({&b, &c});
      const WindowStats whole = Sum({&ab, &c});
      ASSERT_EQ(whole, Sum({&a, &bc}));
      ASSERT_EQ(ab, Sum({&b, &a}));
      ASSERT_EQ(whole, Sum({&c, &b, &a}));
      ASSERT_TRUE(whole.Validate().ok()) << whole.Validate();
      ASSERT_EQ(whole.comparable(), a.comparable() + b.comparable() + c.comparable());
      ASSERT_LE(whole.fields().size(), WindowStats::kMaxFields + 1);
    }
  }
}

// Every plain counter is merged: set each to a different number, add twice, compare with twice the number.
TEST(WindowStatsTest, EveryCounterIsMerged) {
  const auto window = [](uint64_t times) {
    uint64_t next = 0;
    const auto count = [&] { return times * ++next; };
    WindowStats stats;
    for (ArmStats& arm : stats.arms) {
      arm.requests = count();
      arm.errors = count();
      arm.latency.RecordBucket(next, count());
    }
    stats.writes = {count(), count(), count(), count(), count()};
    for (uint64_t& outcome : stats.comparisons) outcome = count();
    stats.paired_errors = {count(), count()};
    stats.paired_latency = {count(), count()};
    stats.repairs = {count(), count()};
    stats.backfill = {count(), count()};
    stats.dropped = {count(), count(), count()};
    SubjectStats& subjects = stats.subjects;
    for (SubjectTrials* trials : {&subjects.reads[0], &subjects.reads[1], &subjects.compared}) {
      for (size_t slot : {0, 17, 63}) trials->slots.Add(slot, count());
      trials->distinct.Add(next << 52);  // the same for both, so it doesn't add up
    }
    for (SubjectEvents* events : {&subjects.errors[0], &subjects.errors[1], &subjects.mismatched,
                                  &subjects.new_failed_only, &subjects.old_failed_only}) {
      for (size_t slot : {0, 17, 63}) events->slots.Add(slot, count());
      events->AddAffected(next, count());
    }
    FieldMismatches field;
    for (uint64_t& kind : field.by_kind) kind = count();
    EXPECT_TRUE(stats.AddFieldMismatches("address.city", field).ok());
    return stats;
  };
  WindowStats merged = window(1);
  ASSERT_TRUE(merged.Merge(window(2)).ok());
  EXPECT_EQ(merged, window(3));
}

// More affected subjects than are kept, reported in random parts: the sum does not depend on the parts or on
// their order.
TEST(WindowStatsTest, ManyAffectedSubjectsInAnySplitAndOrder) {
  for (uint64_t round = 0; round < 50; ++round) {
    SCOPED_TRACE(absl::StrCat("seed ", kSeed + round));
    std::mt19937_64 random(kSeed + round);
    WindowStats whole;
    std::vector<WindowStats> parts(2 + random() % 7);
    for (uint64_t i = 0; i < 2000; ++i) {
      const uint64_t subject = (random() % 900) * 0x9e3779b97f4a7c15;
      for (WindowStats* window : {&whole, &parts[random() % parts.size()]}) {
        ++window->comparison(ComparisonOutcome::kMismatch);
        window->subjects.compared.Record(subject);
        window->subjects.mismatched.Record(subject, subject ^ 0x5555);
      }
    }
    ASSERT_EQ(whole.subjects.mismatched.affected().size(), SubjectEvents::kMaxAffected);
    for (int order = 0; order < 3; ++order) {
      std::shuffle(parts.begin(), parts.end(), random);
      WindowStats sum;
      for (const WindowStats& part : parts) {
        ASSERT_TRUE(part.Validate().ok()) << part.Validate();
        ASSERT_TRUE(sum.Merge(part).ok());
      }
      ASSERT_EQ(sum, whole);
    }
    ASSERT_TRUE(whole.Validate().ok()) << whole.Validate();
    // And as a tree: the second half first.
    WindowStats left, right;
    for (size_t i = 0; i < parts.size(); ++i) {
      ASSERT_TRUE((i < parts.size() / 2 ? left : right).Merge(parts[i]).ok());
    }
    ASSERT_TRUE(right.Merge(left).ok());
    ASSERT_EQ(right, whole);
  }
}

TEST(WindowStatsTest, MergeWithItselfDoubles) {
  std::mt19937_64 random(kSeed);
  WindowStats stats = RandomWindow(random, 10);
  const WindowStats copy = stats;
  const WindowStats twice = Sum({&copy, &copy});
  ASSERT_TRUE(stats.Merge(stats).ok());
  EXPECT_EQ(stats, twice);
}

TEST(WindowStatsTest, FieldsAreBoundedAndNoCountIsLost) {
  WindowStats stats;
  stats.comparison(ComparisonOutcome::kMismatch) = 1000;
  // From the last name to the first, so that every name beyond the bound displaces one.
  for (int i = 999; i >= 100; --i) {
    ASSERT_TRUE(stats.AddFieldMismatches(absl::StrCat("f", i), ValueMismatches(1)).ok());
  }
  EXPECT_EQ(stats.fields().size(), WindowStats::kMaxFields + 1);
  EXPECT_EQ(stats.fields().begin()->first, WindowStats::kOtherFields);
  EXPECT_TRUE(stats.fields().contains("f100"));
  EXPECT_TRUE(stats.fields().contains("f163"));
  EXPECT_FALSE(stats.fields().contains("f164"));
  EXPECT_EQ(stats.fields().at(std::string(WindowStats::kOtherFields)).total(), 900 - WindowStats::kMaxFields);
  EXPECT_TRUE(stats.Validate().ok()) << stats.Validate();
}

TEST(WindowStatsTest, FieldThatSortsBeforeOther) {
  WindowStats stats;
  for (int i = 0; i < 70; ++i) {
    ASSERT_TRUE(stats.AddFieldMismatches(absl::StrCat("Upper", 100 + i), ValueMismatches(2)).ok());
  }
  // "_other" is the last name here and must not be folded into itself.
  EXPECT_EQ(stats.fields().size(), WindowStats::kMaxFields + 1);
  EXPECT_EQ(stats.fields().rbegin()->first, WindowStats::kOtherFields);
  EXPECT_EQ(stats.fields().rbegin()->second.total(), 12u);
}

TEST(WindowStatsTest, MergeRefusesOverflowAndChangesNothing) {
  const struct {
    std::string name;
    std::function<void(WindowStats&, uint64_t)> set;
  } kCases[] = {
      {"new arm: requests", [](WindowStats& s, uint64_t n) { s.arm(Arm::kNew).requests = n; }},
      {"old arm: errors", [](WindowStats& s, uint64_t n) { s.arm(Arm::kOld).errors = n; }},
      {"new arm: latencies", [](WindowStats& s, uint64_t n) { s.arm(Arm::kNew).latency.RecordBucket(9, n); }},
      {"writes: mirror_shed", [](WindowStats& s, uint64_t n) { s.writes.mirror_shed = n; }},
      {"raced", [](WindowStats& s, uint64_t n) { s.comparison(ComparisonOutcome::kRaced) = n; }},
      {"paired errors: old_only", [](WindowStats& s, uint64_t n) { s.paired_errors.old_only = n; }},
      {"paired latency: slower", [](WindowStats& s, uint64_t n) { s.paired_latency.slower = n; }},
      {"paired latency: not_slower", [](WindowStats& s, uint64_t n) { s.paired_latency.not_slower = n; }},
      {"repairs: queued", [](WindowStats& s, uint64_t n) { s.repairs.queued = n; }},
      {"repairs: done", [](WindowStats& s, uint64_t n) { s.repairs.done = n; }},
      {"backfill: rows_to_copy", [](WindowStats& s, uint64_t n) { s.backfill.rows_to_copy = n; }},
      {"backfill: rows_copied", [](WindowStats& s, uint64_t n) { s.backfill.rows_copied = n; }},
      {"new arm: requests with a subject, slot 7",
       [](WindowStats& s, uint64_t n) {
         s.subjects.reads[1] = {};
         s.subjects.reads[1].slots.Add(7, n);
       }},
      {"comparable comparisons with a subject, slot 63",
       [](WindowStats& s, uint64_t n) {
         s.subjects.compared = {};
         s.subjects.compared.slots.Add(63, n);
       }},
      {"old arm: errors with a subject, slot 0",
       [](WindowStats& s, uint64_t n) {
         s.subjects.errors[0] = {};
         s.subjects.errors[0].slots.Add(0, n);
       }},
      {"mismatches of one affected subject",
       [](WindowStats& s, uint64_t n) {
         s.subjects.mismatched = {};
         s.subjects.mismatched.AddAffected(3, n);
       }},
      {"paired errors: old_only of one affected subject",
       [](WindowStats& s, uint64_t n) {
         s.subjects.old_failed_only = {};
         s.subjects.old_failed_only.AddAffected(3, n);
       }},
      {"dropped: samples_dropped", [](WindowStats& s, uint64_t n) { s.dropped.samples_dropped = n; }},
      {"field 'city'",
       [](WindowStats& s, uint64_t n) {
         ASSERT_TRUE(s.AddFieldMismatches("city", ValueMismatches(n)).ok());
       }},
  };
  for (const auto& test : kCases) {
    std::mt19937_64 random(kSeed);
    WindowStats full = RandomWindow(random, 10);
    test.set(full, kMaxCount);
    WindowStats more = RandomWindow(random, 10);
    test.set(more, 1);
    const WindowStats before = full;
    const absl::Status status = full.Merge(more);
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << test.name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(test.name));
    EXPECT_TRUE(full == before) << test.name;
  }
}

TEST(WindowStatsTest, ValidateRefusesCountsThatCannotBe) {
  const struct {
    std::string message;
    std::function<void(WindowStats&)> spoil;
  } kCases[] = {
      {"old arm: errors = 11 is more than old arm: requests = 10",
       [](WindowStats& s) { s.arm(Arm::kOld).errors = 11; }},
      {"new arm: errors = 1 is more than new arm: requests = 0",
       [](WindowStats& s) { s.arm(Arm::kNew).errors = 1; }},
      {"old arm: latencies = 11 is more than old arm: requests = 10",
       [](WindowStats& s) { s.arm(Arm::kOld).latency.RecordBucket(4, 11); }},
      {"paired errors (new_only + old_only) = 9 is more than comparisons = 8",
       [](WindowStats& s) {
         s.paired_errors = {4, 5};
       }},
      {"mismatches of field 'city' = 6 is more than comparisons with outcome 'mismatch' = 5",
       [](WindowStats& s) { ASSERT_TRUE(s.AddFieldMismatches("city", ValueMismatches(6)).ok()); }},
      {"mismatches of field '_other' = 1 is more than comparisons with outcome 'mismatch' = 0",
       [](WindowStats& s) {
         s.comparison(ComparisonOutcome::kMismatch) = 0;
         s.comparison(ComparisonOutcome::kMatch) = 8;
         ASSERT_TRUE(s.AddFieldMismatches(WindowStats::kOtherFields, ValueMismatches(1)).ok());
       }},
      {"paired latencies (slower + not_slower) = 9 is more than comparisons = 8",
       [](WindowStats& s) {
         s.paired_latency = {4, 5};
       }},
      {"old arm: requests with a subject = 11 is more than old arm: requests = 10",
       [](WindowStats& s) { s.subjects.reads[0].slots.Add(1, 11); }},
      {"new arm: requests with a subject = 1 is more than new arm: requests = 0",
       [](WindowStats& s) { s.subjects.reads[1].Record(1); }},
      {"old arm: requests: registers set by a subject = 2 is more than old arm: requests with a subject = 1",
       [](WindowStats& s) {
         s.subjects.reads[0].Record(0);
         s.subjects.reads[0].distinct.Add(~uint64_t{0});
       }},
      {"comparable comparisons with a subject = 6 is more than comparable comparisons = 5",
       [](WindowStats& s) { s.subjects.compared.slots.Add(1, 6); }},
      {"old arm: errors with a subject = 3 is more than old arm: errors = 2",
       [](WindowStats& s) { s.subjects.errors[0].slots.Add(1, 3); }},
      {"old arm: errors of affected subjects = 3 is more than old arm: errors = 2",
       [](WindowStats& s) {
         s.subjects.errors[0].AddAffected(1, 2);
         s.subjects.errors[0].AddAffected(2, 1);
       }},
      {"new arm: errors with a subject = 1 is more than new arm: errors = 0",
       [](WindowStats& s) { s.subjects.errors[1].Record(1, 1); }},
      {"mismatches with a subject = 6 is more than mismatches = 5",
       [](WindowStats& s) { s.subjects.mismatched.slots.Add(1, 6); }},
      {"mismatches of affected subjects = 6 is more than mismatches = 5",
       [](WindowStats& s) { s.subjects.mismatched.AddAffected(1, 6); }},
      {"paired errors: new_only of affected subjects = 2 is more than paired errors: new_only = 1",
       [](WindowStats& s) { s.subjects.new_failed_only.AddAffected(1, 2); }},
      {"paired errors: old_only with a subject = 2 is more than paired errors: old_only = 1",
       [](WindowStats& s) { s.subjects.old_failed_only.slots.Add(1, 2); }},
      {"mismatches with a subject, slot 4: 0 + 9007199254740993",
       [](WindowStats& s) { s.subjects.mismatched.slots.Add(4, kMaxCount + 1); }},
      // The sums over slots and over subjects would wrap around to 0.
      {"mismatches with a subject, slot 4: 0 + 9223372036854775808",
       [](WindowStats& s) {
         s.subjects.mismatched.slots.Add(4, uint64_t{1} << 63);
         s.subjects.mismatched.slots.Add(5, uint64_t{1} << 63);
       }},
      {"mismatches of one affected subject: 0 + 9223372036854775808",
       [](WindowStats& s) {
         s.subjects.mismatched.AddAffected(4, uint64_t{1} << 63);
         s.subjects.mismatched.AddAffected(5, uint64_t{1} << 63);
       }},
      {"repairs: queued: 9007199254740993", [](WindowStats& s) { s.repairs.queued = kMaxCount + 1; }},
      {"writes: mirror_ok: 18446744073709551615 + 0 is above the largest count",
       [](WindowStats& s) { s.writes.mirror_ok = ~uint64_t{0}; }},
      {"timeout: 9007199254740993",
       [](WindowStats& s) { s.comparison(ComparisonOutcome::kTimeout) = kMaxCount + 1; }},
  };
  for (const auto& test : kCases) {
    WindowStats stats;
    stats.arm(Arm::kOld).requests = 10;
    stats.arm(Arm::kOld).errors = 2;
    stats.paired_errors = {1, 1};
    stats.comparison(ComparisonOutcome::kMismatch) = 5;
    stats.comparison(ComparisonOutcome::kErrorInNew) = 3;
    ASSERT_TRUE(stats.Validate().ok());
    test.spoil(stats);
    EXPECT_THAT(std::string(stats.Validate().message()), HasSubstr(test.message));
  }
}

// A row may be taken on in one bucket and copied in the next, as a repair may be queued and done.
TEST(WindowStatsTest, ProgressMayFallIntoALaterBucketThanItsBeginning) {
  WindowStats stats;
  stats.backfill.rows_copied = 7;
  stats.repairs.done = 5;
  EXPECT_TRUE(stats.Validate().ok()) << stats.Validate();
}

TEST(WindowStatsTest, FieldCountsThatWrapAroundAreRefused) {
  FieldMismatches wraps_to_zero;
  wraps_to_zero[MismatchKind::kValue] = uint64_t{1} << 63;
  wraps_to_zero[MismatchKind::kType] = uint64_t{1} << 63;
  WindowStats stats;
  EXPECT_EQ(stats.AddFieldMismatches("city", wraps_to_zero).code(), absl::StatusCode::kOutOfRange);
}

TEST(WindowStatsTest, EmptyWindow) {
  WindowStats stats;
  EXPECT_TRUE(stats.Validate().ok());
  ASSERT_TRUE(stats.Merge(WindowStats()).ok());
  EXPECT_EQ(stats, WindowStats());
  // A field without a mismatch leaves no trace, or equal windows would differ.
  ASSERT_TRUE(stats.AddFieldMismatches("city", FieldMismatches()).ok());
  EXPECT_EQ(stats, WindowStats());
}

TEST(WindowStatsTest, Names) {
  EXPECT_EQ(ArmName(Arm::kOld), "old");
  EXPECT_EQ(ArmName(Arm::kNew), "new");
  const absl::string_view kinds[] = {"value", "type", "missing", "extra", "order"};
  for (size_t i = 0; i < kMismatchKindCount; ++i)
    EXPECT_EQ(MismatchKindName(static_cast<MismatchKind>(i)), kinds[i]);
}

}  // namespace
}  // namespace lockstep::domain
