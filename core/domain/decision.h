// The one decision function: which side to read and write for one key. The in-process SDK, the unary RPCs and
// every other door call it; there is no second implementation.
#pragma once

#include <cstdint>

#include "absl/base/optimization.h"
#include "absl/strings/string_view.h"
#include "core/domain/bucketing.h"
#include "core/domain/routing_state.h"

namespace lockstep::domain {

// In what order the two sides are written. The first one is authoritative.
enum class WriteMode : uint8_t {
  kOldOnly,
  kOldThenNew,
  kHeld,  // wait for the next epoch: the bucket's authority is moving
  kNewThenOld,
  kNewOnly,
};

absl::string_view WriteModeName(WriteMode mode);

// Why the read side was chosen; for explanations and for OpenFeature's `reason`.
enum class DecisionReason : uint8_t { kStage, kBucketIn, kBucketOut, kKeyPin, kAttributeRule };

absl::string_view DecisionReasonName(DecisionReason reason);

struct Decision {
  Side read_side = Side::kOld;
  WriteMode write_mode = WriteMode::kOldOnly;
  // Read the other side too and compare, off the request path.
  bool compare = false;
  DecisionReason reason = DecisionReason::kStage;
  uint32_t bucket = 0;
  uint64_t epoch = 0;
  bool operator==(const Decision&) const = default;
};

// What a routing state says of all keys, laid out for the decision: one cache line, made once for each
// published state. Valid as long as the state's pins.
struct DecisionRule {
  uint64_t salt_seed = 0;
  uint64_t epoch = 0;
  // Buckets below these bounds: read from the new side; the write authority has moved; of the others, it is
  // moving; compared, by the second hash.
  uint32_t read_below = 0;
  uint32_t write_below = 0;
  uint32_t held_below = 0;
  uint32_t compared_below = 0;
  WriteMode moved = WriteMode::kNewThenOld;
  WriteMode unmoved = WriteMode::kOldOnly;
  // Of a bucket below `read_below`, and of the others.
  DecisionReason in = DecisionReason::kStage;
  DecisionReason out = DecisionReason::kStage;
  const Pins* pins = nullptr;  // null: they have no say
};

DecisionRule RuleOf(const RoutingState& state);

// What the pins say of a key.
enum class Pinned : uint8_t { kNo, kOldByKey, kNewByKey, kOldByRule, kNewByRule };

// What has to be looked up for a key; the rest follows from it and the rule.
struct KeyFacts {
  uint64_t hash;
  Pinned pinned;
};

// `rule.pins` is set, and `hash` is the key's. Neither allocates nor fails; `attributes` may be null.
Pinned FindPin(const DecisionRule& rule, absl::string_view key, uint64_t hash, const Attributes* attributes);

inline KeyFacts LookUp(const DecisionRule& rule, absl::string_view key, const Attributes* attributes) {
  const uint64_t hash = KeyHash(rule.salt_seed, key);
  return {hash,
          ABSL_PREDICT_FALSE(rule.pins != nullptr) ? FindPin(rule, key, hash, attributes) : Pinned::kNo};
}

// In the header, so that callers on a request's path pay for the parts that they use. Sampling of comparisons
// uses a second hash of the key, independent of the bucket, so that a canary of any weight is compared like
// the rest.
inline Decision DecideBy(const DecisionRule& rule, const KeyFacts& facts) {
  Decision decision;
  decision.epoch = rule.epoch;
  decision.bucket = BucketOfHash(facts.hash);
  decision.compare = ComparisonBucketOfHash(facts.hash) < rule.compared_below;
  decision.write_mode = decision.bucket < rule.write_below  ? rule.moved
                        : decision.bucket < rule.held_below ? WriteMode::kHeld
                                                            : rule.unmoved;
  const bool in = decision.bucket < rule.read_below;
  decision.read_side = in ? Side::kNew : Side::kOld;
  decision.reason = in ? rule.in : rule.out;
  if (ABSL_PREDICT_FALSE(facts.pinned != Pinned::kNo)) {
    const bool to_new = facts.pinned == Pinned::kNewByKey || facts.pinned == Pinned::kNewByRule;
    const bool by_key = facts.pinned == Pinned::kOldByKey || facts.pinned == Pinned::kNewByKey;
    decision.read_side = to_new ? Side::kNew : Side::kOld;
    decision.reason = by_key ? DecisionReason::kKeyPin : DecisionReason::kAttributeRule;
  }
  return decision;
}

// The one decision function, for a single key. Pure, total for valid states, no allocation. `attributes` may
// be null.
inline Decision Decide(const RoutingState& state, absl::string_view key, const Attributes* attributes) {
  const DecisionRule rule = RuleOf(state);
  return DecideBy(rule, LookUp(rule, key, attributes));
}

}  // namespace lockstep::domain
