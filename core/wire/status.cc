#include "core/wire/status.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error_info.h"
#include "core/base/utf8.h"
#include "google/rpc/error_details.pb.h"

namespace lockstep::wire {
namespace {

std::string WireText(absl::string_view text) {
  const std::string valid = ToValidUtf8(text);
  return std::string(Utf8Prefix(valid, kMaxErrorMessageBytes));
}

google::rpc::ErrorInfo ErrorInfoOf(const absl::Status& status, const std::optional<ErrorInfo>& info) {
  google::rpc::ErrorInfo out;
  out.set_domain(std::string(kErrorDomain));
  out.set_reason(absl::StatusCodeToString(status.code()));
  if (!info.has_value()) return out;
  if (!info->reason.empty()) out.set_reason(WireText(info->reason));
  for (const auto& [key, value] : info->metadata) (*out.mutable_metadata())[WireText(key)] = WireText(value);
  return out;
}

google::rpc::BadRequest BadRequestOf(const ErrorInfo& info, size_t violations) {
  google::rpc::BadRequest out;
  for (size_t i = 0; i < violations; ++i) {
    google::rpc::BadRequest::FieldViolation* added = out.add_field_violations();
    added->set_field(WireText(info.field_violations[i].field));
    added->set_description(WireText(info.field_violations[i].description));
  }
  return out;
}

google::rpc::PreconditionFailure PreconditionFailureOf(const ErrorInfo& info, size_t violations) {
  google::rpc::PreconditionFailure out;
  for (size_t i = 0; i < violations; ++i) {
    google::rpc::PreconditionFailure::Violation* added = out.add_violations();
    added->set_type(WireText(info.precondition_violations[i].type));
    added->set_subject(WireText(info.precondition_violations[i].subject));
    added->set_description(WireText(info.precondition_violations[i].description));
  }
  return out;
}

google::rpc::Status Assemble(const absl::Status& status, const std::optional<ErrorInfo>& info, size_t fields,
                             size_t preconditions, bool with_metadata) {
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  out.set_message(WireMessage(status));
  google::rpc::ErrorInfo error_info = ErrorInfoOf(status, info);
  if (!with_metadata) error_info.clear_metadata();
  out.add_details()->PackFrom(error_info);
  if (fields > 0) out.add_details()->PackFrom(BadRequestOf(*info, fields));
  if (preconditions > 0) out.add_details()->PackFrom(PreconditionFailureOf(*info, preconditions));
  return out;
}

}  // namespace

std::string WireMessage(const absl::Status& status) { return WireText(status.message()); }

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  if (status.ok()) return google::rpc::Status();
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  size_t fields = info.has_value() ? info->field_violations.size() : 0;
  size_t preconditions = info.has_value() ? info->precondition_violations.size() : 0;
  google::rpc::Status out = Assemble(status, info, fields, preconditions, /*with_metadata=*/true);
  // Halving leaves the first ones, which are the ones to repair first, in few rounds.
  while (out.ByteSizeLong() > kMaxErrorDetailsBytes && fields + preconditions > 0) {
    if (fields > 0) {
      fields /= 2;
    } else {
      preconditions /= 2;
    }
    out = Assemble(status, info, fields, preconditions, /*with_metadata=*/true);
  }
  if (out.ByteSizeLong() <= kMaxErrorDetailsBytes) return out;
  return Assemble(status, info, 0, 0, /*with_metadata=*/false);
}

std::string StatusDetails(const absl::Status& status) {
  return status.ok() ? std::string() : ToRpcStatus(status).SerializeAsString();
}

absl::Status StatusFromWire(int code, absl::string_view message, absl::string_view details) {
  if (code == 0) return absl::OkStatus();
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  absl::Status status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown, message);
  google::rpc::Status rpc;
  if (details.empty() || !rpc.ParseFromArray(details.data(), static_cast<int>(details.size()))) return status;
  ErrorInfo info;
  bool ours = false;
  for (const google::protobuf::Any& detail : rpc.details()) {
    google::rpc::ErrorInfo error_info;
    google::rpc::BadRequest bad_request;
    google::rpc::PreconditionFailure failure;
    if (detail.Is<google::rpc::ErrorInfo>() && detail.UnpackTo(&error_info) &&
        error_info.domain() == kErrorDomain) {
      ours = true;
      info.reason = error_info.reason();
      info.metadata = {error_info.metadata().begin(), error_info.metadata().end()};
    } else if (detail.Is<google::rpc::BadRequest>() && detail.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        info.field_violations.push_back({violation.field(), violation.description()});
      }
    } else if (detail.Is<google::rpc::PreconditionFailure>() && detail.UnpackTo(&failure)) {
      for (const auto& violation : failure.violations()) {
        info.precondition_violations.push_back(
            {violation.type(), violation.subject(), violation.description()});
      }
    }
  }
  return ours ? WithErrorInfo(std::move(status), info) : status;
}

}  // namespace lockstep::wire
