// The gate: the pure function from evidence to a verdict (docs/gate.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/migration.h"
#include "core/domain/rate_evidence.h"
#include "core/domain/ratio_evidence.h"
#include "core/domain/window_stats.h"

namespace lockstep::domain {

enum class Verdict : uint8_t { kAdvance, kHold, kRollBack };

absl::string_view VerdictName(Verdict verdict);

// The evidence for one check, and what follows from it. Everything needed to replay and to explain the
// verdict.
struct CheckResult {
  std::string check;  // Check::name
  Metric metric = Metric::kMismatchRatio;
  Verdict verdict = Verdict::kHold;
  bool advisory = false;
  BreachAction on_breach = BreachAction::kRollback;
  std::string null_hypothesis;  // what a rollback rejects, in words: "the mismatch rate is at most 0.1 %"
  uint64_t bad = 0;             // k
  uint64_t total = 0;           // n
  uint64_t bad_baseline = 0;    // the old arm's k and n, ratio metrics only
  uint64_t total_baseline = 0;
  double estimate = 0;  // bad / total, 0 without data
  // Confidence sequence of the rate. For metrics with a budget: lower >= budget exactly when the check is
  // breached, upper <= budget exactly when it passes.
  double lower = 0, upper = 1;
  double budget = 0;  // the bound that counts (budget, or floor of a ratio metric)
  double log_evidence_rollback = 0, log_threshold_rollback = 0;
  double log_evidence_advance = 0, log_threshold_advance = 0;
  // For HOLD: how many further clean observations would certify the budget; nothing = will not resolve.
  std::optional<uint64_t> needed_more;
  std::string sentence;  // one plain sentence
};

// Conditions that hold a step whatever the evidence says ("2 of 3 expected instances of 'orders' are
// enrolled").
struct Guard {
  std::string name;
  std::string sentence;
};

struct GateResult {
  Verdict verdict = Verdict::kHold;
  std::vector<CheckResult> checks;
  std::vector<Guard> guards;  // the open ones
  absl::Duration bake_remaining = absl::ZeroDuration();
  BreachAction action = BreachAction::kRollback;  // for kRollBack: the gravest action among breached checks
  std::string sentence;                           // why this verdict, in one plain sentence
};

// The accumulated evidence of one migration in one step: O(1) per check, fed with closed 5 s buckets in
// event-time order, instances already summed. Deterministic: the same buckets give the same verdict bit for
// bit.
//
// Build a new one whenever a step begins anew: at every transition with a `target` or with `restart_evidence`
// (transition.h), and when the plan or the contract is edited. Thread-compatible.
class StepEvidence {
 public:
  // `plan` is valid and has a step `step`. Metrics that depend on the read share start anew at each step;
  // mismatch evidence carries over from `previous`, as gate.md (e) wants. Pass null at the first step, and
  // whenever what was compared is not what is compared now: after a restart of the evidence, and for another
  // contract revision.
  StepEvidence(const MigrationPlan& plan, int step, const StepEvidence* previous);

  // Adds one closed bucket. INVALID_ARGUMENT or OUT_OF_RANGE, and nothing is added, for counts that cannot
  // be.
  absl::Status AddBucket(const WindowStats& bucket);

  // `step_age` is the time since the step's state was published; `open_guards` come from the caller, who
  // knows instances and clocks.
  //
  // With M checks that are not advisory and S steps: a check is breached when E_up >= M / alpha_rollback, and
  // the step when the mean of the M evidences reaches 1 / alpha_rollback, which needs no single breach; a
  // check passes when E_down >= S / alpha_advance. A breach that only notifies holds the step. A rollback
  // outranks open guards.
  GateResult Evaluate(absl::Duration step_age, std::vector<Guard> open_guards) const;

 private:
  struct Evidence {
    RateEvidence mismatches;
    // Of the fields that some check of the plan names, in the order in which they first appear there.
    std::vector<std::pair<std::string, RateEvidence>> field_mismatches;
    RateEvidence mirror_failures;
    ErrorEvidence errors;
    RateEvidence old_errors;
  };
  // What each check has to reach, as natural logarithms.
  struct Thresholds;

  CheckResult EvaluateCheck(const Check& check, const Thresholds& thresholds) const;
  const RateEvidence& RateOf(const Check& check) const;

  MigrationPlan plan_;
  int step_;
  Evidence evidence_;
};

}  // namespace lockstep::domain
