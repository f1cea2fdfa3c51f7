#include "core/wire/request.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/wire/resource_name.h"

namespace lockstep::wire {
namespace {

constexpr absl::string_view kUuidShape = "xxxxxxxx-xxxx-4xxx-Vxxx-xxxxxxxxxxxx";

bool IsUuid4(absl::string_view text) {
  if (text.size() != kUuidShape.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (kUuidShape[i]) {
      case 'x':
        if (!absl::ascii_isxdigit(static_cast<unsigned char>(text[i]))) return false;
        break;
      case 'V':  // RFC 4122, section 4.1.1: the variant is 10 in binary
        if (!absl::StrContains("89abAB", text[i])) return false;
        break;
      default:
        if (text[i] != kUuidShape[i]) return false;
    }
  }
  return true;
}

// What every request with a StateChange has.
template <typename Request, typename Out>
void ReadNameAndOptions(const Request& request, Violations& violations, Out* out) {
  const FieldPath root;
  const FieldPath change = root / "change";
  CheckMigrationName(root / "name", request.name(), violations);
  out->name = request.name();
  MutationOptions& options = out->options;
  options.expected_version = ReadEtag(request.change().etag(), change / "etag", violations);
  options.request_id = ReadRequestId(request.change().request_id(), change / "request_id", violations);
  options.validate_only = request.change().validate_only();
  options.reason = request.change().reason();
  CheckBytes(change / "reason", options.reason.size(), {.max = kMaxReasonBytes}, violations);
}

template <typename Request>
absl::StatusOr<StateChangeRequest> ReadStateChange(const Request& request, domain::CommandKind kind) {
  Violations violations;
  StateChangeRequest out;
  ReadNameAndOptions(request, violations, &out);
  out.command.kind = kind;
  out.command.reason = request.change().reason();
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

}  // namespace

std::string EtagOf(uint64_t version) { return absl::StrCat(version); }

std::string ReadRequestId(absl::string_view request_id, const FieldPath& path, Violations& violations) {
  if (!request_id.empty() && !IsUuid4(request_id)) {
    violations.Add(path, "is not a UUID of version 4, as in \"f81d4fae-7dec-41d0-a765-00a0c91e6bf6\"");
    return "";
  }
  return absl::AsciiStrToLower(request_id);
}

std::optional<uint64_t> ReadEtag(absl::string_view etag, const FieldPath& path, Violations& violations) {
  if (etag.empty()) return std::nullopt;
  uint64_t version = 0;
  if (!absl::SimpleAtoi(etag, &version) || EtagOf(version) != etag) {
    violations.Add(path, "is not an etag of this server; send back the one that came with the resource");
    return std::nullopt;
  }
  return version;
}

absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::StartMigrationRequest& request) {
  return ReadStateChange(request, domain::CommandKind::kStart);
}

absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::AdvanceMigrationRequest& request) {
  LOCKSTEP_ASSIGN_OR_RETURN(StateChangeRequest out, ReadStateChange(request, domain::CommandKind::kAdvance));
  out.command.override_gate = request.override_gate();
  out.command.accept_no_way_back = request.accept_no_way_back();
  return out;
}

absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::PauseMigrationRequest& request) {
  return ReadStateChange(request, domain::CommandKind::kPause);
}

absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::ResumeMigrationRequest& request) {
  return ReadStateChange(request, domain::CommandKind::kResume);
}

absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::RollbackMigrationRequest& request) {
  LOCKSTEP_ASSIGN_OR_RETURN(StateChangeRequest out, ReadStateChange(request, domain::CommandKind::kRollback));
  out.command.accept_differences = request.accept_differences();
  return out;
}

absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::AbortMigrationRequest& request) {
  return ReadStateChange(request, domain::CommandKind::kAbort);
}

absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::SetMigrationWeightRequest& request) {
  LOCKSTEP_ASSIGN_OR_RETURN(StateChangeRequest out,
                            ReadStateChange(request, domain::CommandKind::kSetWeight));
  out.command.weight = request.weight();
  out.command.override_gate = request.override_gate();
  return out;
}

absl::StatusOr<EvictRequest> EvictFromProto(const v1::EvictInstanceRequest& request) {
  Violations violations;
  EvictRequest out;
  ReadNameAndOptions(request, violations, &out);
  if (request.instance_id().empty()) {
    violations.Add(FieldPath() / "instance_id", "is empty; name the instance");
  }
  out.instance_id = request.instance_id();
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

absl::StatusOr<DrillRequest> DrillFromProto(const v1::DrillRollbackRequest& request) {
  Violations violations;
  DrillRequest out;
  ReadNameAndOptions(request, violations, &out);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

absl::StatusOr<DeleteRequest> DeleteFromProto(const v1::DeleteMigrationRequest& request) {
  Violations violations;
  const FieldPath root;
  DeleteRequest out;
  CheckMigrationName(root / "name", request.name(), violations);
  out.name = request.name();
  out.options.expected_version = ReadEtag(request.etag(), root / "etag", violations);
  out.options.request_id = ReadRequestId(request.request_id(), root / "request_id", violations);
  out.options.validate_only = request.validate_only();
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

}  // namespace lockstep::wire
