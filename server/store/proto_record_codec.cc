#include "server/store/proto_record_codec.h"

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/wire/migration.h"
#include "core/wire/records.h"
#include "core/wire/telemetry.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/message_lite.h"

namespace lockstep::store {
namespace {

std::string Serialise(const google::protobuf::MessageLite& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  LOCKSTEP_CHECK(message.SerializeToCodedStream(&coded), "a string takes any message below 2 GiB");
  coded.Trim();
  return bytes;
}

absl::Status Damaged(absl::string_view kind, absl::string_view why) {
  return absl::DataLossError(
      absl::StrCat("damaged ", kind, " record: ", why, "; restore the data directory from a backup"));
}

// `from_message` is the function of core/wire that makes the domain's value.
template <typename Message, typename Value>
absl::StatusOr<Value> Decode(absl::string_view kind, absl::string_view bytes,
                             absl::StatusOr<Value> (*from_message)(const Message&)) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Damaged(kind, absl::StrCat("its ", bytes.size(), " bytes are not a ", message.GetTypeName()));
  }
  absl::StatusOr<Value> value = from_message(message);
  if (!value.ok()) return Damaged(kind, value.status().message());
  return value;
}

}  // namespace

std::string ProtoRecordCodec::Encode(const domain::Migration& record) const {
  return Serialise(wire::ToRecord(record));
}
std::string ProtoRecordCodec::Encode(const domain::DecisionRecord& record) const {
  return Serialise(wire::ToProto(record));
}
std::string ProtoRecordCodec::Encode(const domain::AuditEntry& record) const {
  return Serialise(wire::ToRecord(record));
}
std::string ProtoRecordCodec::Encode(const domain::Enrolment& record) const {
  return Serialise(wire::ToRecord(record));
}
std::string ProtoRecordCodec::Encode(const domain::TelemetryCursor& record) const {
  return Serialise(wire::ToRecord(record));
}
std::string ProtoRecordCodec::Encode(const domain::WindowRecord& record) const {
  return Serialise(wire::ToRecord(record));
}
std::string ProtoRecordCodec::Encode(const domain::MismatchSample& record) const {
  return Serialise(wire::ToProto(record));
}

absl::StatusOr<domain::Migration> ProtoRecordCodec::DecodeMigration(absl::string_view bytes) const {
  return Decode("migration", bytes, &wire::MigrationFromRecord);
}
absl::StatusOr<domain::DecisionRecord> ProtoRecordCodec::DecodeDecision(absl::string_view bytes) const {
  return Decode("decision", bytes, &wire::DecisionRecordFromProto);
}
absl::StatusOr<domain::AuditEntry> ProtoRecordCodec::DecodeAuditEntry(absl::string_view bytes) const {
  return Decode("audit", bytes, &wire::AuditEntryFromRecord);
}
absl::StatusOr<domain::Enrolment> ProtoRecordCodec::DecodeEnrolment(absl::string_view bytes) const {
  return Decode("enrolment", bytes, &wire::EnrolmentFromRecord);
}
absl::StatusOr<domain::TelemetryCursor> ProtoRecordCodec::DecodeTelemetryCursor(
    absl::string_view bytes) const {
  return Decode("telemetry cursor", bytes, &wire::TelemetryCursorFromRecord);
}
absl::StatusOr<domain::WindowRecord> ProtoRecordCodec::DecodeWindow(absl::string_view bytes) const {
  return Decode("window", bytes, &wire::WindowFromRecord);
}
absl::StatusOr<domain::MismatchSample> ProtoRecordCodec::DecodeMismatchSample(absl::string_view bytes) const {
  return Decode("mismatch sample", bytes, &wire::SampleFromRecord);
}

}  // namespace lockstep::store
