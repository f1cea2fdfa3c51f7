// The gate: the pure function from evidence to a verdict (docs/gate.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/migration.h"
#include "core/domain/ratio_evidence.h"
#include "core/domain/rate_evidence.h"
#include "core/domain/window_stats.h"

namespace lockstep::domain {

enum class Verdict : uint8_t { kAdvance, kHold, kRollBack };

absl::string_view VerdictName(Verdict verdict);

// The evidence for one check, and what follows from it. Everything needed to replay and to explain the verdict.
struct CheckResult {
  std::string check;        // Check::name
  Metric metric = Metric::kMismatchRatio;
  Verdict verdict = Verdict::kHold;
  bool advisory = false;
  BreachAction on_breach = BreachAction::kRollback;
  std::string null_hypothesis;  // what a rollback rejects, in words: "the mismatch rate is at most 0.1 %"
  uint64_t bad = 0;             // k
  uint64_t total = 0;           // n
  uint64_t bad_baseline = 0;    // the old arm's k and n, ratio metrics only
  uint64_t total_baseline = 0;
  double estimate = 0;          // bad / total, 0 without data
  double lower = 0, upper = 1;  // confidence sequence at the plan's alphas
  double budget = 0;            // the bound that counts (budget, or floor of a ratio metric)
  double log_evidence_rollback = 0, log_threshold_rollback = 0;
  double log_evidence_advance = 0, log_threshold_advance = 0;
  // For HOLD: how many further clean observations would certify the budget; nothing = will not resolve.
  std::optional<uint64_t> needed_more;
  std::string sentence;         // one plain sentence
};

// Conditions that hold a step whatever the evidence says ("2 of 3 expected instances of 'orders' are enrolled").
struct Guard {
  std::string name;
  std::string sentence;
};

struct GateResult {
  Verdict verdict = Verdict::kHold;
  std::vector<CheckResult> checks;
  std::vector<Guard> guards;            // the open ones
  absl::Duration bake_remaining = absl::ZeroDuration();
  BreachAction action = BreachAction::kRollback;  // for kRollBack: the gravest action among breached checks
  std::string sentence;                 // why this verdict, in one plain sentence
};

// The accumulated evidence of one migration in one step: O(1) per check, fed with closed 5 s buckets in event-time
// order, instances already summed. Deterministic: the same buckets give the same verdict bit for bit.
class StepEvidence {
 public:
  // Metrics that depend on the read share start anew at each step; mismatch evidence carries over from `previous`
  // (null: none), as gate.md (e) wants, unless the contract's revision changed.
  StepEvidence(const MigrationPlan& plan, int step, const StepEvidence* previous);

  void AddBucket(const WindowStats& bucket);

  // `open_guards` come from the caller, who knows instances and clocks.
  GateResult Evaluate(absl::Duration step_age, std::vector<Guard> open_guards) const;

 private:
  MigrationPlan plan_;
  int step_;
  RateEvidence mismatches_;
  std::vector<std::pair<std::string, RateEvidence>> field_mismatches_;
  RateEvidence mirror_failures_;
  ErrorEvidence errors_;
};

}  // namespace lockstep::domain
