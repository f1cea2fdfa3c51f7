#include "core/wire/routing.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "core/wire/contract.h"
#include "core/wire/enums.h"
#include "core/wire/request.h"
#include "core/wire/resource_name.h"
#include "core/wire/routing_state.h"

namespace lockstep::wire {
namespace {

constexpr size_t kMaxServiceCharacters = 63;
constexpr size_t kMaxVersionCharacters = 128;

using HeldProtos = google::protobuf::RepeatedPtrField<v1::HeldEpoch>;
using AttributeMap = google::protobuf::Map<std::string, std::string>;

void AddHeld(const HeldEpochs& held, HeldProtos& out) {
  for (const auto& [migration, epoch] : held) {
    v1::HeldEpoch* added = out.Add();
    added->set_migration(migration);
    added->set_epoch(epoch);
  }
}

HeldEpochs ReadHeld(const HeldProtos& held, const FieldPath& parent, Violations& violations) {
  HeldEpochs out;
  if (!CheckCount(parent / "held", held.size(), {.max = kMaxMigrationsPerInstance}, violations)) return out;
  for (int i = 0; i < held.size(); ++i) {
    const FieldPath path = parent.At("held", i);
    CheckMigrationName(path / "migration", held[i].migration(), violations);
    if (!out.emplace(held[i].migration(), held[i].epoch()).second) {
      violations.Add(path / "migration", "comes twice; report its oldest epoch only");
    }
  }
  return out;
}

void CheckMigrations(const v1::Enrol& enrol, const HeldEpochs& held, Violations& violations) {
  const FieldPath root;
  if (!CheckCount(root / "migrations", enrol.migrations_size(), {.min = 1, .max = kMaxMigrationsPerInstance},
                  violations)) {
    return;
  }
  absl::flat_hash_set<absl::string_view> names;
  for (int i = 0; i < enrol.migrations_size(); ++i) {
    CheckMigrationName(root.At("migrations", i), enrol.migrations(i), violations);
    if (!names.insert(enrol.migrations(i)).second) {
      violations.Add(root.At("migrations", i), "comes twice; name each migration once");
    }
  }
  for (const auto& [migration, epoch] : held) {
    if (!names.contains(migration)) {
      violations.Add(root / "held",
                     absl::StrCat("'", migration, "' is still acted on but missing from migrations"));
    }
  }
}

void CheckKey(const FieldPath& path, absl::string_view key, Violations& violations) {
  CheckBytes(path, key.size(), {.min = 1, .max = domain::kMaxKeyBytes}, violations);
}

void CheckAttributes(const AttributeMap& attributes, Violations& violations) {
  const FieldPath root;
  CheckCount(root / "attributes", attributes.size(), {.max = kMaxAttributes}, violations);
  size_t bytes = 0;
  for (const auto& [name, value] : attributes) bytes += name.size() + value.size();
  CheckBytes(root / "attributes", bytes, {.max = kMaxAttributesBytes}, violations);
}

}  // namespace

v1::Snapshot ToProto(const domain::Snapshot& snapshot) {
  v1::Snapshot out;
  out.set_revision(snapshot.revision);
  for (const domain::MigrationRouting& routing : snapshot.migrations) {
    v1::MigrationRouting* added = out.add_migrations();
    added->set_name(routing.name);
    *added->mutable_state() = ToProto(routing.state);
    *added->mutable_contract() = ToProto(routing.contract);
  }
  return out;
}

absl::StatusOr<domain::Snapshot> SnapshotFromProto(const v1::Snapshot& snapshot) {
  Violations violations;
  const FieldPath root;
  domain::Snapshot out;
  out.revision = snapshot.revision();
  out.migrations.reserve(snapshot.migrations_size());
  for (int i = 0; i < snapshot.migrations_size(); ++i) {
    const v1::MigrationRouting& in = snapshot.migrations(i);
    const FieldPath path = root.At("migrations", i);
    out.migrations.push_back({in.name(), ReadRoutingState(in.state(), path / "state", violations),
                              ReadContract(in.contract(), path / "contract", violations)});
  }
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

v1::Enrol EnrolToProto(const domain::Enrolment& enrolment) {
  v1::Enrol out;
  out.set_instance_id(enrolment.instance_id);
  out.set_service(enrolment.service);
  out.set_version(enrolment.version);
  for (const std::string& migration : enrolment.migrations) out.add_migrations(migration);
  AddHeld(enrolment.acknowledged_epochs, *out.mutable_held());
  return out;
}

absl::StatusOr<domain::Enrolment> EnrolFromProto(const v1::Enrol& enrol) {
  Violations violations;
  const FieldPath root;
  domain::Enrolment out;
  CheckInstanceId(root / "instance_id", enrol.instance_id(), violations);
  out.instance_id = enrol.instance_id();
  CheckLength(root / "service", enrol.service(), {.min = 1, .max = kMaxServiceCharacters}, violations);
  out.service = enrol.service();
  CheckLength(root / "version", enrol.version(), {.max = kMaxVersionCharacters}, violations);
  out.version = enrol.version();
  out.acknowledged_epochs = ReadHeld(enrol.held(), root, violations);
  CheckMigrations(enrol, out.acknowledged_epochs, violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  out.migrations = {enrol.migrations().begin(), enrol.migrations().end()};
  return out;
}

v1::Ack ToProto(const Ack& ack) {
  v1::Ack out;
  out.set_revision(ack.revision);
  AddHeld(ack.held, *out.mutable_held());
  return out;
}

absl::StatusOr<Ack> AckFromProto(const v1::Ack& ack) {
  Violations violations;
  const FieldPath root;
  Ack out;
  out.revision = ack.revision();
  out.held = ReadHeld(ack.held(), root, violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

v1::Nack MakeNack(uint64_t revision, absl::string_view reason) {
  v1::Nack out;
  out.set_revision(revision);
  const std::string text = ToValidUtf8(reason);
  out.set_reason(std::string(Utf8Prefix(text, kMaxReasonBytes)));
  return out;
}

std::string NackReason(const v1::Nack& nack) {
  return std::string(Utf8Prefix(nack.reason(), kMaxReasonBytes));
}

v1::Decision ToProto(const domain::Decision& decision) {
  v1::Decision out;
  out.set_read_side(ToProto(decision.read_side));
  out.set_write_mode(ToProto(decision.write_mode));
  out.set_compare(decision.compare);
  out.set_reason(ToProto(decision.reason));
  out.set_bucket(decision.bucket);
  return out;
}

absl::StatusOr<domain::Decision> DecisionFromProto(const v1::Decision& decision, uint64_t epoch) {
  Violations violations;
  const FieldPath root;
  domain::Decision out;
  out.read_side = ReadEnum(decision.read_side(), root / "read_side", violations);
  out.write_mode = ReadEnum(decision.write_mode(), root / "write_mode", violations);
  out.compare = decision.compare();
  out.reason = ReadEnum(decision.reason(), root / "reason", violations);
  out.bucket = decision.bucket();
  if (out.bucket >= domain::kBucketCount) {
    violations.Add(root / "bucket",
                   absl::StrCat(out.bucket, "; buckets are 0 to ", domain::kBucketCount - 1));
  }
  out.epoch = epoch;
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

absl::Status ValidateRouteRequest(const v1::RouteRequest& request) {
  Violations violations;
  const FieldPath root;
  CheckMigrationName(root / "migration", request.migration(), violations);
  CheckKey(root / "key", request.key(), violations);
  CheckAttributes(request.attributes(), violations);
  return violations.ToStatus();
}

absl::Status ValidateBatchRouteRequest(const v1::BatchRouteRequest& request) {
  Violations violations;
  const FieldPath root;
  CheckMigrationName(root / "migration", request.migration(), violations);
  CheckCount(root / "keys", request.keys_size(), {.min = 1, .max = kMaxKeysPerBatch}, violations);
  for (int i = 0; i < request.keys_size(); ++i) CheckKey(root.At("keys", i), request.keys(i), violations);
  CheckAttributes(request.attributes(), violations);
  return violations.ToStatus();
}

domain::Attributes AttributesFromProto(const AttributeMap& attributes) {
  return {attributes.begin(), attributes.end()};
}

}  // namespace lockstep::wire
