// Records as protobuf messages (proto/lockstep/storage/v1/records.proto), through core/wire.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/record_codec.h"

namespace lockstep::store {

// Stateless and thread-safe. Equal records are equal bytes, map fields included. DATA_LOSS says which kind of
// record is damaged and, where the bytes still are a message, in which field.
class ProtoRecordCodec final : public RecordCodec {
 public:
  std::string Encode(const domain::Migration& record) const override;
  std::string Encode(const domain::DecisionRecord& record) const override;
  std::string Encode(const domain::AuditEntry& record) const override;
  std::string Encode(const domain::Enrolment& record) const override;
  std::string Encode(const domain::TelemetryCursor& record) const override;
  std::string Encode(const domain::WindowRecord& record) const override;
  std::string Encode(const domain::MismatchSample& record) const override;

  absl::StatusOr<domain::Migration> DecodeMigration(absl::string_view bytes) const override;
  absl::StatusOr<domain::DecisionRecord> DecodeDecision(absl::string_view bytes) const override;
  absl::StatusOr<domain::AuditEntry> DecodeAuditEntry(absl::string_view bytes) const override;
  absl::StatusOr<domain::Enrolment> DecodeEnrolment(absl::string_view bytes) const override;
  absl::StatusOr<domain::TelemetryCursor> DecodeTelemetryCursor(absl::string_view bytes) const override;
  absl::StatusOr<domain::WindowRecord> DecodeWindow(absl::string_view bytes) const override;
  absl::StatusOr<domain::MismatchSample> DecodeMismatchSample(absl::string_view bytes) const override;
};

}  // namespace lockstep::store
