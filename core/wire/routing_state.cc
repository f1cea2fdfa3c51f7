#include "core/wire/routing_state.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/wire/enums.h"
#include "google/protobuf/repeated_ptr_field.h"

namespace lockstep::wire {
namespace {

constexpr size_t kMaxAttributeBytes = 256;
constexpr size_t kMaxAttributeValues = 1000;
constexpr size_t kMaxAttributeValueBytes = 1024;

using Keys = google::protobuf::RepeatedPtrField<std::string>;

void ReadKeys(const Keys& keys, domain::Side side, const FieldPath& pins_path, absl::string_view field,
              domain::Pins& pins, Violations& violations) {
  for (int i = 0; i < keys.size(); ++i) {
    const auto [entry, added] = pins.keys.emplace(keys[i], side);
    if (added) continue;
    violations.Add(pins_path.At(field, i), entry->second == side
                                               ? "this key is listed twice"
                                               : "this key is pinned to both sides; choose one");
  }
}

// Returns the bytes of all keys.
size_t CheckKeys(const Keys& keys, const FieldPath& pins_path, absl::string_view field,
                 Violations& violations) {
  size_t bytes = 0;
  for (int i = 0; i < keys.size(); ++i) {
    CheckBytes(pins_path.At(field, i), keys[i].size(), {.min = 1, .max = domain::kMaxKeyBytes}, violations);
    bytes += keys[i].size();
  }
  return bytes;
}

size_t CheckRule(const v1::AttributeRule& rule, const FieldPath& path, Violations& violations) {
  CheckBytes(path / "attribute", rule.attribute().size(), {.min = 1, .max = kMaxAttributeBytes}, violations);
  CheckCount(path / "values", rule.values_size(), {.min = 1, .max = kMaxAttributeValues}, violations);
  size_t bytes = rule.attribute().size();
  for (int i = 0; i < rule.values_size(); ++i) {
    CheckBytes(path.At("values", i), rule.values(i).size(), {.max = kMaxAttributeValueBytes}, violations);
    bytes += rule.values(i).size();
  }
  return bytes;
}

}  // namespace

v1::Pins ToProto(const domain::Pins& pins) {
  v1::Pins out;
  for (const auto& [key, side] : pins.keys) {
    (side == domain::Side::kOld ? out.mutable_old_keys() : out.mutable_new_keys())->Add(std::string(key));
  }
  std::sort(out.mutable_old_keys()->begin(), out.mutable_old_keys()->end());
  std::sort(out.mutable_new_keys()->begin(), out.mutable_new_keys()->end());
  for (const domain::AttributeRule& rule : pins.rules) {
    v1::AttributeRule* added = out.add_rules();
    added->set_attribute(rule.attribute);
    for (const std::string& value : rule.values) added->add_values(value);
    added->set_side(ToProto(rule.side));
  }
  return out;
}

domain::Pins ReadPins(const v1::Pins& pins, const FieldPath& path, Violations& violations,
                      uint64_t salt_seed) {
  domain::Pins out = domain::NoPins(salt_seed);
  out.keys.reserve(pins.old_keys_size() + pins.new_keys_size());
  ReadKeys(pins.old_keys(), domain::Side::kOld, path, "old_keys", out, violations);
  ReadKeys(pins.new_keys(), domain::Side::kNew, path, "new_keys", out, violations);
  for (int i = 0; i < pins.rules_size(); ++i) {
    const v1::AttributeRule& rule = pins.rules(i);
    const FieldPath rule_path = path.At("rules", i);
    out.rules.push_back({rule.attribute(),
                         {rule.values().begin(), rule.values().end()},
                         ReadEnum(rule.side(), rule_path / "side", violations)});
  }
  return out;
}

void CheckPins(const v1::Pins& pins, const FieldPath& path, Violations& violations) {
  const size_t keys = static_cast<size_t>(pins.old_keys_size()) + static_cast<size_t>(pins.new_keys_size());
  if (keys > domain::kMaxPinnedKeys) {
    violations.Add(path, absl::StrCat(keys, " keys in old_keys and new_keys; at most ",
                                      domain::kMaxPinnedKeys, " are allowed together"));
  }
  CheckCount(path / "rules", pins.rules_size(), {.max = domain::kMaxAttributeRules}, violations);
  size_t bytes = CheckKeys(pins.old_keys(), path, "old_keys", violations) +
                 CheckKeys(pins.new_keys(), path, "new_keys", violations);
  for (int i = 0; i < pins.rules_size(); ++i)
    bytes += CheckRule(pins.rules(i), path.At("rules", i), violations);
  CheckBytes(path, bytes, {.max = kMaxPinsBytes}, violations);
}

v1::RoutingState ToProto(const domain::RoutingState& state) {
  v1::RoutingState out;
  out.set_stage(ToProto(state.stage));
  out.set_read_weight(state.read_weight);
  out.set_drain_weight(state.drain_weight);
  out.set_write_weight(state.write_weight);
  out.set_epoch(state.epoch);
  out.set_generation(state.generation);
  out.set_comparison_weight(state.comparison_weight);
  out.set_salt_seed(state.salt_seed);
  if (state.pins != nullptr && !state.pins->empty()) *out.mutable_pins() = ToProto(*state.pins);
  return out;
}

domain::RoutingState ReadRoutingState(const v1::RoutingState& state, const FieldPath& path,
                                      Violations& violations) {
  domain::RoutingState out;
  out.stage = ReadEnum(state.stage(), path / "stage", violations);
  out.read_weight = state.read_weight();
  out.drain_weight = state.drain_weight();
  out.write_weight = state.write_weight();
  out.epoch = state.epoch();
  out.generation = state.generation();
  out.comparison_weight = state.comparison_weight();
  out.salt_seed = state.salt_seed();
  domain::Pins pins = ReadPins(state.pins(), path / "pins", violations, out.salt_seed);
  if (!pins.empty()) out.pins = std::make_shared<const domain::Pins>(std::move(pins));
  return out;
}

}  // namespace lockstep::wire
