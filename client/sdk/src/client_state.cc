#include "client/sdk/src/client_state.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/sdk/src/byte_codec.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/domain/bucketing.h"

namespace lockstep::internal {
namespace {

constexpr absl::string_view kMagic = "LKSTATE1";
constexpr uint32_t kFormatVersion = 1;
constexpr size_t kHeaderBytes = 16;

uint64_t Checksum(absl::string_view bytes) { return domain::KeyHash(/*salt_seed=*/0, bytes); }

// Enumerators are stored as the numbers they have; a new one goes to the end of its enumeration.
template <typename Enum>
Enum ReadEnum(ByteReader& reader, Enum last) {
  const uint8_t value = reader.U8();
  if (value > static_cast<uint8_t>(last)) reader.Fail();
  return static_cast<Enum>(value);
}

void WritePins(const domain::Pins& pins, ByteWriter& out) {
  std::vector<std::pair<absl::string_view, domain::Side>> keys(pins.keys.begin(), pins.keys.end());
  std::sort(keys.begin(), keys.end());
  out.U32(static_cast<uint32_t>(keys.size()));
  for (const auto& [key, side] : keys) {
    out.Text(key);
    out.U8(static_cast<uint8_t>(side));
  }
  out.U32(static_cast<uint32_t>(pins.rules.size()));
  for (const domain::AttributeRule& rule : pins.rules) {
    out.Text(rule.attribute);
    out.U32(static_cast<uint32_t>(rule.values.size()));
    for (const std::string& value : rule.values) out.Text(value);
    out.U8(static_cast<uint8_t>(rule.side));
  }
}

domain::Pins ReadPins(ByteReader& reader, uint64_t salt_seed) {
  domain::Pins pins = domain::NoPins(salt_seed);
  for (uint32_t n = reader.U32(); n > 0 && !reader.failed(); --n) {
    std::string key = reader.Text();
    pins.keys.emplace(std::move(key), ReadEnum(reader, domain::Side::kNew));
  }
  for (uint32_t n = reader.U32(); n > 0 && !reader.failed(); --n) {
    domain::AttributeRule& rule = pins.rules.emplace_back();
    rule.attribute = reader.Text();
    for (uint32_t v = reader.U32(); v > 0 && !reader.failed(); --v) rule.values.push_back(reader.Text());
    rule.side = ReadEnum(reader, domain::Side::kNew);
  }
  return pins;
}

void WriteState(const domain::RoutingState& state, ByteWriter& out) {
  out.U8(static_cast<uint8_t>(state.stage));
  out.U32(state.read_weight);
  out.U32(state.drain_weight);
  out.U32(state.write_weight);
  out.U64(state.epoch);
  out.U64(state.generation);
  out.U32(state.comparison_weight);
  out.U64(state.salt_seed);
  out.U8(state.pins != nullptr);
  if (state.pins != nullptr) WritePins(*state.pins, out);
}

domain::RoutingState ReadState(ByteReader& reader) {
  domain::RoutingState state;
  state.stage = ReadEnum(reader, domain::Stage::kComplete);
  state.read_weight = reader.U32();
  state.drain_weight = reader.U32();
  state.write_weight = reader.U32();
  state.epoch = reader.U64();
  state.generation = reader.U64();
  state.comparison_weight = reader.U32();
  state.salt_seed = reader.U64();
  if (reader.U8() != 0) state.pins = std::make_shared<const domain::Pins>(ReadPins(reader, state.salt_seed));
  return state;
}

void WriteContract(const domain::Contract& contract, ByteWriter& out) {
  out.U64(contract.revision);
  out.U32(static_cast<uint32_t>(contract.fields.size()));
  for (const domain::FieldRule& field : contract.fields) {
    out.Text(field.path);
    out.Text(field.old_path);
    out.Text(field.new_path);
    out.U8(field.ignore);
    out.Real(field.tolerance);
    out.U8(field.has_default);
    out.Text(field.default_value);
    out.U8(static_cast<uint8_t>(field.list_order));
    out.U8(field.sensitive);
  }
}

domain::Contract ReadContract(ByteReader& reader) {
  domain::Contract contract;
  contract.revision = reader.U64();
  for (uint32_t n = reader.U32(); n > 0 && !reader.failed(); --n) {
    domain::FieldRule& field = contract.fields.emplace_back();
    field.path = reader.Text();
    field.old_path = reader.Text();
    field.new_path = reader.Text();
    field.ignore = reader.U8() != 0;
    field.tolerance = reader.Real();
    field.has_default = reader.U8() != 0;
    field.default_value = reader.Text();
    field.list_order = ReadEnum(reader, domain::ListOrder::kUnordered);
    field.sensitive = reader.U8() != 0;
  }
  return contract;
}

void WriteSnapshot(const domain::Snapshot& snapshot, ByteWriter& out) {
  out.U64(domain::SnapshotDigest(snapshot));
  out.U64(snapshot.revision);
  out.U64(snapshot.store_epoch);
  out.U32(static_cast<uint32_t>(snapshot.migrations.size()));
  for (const domain::MigrationRouting& routing : snapshot.migrations) {
    out.Text(routing.name);
    WriteState(routing.state, out);
    WriteContract(routing.contract, out);
  }
}

// An error in what was read without one means that the writer was another version, or wrong.
absl::StatusOr<domain::Snapshot> ReadSnapshot(ByteReader& reader) {
  domain::Snapshot snapshot;
  const uint64_t digest = reader.U64();
  snapshot.revision = reader.U64();
  snapshot.store_epoch = reader.U64();
  for (uint32_t n = reader.U32(); n > 0 && !reader.failed(); --n) {
    domain::MigrationRouting& routing = snapshot.migrations.emplace_back();
    routing.name = reader.Text();
    routing.state = ReadState(reader);
    routing.contract = ReadContract(reader);
    if (!reader.failed()) routing.digest = domain::RoutingDigest(routing);
  }
  if (reader.failed()) return absl::DataLossError("its snapshot ends early or holds an unknown value");
  if (domain::SnapshotDigest(snapshot) != digest) {
    return absl::DataLossError("the digest of its snapshot does not fit");
  }
  if (const absl::Status valid = domain::ValidateSnapshot(snapshot, nullptr); !valid.ok()) {
    return absl::DataLossError(absl::StrCat("its snapshot is not valid: ", valid.message()));
  }
  return snapshot;
}

// What a person can do about a file that can't be used.
absl::Status Unusable(const absl::Status& why, absl::string_view place) {
  return absl::Status(
      why.code(),
      absl::StrCat(
          "the state of this instance, ", place, "/", kClientStateFile, ", can't be used: ", why.message(),
          ". Nothing is assumed in its place, because the instance may still be counted on at an older "
          "epoch. Once no process of the instance is left, evict it from its migrations "
          "(lockstep instance evict), remove the directory, and start it again"));
}

}  // namespace

std::string EncodeClientState(const StoredClientState& state) {
  ByteWriter body;
  body.U32(kFormatVersion);
  body.Text(state.instance_id);
  body.Text(state.service);
  body.U8(state.snapshot.has_value());
  if (state.snapshot.has_value()) WriteSnapshot(*state.snapshot, body);
  body.U32(static_cast<uint32_t>(state.held.size()));
  for (const auto& [migration, epoch] : state.held) {
    body.Text(migration);
    body.U64(epoch);
  }
  ByteWriter checksum;
  checksum.U64(Checksum(body.bytes()));
  return absl::StrCat(kMagic, checksum.bytes(), body.bytes());
}

absl::StatusOr<StoredClientState> DecodeClientState(absl::string_view bytes) {
  if (bytes.size() < kHeaderBytes || bytes.substr(0, kMagic.size()) != kMagic) {
    return absl::DataLossError("it doesn't begin as such a file does");
  }
  ByteReader header(bytes.substr(kMagic.size(), kHeaderBytes - kMagic.size()));
  const absl::string_view body = bytes.substr(kHeaderBytes);
  if (header.U64() != Checksum(body)) return absl::DataLossError("its checksum does not fit");
  ByteReader reader(body);
  if (const uint32_t version = reader.U32(); version != kFormatVersion) {
    return absl::UnimplementedError(absl::StrCat("it has format ", version,
                                                 ", and this version knows format ", kFormatVersion,
                                                 " only; use the version that wrote it"));
  }
  StoredClientState state;
  state.instance_id = reader.Text();
  state.service = reader.Text();
  if (reader.U8() != 0) {
    LOCKSTEP_ASSIGN_OR_RETURN(state.snapshot, ReadSnapshot(reader));
  }
  for (uint32_t n = reader.U32(); n > 0 && !reader.failed(); --n) {
    std::string migration = reader.Text();
    state.held[std::move(migration)] = reader.U64();
  }
  if (reader.failed() || !reader.at_end()) return absl::DataLossError("its length is wrong");
  return state;
}

absl::StatusOr<StoredClientState> OpenClientState(StateStorage& storage, absl::string_view place,
                                                  absl::string_view service, absl::string_view instance_id,
                                                  absl::string_view new_id) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> bytes, storage.Read(kClientStateFile));
  if (!bytes.has_value()) {
    StoredClientState state{.instance_id = std::string(instance_id.empty() ? new_id : instance_id),
                            .service = std::string(service)};
    LOCKSTEP_RETURN_IF_ERROR(SaveClientState(storage, state));
    return state;
  }
  absl::StatusOr<StoredClientState> state = DecodeClientState(*bytes);
  if (!state.ok()) return Unusable(state.status(), place);
  if (state->service != service) {
    return absl::InvalidArgumentError(absl::StrCat(
        "ClientOptions::service is '", service, "', but ", place, "/", kClientStateFile,
        " belongs to service '", state->service, "'; give every instance a directory of its own"));
  }
  if (!instance_id.empty() && state->instance_id != instance_id) {
    return absl::InvalidArgumentError(
        absl::StrCat("ClientOptions::instance_id is '", instance_id, "', but ", place, "/", kClientStateFile,
                     " belongs to instance '", state->instance_id,
                     "'; leave the option empty, or give every instance a directory of its own"));
  }
  return state;
}

StoredClientState RestrictClientState(StoredClientState state, const std::vector<std::string>& migrations) {
  const auto is_gone = [&migrations](const std::string& name) {
    return !std::binary_search(migrations.begin(), migrations.end(), name);
  };
  for (const auto& [migration, epoch] : state.held) {
    if (!is_gone(migration)) continue;
    Log(LogLevel::kError,
        "started without a migration that this instance was enrolled for: fences of it will not wait for the "
        "instance any more, and mirror writes in its journal are not repaired; name it in "
        "ClientOptions::migrations unless it is over",
        {{"migration", migration}, {"epoch", absl::StrCat(epoch)}});
  }
  std::erase_if(state.held, [&](const auto& held) { return is_gone(held.first); });
  if (state.snapshot.has_value()) {
    std::erase_if(state.snapshot->migrations,
                  [&](const domain::MigrationRouting& routing) { return is_gone(routing.name); });
  }
  return state;
}

absl::Status SaveClientState(StateStorage& storage, const StoredClientState& state) {
  return storage.Replace(kClientStateFile, EncodeClientState(state));
}

}  // namespace lockstep::internal
