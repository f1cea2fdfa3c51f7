#include "core/domain/decision.h"

#include <algorithm>

#include "core/domain/ladder.h"

namespace lockstep::domain {
DecisionRule RuleOf(const RoutingState& state) {
  const LadderRow& row = LadderRowOf(state.stage);
  DecisionRule rule{.salt_seed = state.salt_seed, .epoch = state.epoch};
  rule.compared_below = row.compares ? state.comparison_weight : 0;
  rule.unmoved = !row.writes_new   ? WriteMode::kOldOnly
                 : !row.writes_old ? WriteMode::kNewOnly
                                   : WriteMode::kOldThenNew;
  if (state.stage == Stage::kCutover) {
    rule.write_below = state.write_weight;
    rule.held_below = state.drain_weight;
  }
  if (state.stage == Stage::kCanaryRead) {
    rule.read_below = state.read_weight;
    rule.in = DecisionReason::kBucketIn;
    rule.out = DecisionReason::kBucketOut;
    rule.pins = state.pins == nullptr || state.pins->empty() ? nullptr : state.pins.get();
  } else {
    // Below CANARY_READ nothing reads new, above it everything does: neither pins nor buckets have a say.
    rule.read_below = row.may_serve_new ? kBucketCount : 0;
  }
  return rule;
}

Pinned FindPin(const DecisionRule& rule, absl::string_view key, uint64_t hash, const Attributes* attributes) {
  const Pins& pins = *rule.pins;
  if (!pins.keys.empty()) {
    const bool same_hash = pins.keys.hash_function().salt_seed == rule.salt_seed;
    const auto pinned = same_hash ? pins.keys.find(key, hash) : pins.keys.find(key);
    if (pinned != pins.keys.end()) {
      return pinned->second == Side::kNew ? Pinned::kNewByKey : Pinned::kOldByKey;
    }
  }
  if (attributes == nullptr) return Pinned::kNo;
  for (const AttributeRule& by_attribute : pins.rules) {
    const auto attribute = attributes->find(by_attribute.attribute);
    if (attribute == attributes->end()) continue;
    const std::vector<std::string>& values = by_attribute.values;
    if (std::find(values.begin(), values.end(), attribute->second) != values.end()) {
      return by_attribute.side == Side::kNew ? Pinned::kNewByRule : Pinned::kOldByRule;
    }
  }
  return Pinned::kNo;
}

absl::string_view WriteModeName(WriteMode mode) {
  switch (mode) {
    case WriteMode::kOldOnly:
      return "OLD_ONLY";
    case WriteMode::kOldThenNew:
      return "OLD_THEN_NEW";
    case WriteMode::kHeld:
      return "HELD";
    case WriteMode::kNewThenOld:
      return "NEW_THEN_OLD";
    case WriteMode::kNewOnly:
      return "NEW_ONLY";
  }
  return "";
}

absl::string_view DecisionReasonName(DecisionReason reason) {
  switch (reason) {
    case DecisionReason::kStage:
      return "STAGE";
    case DecisionReason::kBucketIn:
      return "BUCKET_IN";
    case DecisionReason::kBucketOut:
      return "BUCKET_OUT";
    case DecisionReason::kKeyPin:
      return "KEY_PIN";
    case DecisionReason::kAttributeRule:
      return "ATTRIBUTE_RULE";
  }
  return "";
}

}  // namespace lockstep::domain
