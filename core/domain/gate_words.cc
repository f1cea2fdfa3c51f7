#include "core/domain/gate_words.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "core/base/check.h"

namespace lockstep::domain {
namespace {

// A rise is worth telling apart from the whole if it came that much later.
constexpr absl::Duration kLateRise = absl::Minutes(1);

std::string QuantileInWords(double quantile) { return absl::StrFormat("p%g", quantile * 100); }

// "the budget is 0.1 %"
std::string BoundInWords(const Check& check, const CheckResult& result) {
  const MetricRow& row = RowOf(check.metric);
  if (check.metric == Metric::kLatency) return "";
  if (row.takes_floor)
    return result.budget > 0 ? absl::StrCat(", the floor is ", PercentInWords(result.budget)) : "";
  return absl::StrCat(", the ", row.takes_budget ? "budget" : "bound", " is ", PercentInWords(result.budget));
}

absl::string_view Consequence(const CheckResult& result) {
  if (result.advisory) return "advisory only";
  switch (result.on_breach) {
    case BreachAction::kRollback:
      return "roll back";
    case BreachAction::kPause:
      return "pause";
    case BreachAction::kNotify:
      return "notify, and hold";
  }
  return "";
}

std::string Eta(const CheckResult& result) {
  return result.eta ? absl::StrCat(", about ", DurationInWords(*result.eta), " at this pace") : "";
}

// "412 of 5,000 comparisons differ in 'city' (8.2 %, at least 7.1 %)"
std::string Observed(const Check& check, const CheckResult& result, bool breached) {
  const MetricRow& row = RowOf(check.metric);
  std::string text = absl::StrCat(CountInWords(result.bad), " of ", CountInWords(result.total), " ",
                                  row.trials, " ", row.happened);
  if (check.metric == Metric::kLatency) {
    absl::StrAppend(&text, " ", QuantileInWords(check.quantile));
  }
  if (!check.field.empty()) absl::StrAppend(&text, " in '", check.field, "'");
  if (result.distinct_subjects > 0) {
    absl::StrAppend(&text, ", those of ", CountInWords(result.affected_subjects), " of ",
                    CountInWords(result.distinct_subjects), " ", row.subjects);
  }
  absl::StrAppend(&text, " (", PercentInWords(result.estimate), breached ? ", at least " : ", at most ",
                  PercentInWords(breached ? result.lower : result.upper), ")");
  if (row.family == MetricFamily::kRatio) {
    absl::StrAppend(&text,
                    check.metric == Metric::kPairedErrorRatio ? ", on the old side alone "
                                                              : ", of those served by the old side ",
                    CountInWords(result.bad_baseline), " of ", CountInWords(result.total_baseline),
                    check.metric == Metric::kLatency ? " took longer than it" : "");
  }
  return text;
}

// Three digits; nobody needs to know by how many billions odds are off.
std::string FactorInWords(double factor) {
  if (factor >= 1e6) return "over 1,000,000";
  if (factor >= 999.5) return CountInWords(static_cast<uint64_t>(std::llround(factor)));
  return absl::StrFormat("%.3g", factor);
}

std::string LevelSentence(const Check& check, const CheckResult& result) {
  const bool passed = result.verdict == Verdict::kAdvance;
  const absl::string_view end = passed ? ": passed." : ": hold.";
  switch (check.metric) {
    case Metric::kOutstandingRepairs:
      return absl::StrCat(check.name, ": ", CountInWords(result.bad),
                          " failed mirror writes are not repaired yet, at most ",
                          CountInWords(static_cast<uint64_t>(check.limit)), " may be", end);
    case Metric::kCoverage:
      if (result.total == 0)
        return absl::StrCat(check.name, ": no backfill has reported rows to copy: hold.");
      return absl::StrCat(check.name, ": ", CountInWords(result.bad), " of ", CountInWords(result.total),
                          " rows are copied (", PercentInWords(result.estimate), "), ",
                          PercentInWords(check.limit), " must be", end);
    case Metric::kThroughputShare:
      if (result.estimate == 0 && !passed) {
        return absl::StrCat(check.name, ": ", CountInWords(result.total),
                            " reads in this step; the share is compared from 1,000 on, where the weight "
                            "alone decides: hold.");
      }
      return absl::StrFormat(
          "%s: %s of %s reads were served by the new side, whose odds are off the configured ones by a "
          "factor of %s, at most %s may be%s",
          check.name, CountInWords(result.bad), CountInWords(result.total), FactorInWords(result.estimate),
          FactorInWords(check.limit), end);
    case Metric::kMismatchRatio:
    case Metric::kErrorRatio:
    case Metric::kMirrorFailureRatio:
    case Metric::kPairedErrorRatio:
    case Metric::kLatency:
    case Metric::kPairedLatency:
      break;
  }
  LOCKSTEP_CHECK(false, "not a level");
  return "";
}

}  // namespace

std::string CountInWords(uint64_t n) {
  std::string digits = absl::StrCat(n);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string PercentInWords(double rate) {
  const double percent = rate * 100;
  if (!(percent > 0)) return "0 %";
  const int magnitude = static_cast<int>(std::floor(std::log10(percent)));
  int digits = std::clamp(1 - magnitude, magnitude == 1 ? 1 : 0, 12);
  std::string text = absl::StrFormat("%.*f", digits, percent);
  // What is not all of it does not read as if it were.
  while (rate < 1 && digits < 14 && absl::StartsWith(text, "100")) {
    text = absl::StrFormat("%.*f", ++digits, percent);
  }
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return absl::StrCat(text, " %");
}

std::string DurationInWords(absl::Duration duration) {
  return absl::FormatDuration(absl::Ceil(duration, absl::Seconds(1)));
}

std::string NullHypothesisInWords(const Check& check) {
  const MetricRow& row = RowOf(check.metric);
  switch (row.family) {
    case MetricFamily::kRate: {
      const double bound = row.takes_budget ? check.budget : row.fixed_budget;
      return absl::StrCat(row.rate, check.field.empty() ? "" : absl::StrCat(" of field '", check.field, "'"),
                          " is at most ", PercentInWords(bound));
    }
    case MetricFamily::kRatio: {
      if (check.metric == Metric::kLatency) {
        return absl::StrCat("the new side, less a margin of 10.5 %, is slower than the old side's ",
                            QuantileInWords(check.quantile), " at most as often as the old side");
      }
      std::string text = absl::StrFormat("the new side fails at most %g times as often as the old side",
                                         row.rollback_lambda);
      if (check.floor > 0)
        absl::StrAppend(&text, ", or at most ", PercentInWords(check.floor), " of the time");
      return text;
    }
    case MetricFamily::kLevel:
      return "";
  }
  return "";
}

std::string CheckSentence(const Check& check, const CheckResult& result,
                          const std::optional<ChangePointEvidence::Rise>& rise, absl::Time scope_start) {
  const MetricRow& row = RowOf(check.metric);
  if (row.family == MetricFamily::kLevel) return LevelSentence(check, result);
  if (result.total == 0 && result.verdict == Verdict::kHold) {
    return absl::StrCat(
        check.name, ": no ", row.trials, " yet",
        result.needed_more ? absl::StrCat("; needs ", CountInWords(*result.needed_more), " clean ones") : "",
        ".");
  }
  const bool breached = result.verdict == Verdict::kRollBack;
  std::string text =
      absl::StrCat(check.name, ": ", Observed(check, result, breached), BoundInWords(check, result));
  if (breached && rise && rise->since - scope_start > kLateRise) {
    absl::StrAppend(&text, "; since ", absl::FormatTime("%H:%M:%S", rise->since, absl::UTCTimeZone()),
                    " UTC it is ", CountInWords(static_cast<uint64_t>(std::llround(rise->events))), " of ",
                    CountInWords(static_cast<uint64_t>(std::llround(rise->trials))));
  }
  switch (result.verdict) {
    case Verdict::kRollBack:
      return absl::StrCat(text, ": ", Consequence(result), ".");
    case Verdict::kAdvance:
      return absl::StrCat(text, ": passed.");
    case Verdict::kHold:
      break;
  }
  if (result.rising) {
    return absl::StrCat(
        text,
        ": holds, because the rate has risen since the first hour of the step, still within the budget.");
  }
  if (result.will_not_resolve) {
    // Below a floor any ratio would do; what is left is the ratio, if there is an old side to compare with.
    const bool by_ratio = row.family == MetricFamily::kRatio && result.total_baseline > 0;
    if (result.budget > 0 && result.lower > result.budget && !by_ratio) {
      return absl::StrCat(text, ": will not pass, the rate is above the bound.");
    }
    return absl::StrCat(text, ": will not resolve, the rate is about ",
                        by_ratio ? absl::StrFormat("%g times the old side's or more", row.advance_lambda)
                                 : "the bound or above it",
                        ".");
  }
  if (!result.needed_more) {
    return absl::StrCat(text, ": not certain yet", Eta(result), ".");
  }
  const absl::string_view unit = result.distinct_subjects > 0 ? row.subjects
                                 : row.counts_reads_by_arm    ? absl::string_view("reads")
                                                              : row.trials;
  return absl::StrCat(text, ": needs ", CountInWords(*result.needed_more), " more clean ", unit, Eta(result),
                      ".");
}

std::string HoldSentence(const GateResult& result, const PlanStep& step) {
  std::vector<std::string> reasons;
  for (const Guard& guard : result.guards) reasons.push_back(guard.sentence);
  for (const CheckResult& check : result.checks) {
    if (!check.advisory && check.verdict != Verdict::kAdvance) reasons.push_back(check.sentence);
  }
  if (result.bake_remaining > absl::ZeroDuration()) {
    reasons.push_back(absl::StrCat("the step has ", DurationInWords(result.bake_remaining),
                                   " of its minimum bake time left."));
  }
  LOCKSTEP_CHECK(!reasons.empty(), "a hold without a reason");
  std::string text = reasons[0];
  if (reasons.size() > 1) {
    text = absl::StrCat(absl::StripSuffix(text, "."), " (and ", reasons.size() - 1, " more).");
  }
  if (result.deadline_passed) {
    text = absl::StrCat("the step has not passed within its deadline of ", DurationInWords(step.deadline),
                        ": ", text);
  }
  return text;
}

}  // namespace lockstep::domain
