// The explanation of a finding: bounds, forecasts and words. See gate.h.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/domain/gate.h"
#include "core/domain/gate_words.h"
#include "core/domain/metric.h"
#include "core/domain/metric_evidence.h"
#include "core/domain/value_of.h"

namespace lockstep::domain {
namespace {

// Below it the pace of the evidence says nothing about when it gets there.
constexpr double kLeastLogEvidenceForPace = 1;

bool IsLevel(Metric metric) { return RowOf(metric).family == MetricFamily::kLevel; }

}  // namespace

GateResult GateFinding::Explain() const {
  GateResult result = outline_;
  const std::vector<Check>& checks = plan_->steps[static_cast<size_t>(step_)].checks;
  for (size_t i = 0; i < checks.size(); ++i) ExplainCheck(checks[i], facts_[i], &result.checks[i]);
  result.sentence = Sentence(result);
  return result;
}

void GateFinding::ExplainCheck(const Check& check, const CheckFacts& facts, CheckResult* result) const {
  result->null_hypothesis = NullHypothesisInWords(check);
  if (!IsLevel(check.metric)) {
    result->lower = ValueOf(facts.distinct.LowerBound(facts.alpha_rollback));
    result->upper = ValueOf(facts.distinct.UpperBound(facts.alpha_advance));
    if (result->verdict == Verdict::kHold && !result->will_not_resolve) {
      const absl::Duration elapsed = evidence_end_ - facts.scope_start;
      const double evidence = result->log_evidence_advance, threshold = result->log_threshold_advance;
      result->needed_more =
          MetricEvidence::NeededMore(facts.distinct, result->budget, RowOf(check.metric), threshold);
      if (result->needed_more && facts.distinct.trials() > 0) {
        result->eta = elapsed * (static_cast<double>(*result->needed_more) / facts.distinct.trials());
      }
      if (evidence > kLeastLogEvidenceForPace) {
        const absl::Duration at_this_pace = elapsed * ((threshold - evidence) / evidence);
        result->eta = std::min(result->eta.value_or(absl::InfiniteDuration()),
                               std::max(absl::ZeroDuration(), at_this_pace));
      }
    }
    // Finer than that it is not known, and stored durations are no finer than a nanosecond.
    if (result->eta) result->eta = absl::Ceil(*result->eta, absl::Seconds(1));
  }
  result->sentence = CheckSentence(check, *result, facts.rise, facts.scope_start);
}

std::string GateFinding::Sentence(const GateResult& result) const {
  const PlanStep& step = plan_->steps[static_cast<size_t>(step_)];
  switch (result.verdict) {
    case Verdict::kRollBack:
      return BreachSentence(result);
    case Verdict::kAdvance: {
      const auto binding = std::count_if(step.checks.begin(), step.checks.end(),
                                         [](const Check& check) { return !check.advisory; });
      return binding == 0 ? "the step has no binding checks and its minimum bake time has passed."
                          : absl::StrCat(binding == 1 ? "the check passes"
                                                      : absl::StrCat("all ", binding, " checks pass"),
                                         " and the minimum bake time has passed.");
    }
    case Verdict::kHold:
      return HoldSentence(result, step);
  }
  return "";
}

// That of the breached check that speaks for the breach: the one with the most evidence among those with its
// action.
std::string GateFinding::BreachSentence(const GateResult& result) const {
  const CheckResult* loudest = nullptr;
  for (const CheckResult& check : result.checks) {
    if (check.advisory || check.on_breach > result.action || IsLevel(check.metric)) continue;
    if (breached_alone_ && (check.verdict != Verdict::kRollBack || check.on_breach != result.action))
      continue;
    if (loudest == nullptr || check.log_evidence_rollback > loudest->log_evidence_rollback) loudest = &check;
  }
  LOCKSTEP_CHECK(loudest != nullptr, "a breach without a check");
  if (breached_alone_) return loudest->sentence;
  return absl::StrCat("no check is breached alone, but all of them together are: ",
                      result.action == BreachAction::kRollback ? "roll back" : "pause", "; the strongest is ",
                      loudest->sentence);
}

}  // namespace lockstep::domain
