#include "core/wire/records.h"

#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "core/wire/enums.h"
#include "core/wire/gate.h"
#include "core/wire/resource_name.h"
#include "core/wire/routing_state.h"
#include "core/wire/telemetry.h"
#include "core/wire/timestamps.h"
#include "core/wire/window_stats.h"

namespace lockstep::wire {
namespace {

void CheckCountsFromOne(const FieldPath& path, uint64_t value, Violations& violations) {
  if (value == 0) violations.Add(path, "is 0; it counts from 1");
}

}  // namespace

v1::DecisionRecord ToProto(const domain::DecisionRecord& record) {
  v1::DecisionRecord out;
  out.set_name(DecisionName(record.migration, record.number));
  SetTime(record.time, out, &v1::DecisionRecord::mutable_time);
  out.set_actor(ToValidUtf8(record.actor));
  out.set_action(ToValidUtf8(record.action));
  out.set_reason(ToValidUtf8(record.reason));
  *out.mutable_before() = ToProto(record.before);
  *out.mutable_after() = ToProto(record.after);
  out.set_run_state(ToProto(record.run_state));
  if (record.step >= 0) out.set_step(static_cast<uint32_t>(record.step));
  out.set_plan_revision(record.plan_revision);
  if (record.evidence.has_value()) *out.mutable_evidence() = ToProto(*record.evidence, record.time);
  return out;
}

absl::StatusOr<domain::DecisionRecord> DecisionRecordFromProto(const v1::DecisionRecord& record) {
  Violations violations;
  const FieldPath root;
  domain::DecisionRecord out;
  const absl::StatusOr<DecisionId> id = ParseDecisionName(record.name());
  if (id.ok()) {
    out.migration = id->migration;
    out.number = id->number;
  } else {
    violations.AddStatus(id.status(), root / "name");
  }
  out.time = ReadOptionalTime(record.has_time(), record.time(), root / "time", violations);
  out.actor = record.actor();
  out.action = record.action();
  out.reason = record.reason();
  out.before = ReadRoutingState(record.before(), root / "before", violations);
  out.after = ReadRoutingState(record.after(), root / "after", violations);
  out.run_state = ReadEnum(record.run_state(), root / "run_state", violations);
  if (record.has_step() && record.step() > static_cast<uint32_t>(std::numeric_limits<int>::max())) {
    violations.Add(root / "step", absl::StrCat(record.step(), " is no step of a plan"));
  } else if (record.has_step()) {
    out.step = static_cast<int>(record.step());
  }
  out.plan_revision = record.plan_revision();
  if (record.has_evidence()) out.evidence = ReadGateResult(record.evidence(), root / "evidence", violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

storage::v1::AuditRecord ToRecord(const domain::AuditEntry& entry) {
  storage::v1::AuditRecord out;
  out.set_number(entry.number);
  SetTime(entry.time, out, &storage::v1::AuditRecord::mutable_time);
  out.set_actor(ToValidUtf8(entry.actor));
  out.set_action(ToValidUtf8(entry.action));
  out.set_resource(ToValidUtf8(entry.resource));
  out.set_reason(ToValidUtf8(entry.reason));
  out.set_revision(entry.revision);
  return out;
}

absl::StatusOr<domain::AuditEntry> AuditEntryFromRecord(const storage::v1::AuditRecord& record) {
  Violations violations;
  const FieldPath root;
  domain::AuditEntry out;
  CheckCountsFromOne(root / "number", record.number(), violations);
  out.number = record.number();
  out.time = ReadOptionalTime(record.has_time(), record.time(), root / "time", violations);
  out.actor = record.actor();
  out.action = record.action();
  out.resource = record.resource();
  out.reason = record.reason();
  out.revision = record.revision();
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

storage::v1::EnrolmentRecord ToRecord(const domain::Enrolment& enrolment) {
  storage::v1::EnrolmentRecord out;
  out.set_instance_id(enrolment.instance_id);
  out.set_service(ToValidUtf8(enrolment.service));
  out.set_version(ToValidUtf8(enrolment.version));
  for (const std::string& migration : enrolment.migrations) out.add_migrations(migration);
  out.mutable_acknowledged_epochs()->insert(enrolment.acknowledged_epochs.begin(),
                                            enrolment.acknowledged_epochs.end());
  SetTime(enrolment.enrolled_at, out, &storage::v1::EnrolmentRecord::mutable_enrol_time);
  *out.mutable_lease_ttl() = ToProto(enrolment.lease_ttl);
  out.set_lease_policy(ToProto(enrolment.lease_policy));
  out.set_passed_by(enrolment.passed_by);
  out.set_owes_mirrors(enrolment.owes_mirrors);
  return out;
}

absl::StatusOr<domain::Enrolment> EnrolmentFromRecord(const storage::v1::EnrolmentRecord& record) {
  Violations violations;
  const FieldPath root;
  domain::Enrolment out;
  CheckBytes(root / "instance_id", record.instance_id().size(), {.min = 1}, violations);
  out.instance_id = record.instance_id();
  out.service = record.service();
  out.version = record.version();
  out.migrations = {record.migrations().begin(), record.migrations().end()};
  out.acknowledged_epochs = {record.acknowledged_epochs().begin(), record.acknowledged_epochs().end()};
  out.enrolled_at =
      ReadOptionalTime(record.has_enrol_time(), record.enrol_time(), root / "enrol_time", violations);
  // Records of earlier versions have no lease.
  if (record.has_lease_ttl()) out.lease_ttl = ReadPeriod(record.lease_ttl(), root / "lease_ttl", violations);
  out.lease_policy = ReadEnum(record.lease_policy(), root / "lease_policy", violations);
  out.passed_by = record.passed_by();
  out.owes_mirrors = record.owes_mirrors();
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

storage::v1::TelemetryCursorRecord ToRecord(const domain::TelemetryCursor& cursor) {
  storage::v1::TelemetryCursorRecord out;
  out.set_sequence(cursor.sequence);
  SetTime(cursor.last_seen, out, &storage::v1::TelemetryCursorRecord::mutable_last_seen_time);
  return out;
}

absl::StatusOr<domain::TelemetryCursor> TelemetryCursorFromRecord(
    const storage::v1::TelemetryCursorRecord& record) {
  Violations violations;
  const FieldPath root;
  domain::TelemetryCursor out;
  CheckCountsFromOne(root / "sequence", record.sequence(), violations);
  out.sequence = record.sequence();
  out.last_seen = ReadOptionalTime(record.has_last_seen_time(), record.last_seen_time(),
                                   root / "last_seen_time", violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

storage::v1::WindowRecord ToRecord(const domain::WindowRecord& window) {
  storage::v1::WindowRecord out;
  out.set_migration(window.migration);
  out.set_generation(window.generation);
  out.set_contract_revision(window.contract_revision);
  *out.mutable_bucket_start() = ToProto(window.bucket_start);
  *out.mutable_stats() = ToProto(window.stats);
  return out;
}

absl::StatusOr<domain::WindowRecord> WindowFromRecord(const storage::v1::WindowRecord& record) {
  Violations violations;
  const FieldPath root;
  domain::WindowRecord out;
  CheckBytes(root / "migration", record.migration().size(), {.min = 1}, violations);
  out.migration = record.migration();
  out.generation = record.generation();
  out.contract_revision = record.contract_revision();
  if (!record.has_bucket_start()) violations.Add(root / "bucket_start", "is not set");
  out.bucket_start = ReadTime(record.bucket_start(), root / "bucket_start", violations);
  out.stats = ReadWindowStats(record.stats(), root / "stats", violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

absl::StatusOr<domain::MismatchSample> SampleFromRecord(const v1::MismatchSample& record) {
  Violations violations;
  const FieldPath root;
  CheckBytes(root / "kind", record.kind().size(), {.min = 1}, violations);
  domain::MismatchSample out = ReadSample(record, root, violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

}  // namespace lockstep::wire
