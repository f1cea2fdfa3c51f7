// The one decision function: which side to read and write for one key. The in-process SDK, the unary RPCs and
// every other door call it; there is no second implementation.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"
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

// Pure, total, no allocation. `attributes` may be null. Sampling of comparisons uses a second hash of the
// key, independent of the bucket, so that a canary of any weight is compared like the rest.
Decision Decide(const RoutingState& state, absl::string_view key, const Attributes* attributes);

}  // namespace lockstep::domain
