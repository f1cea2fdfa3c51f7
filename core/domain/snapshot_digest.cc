#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/domain/snapshot.h"

namespace lockstep::domain {
namespace {

// The byte layout that snapshot.h documents.
class DigestInput {
 public:
  void Byte(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
  void Flag(bool value) { Byte(value ? 1 : 0); }
  void U32(uint32_t value) { LittleEndian(value, sizeof(value)); }
  void U64(uint64_t value) { LittleEndian(value, sizeof(value)); }
  void Count(size_t value) { U32(static_cast<uint32_t>(value)); }
  void Text(absl::string_view text) {
    Count(text.size());
    bytes_.append(text.data(), text.size());
  }
  void Real(double value) {
    const double without_negative_zero = value + 0.0;
    uint64_t bits = 0;
    static_assert(sizeof(bits) == sizeof(value));
    std::memcpy(&bits, &without_negative_zero, sizeof(bits));
    U64(bits);
  }

  // 0 stands for "not computed".
  uint64_t Hash() const { return std::max<uint64_t>(XXH3_64bits(bytes_.data(), bytes_.size()), 1); }

 private:
  void LittleEndian(uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) Byte(static_cast<uint8_t>(value >> (8 * i)));
  }

  std::string bytes_;
};

uint8_t CodeOf(Side side) {
  switch (side) {
    case Side::kOld:
      return 0;
    case Side::kNew:
      return 1;
  }
  return 0;
}

uint8_t CodeOf(ListOrder order) {
  switch (order) {
    case ListOrder::kOrdered:
      return 0;
    case ListOrder::kUnordered:
      return 1;
  }
  return 0;
}

uint8_t CodeOf(Stage stage) {
  switch (stage) {
    case Stage::kOff:
      return 0;
    case Stage::kDualWrite:
      return 1;
    case Stage::kShadowRead:
      return 2;
    case Stage::kCanaryRead:
      return 3;
    case Stage::kCutover:
      return 4;
    case Stage::kNewOnly:
      return 5;
    case Stage::kComplete:
      return 6;
  }
  return 0;
}

void AddPins(const Pins& pins, DigestInput& input) {
  std::vector<std::pair<absl::string_view, Side>> keys(pins.keys.begin(), pins.keys.end());
  std::sort(keys.begin(), keys.end());
  input.Count(keys.size());
  for (const auto& [key, side] : keys) {
    input.Text(key);
    input.Byte(CodeOf(side));
  }
  input.Count(pins.rules.size());
  for (const AttributeRule& rule : pins.rules) {
    input.Text(rule.attribute);
    input.Count(rule.values.size());
    for (const std::string& value : rule.values) input.Text(value);
    input.Byte(CodeOf(rule.side));
  }
}

void AddState(const RoutingState& state, DigestInput& input) {
  input.Byte(CodeOf(state.stage));
  input.U32(state.read_weight);
  input.U32(state.drain_weight);
  input.U32(state.write_weight);
  input.U64(state.epoch);
  input.U64(state.generation);
  input.U32(state.comparison_weight);
  input.U64(state.salt_seed);
  AddPins(state.pins == nullptr ? Pins() : *state.pins, input);
}

void AddContract(const Contract& contract, DigestInput& input) {
  input.U64(contract.revision);
  input.Count(contract.fields.size());
  for (const FieldRule& field : contract.fields) {
    input.Text(field.path);
    input.Text(field.old_path);
    input.Text(field.new_path);
    input.Flag(field.ignore);
    input.Real(field.tolerance);
    input.Flag(field.has_default);
    input.Text(field.default_value);
    input.Byte(CodeOf(field.list_order));
    input.Flag(field.sensitive);
  }
}

}  // namespace

uint64_t RoutingDigest(const MigrationRouting& routing) {
  DigestInput input;
  input.Text(routing.name);
  AddState(routing.state, input);
  AddContract(routing.contract, input);
  return input.Hash();
}

uint64_t SnapshotDigest(const Snapshot& snapshot) {
  DigestInput input;
  input.U64(snapshot.store_epoch);
  input.U64(snapshot.revision);
  input.Count(snapshot.migrations.size());
  for (const MigrationRouting& routing : snapshot.migrations) {
    input.Text(routing.name);
    input.U64(routing.digest != 0 ? routing.digest : RoutingDigest(routing));
  }
  return input.Hash();
}

}  // namespace lockstep::domain
