// The gate: the pure function from evidence to a verdict. docs/gate.md has the mathematics and its sources.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/change_point_evidence.h"
#include "core/domain/plan.h"
#include "core/domain/rate_evidence.h"
#include "core/domain/window_stats.h"

namespace lockstep::domain {

enum class Verdict : uint8_t { kAdvance, kHold, kRollBack };

absl::string_view VerdictName(Verdict verdict);

// The evidence for one check, and what follows from it. Everything needed to replay and to explain the
// verdict.
struct CheckResult {
  std::string check;  // Check::name
  Metric metric = Metric::kMismatchRatio;
  std::string field;    // Check::field
  double quantile = 0;  // Check::quantile
  Verdict verdict = Verdict::kHold;
  bool advisory = false;
  BreachAction on_breach = BreachAction::kRollback;
  std::string null_hypothesis;  // what a rollback rejects, in words: "the mismatch rate is at most 0.1 %"
  uint64_t bad = 0;             // k, as reported; levels: what is there
  uint64_t total = 0;           // n, as reported; levels: out of how much, 0 = of nothing in particular
  uint64_t bad_baseline = 0;    // the old arm's k and n, ratio metrics only
  uint64_t total_baseline = 0;
  // Distinct subjects with an event (ratio metrics: on either arm) and, by a sketch, with an observation.
  uint64_t affected_subjects = 0;
  uint64_t affected_subjects_baseline = 0;
  uint64_t distinct_subjects = 0;
  double dispersion = 1;  // what counts without a subject were divided by, >= 1
  double estimate = 0;    // bad / total, 0 without data; levels: the level
  // Confidence sequence of the rate of the present step (of the epoch, where evidence carries over), from the
  // counts that the verdict rests on, at this check's share of alpha_rollback (lower) and of alpha_advance
  // (upper).
  double lower = 0, upper = 1;
  double budget = 0;  // the bound that counts (budget, floor of a ratio metric, or limit)
  double log_evidence_rollback = 0, log_threshold_rollback = 0;
  double log_evidence_advance = 0, log_threshold_advance = 0;
  // When the rate most likely rose: the start of the stretch with the most evidence of a rise. Nothing
  // without any.
  std::optional<absl::Time> onset;
  // For HOLD: how many further clean observations (subjects, where they are known) would certify the bound.
  std::optional<uint64_t> needed_more;
  std::optional<absl::Duration> eta;  // how long that takes at the pace so far
  bool will_not_resolve = false;      // more observations like those so far never certify the bound
  bool rising = false;                // a trend within the budget holds the check
  std::string sentence;               // one plain sentence
};

// Conditions that hold a step whatever the evidence says ("2 of 3 expected instances of 'orders' are
// enrolled").
struct Guard {
  std::string name;
  std::string sentence;
  bool operator==(const Guard&) const = default;
};

struct GateResult {
  Verdict verdict = Verdict::kHold;
  std::vector<CheckResult> checks;
  std::vector<Guard> guards;  // the open ones
  absl::Duration bake_remaining = absl::ZeroDuration();
  bool deadline_passed = false;
  BreachAction action = BreachAction::kRollback;  // for kRollBack: the gravest action among breached checks
  // The joint evidence of all binding checks that roll back.
  double log_evidence_rollback = 0, log_threshold_rollback = 0;
  // Fields that differ more often than the mismatch budget, worst first, at a false discovery rate of 5 %. A
  // report.
  std::vector<std::string> suspect_fields;
  uint32_t evidence_restarts = 0;
  std::string sentence;  // why this verdict, in one plain sentence
};

// What is frozen when an evidence epoch begins, besides the plan.
struct EvidenceEpoch {
  // How many evidence epochs of this generation came before. Each halves the error probabilities: alpha,
  // alpha / 2, alpha / 4, ...
  uint32_t restarts = 0;
  // How many fields the contract declares, for the report on fields.
  uint32_t declared_fields = 0;
  absl::Time start = absl::InfinitePast();  // of its first bucket
  bool operator==(const EvidenceEpoch&) const = default;
};

// What the caller knows besides the buckets.
struct EvaluationContext {
  absl::Time now = absl::InfinitePast();
  absl::Duration step_age = absl::ZeroDuration();  // since the step's state was published
  // Since the step began or was resumed, whichever is later.
  absl::Duration deadline_age = absl::ZeroDuration();
  std::vector<Guard> open_guards;
  // What is outstanding over the whole generation, evidence or not.
  RepairStats repairs;
  BackfillStats backfill;
  // The share of reads that the new side should serve, if buckets alone decide that; in (0, 1).
  std::optional<double> configured_share;
};

// A finding on the evidence of one moment, with everything that its explanation follows from; the evidence
// may go on meanwhile. Small beside it. A value.
class GateFinding {
 public:
  Verdict verdict() const { return outline_.verdict; }
  // What Explain() returns, without what takes long: of a check its null hypothesis, the bounds of its rate,
  // `needed_more`, `eta` and its sentence; of the whole its sentence.
  const GateResult& outline() const { return outline_; }
  // What GateEvidence::Evaluate returned at that moment, bit for bit.
  GateResult Explain() const;

 private:
  friend class GateEvidence;
  // What the explanation of a check follows from, besides its outline. Nothing of it is of levels.
  struct CheckFacts {
    RateEvidence distinct;
    double alpha_rollback = 0, alpha_advance = 0;
    absl::Time scope_start = absl::InfinitePast();
    std::optional<ChangePointEvidence::Rise> rise;
  };

  void ExplainCheck(const Check& check, const CheckFacts& facts, CheckResult* result) const;
  std::string Sentence(const GateResult& result) const;
  std::string BreachSentence(const GateResult& result) const;

  std::shared_ptr<const MigrationPlan> plan_;
  int step_ = 0;
  GateResult outline_;
  std::vector<CheckFacts> facts_;  // by check of the step
  absl::Time evidence_end_ = absl::InfinitePast();
  bool breached_alone_ = false;  // for kRollBack: one check alone is breached
};

// All evidence of one evidence epoch of one migration: O(1) per check, fed with closed 5 s buckets in the
// order of event time, instances already summed. Deterministic: the same calls give the same verdict bit for
// bit.
//
// Evidence for a rollback is one e-process for each distinct (metric, field, quantile, bound) of the plan,
// over the whole epoch; a step is a bet on a change at that moment, not a new test, so the probability of a
// false rollback does not grow with the number of steps. Evidence for an advance starts anew at each step,
// unless the metric carries over.
//
// Begin a new epoch when the plan, the contract or the data change, and after a rollback. Copyable.
// Thread-compatible.
class GateEvidence {
 public:
  // `plan` is valid and has a step `step`.
  GateEvidence(std::shared_ptr<const MigrationPlan> plan, const EvidenceEpoch& epoch, int step);
  GateEvidence(const GateEvidence&);
  GateEvidence(GateEvidence&&) noexcept;
  GateEvidence& operator=(const GateEvidence&);
  GateEvidence& operator=(GateEvidence&&) noexcept;
  ~GateEvidence();

  // From the bucket that starts at `start` on, everything belongs to this step, which may be the present one
  // again.
  void BeginStep(int step, absl::Time start);

  // Adds one closed bucket, which begins at `start`. INVALID_ARGUMENT or OUT_OF_RANGE, and nothing is added,
  // for counts that cannot be, and for a bucket that is not later than the one before.
  absl::Status AddBucket(absl::Time start, const WindowStats& bucket);

  // Both error probabilities are divided as alpha_spending.h says. The step is breached when the weighted
  // mean of the e-values of all nulls of the plan, those of advisory checks and of checks of other steps
  // taken as 0, reaches 1 / alpha_rollback; a check is when its own term alone does. A check passes when its
  // evidence for advancing reaches 1 / its part of alpha_advance. A breach that only notifies holds the step.
  // A rollback outranks open guards.
  GateResult Evaluate(const EvaluationContext& context) const;

  // The same without the words, for whoever may want them later.
  GateFinding Find(const EvaluationContext& context) const;

  // As Evaluate(context).verdict, without the bounds and words that explain it.
  Verdict EvaluateVerdict(const EvaluationContext& context) const;

  int step() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep::domain
