// The one compatibility rule: which routing states may be acted on at the same time
// (docs/semantics.md, section 3). A fence is nothing but waiting for incompatible epochs to drain.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "core/domain/routing_state.h"

namespace lockstep::domain {

// What one bucket does under a routing state. CUTOVER splits into three: its untouched buckets behave as
// CANARY, its held ones as DRAIN, the moved ones as CUTOVER.
enum class BucketMode : uint8_t { kOff, kDual, kShadow, kCanary, kDrain, kCutover, kNewOnly, kComplete };

inline constexpr int kBucketModeCount = 8;

absl::string_view BucketModeName(BucketMode mode);

BucketMode ModeOfBucket(const RoutingState& state, uint32_t bucket);

// Symmetric. Proven by tests/core/interleaving_test.cc, which enumerates two instances' operations.
bool MayCoexist(BucketMode a, BucketMode b);

// Which anomaly of the matrix (letters a to h) makes the pair incompatible, in words for an operator;
// empty when they may coexist.
absl::string_view WhyNotCoexist(BucketMode a, BucketMode b);

// An example of a bucket in which the two states collide.
struct Incompatibility {
  uint32_t bucket;
  BucketMode mode_a;
  BucketMode mode_b;
  std::string ToString() const;
};

// Nothing when `a` and `b` may be acted on at the same time in every bucket.
std::optional<Incompatibility> FindIncompatibility(const RoutingState& a, const RoutingState& b);

inline bool MayCoexist(const RoutingState& a, const RoutingState& b) { return !FindIncompatibility(a, b); }

}  // namespace lockstep::domain
