#include "core/domain/window_stats.h"

#include <functional>
#include <random>

#include "absl/strings/str_cat.h"
#include "core/domain/log_math.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSeed = 7331;

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
  stats.dropped = {below(100), below(100), below(100)};
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
    stats.dropped = {count(), count(), count()};
    FieldMismatches field;
    for (uint64_t& kind : field.by_kind) kind = count();
    EXPECT_TRUE(stats.AddFieldMismatches("address.city", field).ok());
    return stats;
  };
  WindowStats merged = window(1);
  ASSERT_TRUE(merged.Merge(window(2)).ok());
  EXPECT_EQ(merged, window(3));
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
      {"writes: mirror_ok: 18446744073709551615 + 0 is above the largest count",
       [](WindowStats& s) { s.writes.mirror_ok = ~uint64_t{0}; }},
      {"timeout: 9007199254740993",
       [](WindowStats& s) { s.comparison(ComparisonOutcome::kTimeout) = kMaxCount + 1; }},
  };
  for (const auto& test : kCases) {
    WindowStats stats;
    stats.arm(Arm::kOld).requests = 10;
    stats.comparison(ComparisonOutcome::kMismatch) = 5;
    stats.comparison(ComparisonOutcome::kErrorInNew) = 3;
    ASSERT_TRUE(stats.Validate().ok());
    test.spoil(stats);
    EXPECT_THAT(std::string(stats.Validate().message()), HasSubstr(test.message));
  }
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
