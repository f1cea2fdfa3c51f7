// What is kept besides the migration: decisions, audit, enrolments, telemetry cursors, windows.
//
// Every XFrom... function returns INVALID_ARGUMENT naming the field for what no To... function can have made;
// the codec (server/store/proto_record_codec.h) turns that into DATA_LOSS.
#pragma once

#include "absl/status/statusor.h"
#include "core/domain/records.h"
#include "lockstep/storage/v1/records.pb.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::wire {

// For the API and for the store.
v1::DecisionRecord ToProto(const domain::DecisionRecord& record);
absl::StatusOr<domain::DecisionRecord> DecisionRecordFromProto(const v1::DecisionRecord& record);

storage::v1::AuditRecord ToRecord(const domain::AuditEntry& entry);
absl::StatusOr<domain::AuditEntry> AuditEntryFromRecord(const storage::v1::AuditRecord& record);

storage::v1::EnrolmentRecord ToRecord(const domain::Enrolment& enrolment);
absl::StatusOr<domain::Enrolment> EnrolmentFromRecord(const storage::v1::EnrolmentRecord& record);

storage::v1::TelemetryCursorRecord ToRecord(const domain::TelemetryCursor& cursor);
absl::StatusOr<domain::TelemetryCursor> TelemetryCursorFromRecord(
    const storage::v1::TelemetryCursorRecord& record);

storage::v1::WindowRecord ToRecord(const domain::WindowRecord& window);
absl::StatusOr<domain::WindowRecord> WindowFromRecord(const storage::v1::WindowRecord& record);

// The stored form is the API's: ToProto in telemetry.h.
absl::StatusOr<domain::MismatchSample> SampleFromRecord(const v1::MismatchSample& record);

}  // namespace lockstep::wire
