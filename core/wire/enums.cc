#include "core/wire/enums.h"

#include <vector>

#include "absl/strings/str_join.h"
#include "core/base/check.h"

namespace lockstep::wire {
namespace {

// The domain's enumerators are numbered from 0 without gaps, and the API has one more value, UNSPECIFIED.
// Asking ToProto keeps the pairs in one place.
template <typename DomainEnum, typename ProtoEnum>
std::optional<DomainEnum> Inverse(ProtoEnum value, DomainEnum last) {
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    const auto candidate = static_cast<DomainEnum>(i);
    if (ToProto(candidate) == value) return candidate;
  }
  return std::nullopt;
}

}  // namespace

v1::Stage ToProto(domain::Stage stage) {
  switch (stage) {
    case domain::Stage::kOff:
      return v1::STAGE_OFF;
    case domain::Stage::kDualWrite:
      return v1::STAGE_DUAL_WRITE;
    case domain::Stage::kShadowRead:
      return v1::STAGE_SHADOW_READ;
    case domain::Stage::kCanaryRead:
      return v1::STAGE_CANARY_READ;
    case domain::Stage::kCutover:
      return v1::STAGE_CUTOVER;
    case domain::Stage::kNewOnly:
      return v1::STAGE_NEW_ONLY;
    case domain::Stage::kComplete:
      return v1::STAGE_COMPLETE;
  }
  LOCKSTEP_CHECK(false, "no such Stage");
}

v1::Side ToProto(domain::Side side) {
  switch (side) {
    case domain::Side::kOld:
      return v1::SIDE_OLD;
    case domain::Side::kNew:
      return v1::SIDE_NEW;
  }
  LOCKSTEP_CHECK(false, "no such Side");
}

v1::Metric ToProto(domain::Metric metric) {
  switch (metric) {
    case domain::Metric::kMismatchRatio:
      return v1::METRIC_MISMATCH_RATIO;
    case domain::Metric::kErrorRatio:
      return v1::METRIC_ERROR_RATIO;
    case domain::Metric::kMirrorFailureRatio:
      return v1::METRIC_MIRROR_FAILURE_RATIO;
    case domain::Metric::kPairedErrorRatio:
      return v1::METRIC_PAIRED_ERROR_RATIO;
    case domain::Metric::kLatency:
      return v1::METRIC_LATENCY;
    case domain::Metric::kPairedLatency:
      return v1::METRIC_PAIRED_LATENCY;
    case domain::Metric::kOutstandingRepairs:
      return v1::METRIC_OUTSTANDING_REPAIRS;
    case domain::Metric::kCoverage:
      return v1::METRIC_COVERAGE;
    case domain::Metric::kThroughputShare:
      return v1::METRIC_THROUGHPUT_SHARE;
  }
  LOCKSTEP_CHECK(false, "no such Metric");
}

v1::BreachAction ToProto(domain::BreachAction action) {
  switch (action) {
    case domain::BreachAction::kRollback:
      return v1::BREACH_ACTION_ROLLBACK;
    case domain::BreachAction::kPause:
      return v1::BREACH_ACTION_PAUSE;
    case domain::BreachAction::kNotify:
      return v1::BREACH_ACTION_NOTIFY;
  }
  LOCKSTEP_CHECK(false, "no such BreachAction");
}

v1::ListOrder ToProto(domain::ListOrder order) {
  switch (order) {
    case domain::ListOrder::kOrdered:
      return v1::LIST_ORDER_ORDERED;
    case domain::ListOrder::kUnordered:
      return v1::LIST_ORDER_UNORDERED;
  }
  LOCKSTEP_CHECK(false, "no such ListOrder");
}

v1::RunState ToProto(domain::RunState state) {
  switch (state) {
    case domain::RunState::kDraft:
      return v1::RUN_STATE_DRAFT;
    case domain::RunState::kRunning:
      return v1::RUN_STATE_RUNNING;
    case domain::RunState::kPaused:
      return v1::RUN_STATE_PAUSED;
    case domain::RunState::kRolledBack:
      return v1::RUN_STATE_ROLLED_BACK;
    case domain::RunState::kSucceeded:
      return v1::RUN_STATE_SUCCEEDED;
  }
  LOCKSTEP_CHECK(false, "no such RunState");
}

v1::Verdict ToProto(domain::Verdict verdict) {
  switch (verdict) {
    case domain::Verdict::kAdvance:
      return v1::VERDICT_ADVANCE;
    case domain::Verdict::kHold:
      return v1::VERDICT_HOLD;
    case domain::Verdict::kRollBack:
      return v1::VERDICT_ROLL_BACK;
  }
  LOCKSTEP_CHECK(false, "no such Verdict");
}

v1::WriteMode ToProto(domain::WriteMode mode) {
  switch (mode) {
    case domain::WriteMode::kOldOnly:
      return v1::WRITE_MODE_OLD_ONLY;
    case domain::WriteMode::kOldThenNew:
      return v1::WRITE_MODE_OLD_THEN_NEW;
    case domain::WriteMode::kHeld:
      return v1::WRITE_MODE_HELD;
    case domain::WriteMode::kNewThenOld:
      return v1::WRITE_MODE_NEW_THEN_OLD;
    case domain::WriteMode::kNewOnly:
      return v1::WRITE_MODE_NEW_ONLY;
  }
  LOCKSTEP_CHECK(false, "no such WriteMode");
}

v1::DecisionReason ToProto(domain::DecisionReason reason) {
  switch (reason) {
    case domain::DecisionReason::kStage:
      return v1::DECISION_REASON_STAGE;
    case domain::DecisionReason::kBucketIn:
      return v1::DECISION_REASON_BUCKET_IN;
    case domain::DecisionReason::kBucketOut:
      return v1::DECISION_REASON_BUCKET_OUT;
    case domain::DecisionReason::kKeyPin:
      return v1::DECISION_REASON_KEY_PIN;
    case domain::DecisionReason::kAttributeRule:
      return v1::DECISION_REASON_ATTRIBUTE_RULE;
  }
  LOCKSTEP_CHECK(false, "no such DecisionReason");
}

v1::ComparisonOutcome ToProto(domain::ComparisonOutcome outcome) {
  switch (outcome) {
    case domain::ComparisonOutcome::kMatch:
      return v1::COMPARISON_OUTCOME_MATCH;
    case domain::ComparisonOutcome::kMismatch:
      return v1::COMPARISON_OUTCOME_MISMATCH;
    case domain::ComparisonOutcome::kMissingInNew:
      return v1::COMPARISON_OUTCOME_MISSING_IN_NEW;
    case domain::ComparisonOutcome::kMissingInOld:
      return v1::COMPARISON_OUTCOME_MISSING_IN_OLD;
    case domain::ComparisonOutcome::kErrorInOld:
      return v1::COMPARISON_OUTCOME_ERROR_IN_OLD;
    case domain::ComparisonOutcome::kErrorInNew:
      return v1::COMPARISON_OUTCOME_ERROR_IN_NEW;
    case domain::ComparisonOutcome::kTimeout:
      return v1::COMPARISON_OUTCOME_TIMEOUT;
    case domain::ComparisonOutcome::kRaced:
      return v1::COMPARISON_OUTCOME_RACED;
    case domain::ComparisonOutcome::kLagged:
      return v1::COMPARISON_OUTCOME_LAGGED;
    case domain::ComparisonOutcome::kIgnored:
      return v1::COMPARISON_OUTCOME_IGNORED;
  }
  LOCKSTEP_CHECK(false, "no such ComparisonOutcome");
}

v1::MismatchKind ToProto(domain::MismatchKind kind) {
  switch (kind) {
    case domain::MismatchKind::kValue:
      return v1::MISMATCH_KIND_VALUE;
    case domain::MismatchKind::kType:
      return v1::MISMATCH_KIND_TYPE;
    case domain::MismatchKind::kMissing:
      return v1::MISMATCH_KIND_MISSING;
    case domain::MismatchKind::kExtra:
      return v1::MISMATCH_KIND_EXTRA;
    case domain::MismatchKind::kOrder:
      return v1::MISMATCH_KIND_ORDER;
  }
  LOCKSTEP_CHECK(false, "no such MismatchKind");
}

v1::LeasePolicy ToProto(domain::LeasePolicy policy) {
  switch (policy) {
    case domain::LeasePolicy::kKeepServing:
      return v1::LEASE_POLICY_KEEP_SERVING;
    case domain::LeasePolicy::kFailWrites:
      return v1::LEASE_POLICY_FAIL_WRITES;
  }
  LOCKSTEP_CHECK(false, "no such LeasePolicy");
}

std::optional<domain::Stage> EnumFromProto(v1::Stage stage) {
  return Inverse(stage, domain::Stage::kComplete);
}

std::optional<domain::Side> EnumFromProto(v1::Side side) { return Inverse(side, domain::Side::kNew); }

std::optional<domain::Metric> EnumFromProto(v1::Metric metric) {
  return Inverse(metric, domain::Metric::kThroughputShare);
}

std::optional<domain::BreachAction> EnumFromProto(v1::BreachAction action) {
  if (action == v1::BREACH_ACTION_UNSPECIFIED) return domain::BreachAction::kRollback;
  return Inverse(action, domain::BreachAction::kNotify);
}

std::optional<domain::ListOrder> EnumFromProto(v1::ListOrder order) {
  if (order == v1::LIST_ORDER_UNSPECIFIED) return domain::ListOrder::kOrdered;
  return Inverse(order, domain::ListOrder::kUnordered);
}

std::optional<domain::RunState> EnumFromProto(v1::RunState state) {
  return Inverse(state, domain::RunState::kSucceeded);
}

std::optional<domain::Verdict> EnumFromProto(v1::Verdict verdict) {
  return Inverse(verdict, domain::Verdict::kRollBack);
}

std::optional<domain::WriteMode> EnumFromProto(v1::WriteMode mode) {
  return Inverse(mode, domain::WriteMode::kNewOnly);
}

std::optional<domain::DecisionReason> EnumFromProto(v1::DecisionReason reason) {
  return Inverse(reason, domain::DecisionReason::kAttributeRule);
}

std::optional<domain::ComparisonOutcome> EnumFromProto(v1::ComparisonOutcome outcome) {
  return Inverse(outcome, domain::ComparisonOutcome::kIgnored);
}

std::optional<domain::MismatchKind> EnumFromProto(v1::MismatchKind kind) {
  return Inverse(kind, domain::MismatchKind::kOrder);
}

std::optional<domain::LeasePolicy> EnumFromProto(v1::LeasePolicy policy) {
  if (policy == v1::LEASE_POLICY_UNSPECIFIED) return domain::LeasePolicy::kKeepServing;
  return Inverse(policy, domain::LeasePolicy::kFailWrites);
}

std::string UnknownEnumMessage(const google::protobuf::EnumDescriptor* descriptor, int value) {
  std::vector<std::string> known;
  for (int i = 0; i < descriptor->value_count(); ++i) {
    if (descriptor->value(i)->number() != 0) known.push_back(descriptor->value(i)->name());
  }
  return absl::StrCat(value == 0 ? "is not set" : absl::StrCat(value, " is not a ", descriptor->name()),
                      "; use one of ", absl::StrJoin(known, ", "));
}

}  // namespace lockstep::wire
