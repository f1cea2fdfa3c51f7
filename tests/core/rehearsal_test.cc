// Rehearsals of a plan over buckets that were made up, and simulated traffic.
#include "core/domain/rehearsal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/bucketing.h"
#include "core/domain/records.h"
#include "core/domain/traffic_model.h"

namespace lockstep::domain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);
constexpr uint64_t kSeed = 7;

absl::Time BucketAt(int index) { return kStart + index * kTelemetryBucket; }

// DUAL_WRITE without checks, SHADOW_READ and CANARY_READ with a budget of 1 %.
MigrationPlan ShortPlan() {
  const Check mismatches = {.name = "mismatches", .metric = Metric::kMismatchRatio, .budget = 0.01};
  MigrationPlan plan;
  plan.steps = {{.stage = Stage::kDualWrite},
                {.stage = Stage::kShadowRead, .min_bake = absl::Seconds(30), .checks = {mismatches}},
                {.stage = Stage::kCanaryRead, .weight = 5'000, .checks = {mismatches}}};
  return plan;
}

EvidenceBucket Compared(int index, uint64_t matches, uint64_t mismatches) {
  EvidenceBucket bucket{.start = BucketAt(index), .stats = {}};
  bucket.stats.comparison(ComparisonOutcome::kMatch) = matches;
  bucket.stats.comparison(ComparisonOutcome::kMismatch) = mismatches;
  return bucket;
}

// "start step run_state action" of every bucket.
std::vector<std::string> Rehearse(Rehearsal* rehearsal, const std::vector<EvidenceLine>& lines) {
  std::vector<std::string> log;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto judged = rehearsal->Add(lines[i], i + 1);
    EXPECT_TRUE(judged.ok()) << judged.status();
    if (!judged.ok() || !*judged) continue;
    log.push_back(absl::StrCat((*judged)->step, " ", VerdictName((*judged)->result.verdict), " ",
                               RunStateName((*judged)->run_state), " ",
                               (*judged)->transition ? (*judged)->transition->action : "-"));
  }
  return log;
}

TEST(RehearsalTest, FollowsThePlanByItsOwnVerdicts) {
  Rehearsal rehearsal;
  std::vector<EvidenceLine> lines = {EvidenceHeader{"", ShortPlan(), {}}};
  for (int i = 0; i < 8; ++i) lines.push_back(Compared(i, 2'000, 0));
  // The shadow step begins after the first bucket and bakes for 30 s; the canary's evidence carries over.
  EXPECT_THAT(Rehearse(&rehearsal, lines),
              ElementsAre("0 ADVANCE RUNNING advance", "1 HOLD RUNNING -", "1 HOLD RUNNING -",
                          "1 HOLD RUNNING -", "1 HOLD RUNNING -", "1 HOLD RUNNING -",
                          "1 ADVANCE RUNNING advance", "2 ADVANCE SUCCEEDED succeed"));
  EXPECT_EQ(rehearsal.migration().published.read_weight, 5'000u);
}

TEST(RehearsalTest, ARollbackEndsTheEvidence) {
  Rehearsal rehearsal;
  const std::vector<std::string> log =
      Rehearse(&rehearsal, {EvidenceHeader{"", ShortPlan(), {}}, Compared(0, 0, 0), Compared(1, 100, 100),
                            Compared(2, 1'000'000, 0)});
  EXPECT_THAT(log, ElementsAre("0 ADVANCE RUNNING advance", "1 ROLL_BACK ROLLED_BACK rollback",
                               "0 HOLD ROLLED_BACK -"));
  EXPECT_THAT(rehearsal.Evaluate().sentence, HasSubstr("rolled back"));
}

TEST(RehearsalTest, ExplicitStepsRuleAndVerdictsAreOnlyShown) {
  Rehearsal rehearsal;
  const std::vector<std::string> log = Rehearse(
      &rehearsal, {EvidenceHeader{"", ShortPlan(), {}}, EvidenceStep{2, BucketAt(0)}, Compared(0, 2'000, 0),
                   Compared(1, 100, 100), EvidenceStep{1, BucketAt(5)}, Compared(6, 0, 0)});
  EXPECT_THAT(log, ElementsAre("2 ADVANCE RUNNING -", "2 ROLL_BACK RUNNING -", "1 ROLL_BACK RUNNING -"));
}

TEST(RehearsalTest, ManualStepsWaitOrNot) {
  for (const bool advance : {false, true}) {
    Rehearsal rehearsal({.full_results = false, .advance_manual_steps = advance});
    MigrationPlan plan = ShortPlan();
    plan.steps[0].manual = true;
    const std::vector<std::string> log =
        Rehearse(&rehearsal, {EvidenceHeader{"", plan, {}}, Compared(0, 0, 0)});
    EXPECT_THAT(log, ElementsAre(advance ? "0 ADVANCE RUNNING advance" : "0 ADVANCE RUNNING -"));
  }
}

TEST(RehearsalTest, ADeadlinePausesWhetherResultsAreFullOrNot) {
  for (const bool full : {false, true}) {
    Rehearsal rehearsal({.full_results = full});
    MigrationPlan plan = ShortPlan();
    plan.steps[1].deadline = absl::Seconds(30);
    std::vector<EvidenceLine> lines = {EvidenceHeader{"", plan, {}}};
    for (int i = 0; i < 7; ++i) lines.push_back(Compared(i, 1, 0));
    EXPECT_EQ(Rehearse(&rehearsal, lines).back(), "1 HOLD PAUSED escalate");
  }
}

TEST(RehearsalTest, ABreachThatNotifiesIsAnnouncedOnce) {
  Rehearsal rehearsal({.full_results = false});
  MigrationPlan plan = ShortPlan();
  plan.steps[1].checks[0].on_breach = BreachAction::kNotify;
  const std::vector<std::string> log =
      Rehearse(&rehearsal, {EvidenceHeader{"", plan, {}}, Compared(0, 0, 0), Compared(1, 100, 100),
                            Compared(2, 100, 100), Compared(3, 100, 100)});
  EXPECT_THAT(log, ElementsAre("0 ADVANCE RUNNING advance", "1 HOLD RUNNING notify", "1 HOLD RUNNING -",
                               "1 HOLD RUNNING -"));
}

TEST(RehearsalTest, ACopyGoesOnFromTheSameEvidence) {
  Rehearsal rehearsal;
  std::vector<EvidenceLine> lines = {EvidenceHeader{"", ShortPlan(), {}}};
  for (int i = 0; i < 4; ++i) lines.push_back(Compared(i, 50, i % 2));
  Rehearse(&rehearsal, lines);
  Rehearsal copy = rehearsal;
  const auto a = rehearsal.Add(Compared(4, 50, 1), 9), b = copy.Add(Compared(4, 50, 1), 9);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ((*a)->result.log_evidence_rollback, (*b)->result.log_evidence_rollback);
  EXPECT_EQ((*a)->result.checks[0].log_evidence_advance, (*b)->result.checks[0].log_evidence_advance);
}

TEST(RehearsalTest, WhatIsOutstandingAddsUp) {
  MigrationPlan plan = ShortPlan();
  plan.steps[0].checks = {
      {.name = "repairs", .metric = Metric::kOutstandingRepairs, .limit = 0},
      {.name = "copied", .metric = Metric::kCoverage, .limit = 1},
  };
  const auto bucket = [](int index, RepairStats repairs, BackfillStats backfill) {
    EvidenceBucket made{.start = BucketAt(index), .stats = {}};
    made.stats.repairs = repairs;
    made.stats.backfill = backfill;
    return made;
  };
  Rehearsal rehearsal;
  EXPECT_THAT(
      Rehearse(&rehearsal, {EvidenceHeader{"", plan, {}}, bucket(0, {.queued = 2}, {.rows_to_copy = 10}),
                            bucket(1, {.done = 1}, {.rows_copied = 10}), bucket(2, {.done = 1}, {})}),
      ElementsAre("0 HOLD RUNNING -", "0 HOLD RUNNING -", "0 ADVANCE RUNNING advance"));
}

struct BadLog {
  std::string name;
  std::vector<EvidenceLine> lines;
  std::string message;  // it starts with the number of the last line
};

EvidenceBucket Impossible() {
  EvidenceBucket bucket{.start = BucketAt(0), .stats = {}};
  bucket.stats.arm(Arm::kNew).errors = 3;
  return bucket;
}

std::vector<BadLog> BadLogs() {
  const EvidenceHeader header{"", ShortPlan(), {}};
  EvidenceHeader started = header;
  started.epoch.start = BucketAt(3);
  EvidenceHeader off_edge = header;
  off_edge.epoch.start = kStart + absl::Seconds(1);
  EvidenceHeader no_plan = header;
  no_plan.plan.steps.clear();
  EvidenceBucket between = Compared(0, 1, 0);
  between.start += absl::Milliseconds(2'500);
  return {
      {"no header", {Compared(0, 1, 0)}, "header"},
      {"no header before a step", {EvidenceStep{0, BucketAt(0)}}, "header"},
      {"two headers", {header, header}, "second header"},
      {"invalid plan", {no_plan}, "plan.steps"},
      {"evidence between edges", {off_edge}, "multiples of 5s"},
      {"bucket between edges", {header, between}, "multiples of 5s"},
      {"the same bucket twice", {header, Compared(3, 1, 0), Compared(3, 1, 0)}, "not later"},
      {"an earlier bucket", {header, Compared(3, 1, 0), Compared(2, 1, 0)}, "not later"},
      {"before the evidence", {started, Compared(2, 1, 0)}, "not later"},
      {"impossible counts", {header, Impossible()}, "errors"},
      {"no such step", {header, EvidenceStep{3, BucketAt(0)}}, "no step 3"},
      {"a negative step", {header, EvidenceStep{-1, BucketAt(0)}}, "no step -1"},
      {"steps after buckets", {header, Compared(0, 1, 0), EvidenceStep{0, BucketAt(1)}}, "before the first"},
      {"step between edges", {header, EvidenceStep{0, kStart + absl::Seconds(1)}}, "multiples of 5s"},
      {"step before the evidence", {started, EvidenceStep{0, BucketAt(2)}}, "before the evidence"},
      {"step before a bucket",
       {header, EvidenceStep{0, BucketAt(0)}, Compared(3, 1, 0), EvidenceStep{1, BucketAt(3)}},
       "before the end"},
      {"bucket before its step", {header, EvidenceStep{0, BucketAt(2)}, Compared(1, 1, 0)}, "not later"},
  };
}

TEST(RehearsalTest, SaysWhichLineIsWrong) {
  for (const BadLog& log : BadLogs()) {
    SCOPED_TRACE(log.name);
    Rehearsal rehearsal;
    for (size_t i = 0; i < log.lines.size(); ++i) {
      const auto judged = rehearsal.Add(log.lines[i], i + 1);
      if (i + 1 < log.lines.size()) {
        EXPECT_TRUE(judged.ok()) << judged.status();
        continue;
      }
      EXPECT_EQ(judged.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(judged.status().message()), StartsWith(absl::StrCat("line ", i + 1, ": ")));
      EXPECT_THAT(std::string(judged.status().message()), HasSubstr(log.message));
    }
  }
}

TEST(RehearsalTest, ARefusedLineChangesNothing) {
  Rehearsal rehearsal;
  ASSERT_TRUE(rehearsal.Add(EvidenceHeader{"", ShortPlan(), {}}, 1).ok());
  EXPECT_FALSE(rehearsal.Add(Impossible(), 2).ok());
  EXPECT_EQ(rehearsal.migration().run_state, RunState::kDraft);
  EXPECT_TRUE(rehearsal.Add(Compared(0, 1, 0), 3).ok());
  EXPECT_FALSE(rehearsal.Add(Compared(0, 1, 0), 4).ok());
  EXPECT_TRUE(rehearsal.Add(Compared(1, 1, 0), 5).ok());
}

TEST(RehearsalTest, VerdictsAloneLeadToTheSameAsFullResults) {
  TrafficModel model;
  model.reads_per_second = 400;
  model.comparison_share = 0.5;
  model.error_rate = 0.01;
  model.new_side = HealthyNewSide(model);
  MigrationPlan plan = ShortPlan();
  plan.steps[2].checks.push_back({.name = "errors", .metric = Metric::kErrorRatio, .floor = 0.02});
  for (const double error_rate : {0.01, 0.08}) {
    model.new_side.error_rate = error_rate;
    std::vector<std::string> outcomes[2];
    for (const bool full : {false, true}) {
      TrafficSource traffic(model, kSeed);
      Rehearsal rehearsal({.full_results = full});
      std::vector<EvidenceLine> lines = {EvidenceHeader{"", plan, {}}};
      for (int i = 0; i < 200; ++i) {
        lines.push_back(EvidenceBucket{BucketAt(i), traffic.Next(Stage::kCanaryRead, 5'000)});
      }
      outcomes[full ? 1 : 0] = Rehearse(&rehearsal, lines);
    }
    EXPECT_EQ(outcomes[0], outcomes[1]);
    EXPECT_THAT(outcomes[0], ::testing::Contains(error_rate > 0.05 ? "2 ROLL_BACK ROLLED_BACK rollback"
                                                                   : "2 ADVANCE SUCCEEDED succeed"));
  }
}

TEST(SimulateRunsTest, TellsGoodPlansFromBad) {
  TrafficModel model;
  model.reads_per_second = 200;
  model.comparison_share = 0.5;
  const auto healthy = SimulateRuns(ShortPlan(), model, {.runs = 20, .seed = kSeed});
  ASSERT_TRUE(healthy.ok()) << healthy.status();
  EXPECT_EQ(healthy->until_end.runs, 20u);
  EXPECT_EQ(healthy->until_rollback.runs, 0u);
  ASSERT_EQ(healthy->until_step.size(), 3u);
  EXPECT_EQ(healthy->until_step[1].median, absl::Seconds(5));
  EXPECT_GE(healthy->until_step[2].p10, absl::Seconds(35));
  EXPECT_GT(healthy->until_end.median, healthy->until_step[2].median);

  model.new_side.mismatch_rate = 0.2;
  const auto bad = SimulateRuns(ShortPlan(), model, {.runs = 20, .seed = kSeed});
  ASSERT_TRUE(bad.ok());
  EXPECT_EQ(bad->until_rollback.runs, 20u);
  EXPECT_EQ(bad->rollbacks_by_check.at("mismatches"), 20u);
  EXPECT_THAT(bad->rollback_sentence, HasSubstr("mismatches"));

  model.reads_per_second = 0;
  const auto silent = SimulateRuns(ShortPlan(), model, {.runs = 2, .horizon = absl::Minutes(10)});
  ASSERT_TRUE(silent.ok());
  EXPECT_EQ(silent->held.at(1).runs, 2u);
  EXPECT_FALSE(silent->held.at(1).sentence.empty());
}

TEST(SimulateRunsTest, RefusesWhatItCannotRun) {
  TrafficModel model;
  EXPECT_FALSE(SimulateRuns(MigrationPlan(), model, {}).ok());
  EXPECT_FALSE(SimulateRuns(ShortPlan(), model, {.runs = 0}).ok());
  EXPECT_FALSE(SimulateRuns(ShortPlan(), model, {.horizon = absl::ZeroDuration()}).ok());
  model.error_rate = 2;
  EXPECT_THAT(std::string(SimulateRuns(ShortPlan(), model, {}).status().message()), HasSubstr("error_rate"));
}

TEST(SummariseTest, IsByNearestRank) {
  EXPECT_EQ(Summarise({}).runs, 0u);
  std::vector<absl::Duration> seconds;
  for (int i = 10; i >= 1; --i) seconds.push_back(absl::Seconds(i));
  const DurationSummary summary = Summarise(seconds);
  EXPECT_EQ(summary.p10, absl::Seconds(1));
  EXPECT_EQ(summary.median, absl::Seconds(5));
  EXPECT_EQ(summary.p90, absl::Seconds(9));
}

TrafficModel Everything() {
  TrafficModel model;
  model.reads_per_second = 2'000;
  model.writes_per_second = 100;
  model.comparison_share = 0.1;
  model.error_rate = 0.01;
  model.latency_median = absl::Milliseconds(20);
  model.new_side = {
      .error_rate = 0.03, .latency_factor = 1.5, .mismatch_rate = 0.02, .mirror_failure_rate = 0.1};
  model.mismatch_field = "total";
  model.backfill_rows = 1'000;
  model.backfill_rows_per_second = 33;
  return model;
}

TEST(TrafficModelTest, TheSameSeedMakesTheSameTraffic) {
  TrafficSource a(Everything(), kSeed), b(Everything(), kSeed + 1);
  b.Restart(kSeed);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(a.Next(Stage::kCanaryRead, 10'000), b.Next(Stage::kCanaryRead, 10'000));
  }
  b.Restart(kSeed + 1);
  EXPECT_NE(a.Next(Stage::kCanaryRead, 10'000), b.Next(Stage::kCanaryRead, 10'000));
}

// Whether `events` of `trials` is within five standard deviations of `rate`.
void ExpectRate(double events, double trials, double rate, const std::string& what) {
  EXPECT_NEAR(events, trials * rate, 5 * std::sqrt(trials * rate * (1 - rate)) + 1e-9)
      << what << ", seed " << kSeed;
}

TEST(TrafficModelTest, RatesAreAsStated) {
  const TrafficModel model = Everything();
  for (const double burst : {1.0, 20.0}) {
    TrafficModel bursty = model;
    bursty.mean_burst = burst;
    TrafficSource traffic(bursty, kSeed);
    WindowStats sum;
    constexpr int kWindows = 400;
    for (int i = 0; i < kWindows; ++i) {
      const WindowStats window = traffic.Next(Stage::kCanaryRead, 25'000);
      ASSERT_TRUE(window.Validate().ok()) << window.Validate();
      ASSERT_TRUE(sum.Merge(window).ok());
    }
    const double reads = 2'000.0 * 5 * kWindows;
    const ArmStats& old_arm = sum.arm(Arm::kOld);
    const ArmStats& new_arm = sum.arm(Arm::kNew);
    // Poisson counts: the standard deviation is the root of the mean.
    EXPECT_NEAR(static_cast<double>(old_arm.requests), reads * 0.75, 5 * std::sqrt(reads * 0.75));
    EXPECT_NEAR(static_cast<double>(new_arm.requests), reads * 0.25, 5 * std::sqrt(reads * 0.25));
    EXPECT_NEAR(static_cast<double>(sum.compared()), reads * 0.1, 5 * std::sqrt(reads * 0.1));
    EXPECT_EQ(new_arm.latency.count(), new_arm.requests);
    // A burst of geometric length with mean B inflates the variance 2 B - 1 times.
    const double inflation = 2 * burst - 1;
    EXPECT_NEAR(static_cast<double>(old_arm.errors), reads * 0.75 * 0.01,
                5 * std::sqrt(reads * 0.75 * 0.01 * inflation));
    EXPECT_NEAR(static_cast<double>(new_arm.errors), reads * 0.25 * 0.03,
                5 * std::sqrt(reads * 0.25 * 0.03 * inflation));
    EXPECT_NEAR(static_cast<double>(sum.mismatches()), static_cast<double>(sum.comparable()) * 0.02,
                5 * std::sqrt(static_cast<double>(sum.comparable()) * 0.02 * inflation));
    EXPECT_EQ(sum.fields().at("total").total(), sum.mismatches());
    if (burst > 1) continue;
    ExpectRate(static_cast<double>(old_arm.latency.CountAbove(LatencySketch::BucketIndex(20'000'000))),
               static_cast<double>(old_arm.requests),
               0.5 * std::erfc(std::log(static_cast<double>(LatencySketch::EdgeNanoseconds(
                                            LatencySketch::BucketIndex(20'000'000))) /
                                        20e6) /
                               0.5 / std::sqrt(2.0)),
               "old latency");
    EXPECT_NEAR(new_arm.latency.Quantile(0.5)->midpoint_ns, 30e6, 30e6 * 0.02);
    EXPECT_NEAR(new_arm.latency.Quantile(0.99)->midpoint_ns, 30e6 * std::exp(0.5 * 2.3263), 2e6);
    ExpectRate(static_cast<double>(sum.writes.mirror_failed), 100.0 * 5 * kWindows, 0.1, "mirror failures");
    EXPECT_EQ(sum.backfill.rows_copied, 1'000u);
    EXPECT_EQ(sum.backfill.rows_to_copy, 1'000u);
    EXPECT_EQ(sum.subjects.reads[1].slots.total(), new_arm.requests);
    EXPECT_NEAR(sum.subjects.reads[1].distinct.Estimate(), static_cast<double>(new_arm.requests),
                0.06 * static_cast<double>(new_arm.requests));
  }
}

// The sums of independent draws are compared with their exact distribution where it is simple.
TEST(TrafficModelTest, CountsArePoisson) {
  TrafficModel model;
  model.reads_per_second = 0.4;  // 2 in a window
  model.subjects = SubjectModel::kNone;
  TrafficSource traffic(model, kSeed);
  constexpr int kWindows = 20'000;
  std::vector<int> seen(12);
  for (int i = 0; i < kWindows; ++i) {
    ++seen[std::min<size_t>(traffic.Next(Stage::kShadowRead, 0).arm(Arm::kOld).requests, 11)];
  }
  for (size_t k = 0; k < 8; ++k) {
    const double p = std::exp(-2.0 + static_cast<double>(k) * std::log(2.0) - std::lgamma(k + 1.0));
    ExpectRate(seen[k], kWindows, p, absl::StrCat(k, " requests"));
  }
}

TEST(TrafficModelTest, StagesDecideWhatThereIs) {
  TrafficSource traffic(Everything(), kSeed);
  const WindowStats off = traffic.Next(Stage::kOff, 0);
  EXPECT_GT(off.arm(Arm::kOld).requests, 0u);
  EXPECT_EQ(off.arm(Arm::kNew).requests + off.compared() + off.writes.mirror_attempts(), 0u);
  const WindowStats dual = traffic.Next(Stage::kDualWrite, 0);
  EXPECT_EQ(dual.compared(), 0u);
  EXPECT_GT(dual.writes.mirror_attempts(), 0u);
  const WindowStats shadow = traffic.Next(Stage::kShadowRead, 0);
  EXPECT_GT(shadow.compared(), 0u);
  EXPECT_EQ(shadow.arm(Arm::kNew).requests, 0u);
  EXPECT_EQ(traffic.elapsed(), 3 * kTelemetryBucket);
}

TEST(TrafficModelTest, TheNewSideChangesAtTheOnset) {
  TrafficModel model = Everything();
  model.onset = absl::Seconds(50);
  TrafficSource traffic(model, kSeed);
  for (int i = 0; i < 20; ++i) {
    const WindowStats window = traffic.Next(Stage::kCanaryRead, 50'000);
    EXPECT_EQ(window.mismatches() > 0, i >= 10) << i << ", seed " << kSeed;
    EXPECT_EQ(window.arm(Arm::kNew).errors > 0, i >= 10) << i << ", seed " << kSeed;
  }
}

TEST(TrafficModelTest, TheSwingIsInBothArms) {
  TrafficModel model = Everything();
  model.new_side.error_rate = model.error_rate;
  model.swing_factor = 5;
  model.swing_period = absl::Seconds(1'000);
  TrafficSource traffic(model, kSeed);
  for (int i = 0; i < 200; ++i) {
    const WindowStats window = traffic.Next(Stage::kCanaryRead, 50'000);
    if (i == 0 || i == 100) {  // the trough and the crest
      for (const ArmStats& arm : window.arms) {
        ExpectRate(static_cast<double>(arm.errors), static_cast<double>(arm.requests), i == 0 ? 0.01 : 0.05,
                   "errors");
      }
    }
  }
}

TEST(TrafficModelTest, SubjectsAreAsStated) {
  TrafficModel model = Everything();
  model.subjects = SubjectModel::kNone;
  EXPECT_EQ(TrafficSource(model, kSeed).Next(Stage::kCanaryRead, 50'000).subjects, SubjectStats());

  model.subjects = SubjectModel::kPopulation;
  model.population = 50;
  const WindowStats few = TrafficSource(model, kSeed).Next(Stage::kCanaryRead, 50'000);
  EXPECT_NEAR(few.subjects.reads[0].distinct.Estimate(), 50, 5);
  EXPECT_LE(few.subjects.errors[1].affected().size(), 50u);

  model.names_affected = false;
  const WindowStats unnamed = TrafficSource(model, kSeed).Next(Stage::kCanaryRead, 50'000);
  EXPECT_TRUE(unnamed.subjects.errors[1].affected().empty());
  EXPECT_EQ(unnamed.subjects.errors[1].slots.total(), unnamed.arm(Arm::kNew).errors);
}

TEST(TrafficModelTest, NamesWhatIsOutOfRange) {
  const std::pair<std::string, std::function<void(TrafficModel*)>> cases[] = {
      {"reads_per_second", [](TrafficModel* m) { m->reads_per_second = -1; }},
      {"reads_per_second", [](TrafficModel* m) { m->reads_per_second = std::nan(""); }},
      {"writes_per_second", [](TrafficModel* m) { m->writes_per_second = 1e9; }},
      {"comparison_share", [](TrafficModel* m) { m->comparison_share = 1.1; }},
      {"error_rate", [](TrafficModel* m) { m->error_rate = -0.1; }},
      {"latency_median", [](TrafficModel* m) { m->latency_median = absl::Hours(2); }},
      {"latency_sigma", [](TrafficModel* m) { m->latency_sigma = 0; }},
      {"new_side.mismatch_rate", [](TrafficModel* m) { m->new_side.mismatch_rate = 2; }},
      {"new_side_before_onset.latency_factor",
       [](TrafficModel* m) { m->new_side_before_onset.latency_factor = 0; }},
      {"swing_factor", [](TrafficModel* m) { m->swing_factor = 0.5; }},
      {"swing_period", [](TrafficModel* m) { m->swing_period = absl::ZeroDuration(); }},
      {"mean_burst", [](TrafficModel* m) { m->mean_burst = 0; }},
      {"backfill_rows_per_second", [](TrafficModel* m) { m->backfill_rows_per_second = -1; }},
      {"population",
       [](TrafficModel* m) {
         m->subjects = SubjectModel::kPopulation;
         m->population = 0;
       }},
  };
  EXPECT_TRUE(ValidateTrafficModel(Everything()).ok());
  for (const auto& [name, change] : cases) {
    TrafficModel model = Everything();
    change(&model);
    EXPECT_THAT(std::string(ValidateTrafficModel(model).message()), HasSubstr(name));
  }
}

}  // namespace
}  // namespace lockstep::domain
