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
#include "core/wire/timestamps.h"

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

v1::MigrationRouting RoutingToProto(const domain::MigrationRouting& routing) {
  v1::MigrationRouting out;
  out.set_name(routing.name);
  *out.mutable_state() = ToProto(routing.state);
  *out.mutable_contract() = ToProto(routing.contract);
  return out;
}

std::vector<domain::MigrationRouting> ReadRoutings(
    const google::protobuf::RepeatedPtrField<v1::MigrationRouting>& routings, absl::string_view field,
    Violations& violations) {
  const FieldPath root;
  std::vector<domain::MigrationRouting> out;
  out.reserve(routings.size());
  for (int i = 0; i < routings.size(); ++i) {
    const v1::MigrationRouting& in = routings[i];
    const FieldPath path = root.At(field, i);
    domain::MigrationRouting& routing = out.emplace_back();
    routing.name = in.name();
    routing.state = ReadRoutingState(in.state(), path / "state", violations);
    routing.contract = ReadContract(in.contract(), path / "contract", violations);
    routing.digest = domain::RoutingDigest(routing);
  }
  return out;
}

absl::Duration ReadLeaseTtl(const v1::Enrol& enrol, Violations& violations) {
  if (!enrol.has_lease_ttl()) return domain::kDefaultLeaseTtl;
  const FieldPath root;
  const FieldPath path = root / "lease_ttl";
  const absl::Duration ttl = ReadDuration(enrol.lease_ttl(), path, violations);
  if (ttl < domain::kMinLeaseTtl || ttl > domain::kMaxLeaseTtl) {
    violations.Add(path, absl::StrCat(absl::FormatDuration(ttl), " is not in [",
                                      absl::FormatDuration(domain::kMinLeaseTtl), ", ",
                                      absl::FormatDuration(domain::kMaxLeaseTtl), "]"));
  }
  return ttl;
}

v1::SliceCheck SliceCheckToProto(const domain::SliceCheck& check) {
  v1::SliceCheck out;
  out.set_migration(check.migration);
  out.set_epoch(check.epoch);
  out.set_checked(check.checked);
  out.set_repaired(check.repaired);
  out.set_differing(check.differing);
  out.set_unchecked(check.unchecked);
  const std::string example = ToValidUtf8(check.example);
  out.set_example(std::string(Utf8Prefix(example, kMaxSliceExampleBytes)));
  return out;
}

std::vector<domain::SliceCheck> ReadSliceChecks(const v1::Ack& ack, Violations& violations) {
  const FieldPath root;
  std::vector<domain::SliceCheck> out;
  if (!CheckCount(root / "slice_checks", ack.slice_checks_size(), {.max = kMaxMigrationsPerInstance},
                  violations)) {
    return out;
  }
  absl::flat_hash_set<absl::string_view> names;
  for (int i = 0; i < ack.slice_checks_size(); ++i) {
    const v1::SliceCheck& in = ack.slice_checks(i);
    const FieldPath path = root.At("slice_checks", i);
    CheckMigrationName(path / "migration", in.migration(), violations);
    if (!names.insert(in.migration()).second) violations.Add(path / "migration", "comes twice");
    out.push_back({in.migration(), in.epoch(), in.checked(), in.repaired(), in.differing(),
                   std::string(Utf8Prefix(in.example(), kMaxSliceExampleBytes)), in.unchecked()});
  }
  return out;
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

v1::Snapshot ToProto(const domain::Snapshot& snapshot, uint64_t digest) {
  v1::Snapshot out;
  out.set_revision(snapshot.revision);
  out.set_store_epoch(snapshot.store_epoch);
  out.set_digest(digest);
  for (const domain::MigrationRouting& routing : snapshot.migrations) {
    *out.add_migrations() = RoutingToProto(routing);
  }
  return out;
}

v1::SnapshotDelta ToProto(const domain::SnapshotDelta& delta, uint64_t digest) {
  v1::SnapshotDelta out;
  out.set_base_revision(delta.base_revision);
  out.set_revision(delta.revision);
  out.set_digest(digest);
  for (const domain::MigrationRouting& routing : delta.changed) *out.add_changed() = RoutingToProto(routing);
  for (const std::string& name : delta.removed) out.add_removed(name);
  return out;
}

absl::StatusOr<domain::Snapshot> SnapshotFromProto(const v1::Snapshot& snapshot) {
  Violations violations;
  domain::Snapshot out;
  out.revision = snapshot.revision();
  out.store_epoch = snapshot.store_epoch();
  out.migrations = ReadRoutings(snapshot.migrations(), "migrations", violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

absl::StatusOr<domain::SnapshotDelta> SnapshotDeltaFromProto(const v1::SnapshotDelta& delta) {
  Violations violations;
  domain::SnapshotDelta out;
  out.base_revision = delta.base_revision();
  out.revision = delta.revision();
  out.changed = ReadRoutings(delta.changed(), "changed", violations);
  out.removed = {delta.removed().begin(), delta.removed().end()};
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

v1::Enrol EnrolToProto(const domain::Enrolment& enrolment, uint64_t store_epoch) {
  v1::Enrol out;
  out.set_instance_id(enrolment.instance_id);
  out.set_service(enrolment.service);
  out.set_version(enrolment.version);
  for (const std::string& migration : enrolment.migrations) out.add_migrations(migration);
  AddHeld(enrolment.acknowledged_epochs, *out.mutable_held());
  out.set_store_epoch(store_epoch);
  *out.mutable_lease_ttl() = ToProto(enrolment.lease_ttl);
  out.set_lease_policy(ToProto(enrolment.lease_policy));
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
  out.lease_ttl = ReadLeaseTtl(enrol, violations);
  out.lease_policy = ReadEnum(enrol.lease_policy(), root / "lease_policy", violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  out.migrations = {enrol.migrations().begin(), enrol.migrations().end()};
  return out;
}

v1::Ack ToProto(const Ack& ack) {
  v1::Ack out;
  out.set_revision(ack.revision);
  AddHeld(ack.held, *out.mutable_held());
  for (const domain::SliceCheck& check : ack.slice_checks) {
    *out.add_slice_checks() = SliceCheckToProto(check);
  }
  return out;
}

absl::StatusOr<Ack> AckFromProto(const v1::Ack& ack) {
  Violations violations;
  const FieldPath root;
  Ack out;
  out.revision = ack.revision();
  out.held = ReadHeld(ack.held(), root, violations);
  out.slice_checks = ReadSliceChecks(ack, violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

v1::InstanceStatus ToProto(const domain::InstanceStatus& status) {
  v1::InstanceStatus out;
  out.set_operations(status.operations);
  *out.mutable_oldest_operation() = ToProto(status.oldest_operation);
  out.set_repairs(status.repairs);
  out.set_queued_mirrors(status.queued_mirrors);
  out.set_held_writes(status.held_writes);
  return out;
}

absl::StatusOr<domain::InstanceStatus> InstanceStatusFromProto(const v1::InstanceStatus& status) {
  Violations violations;
  const FieldPath root;
  domain::InstanceStatus out;
  out.operations = status.operations();
  out.oldest_operation = ReadPeriod(status.oldest_operation(), root / "oldest_operation", violations);
  out.repairs = status.repairs();
  out.queued_mirrors = status.queued_mirrors();
  out.held_writes = status.held_writes();
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
