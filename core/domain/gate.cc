#include "core/domain/gate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

constexpr double kNoEvidence = -std::numeric_limits<double>::infinity();

// Stands for "no floor": a rate that nothing can be shown to be below, so that the ratio alone has to
// convince.
constexpr double kNoFloor = 1e-12;

// The evidence functions fail only on budgets and alphas that ValidatePlan refuses.
template <typename T>
T ValueOf(absl::StatusOr<T> value) {
  LOCKSTEP_CHECK(value.ok(), std::string(value.status().message()).c_str());
  return *std::move(value);
}

// 1240 -> "1,240".
std::string Count(uint64_t n) {
  std::string digits = absl::StrCat(n);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

// A rate with two significant digits (three from 10 % on): 0.0824 -> "8.2 %".
std::string Percent(double rate) {
  const double percent = rate * 100;
  if (!(percent > 0)) return "0 %";
  const int magnitude = static_cast<int>(std::floor(std::log10(percent)));
  std::string text = absl::StrFormat("%.*f", std::clamp(1 - magnitude, magnitude == 1 ? 1 : 0, 12), percent);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return absl::StrCat(text, " %");
}

// How a metric is spoken of.
struct MetricWords {
  absl::string_view rate;      // "the mismatch rate"
  absl::string_view trials;    // "comparisons"
  absl::string_view happened;  // what the events did: "differ"
};

MetricWords WordsOf(Metric metric) {
  switch (metric) {
    case Metric::kMismatchRatio:
      return {"the mismatch rate", "comparisons", "differ"};
    case Metric::kErrorRatio:
      return {"the error rate", "reads served by the new side", "failed"};
    case Metric::kMirrorFailureRatio:
      return {"the rate of failed mirror writes", "mirror writes", "failed"};
  }
  return {};
}

std::string NullHypothesis(const Check& check) {
  const MetricWords words = WordsOf(check.metric);
  if (check.metric == Metric::kErrorRatio) {
    return absl::StrFormat("the new side fails at most %g times as often as the old side",
                           ErrorEvidence::kRollbackLambda);
  }
  return absl::StrCat(words.rate, check.field.empty() ? "" : absl::StrCat(" of field '", check.field, "'"),
                      " is at most ", Percent(check.budget));
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

std::string Sentence(const Check& check, const CheckResult& result) {
  const MetricWords words = WordsOf(check.metric);
  const bool is_ratio = check.metric == Metric::kErrorRatio;
  if (result.total == 0 && result.verdict == Verdict::kHold) {
    return absl::StrCat(
        check.name, ": no ", words.trials, " yet",
        result.needed_more ? absl::StrCat("; needs ", Count(*result.needed_more), " clean ones") : "", ".");
  }
  const bool breached = result.verdict == Verdict::kRollBack;
  std::string text =
      absl::StrCat(check.name, ": ", Count(result.bad), " of ", Count(result.total), " ", words.trials, " ",
                   words.happened, check.field.empty() ? "" : absl::StrCat(" in '", check.field, "'"), " (",
                   Percent(result.estimate), breached ? ", at least " : ", at most ",
                   Percent(breached ? result.lower : result.upper), ")");
  if (is_ratio) {
    absl::StrAppend(&text, ", of those served by the old side ", Count(result.bad_baseline), " of ",
                    Count(result.total_baseline));
  }
  const std::string bound =
      absl::StrCat(is_ratio ? "the floor is " : "the budget is ", Percent(result.budget));
  switch (result.verdict) {
    case Verdict::kRollBack:
      return absl::StrCat(text, ", ", bound, ": ", Consequence(result), ".");
    case Verdict::kAdvance:
      return absl::StrCat(text, ", ", bound, ": passed.");
    case Verdict::kHold:
      break;
  }
  if (!result.needed_more.has_value()) {
    return absl::StrCat(text, ", ", bound, ": will not resolve, the rate is about the bound or above it.");
  }
  return absl::StrCat(text, ", ", bound, ": needs ", Count(*result.needed_more), " more clean ",
                      is_ratio ? "reads" : words.trials, ".");
}

// The gravest action whose checks' joint evidence is a breach; nothing if none is.
struct Breach {
  BreachAction action;
  bool single;  // one check alone is breached
};

std::optional<Breach> FindBreach(const std::vector<CheckResult>& checks, double log_weight,
                                 double log_threshold) {
  // The gravest first: the evidence of checks that would roll back also counts for a pause.
  double joint = kNoEvidence;
  for (const BreachAction action : {BreachAction::kRollback, BreachAction::kPause}) {
    bool single = false;
    for (const CheckResult& check : checks) {
      if (check.advisory || check.on_breach != action) continue;
      joint = LogAddExp(joint, log_weight + check.log_evidence_rollback);
      single = single || check.verdict == Verdict::kRollBack;
    }
    if (single || joint >= log_threshold) return Breach{action, single};
  }
  return std::nullopt;
}

// The breached check that speaks for the breach: the one with the most evidence among those with its action.
std::string BreachSentence(const GateResult& result, const Breach& breach) {
  const CheckResult* loudest = nullptr;
  for (const CheckResult& check : result.checks) {
    if (check.advisory || check.on_breach > breach.action) continue;
    if (breach.single && check.verdict != Verdict::kRollBack) continue;
    if (loudest == nullptr || check.log_evidence_rollback > loudest->log_evidence_rollback) loudest = &check;
  }
  LOCKSTEP_CHECK(loudest != nullptr, "a breach without a check");
  if (breach.single) return loudest->sentence;
  return absl::StrCat("no check is breached alone, but all of them together are: ",
                      breach.action == BreachAction::kRollback ? "roll back" : "pause", "; the strongest is ",
                      loudest->sentence);
}

std::string HoldSentence(const GateResult& result) {
  std::vector<std::string> reasons;
  for (const Guard& guard : result.guards) reasons.push_back(guard.sentence);
  for (const CheckResult& check : result.checks) {
    if (!check.advisory && check.verdict != Verdict::kAdvance) reasons.push_back(check.sentence);
  }
  if (result.bake_remaining > absl::ZeroDuration()) {
    reasons.push_back(absl::StrCat("the step has ",
                                   absl::FormatDuration(absl::Ceil(result.bake_remaining, absl::Seconds(1))),
                                   " of its minimum bake time left."));
  }
  LOCKSTEP_CHECK(!reasons.empty(), "a hold without a reason");
  if (reasons.size() == 1) return reasons[0];
  return absl::StrCat(absl::StripSuffix(reasons[0], "."), " (and ", reasons.size() - 1, " more).");
}

}  // namespace

struct StepEvidence::Thresholds {
  double alpha_rollback;  // of one check alone
  double alpha_advance;
  double log_rollback;  // ln(1 / alpha_rollback)
  double log_advance;
};

absl::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAdvance:
      return "ADVANCE";
    case Verdict::kHold:
      return "HOLD";
    case Verdict::kRollBack:
      return "ROLL_BACK";
  }
  return "";
}

StepEvidence::StepEvidence(const MigrationPlan& plan, int step, const StepEvidence* previous)
    : plan_(plan), step_(step) {
  LOCKSTEP_CHECK(step >= 0 && static_cast<size_t>(step) < plan.steps.size(), "the plan has no such step");
  auto& fields = evidence_.field_mismatches;
  const auto find = [](const auto& in, const std::string& name) {
    return std::find_if(in.begin(), in.end(), [&](const auto& entry) { return entry.first == name; });
  };
  for (const PlanStep& plan_step : plan_.steps) {
    for (const Check& check : plan_step.checks) {
      if (check.field.empty() || find(fields, check.field) != fields.end()) continue;
      fields.emplace_back(check.field, RateEvidence());
      if (previous == nullptr) continue;
      const auto& old_fields = previous->evidence_.field_mismatches;
      if (const auto old = find(old_fields, check.field); old != old_fields.end())
        fields.back().second = old->second;
    }
  }
  if (previous != nullptr) evidence_.mismatches = previous->evidence_.mismatches;
}

absl::Status StepEvidence::AddBucket(const WindowStats& bucket) {
  Evidence sum = evidence_;
  LOCKSTEP_RETURN_IF_ERROR(sum.mismatches.Add(bucket.mismatches(), bucket.comparable()));
  const auto other = bucket.fields().find(WindowStats::kOtherFields);
  for (auto& [field, evidence] : sum.field_mismatches) {
    auto counts = bucket.fields().find(field);
    // With more fields than a window keeps, this one may be among the others: what is not known to be clean
    // is not counted as clean.
    if (counts == bucket.fields().end()) counts = other;
    const uint64_t events = counts == bucket.fields().end() ? 0 : counts->second.total();
    LOCKSTEP_RETURN_IF_ERROR(evidence.Add(std::min(events, bucket.mismatches()), bucket.comparable()));
  }
  LOCKSTEP_RETURN_IF_ERROR(sum.mirror_failures.Add(bucket.writes.mirror_failed + bucket.writes.mirror_shed,
                                                   bucket.writes.mirror_attempts()));
  const ArmStats& served_by_new = bucket.arm(Arm::kNew);
  const ArmStats& served_by_old = bucket.arm(Arm::kOld);
  LOCKSTEP_RETURN_IF_ERROR(sum.errors.AddBucket({served_by_new.errors, served_by_new.requests},
                                                {served_by_old.errors, served_by_old.requests}));
  LOCKSTEP_RETURN_IF_ERROR(sum.old_errors.Add(served_by_old.errors, served_by_old.requests));
  evidence_ = std::move(sum);
  return absl::OkStatus();
}

const RateEvidence& StepEvidence::RateOf(const Check& check) const {
  switch (check.metric) {
    case Metric::kMismatchRatio:
      break;
    case Metric::kErrorRatio:
      return evidence_.errors.new_rate();
    case Metric::kMirrorFailureRatio:
      return evidence_.mirror_failures;
  }
  if (check.field.empty()) return evidence_.mismatches;
  for (const auto& [field, evidence] : evidence_.field_mismatches) {
    if (field == check.field) return evidence;
  }
  LOCKSTEP_CHECK(false, "the field is not one of the plan's");
  return evidence_.mismatches;
}

CheckResult StepEvidence::EvaluateCheck(const Check& check, const Thresholds& thresholds) const {
  const RateEvidence& rate = RateOf(check);
  CheckResult result;
  result.check = check.name;
  result.metric = check.metric;
  result.advisory = check.advisory;
  result.on_breach = check.on_breach;
  result.null_hypothesis = NullHypothesis(check);
  result.bad = rate.events();
  result.total = rate.trials();
  result.estimate = rate.Estimate();
  result.lower = ValueOf(rate.Interval(thresholds.alpha_rollback)).lower;
  result.upper = ValueOf(rate.Interval(thresholds.alpha_advance)).upper;
  result.log_threshold_rollback = thresholds.log_rollback;
  result.log_threshold_advance = thresholds.log_advance;
  if (check.metric == Metric::kErrorRatio) {
    const double floor = check.floor > 0 ? check.floor : kNoFloor;
    result.bad_baseline = evidence_.old_errors.events();
    result.total_baseline = evidence_.old_errors.trials();
    result.budget = check.floor;
    // Reports don't tell subjects apart yet: each error counts as a subject of its own.
    const bool material =
        ValueOf(evidence_.errors.RollbackIsMaterial(rate.events(), check.floor, thresholds.alpha_rollback));
    result.log_evidence_rollback = material ? evidence_.errors.LogRollback() : kNoEvidence;
    result.log_evidence_advance = ValueOf(evidence_.errors.LogAdvance(floor));
    // Half the evidence is the rate's, so the rate alone has to show twice as much.
    result.needed_more = ValueOf(rate.AdditionalCleanNeeded(floor, thresholds.log_advance + std::log(2.0)));
  } else {
    result.budget = check.budget;
    result.log_evidence_rollback = ValueOf(rate.LogUp(check.budget));
    result.log_evidence_advance = ValueOf(rate.LogDown(check.budget));
    result.needed_more = ValueOf(rate.AdditionalCleanNeeded(check.budget, thresholds.log_advance));
  }
  if (result.log_evidence_rollback >= thresholds.log_rollback) {
    result.verdict = Verdict::kRollBack;
  } else if (result.log_evidence_advance >= thresholds.log_advance) {
    result.verdict = Verdict::kAdvance;
  }
  if (result.verdict != Verdict::kHold) result.needed_more.reset();
  result.sentence = Sentence(check, result);
  return result;
}

GateResult StepEvidence::Evaluate(absl::Duration step_age, std::vector<Guard> open_guards) const {
  const PlanStep& step = plan_.steps[static_cast<size_t>(step_)];
  const auto binding = std::count_if(step.checks.begin(), step.checks.end(),
                                     [](const Check& check) { return !check.advisory; });
  const double shares = static_cast<double>(std::max<ptrdiff_t>(1, binding));
  const double steps = static_cast<double>(plan_.steps.size());
  Thresholds thresholds;
  thresholds.alpha_rollback = plan_.alpha_rollback / shares;
  thresholds.alpha_advance = plan_.alpha_advance / steps;
  thresholds.log_rollback = -std::log(thresholds.alpha_rollback);
  thresholds.log_advance = -std::log(thresholds.alpha_advance);

  GateResult result;
  result.guards = std::move(open_guards);
  result.bake_remaining = std::max(absl::ZeroDuration(), step.min_bake - step_age);
  bool all_pass = true;
  for (const Check& check : step.checks) {
    result.checks.push_back(EvaluateCheck(check, thresholds));
    all_pass = all_pass && (check.advisory || result.checks.back().verdict == Verdict::kAdvance);
  }
  if (const auto breach = FindBreach(result.checks, -std::log(shares), -std::log(plan_.alpha_rollback))) {
    result.verdict = Verdict::kRollBack;
    result.action = breach->action;
    result.sentence = BreachSentence(result, *breach);
  } else if (all_pass && result.guards.empty() && result.bake_remaining == absl::ZeroDuration()) {
    result.verdict = Verdict::kAdvance;
    result.sentence =
        binding == 0
            ? "the step has no binding checks and its minimum bake time has passed."
            : absl::StrCat(binding == 1 ? "the check passes" : absl::StrCat("all ", binding, " checks pass"),
                           " and the minimum bake time has passed.");
  } else {
    result.sentence = HoldSentence(result);
  }
  return result;
}

}  // namespace lockstep::domain
