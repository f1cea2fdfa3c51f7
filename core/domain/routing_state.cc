#include "core/domain/routing_state.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"

namespace lockstep::domain {
namespace {

// How many offending pins a message lists.
constexpr size_t kMaxListedPins = 5;

absl::Status ValidateWeights(const RoutingState& state) {
  const absl::string_view stage = StageName(state.stage);
  const auto broken = [&](absl::string_view rule) {
    return absl::InvalidArgumentError(absl::StrCat(stage, " with read_weight ", state.read_weight,
                                                   ", drain_weight ", state.drain_weight, ", write_weight ",
                                                   state.write_weight, ": ", rule));
  };
  if (state.write_weight > state.drain_weight) return broken("write_weight must not exceed drain_weight");
  if (state.drain_weight > state.read_weight) return broken("drain_weight must not exceed read_weight");
  if (state.read_weight > kBucketCount)
    return broken(absl::StrCat("read_weight must not exceed ", kBucketCount));
  if (state.stage < Stage::kCanaryRead && state.read_weight > 0) {
    return broken("read_weight must be 0 before CANARY_READ");
  }
  if (state.stage >= Stage::kCutover && state.read_weight != kBucketCount) {
    return broken(absl::StrCat("read_weight must be ", kBucketCount, " from CUTOVER on"));
  }
  if (state.stage < Stage::kCutover && state.drain_weight > 0) {
    return broken("drain_weight must be 0 before CUTOVER");
  }
  if (state.stage >= Stage::kNewOnly && state.write_weight != kBucketCount) {
    return broken(absl::StrCat("write_weight must be ", kBucketCount, " from NEW_ONLY on"));
  }
  if (state.comparison_weight > kBucketCount) {
    return absl::InvalidArgumentError(
        absl::StrCat("comparison_weight ", state.comparison_weight, " must not exceed ", kBucketCount));
  }
  return absl::OkStatus();
}

absl::Status ValidatePins(const Pins& pins) {
  if (pins.keys.size() > kMaxPinnedKeys) {
    return absl::InvalidArgumentError(
        absl::StrCat(pins.keys.size(), " pinned keys; at most ", kMaxPinnedKeys, " are allowed"));
  }
  if (pins.rules.size() > kMaxAttributeRules) {
    return absl::InvalidArgumentError(
        absl::StrCat(pins.rules.size(), " attribute rules; at most ", kMaxAttributeRules, " are allowed"));
  }
  for (const auto& [key, side] : pins.keys) {
    if (key.size() > kMaxKeyBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("a pinned key has ", key.size(), " bytes; at most ", kMaxKeyBytes, " are allowed"));
    }
  }
  for (size_t i = 0; i < pins.rules.size(); ++i) {
    const AttributeRule& rule = pins.rules[i];
    if (rule.attribute.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("attribute rule ", i, " names no attribute"));
    }
    if (rule.values.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("attribute rule ", i, " ('", rule.attribute,
                                                     "') lists no values and would never match"));
    }
  }
  return absl::OkStatus();
}

bool SamePins(const std::shared_ptr<const Pins>& a, const std::shared_ptr<const Pins>& b) {
  if (a == b) return true;
  const bool a_empty = a == nullptr || a->empty();
  const bool b_empty = b == nullptr || b->empty();
  if (a_empty || b_empty) return a_empty == b_empty;
  return *a == *b;
}

}  // namespace

absl::string_view SideName(Side side) {
  switch (side) {
    case Side::kOld:
      return "OLD";
    case Side::kNew:
      return "NEW";
  }
  return "";
}

bool RoutingState::RoutesLike(const RoutingState& other) const {
  return stage == other.stage && read_weight == other.read_weight && drain_weight == other.drain_weight &&
         write_weight == other.write_weight && generation == other.generation &&
         comparison_weight == other.comparison_weight && salt_seed == other.salt_seed &&
         SamePins(pins, other.pins);
}

RoutingState StateOfStage(Stage stage, uint32_t read_weight) {
  RoutingState state;
  state.stage = stage;
  switch (stage) {
    case Stage::kOff:
    case Stage::kDualWrite:
    case Stage::kShadowRead:
      break;
    case Stage::kCanaryRead:
      state.read_weight = read_weight;
      break;
    case Stage::kCutover:
      state.read_weight = kBucketCount;
      break;
    case Stage::kNewOnly:
    case Stage::kComplete:
      state.read_weight = state.drain_weight = state.write_weight = kBucketCount;
      break;
  }
  return state;
}

absl::Status CheckPinsAt(Stage stage, const Pins& pins) {
  if (stage < Stage::kCutover) return absl::OkStatus();
  std::vector<std::string> found;
  for (const auto& [key, side] : pins.keys) {
    if (side == Side::kOld) found.push_back(absl::StrCat("key '", absl::CHexEscape(key), "'"));
  }
  // The map has no order; the message should.
  std::sort(found.begin(), found.end());
  for (const AttributeRule& rule : pins.rules) {
    if (rule.side == Side::kOld) found.push_back(absl::StrCat("attribute rule '", rule.attribute, "'"));
  }
  if (found.empty()) return absl::OkStatus();
  const size_t total = found.size();
  found.resize(std::min(total, kMaxListedPins));
  return absl::InvalidArgumentError(absl::StrCat(
      "pins to the old side must be lifted before ", StageName(stage), ": ", absl::StrJoin(found, ", "),
      total > found.size() ? absl::StrCat(" and ", total - found.size(), " more") : ""));
}

absl::Status ValidateRoutingState(const RoutingState& state) {
  LOCKSTEP_RETURN_IF_ERROR(ValidateWeights(state));
  if (state.generation == 0) return absl::InvalidArgumentError("generation 0: generations count from 1");
  if (state.pins == nullptr) return absl::OkStatus();
  LOCKSTEP_RETURN_IF_ERROR(ValidatePins(*state.pins));
  return CheckPinsAt(state.stage, *state.pins);
}

}  // namespace lockstep::domain
