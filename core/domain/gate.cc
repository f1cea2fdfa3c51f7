#include "core/domain/gate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/gate_words.h"
#include "core/domain/log_math.h"
#include "core/domain/metric_evidence.h"
#include "core/domain/records.h"
#include "core/domain/value_of.h"

namespace lockstep::domain {
namespace {

constexpr double kNoEvidence = -std::numeric_limits<double>::infinity();

// Fewer say nothing about a share.
constexpr uint64_t kLeastReadsForShare = 1000;
constexpr uint64_t kLeastComparisonsForShare = 100;
constexpr double kFieldFalseDiscoveryRate = 0.05;

bool IsLevel(const Check& check) { return RowOf(check.metric).family == MetricFamily::kLevel; }

// The factor by which the odds of being served by new differ from the configured ones, at least 1.
std::optional<double> ShareSkew(uint64_t new_reads, uint64_t old_reads,
                                const std::optional<double>& configured) {
  if (!configured || new_reads + old_reads < kLeastReadsForShare) return std::nullopt;
  // Half a read more on each side, so that none at all is not infinitely far off.
  const double odds = (static_cast<double>(new_reads) + 0.5) / (static_cast<double>(old_reads) + 0.5);
  const double skew = odds / (*configured / (1 - *configured));
  return std::max(skew, 1 / skew);
}

// The part of a verdict that takes no words.
struct CheckDecision {
  double log_rollback = kNoEvidence;
  double log_advance = kNoEvidence;
  Verdict verdict = Verdict::kHold;
};

}  // namespace

struct GateEvidence::State {
  // What a check has to reach, as error probabilities and as natural logarithms.
  struct Thresholds {
    double alpha_rollback = 0;
    double alpha_advance = 0;
    double log_rollback = 0;  // ln(1 / alpha_rollback)
    double log_advance = 0;
  };
  struct Null {
    TestedNull spent;
    MetricEvidence evidence;
  };
  // What a check of the present step is judged by. Constant during the step; nothing for levels.
  struct OfCheck {
    size_t null = 0;
    Thresholds thresholds;
  };
  struct Breach {
    BreachAction action;
    bool single;  // one check alone is breached
  };

  State(std::shared_ptr<const MigrationPlan> the_plan, const EvidenceEpoch& the_epoch, int first_step);

  const PlanStep& step_plan() const { return plan->steps[static_cast<size_t>(step)]; }
  const Null& NullOf(size_t check) const { return nulls[of_checks[check].null]; }
  size_t FindNull(const Check& check) const;
  Thresholds ThresholdsOf(const Null& null) const;
  void BeginStep(int next, absl::Time start);
  CheckDecision Decide(size_t number, const EvaluationContext& context) const;
  CheckResult DecideLevel(const Check& check, const EvaluationContext& context) const;
  std::vector<CheckDecision> DecideAll(const EvaluationContext& context) const;
  double JointLogEvidence(const std::vector<CheckDecision>& decisions, BreachAction gravest_down_to) const;
  std::optional<Breach> FindBreach(const std::vector<CheckDecision>& decisions) const;
  bool AllPass(const std::vector<CheckDecision>& decisions) const;
  std::vector<Guard> OpenGuards(const EvaluationContext& context) const;
  Verdict Overall(const std::optional<Breach>& breach, const std::vector<CheckDecision>& decisions,
                  bool guarded, absl::Duration bake_remaining) const;
  CheckResult Outline(size_t number, const CheckDecision& decision, const EvaluationContext& context,
                      GateFinding::CheckFacts* facts) const;
  std::vector<std::string> SuspectFields() const;

  std::shared_ptr<const MigrationPlan> plan;
  EvidenceEpoch epoch;
  int step = -1;
  std::vector<int> visits;  // how often each step of the plan has begun in this epoch
  double log_halvings = 0;  // ln of what the epoch leaves of the error probabilities, <= 0
  double log_joint_rollback = 0;
  std::vector<Null> nulls;
  std::vector<OfCheck> of_checks;  // by check of the present step
  LatencyEdges latency_edges;
  absl::Time last_bucket = absl::InfinitePast();
  // Of the present step.
  uint64_t new_reads = 0, old_reads = 0, compared = 0, not_comparable = 0;
  // Of the epoch: mismatches by field, and the records they concern.
  WindowStats by_field;
  SubjectCounter comparisons;
};

GateEvidence::State::State(std::shared_ptr<const MigrationPlan> the_plan, const EvidenceEpoch& the_epoch,
                           int first_step)
    : plan(std::move(the_plan)), epoch(the_epoch) {
  LOCKSTEP_CHECK(first_step >= 0 && static_cast<size_t>(first_step) < plan->steps.size(),
                 "the plan has no such step");
  for (TestedNull& tested : SpendAlpha(*plan)) {
    MetricEvidence evidence(tested.check);
    nulls.push_back({std::move(tested), std::move(evidence)});
  }
  visits.resize(plan->steps.size());
  log_halvings = -std::log(2.0) * static_cast<double>(epoch.restarts);
  log_joint_rollback = -std::log(plan->alpha_rollback) - log_halvings;
  BeginStep(first_step, epoch.start);
}

size_t GateEvidence::State::FindNull(const Check& check) const {
  const NullHypothesis hypothesis(check);
  const auto found = std::find_if(nulls.begin(), nulls.end(),
                                  [&](const Null& null) { return null.evidence.null() == hypothesis; });
  LOCKSTEP_CHECK(found != nulls.end(), "the check is not one of the plan's");
  return static_cast<size_t>(found - nulls.begin());
}

GateEvidence::State::Thresholds GateEvidence::State::ThresholdsOf(const Null& null) const {
  // A null of advisory checks alone is judged as strictly as the least of the others.
  double rollback_part = null.spent.rollback_part;
  if (rollback_part == 0) {
    rollback_part = 1;
    for (const Null& other : nulls) {
      if (other.spent.rollback_part > 0) rollback_part = std::min(rollback_part, other.spent.rollback_part);
    }
  }
  Thresholds thresholds;
  thresholds.log_rollback = log_joint_rollback - std::log(rollback_part);
  thresholds.log_advance = -std::log(plan->alpha_advance) - log_halvings -
                           std::log(null.spent.advance_parts[static_cast<size_t>(step)]);
  // A step that begins again is one more chance to pass, so each time has half of what the one before had.
  if (!null.evidence.row().carries_over) {
    thresholds.log_advance += std::log(2.0) * (visits[static_cast<size_t>(step)] - 1);
  }
  // A probability too small for a double shows bounds at the smallest one.
  constexpr double kSmallest = std::numeric_limits<double>::min();
  thresholds.alpha_rollback = std::max(kSmallest, std::exp(-thresholds.log_rollback));
  thresholds.alpha_advance = std::max(kSmallest, std::exp(-thresholds.log_advance));
  return thresholds;
}

void GateEvidence::State::BeginStep(int next, absl::Time start) {
  LOCKSTEP_CHECK(next >= 0 && static_cast<size_t>(next) < plan->steps.size(), "the plan has no such step");
  step = next;
  ++visits[static_cast<size_t>(step)];
  new_reads = old_reads = compared = not_comparable = 0;
  for (Null& null : nulls) null.evidence.BeginStep(start, null.spent.TestedAt(step));
  of_checks.clear();
  for (const Check& check : step_plan().checks) {
    OfCheck& of_check = of_checks.emplace_back();
    if (IsLevel(check)) continue;
    of_check.null = FindNull(check);
    of_check.thresholds = ThresholdsOf(nulls[of_check.null]);
  }
}

CheckDecision GateEvidence::State::Decide(size_t number, const EvaluationContext& context) const {
  const Check& check = step_plan().checks[number];
  CheckDecision decision;
  if (IsLevel(check)) {
    decision.verdict = DecideLevel(check, context).verdict;
    return decision;
  }
  const MetricEvidence& metric = NullOf(number).evidence;
  const Thresholds& thresholds = of_checks[number].thresholds;
  decision.log_rollback = metric.LogRollback();
  decision.log_advance = metric.LogAdvance();
  if (decision.log_rollback >= thresholds.log_rollback) {
    decision.verdict = Verdict::kRollBack;
  } else if (decision.log_advance >= thresholds.log_advance && !metric.rising()) {
    decision.verdict = Verdict::kAdvance;
  }
  return decision;
}

// The numbers and the verdict; a level is little more than that.
CheckResult GateEvidence::State::DecideLevel(const Check& check, const EvaluationContext& context) const {
  CheckResult result;
  result.budget = check.limit;
  bool passed = false;
  if (check.metric == Metric::kOutstandingRepairs) {
    result.bad = context.repairs.queued - std::min(context.repairs.queued, context.repairs.done);
    result.estimate = static_cast<double>(result.bad);
    passed = result.estimate <= check.limit;
  } else if (check.metric == Metric::kCoverage) {
    result.total = context.backfill.rows_to_copy;
    result.bad = std::min(context.backfill.rows_copied, result.total);
    result.estimate =
        result.total == 0 ? 0 : static_cast<double>(result.bad) / static_cast<double>(result.total);
    passed = result.total > 0 && result.estimate >= check.limit;
  } else {
    LOCKSTEP_CHECK(check.metric == Metric::kThroughputShare, "not a level");
    result.bad = new_reads;
    result.total = new_reads + old_reads;
    const std::optional<double> skew = ShareSkew(new_reads, old_reads, context.configured_share);
    result.estimate = skew.value_or(0);
    passed = skew && *skew <= check.limit;
  }
  result.lower = result.upper = result.estimate;
  result.verdict = passed ? Verdict::kAdvance : Verdict::kHold;
  return result;
}

std::vector<CheckDecision> GateEvidence::State::DecideAll(const EvaluationContext& context) const {
  std::vector<CheckDecision> decisions;
  decisions.reserve(of_checks.size());
  for (size_t i = 0; i < of_checks.size(); ++i) decisions.push_back(Decide(i, context));
  return decisions;
}

// ln of the weighted mean over all nulls of the plan, of which those of this step's binding checks count
// whose action is at least as grave.
double GateEvidence::State::JointLogEvidence(const std::vector<CheckDecision>& decisions,
                                             BreachAction gravest_down_to) const {
  std::vector<const Null*> counted;
  double joint = kNoEvidence;
  for (size_t i = 0; i < decisions.size(); ++i) {
    const Check& check = step_plan().checks[i];
    if (check.advisory || IsLevel(check) || check.on_breach > gravest_down_to) continue;
    const Null& null = NullOf(i);
    if (std::count(counted.begin(), counted.end(), &null) > 0) continue;
    counted.push_back(&null);
    joint = LogAddExp(joint, std::log(null.spent.rollback_part) + decisions[i].log_rollback);
  }
  return joint;
}

// The gravest action whose checks' joint evidence is a breach; nothing if none is. The evidence of checks
// that would roll back also counts for a pause.
std::optional<GateEvidence::State::Breach> GateEvidence::State::FindBreach(
    const std::vector<CheckDecision>& decisions) const {
  for (const BreachAction action : {BreachAction::kRollback, BreachAction::kPause}) {
    bool single = false;
    for (size_t i = 0; i < decisions.size(); ++i) {
      const Check& check = step_plan().checks[i];
      single = single ||
               (!check.advisory && check.on_breach == action && decisions[i].verdict == Verdict::kRollBack);
    }
    if (single || JointLogEvidence(decisions, action) >= log_joint_rollback) return Breach{action, single};
  }
  return std::nullopt;
}

bool GateEvidence::State::AllPass(const std::vector<CheckDecision>& decisions) const {
  for (size_t i = 0; i < decisions.size(); ++i) {
    if (!step_plan().checks[i].advisory && decisions[i].verdict != Verdict::kAdvance) return false;
  }
  return true;
}

std::vector<Guard> GateEvidence::State::OpenGuards(const EvaluationContext& context) const {
  std::vector<Guard> guards = context.open_guards;
  const TelemetryLimits& limits = plan->telemetry_limits;
  const auto skew = ShareSkew(new_reads, old_reads, context.configured_share);
  if (skew && *skew > limits.max_share_skew) {
    const uint64_t reads = new_reads + old_reads;
    guards.push_back(
        {"share",
         absl::StrFormat("the new side served %s of %s reads (%s) in this step, but %s are configured: some "
                         "instance may not follow the routing.",
                         CountInWords(new_reads), CountInWords(reads),
                         PercentInWords(static_cast<double>(new_reads) / static_cast<double>(reads)),
                         PercentInWords(*context.configured_share))});
  }
  if (compared >= kLeastComparisonsForShare &&
      static_cast<double>(not_comparable) > limits.max_not_comparable * static_cast<double>(compared)) {
    guards.push_back(
        {"not_comparable",
         absl::StrCat(CountInWords(not_comparable), " of ", CountInWords(compared),
                      " comparisons in this step could not be made (errors, timeouts, races), at most ",
                      PercentInWords(limits.max_not_comparable), " may be.")});
  }
  return guards;
}

Verdict GateEvidence::State::Overall(const std::optional<Breach>& breach,
                                     const std::vector<CheckDecision>& decisions, bool guarded,
                                     absl::Duration bake_remaining) const {
  if (breach) return Verdict::kRollBack;
  return AllPass(decisions) && !guarded && bake_remaining == absl::ZeroDuration() ? Verdict::kAdvance
                                                                                  : Verdict::kHold;
}

CheckResult GateEvidence::State::Outline(size_t number, const CheckDecision& decision,
                                         const EvaluationContext& context,
                                         GateFinding::CheckFacts* facts) const {
  const Check& check = step_plan().checks[number];
  CheckResult result = IsLevel(check) ? DecideLevel(check, context) : CheckResult();
  result.check = check.name;
  result.metric = check.metric;
  result.field = check.field;
  result.quantile = check.quantile;
  result.verdict = decision.verdict;
  result.advisory = check.advisory;
  result.on_breach = check.on_breach;
  if (IsLevel(check)) {
    facts->scope_start = epoch.start;
    return result;
  }
  const MetricEvidence& metric = NullOf(number).evidence;
  const Thresholds& thresholds = of_checks[number].thresholds;
  const EventCount& reported = metric.counted().reported();
  const EventCount& baseline = metric.counted_baseline().reported();
  result.bad = reported.events;
  result.total = reported.trials;
  result.bad_baseline = baseline.events;
  result.total_baseline = baseline.trials;
  result.affected_subjects = metric.counted().affected_subjects();
  result.affected_subjects_baseline = metric.counted_baseline().affected_subjects();
  result.distinct_subjects = static_cast<uint64_t>(std::llround(metric.counted().distinct_subjects()));
  result.dispersion = metric.dispersion();
  facts->distinct = metric.counted().Distinct();
  facts->alpha_rollback = thresholds.alpha_rollback;
  facts->alpha_advance = thresholds.alpha_advance;
  facts->scope_start = metric.scope_start();
  result.estimate = facts->distinct.Estimate();
  result.budget = metric.null().bound;
  result.log_evidence_rollback = decision.log_rollback;
  result.log_evidence_advance = decision.log_advance;
  result.log_threshold_rollback = thresholds.log_rollback;
  result.log_threshold_advance = thresholds.log_advance;
  facts->rise = metric.MostLikelyRise();
  if (facts->rise) result.onset = facts->rise->since;
  if (decision.verdict == Verdict::kHold) {
    result.rising = metric.rising();
    result.will_not_resolve = metric.WillNotResolve();
  }
  return result;
}

// The e-BH procedure (Wang and Ramdas, "False discovery rate control with e-values", 2022) over all declared
// fields.
std::vector<std::string> GateEvidence::State::SuspectFields() const {
  double budget = 0;  // the smallest of this step
  for (const Check& check : step_plan().checks) {
    if (check.metric == Metric::kMismatchRatio && (budget == 0 || check.budget < budget))
      budget = check.budget;
  }
  if (budget == 0) return {};
  const double dispersion = comparisons.Dispersion();
  std::vector<std::pair<double, std::string>> by_evidence;  // -ln E, so that the worst comes first
  for (const auto& [field, counts] : by_field.fields()) {
    if (field == WindowStats::kOtherFields) continue;
    RateEvidence rate;
    const double trials = static_cast<double>(comparisons.reported().trials) / dispersion;
    const double events = static_cast<double>(counts.total()) / dispersion;
    if (!rate.Add(std::min(events, trials), trials).ok()) continue;
    by_evidence.emplace_back(-ValueOf(rate.LogUp(budget)), field);
  }
  std::sort(by_evidence.begin(), by_evidence.end());
  const double hypotheses = static_cast<double>(std::max<size_t>(epoch.declared_fields, by_evidence.size()));
  size_t discoveries = 0;
  for (size_t k = 1; k <= by_evidence.size(); ++k) {
    const double needed = std::log(hypotheses / (static_cast<double>(k) * kFieldFalseDiscoveryRate));
    if (-by_evidence[k - 1].first >= needed) discoveries = k;
  }
  std::vector<std::string> fields;
  for (size_t i = 0; i < discoveries; ++i) fields.push_back(by_evidence[i].second);
  return fields;
}

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

GateEvidence::GateEvidence(std::shared_ptr<const MigrationPlan> plan, const EvidenceEpoch& epoch, int step)
    : state_(std::make_unique<State>(std::move(plan), epoch, step)) {}
GateEvidence::GateEvidence(const GateEvidence& other) : state_(std::make_unique<State>(*other.state_)) {}
GateEvidence::GateEvidence(GateEvidence&&) noexcept = default;
GateEvidence& GateEvidence::operator=(const GateEvidence& other) {
  if (this != &other) state_ = std::make_unique<State>(*other.state_);
  return *this;
}
GateEvidence& GateEvidence::operator=(GateEvidence&&) noexcept = default;
GateEvidence::~GateEvidence() = default;

int GateEvidence::step() const { return state_->step; }

void GateEvidence::BeginStep(int step, absl::Time start) { state_->BeginStep(step, start); }

absl::Status GateEvidence::AddBucket(absl::Time start, const WindowStats& bucket) {
  State& state = *state_;
  if (start <= state.last_bucket) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the bucket of ", absl::FormatTime(start, absl::UTCTimeZone()),
        " is not later than the one before, of ", absl::FormatTime(state.last_bucket, absl::UTCTimeZone())));
  }
  // Everything that can fail comes first, so that a refused bucket changes nothing.
  LOCKSTEP_RETURN_IF_ERROR(bucket.Validate());
  for (const State::Null& null : state.nulls) {
    LOCKSTEP_RETURN_IF_ERROR(null.evidence.CheckBucket(bucket, state.latency_edges));
  }
  LOCKSTEP_RETURN_IF_ERROR(state.latency_edges.CheckBucket(bucket));
  const uint64_t reads = bucket.arm(Arm::kNew).requests + bucket.arm(Arm::kOld).requests;
  LOCKSTEP_RETURN_IF_ERROR(CheckSum("reads", state.new_reads + state.old_reads, reads));
  LOCKSTEP_RETURN_IF_ERROR(CheckSum("comparisons", state.comparisons.reported().trials, bucket.comparable()));
  LOCKSTEP_RETURN_IF_ERROR(CheckSum("comparisons", state.compared, bucket.compared()));
  if (!bucket.fields().empty()) {
    WindowStats fields = state.by_field;
    for (const auto& [field, counts] : bucket.fields()) {
      LOCKSTEP_RETURN_IF_ERROR(fields.AddFieldMismatches(field, counts));
    }
    state.by_field = std::move(fields);
  }
  for (State::Null& null : state.nulls) null.evidence.AddBucket(start, bucket, state.latency_edges);
  state.comparisons.Add({.count = {bucket.mismatches(), bucket.comparable()},
                         .trials = &bucket.subjects.compared,
                         .events = &bucket.subjects.mismatched},
                        1);
  state.latency_edges.AddBucket(bucket);
  state.new_reads += bucket.arm(Arm::kNew).requests;
  state.old_reads += bucket.arm(Arm::kOld).requests;
  state.compared += bucket.compared();
  state.not_comparable += bucket.not_comparable();
  state.last_bucket = start;
  return absl::OkStatus();
}

Verdict GateEvidence::EvaluateVerdict(const EvaluationContext& context) const {
  const std::vector<CheckDecision> decisions = state_->DecideAll(context);
  const absl::Duration bake_remaining =
      std::max(absl::ZeroDuration(), state_->step_plan().min_bake - context.step_age);
  return state_->Overall(state_->FindBreach(decisions), decisions, !state_->OpenGuards(context).empty(),
                         bake_remaining);
}

GateResult GateEvidence::Evaluate(const EvaluationContext& context) const { return Find(context).Explain(); }

GateFinding GateEvidence::Find(const EvaluationContext& context) const {
  const State& state = *state_;
  const PlanStep& step = state.step_plan();
  const std::vector<CheckDecision> decisions = state.DecideAll(context);
  GateFinding finding;
  finding.plan_ = state.plan;
  finding.step_ = state.step;
  finding.evidence_end_ = state.last_bucket + kTelemetryBucket;
  GateResult& result = finding.outline_;
  result.guards = state.OpenGuards(context);
  result.bake_remaining = std::max(absl::ZeroDuration(), step.min_bake - context.step_age);
  result.deadline_passed = DeadlinePassed(step, context.deadline_age);
  result.evidence_restarts = state.epoch.restarts;
  result.log_evidence_rollback = state.JointLogEvidence(decisions, BreachAction::kRollback);
  result.log_threshold_rollback = state.log_joint_rollback;
  result.checks.reserve(decisions.size());
  finding.facts_.resize(decisions.size());
  for (size_t i = 0; i < decisions.size(); ++i) {
    result.checks.push_back(state.Outline(i, decisions[i], context, &finding.facts_[i]));
  }
  result.suspect_fields = state.SuspectFields();
  const std::optional<State::Breach> breach = state.FindBreach(decisions);
  result.verdict = state.Overall(breach, decisions, !result.guards.empty(), result.bake_remaining);
  if (result.verdict == Verdict::kRollBack) result.action = breach->action;
  finding.breached_alone_ = breach && breach->single;
  return finding;
}

}  // namespace lockstep::domain
