#include "core/domain/gate_words.h"

#include <cmath>
#include <limits>
#include <string>

#include "gtest/gtest.h"
#include "tests/core/gate_windows.h"

namespace lockstep::domain {
namespace {

TEST(GateWordsTest, Counts) {
  const struct {
    uint64_t n;
    const char* words;
  } kCases[] = {{0, "0"},
                {7, "7"},
                {999, "999"},
                {1'000, "1,000"},
                {123'456, "123,456"},
                {1'234'567, "1,234,567"},
                {~uint64_t{0}, "18,446,744,073,709,551,615"}};
  for (const auto& test : kCases) EXPECT_EQ(CountInWords(test.n), test.words);
}

TEST(GateWordsTest, Percent) {
  const struct {
    double rate;
    const char* words;
  } kCases[] = {
      {0, "0 %"},
      {-0.0, "0 %"},
      {-1, "0 %"},
      {std::numeric_limits<double>::quiet_NaN(), "0 %"},
      {1e-9, "0.0000001 %"},
      {1.234e-5, "0.0012 %"},
      {.0005, "0.05 %"},
      {.000996, "0.1 %"},
      {.001, "0.1 %"},
      {.00824, "0.82 %"},
      {.0824, "8.2 %"},
      {.0996, "10 %"},
      {.1, "10 %"},
      {.1234, "12.3 %"},
      {.5, "50 %"},
      {.999, "99.9 %"},
      {1, "100 %"},
      // "100 %" is said of all only.
      {.9996, "99.96 %"},
      {.99999, "99.999 %"},
      {999'999. / 1'000'000, "99.9999 %"},
      {std::nextafter(1., 0.), "99.99999999999999 %"},
      {1.5, "150 %"},
      {20, "2000 %"},
  };
  for (const auto& test : kCases) EXPECT_EQ(PercentInWords(test.rate), test.words) << test.rate;
}

TEST(GateWordsTest, Durations) {
  const struct {
    absl::Duration duration;
    const char* words;
  } kCases[] = {{absl::ZeroDuration(), "0"},
                {absl::Nanoseconds(1), "1s"},
                {absl::Seconds(125), "2m5s"},
                {absl::Milliseconds(59'001), "1m"},
                {absl::Hours(30), "30h"}};
  for (const auto& test : kCases) EXPECT_EQ(DurationInWords(test.duration), test.words);
}

TEST(GateWordsTest, NullHypotheses) {
  const struct {
    Check check;
    const char* words;
  } kCases[] = {
      {MismatchCheck(), "the mismatch rate is at most 0.1 %"},
      {MismatchCheck(.05, "city"), "the mismatch rate of field 'city' is at most 5 %"},
      {ErrorCheck(0), "the new side fails at most 1.1 times as often as the old side"},
      {ErrorCheck(.005),
       "the new side fails at most 1.1 times as often as the old side, or at most 0.5 % of the time"},
      {PairedErrorCheck(0), "the new side fails at most 1.1 times as often as the old side"},
      {MirrorCheck(), "the rate of failed mirror writes is at most 1 %"},
      {LatencyCheck(.99),
       "the new side, less a margin of 10.5 %, is slower than the old side's p99 at most as often as the old "
       "side"},
      {PairedLatencyCheck(), "the share of pairs in which the new side is over 10 % slower is at most 50 %"},
      {LevelCheck(Metric::kCoverage, 1), ""},
  };
  for (const auto& test : kCases) EXPECT_EQ(NullHypothesisInWords(test.check), test.words);
}

// Every verdict and every reason to hold, in full.
TEST(GateWordsTest, CheckSentences) {
  struct Case {
    const char* name;
    Check check;
    CheckResult result;
    std::optional<ChangePointEvidence::Rise> rise;
    const char* sentence;
  };
  const CheckResult kBreached = {.verdict = Verdict::kRollBack,
                                 .bad = 412,
                                 .total = 5'000,
                                 .estimate = .0824,
                                 .lower = .0712,
                                 .upper = .095,
                                 .budget = .001};
  const CheckResult kHolds = {.bad = 1, .total = 900, .estimate = .00111, .upper = .0123, .budget = .01};
  const auto with = [](CheckResult result, const auto& change) {
    change(result);
    return result;
  };
  const ChangePointEvidence::Rise late = {kGateStart + absl::Minutes(61), 9, 40.4, 3'000};
  const Case kCases[] = {
      {"breached", MismatchCheck(), kBreached, std::nullopt,
       "mismatches: 412 of 5,000 comparisons differ (8.2 %, at least 7.1 %), the budget is 0.1 %: roll "
       "back."},
      {"late", MismatchCheck(), kBreached, late,
       "mismatches: 412 of 5,000 comparisons differ (8.2 %, at least 7.1 %), the budget is 0.1 %; since "
       "23:14:20 UTC it is 40 of 3,000: roll back."},
      {"paused", MismatchCheck(), with(kBreached, [](auto& r) { r.on_breach = BreachAction::kPause; }),
       std::nullopt,
       "mismatches: 412 of 5,000 comparisons differ (8.2 %, at least 7.1 %), the budget is 0.1 %: pause."},
      {"notified", MismatchCheck(), with(kBreached, [](auto& r) { r.on_breach = BreachAction::kNotify; }),
       std::nullopt,
       "mismatches: 412 of 5,000 comparisons differ (8.2 %, at least 7.1 %), the budget is 0.1 %: notify, "
       "and hold."},
      {"advisory", MismatchCheck(), with(kBreached, [](auto& r) { r.advisory = true; }), std::nullopt,
       "mismatches: 412 of 5,000 comparisons differ (8.2 %, at least 7.1 %), the budget is 0.1 %: advisory "
       "only."},
      {"of few subjects", MismatchCheck(),
       with(kBreached,
            [](auto& r) {
              r.affected_subjects = 30;
              r.distinct_subjects = 1'000;
            }),
       std::nullopt,
       "mismatches: 412 of 5,000 comparisons differ, those of 30 of 1,000 records (8.2 %, at least 7.1 %), "
       "the budget is 0.1 %: roll back."},
      {"needs more", MirrorCheck(), with(kHolds, [](auto& r) { r.needed_more = 1'203; }), late,
       "mirror: 1 of 900 mirror writes failed (0.11 %, at most 1.2 %), the budget is 1 %: needs 1,203 more "
       "clean mirror writes."},
      {"and for how long", ErrorCheck(.01),
       with(kHolds,
            [](auto& r) {
              r.needed_more = 1'203;
              r.eta = absl::Seconds(301);
              r.bad_baseline = 7;
              r.total_baseline = 8'100;
            }),
       std::nullopt,
       "errors: 1 of 900 reads served by the new side failed (0.11 %, at most 1.2 %), of those served by the "
       "old side 7 of 8,100, the floor is 1 %: needs 1,203 more clean reads, about 5m1s at this pace."},
      {"rising", MismatchCheck(.01), with(kHolds, [](auto& r) { r.rising = true; }), std::nullopt,
       "mismatches: 1 of 900 comparisons differ (0.11 %, at most 1.2 %), the budget is 1 %: holds, because "
       "the rate has risen since the first hour of the step, still within the budget."},
      {"nothing yet", MirrorCheck(), with(CheckResult(), [](auto& r) { r.needed_more = 505; }), std::nullopt,
       "mirror: no mirror writes yet; needs 505 clean ones."},
      {"nothing yet, nothing to count", LatencyCheck(), CheckResult(), std::nullopt,
       "latency: no reads served by the new side yet."},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(CheckSentence(c.check, c.result, c.rise, kGateStart), c.sentence);
  }
}

// The first reason in full, and how many more there are; advisory checks are none.
TEST(GateWordsTest, HoldSentences) {
  CheckResult passed, holds, advisory;
  passed.verdict = Verdict::kAdvance;
  passed.sentence = "a: passed.";
  holds.sentence = "b: not certain yet.";
  advisory.advisory = true;
  advisory.sentence = "c: not certain yet.";
  const Guard guard = {"stale_telemetry", "no telemetry for 2m."};
  const PlanStep step = {.min_bake = absl::Minutes(5), .deadline = absl::Hours(2)};
  const struct {
    GateResult result;
    const char* sentence;
  } kCases[] = {
      {{.checks = {passed, holds, advisory}}, "b: not certain yet."},
      {{.checks = {passed}, .guards = {guard}}, "no telemetry for 2m."},
      {{.checks = {passed}, .bake_remaining = absl::Milliseconds(61'500)},
       "the step has 1m2s of its minimum bake time left."},
      {{.checks = {holds, passed}, .guards = {guard}, .bake_remaining = absl::Minutes(1)},
       "no telemetry for 2m (and 2 more)."},
      {{.checks = {holds}, .deadline_passed = true},
       "the step has not passed within its deadline of 2h: b: not certain yet."},
  };
  for (const auto& test : kCases) EXPECT_EQ(HoldSentence(test.result, step), test.sentence);
}

}  // namespace
}  // namespace lockstep::domain
