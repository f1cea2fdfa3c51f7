#include "core/domain/decision.h"

#include <algorithm>
#include <optional>

namespace lockstep::domain {
namespace {

struct PinnedSide {
  Side side;
  DecisionReason reason;
};

std::optional<PinnedSide> FindPin(const Pins& pins, absl::string_view key, const Attributes* attributes) {
  if (!pins.keys.empty()) {
    const auto pinned = pins.keys.find(key);
    if (pinned != pins.keys.end()) return PinnedSide{pinned->second, DecisionReason::kKeyPin};
  }
  if (attributes == nullptr) return std::nullopt;
  for (const AttributeRule& rule : pins.rules) {
    const auto attribute = attributes->find(rule.attribute);
    if (attribute == attributes->end()) continue;
    if (std::find(rule.values.begin(), rule.values.end(), attribute->second) != rule.values.end()) {
      return PinnedSide{rule.side, DecisionReason::kAttributeRule};
    }
  }
  return std::nullopt;
}

WriteMode WriteModeOf(const RoutingState& state, uint32_t bucket) {
  switch (state.stage) {
    case Stage::kOff:
      return WriteMode::kOldOnly;
    case Stage::kDualWrite:
    case Stage::kShadowRead:
    case Stage::kCanaryRead:
      return WriteMode::kOldThenNew;
    case Stage::kCutover:
      if (bucket < state.write_weight) return WriteMode::kNewThenOld;
      return bucket < state.drain_weight ? WriteMode::kHeld : WriteMode::kOldThenNew;
    case Stage::kNewOnly:
    case Stage::kComplete:
      return WriteMode::kNewOnly;
  }
  return WriteMode::kOldOnly;
}

}  // namespace

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

Decision Decide(const RoutingState& state, absl::string_view key, const Attributes* attributes) {
  const uint64_t hash = KeyHash(state.salt_seed, key);
  const LadderRow& row = LadderRowOf(state.stage);
  Decision decision;
  decision.bucket = BucketOfHash(hash);
  decision.epoch = state.epoch;
  decision.write_mode = WriteModeOf(state, decision.bucket);
  decision.compare = row.compares && ComparisonBucketOfHash(hash) < state.comparison_weight;
  if (state.stage != Stage::kCanaryRead) {
    // Below CANARY_READ nothing reads new, above it everything does: neither pins nor buckets have a say.
    decision.read_side = row.may_serve_new ? Side::kNew : Side::kOld;
    return decision;
  }
  if (state.pins != nullptr) {
    if (const std::optional<PinnedSide> pin = FindPin(*state.pins, key, attributes)) {
      decision.read_side = pin->side;
      decision.reason = pin->reason;
      return decision;
    }
  }
  const bool in = decision.bucket < state.read_weight;
  decision.read_side = in ? Side::kNew : Side::kOld;
  decision.reason = in ? DecisionReason::kBucketIn : DecisionReason::kBucketOut;
  return decision;
}

}  // namespace lockstep::domain
