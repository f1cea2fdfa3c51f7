// How records become bytes in a Store. The engine sees this interface only, so that it stays free of any wire
// format; ProtoRecordCodec (through core/wire) is the one used in programs.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/domain/migration.h"
#include "core/domain/records.h"

namespace lockstep::store {

// Thread-safe. Encoding cannot fail; decoding fails with DATA_LOSS that says what kind of record is damaged.
class RecordCodec {
 public:
  virtual ~RecordCodec() = default;

  virtual std::string Encode(const domain::Migration& record) const = 0;
  virtual std::string Encode(const domain::DecisionRecord& record) const = 0;
  virtual std::string Encode(const domain::AuditEntry& record) const = 0;
  virtual std::string Encode(const domain::Enrolment& record) const = 0;
  virtual std::string Encode(const domain::TelemetryCursor& record) const = 0;
  virtual std::string Encode(const domain::WindowRecord& record) const = 0;
  virtual std::string Encode(const domain::MismatchSample& record) const = 0;

  virtual absl::StatusOr<domain::Migration> DecodeMigration(absl::string_view bytes) const = 0;
  virtual absl::StatusOr<domain::DecisionRecord> DecodeDecision(absl::string_view bytes) const = 0;
  virtual absl::StatusOr<domain::AuditEntry> DecodeAuditEntry(absl::string_view bytes) const = 0;
  virtual absl::StatusOr<domain::Enrolment> DecodeEnrolment(absl::string_view bytes) const = 0;
  virtual absl::StatusOr<domain::TelemetryCursor> DecodeTelemetryCursor(absl::string_view bytes) const = 0;
  virtual absl::StatusOr<domain::WindowRecord> DecodeWindow(absl::string_view bytes) const = 0;
  virtual absl::StatusOr<domain::MismatchSample> DecodeMismatchSample(absl::string_view bytes) const = 0;
};

}  // namespace lockstep::store
