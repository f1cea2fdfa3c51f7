// The published routing state of one migration: everything a service needs to route a request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/domain/bucketing.h"
#include "core/domain/ladder.h"

namespace lockstep::domain {

enum class Side : uint8_t { kOld, kNew };

absl::string_view SideName(Side side);  // "OLD", "NEW"

// Request attributes for attribute rules, e.g. {"tenant_kind", "internal"}.
using Attributes = absl::flat_hash_map<std::string, std::string>;

// Reads of requests whose `attribute` has one of `values` always go to `side`.
struct AttributeRule {
  std::string attribute;
  std::vector<std::string> values;
  Side side = Side::kOld;
  bool operator==(const AttributeRule&) const = default;
};

// KeyHash. With the salt seed of the routing state, a look-up needs no other hash than the decision's.
struct PinnedKeyHash {
  using is_transparent = void;
  uint64_t salt_seed = 0;
  size_t operator()(absl::string_view key) const { return KeyHash(salt_seed, key); }
};

// Exceptions that come before buckets, for reads only: a pin never moves a key's write authority. A key pin
// beats an attribute rule; among rules the first that matches wins. Pins take effect from CANARY_READ on.
struct Pins {
  // For most keys that aren't in it the table answers from one line of its control bytes.
  absl::flat_hash_map<std::string, Side, PinnedKeyHash, std::equal_to<>> keys;
  std::vector<AttributeRule> rules;

  bool empty() const { return keys.empty() && rules.empty(); }
  bool operator==(const Pins&) const = default;
};

// Without any, for a state with this seed. Those of another seed are right as well, and slower.
inline Pins NoPins(uint64_t salt_seed) {
  Pins pins;
  pins.keys = decltype(pins.keys)(0, PinnedKeyHash{salt_seed});
  return pins;
}

inline constexpr size_t kMaxPinnedKeys = 100000;
inline constexpr size_t kMaxAttributeRules = 64;

// A value; copies share the immutable pins.
struct RoutingState {
  Stage stage = Stage::kOff;
  // Invariants: write_weight <= drain_weight <= read_weight <= kBucketCount, and per stage as in
  // docs/semantics.md section 2. ValidateRoutingState checks them.
  uint32_t read_weight = 0;
  uint32_t drain_weight = 0;
  uint32_t write_weight = 0;
  // Number of this state among those published for the migration; 0 = never published.
  uint64_t epoch = 0;
  // Raised when a migration restarts from OFF; evidence of older generations counts for nothing.
  uint64_t generation = 1;
  // Share of comparable requests that are compared, in buckets of a second, independent hash: [0,
  // kBucketCount].
  uint32_t comparison_weight = kBucketCount;
  uint64_t salt_seed = 0;            // SaltSeed of the migration's salt
  std::shared_ptr<const Pins> pins;  // null = none

  // Equal in everything that routes; `epoch` is left out.
  bool RoutesLike(const RoutingState& other) const;
};

// The state that stands for `stage` at `read_weight` (0 where the stage fixes it), without epoch or pins:
// CUTOVER starts with nothing drained. Weights that the stage determines are filled in.
RoutingState StateOfStage(Stage stage, uint32_t read_weight);

// INVALID_ARGUMENT naming the pins to the old side, which from CUTOVER on is no longer the truth for every
// bucket. OK before CUTOVER.
absl::Status CheckPinsAt(Stage stage, const Pins& pins);

// INVALID_ARGUMENT naming the invariant that is broken and the offending numbers.
absl::Status ValidateRoutingState(const RoutingState& state);

}  // namespace lockstep::domain
