#include "core/domain/metric.h"

#include <set>
#include <string>

#include "core/domain/plan.h"
#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

TEST(MetricTableTest, RowsAreInTheOrderOfTheEnumerators) {
  for (size_t i = 0; i < kMetricCount; ++i) {
    EXPECT_EQ(static_cast<size_t>(MetricTable()[i].metric), i);
    EXPECT_EQ(&RowOf(static_cast<Metric>(i)), &MetricTable()[i]);
    EXPECT_EQ(MetricName(static_cast<Metric>(i)), MetricTable()[i].name);
  }
}

TEST(MetricTableTest, NamesAreUnique) {
  std::set<std::string> names;
  for (const MetricRow& row : MetricTable()) {
    EXPECT_FALSE(row.name.empty());
    for (char c : row.name) EXPECT_TRUE((c >= 'A' && c <= 'Z') || c == '_') << row.name;
    EXPECT_TRUE(names.insert(std::string(row.name)).second) << row.name;
  }
}

TEST(MetricTableTest, EveryFamilyHasWhatItNeeds) {
  for (const MetricRow& row : MetricTable()) {
    SCOPED_TRACE(std::string(row.name));
    const bool level = row.family == MetricFamily::kLevel;
    const bool ratio = row.family == MetricFamily::kRatio;
    const bool rate = row.family == MetricFamily::kRate;
    EXPECT_EQ(row.takes_limit, level);
    EXPECT_NE(row.first_stage, Stage::kOff);
    // A rate has a bound, from the check or of its own.
    EXPECT_EQ(rate, row.takes_budget || row.fixed_budget > 0);
    EXPECT_FALSE(row.takes_budget && row.fixed_budget > 0);
    EXPECT_LT(row.fixed_budget, 1);
    // A ratio has margins: between the two nulls the gate has no opinion.
    EXPECT_EQ(row.rollback_lambda >= 1, ratio);
    EXPECT_EQ(row.advance_lambda > row.rollback_lambda, ratio);
    EXPECT_TRUE(ratio || !row.takes_floor);
    // Edges come from the past, so latency has no function of the bucket alone.
    EXPECT_EQ(row.observe != nullptr, !level && row.metric != Metric::kLatency);
    EXPECT_EQ(row.observe_baseline != nullptr, ratio && row.metric != Metric::kLatency);
    EXPECT_EQ(row.takes_quantile, row.metric == Metric::kLatency);
    // Levels speak in sentences of their own.
    for (absl::string_view words : {row.rate, row.trials, row.happened, row.subjects}) {
      EXPECT_EQ(words.empty(), level);
    }
    // What does not depend on the share of reads can't be about who serves them.
    EXPECT_FALSE(row.carries_over && row.counts_reads_by_arm);
    EXPECT_EQ(row.counts_reads_by_arm, row.first_stage == Stage::kCanaryRead);
  }
}

WindowStats Everything() {
  WindowStats window = Compared(3, 100);
  EXPECT_TRUE(window.Merge(Served(4, 50, 5, 500)).ok());
  EXPECT_TRUE(window.Merge(Mirrored(6, 7, 80)).ok());
  EXPECT_TRUE(window.Merge(PairedFailures(8, 9, 30)).ok());
  EXPECT_TRUE(window.Merge(TimedPairs(10, 15)).ok());
  return window;
}

TEST(MetricTableTest, WhatAWindowSaysOfEach) {
  const WindowStats window = Everything();
  ASSERT_TRUE(window.Validate().ok());
  const struct {
    Check check;
    EventCount observed, baseline;
  } kCases[] = {
      {MismatchCheck(), {3, 138}, {}},  // those that failed on a side are not comparable
      {MismatchCheck(.1, "city"), {3, 138}, {}}, {MismatchCheck(.1, "street"), {0, 138}, {}},
      {ErrorCheck(), {4, 50}, {5, 500}},         {MirrorCheck(), {13, 93}, {}},
      {PairedErrorCheck(), {8, 155}, {9, 155}},  {PairedLatencyCheck(), {10, 25}, {}},
  };
  for (const auto& test : kCases) {
    const MetricRow& row = RowOf(test.check.metric);
    SCOPED_TRACE(test.check.name);
    EXPECT_EQ(row.observe(window, test.check).count, test.observed);
    EXPECT_EQ(row.observe(WindowStats(), test.check).count, EventCount());
    ASSERT_EQ(row.observe_baseline != nullptr, row.family == MetricFamily::kRatio);
    if (row.observe_baseline == nullptr) continue;
    EXPECT_EQ(row.observe_baseline(window, test.check).count, test.baseline);
    EXPECT_EQ(row.observe_baseline(WindowStats(), test.check).count, EventCount());
  }
}

TEST(MetricTableTest, WhoseObservationsTheyAre) {
  const WindowStats window = Everything();
  const SubjectStats& subjects = window.subjects;
  const struct {
    Check check;
    const SubjectTrials* trials;
    const SubjectEvents* events;
    const SubjectTrials* baseline_trials;
    const SubjectEvents* baseline_events;
    bool slots_only;
  } kCases[] = {
      {MismatchCheck(), &subjects.compared, &subjects.mismatched, nullptr, nullptr, false},
      // Who differs in one field is not reported.
      {MismatchCheck(.1, "city"), &subjects.compared, &subjects.mismatched, nullptr, nullptr, true},
      {ErrorCheck(), &subjects.reads[1], &subjects.errors[1], &subjects.reads[0], &subjects.errors[0], false},
      {PairedErrorCheck(), &subjects.compared, &subjects.new_failed_only, &subjects.compared,
       &subjects.old_failed_only, false},
      {MirrorCheck(), nullptr, nullptr, nullptr, nullptr, false},
      {PairedLatencyCheck(), nullptr, nullptr, nullptr, nullptr, false},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.check.name);
    const MetricRow& row = RowOf(test.check.metric);
    const Observation observed = row.observe(window, test.check);
    EXPECT_EQ(observed.trials, test.trials);
    EXPECT_EQ(observed.events, test.events);
    EXPECT_EQ(observed.slots_only, test.slots_only);
    if (row.observe_baseline == nullptr) continue;
    const Observation baseline = row.observe_baseline(window, test.check);
    EXPECT_EQ(baseline.trials, test.baseline_trials);
    EXPECT_EQ(baseline.events, test.baseline_events);
  }
}

}  // namespace
}  // namespace lockstep::domain
