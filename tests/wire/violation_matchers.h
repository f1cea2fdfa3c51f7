// How the tests of this directory look at refusals.
#pragma once

#include <gmock/gmock.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/error_info.h"

namespace lockstep::wire {

// INVALID_ARGUMENT with a violation of exactly this field whose description contains `description`, both of
// which a person also finds in the message.
MATCHER_P2(Refuses, field, description, "") {
  const absl::Status& status = arg;
  *result_listener << status;
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (status.code() != absl::StatusCode::kInvalidArgument || !info.has_value()) return false;
  for (const FieldViolation& violation : info->field_violations) {
    if (violation.field != field) continue;
    const bool in_message = info->field_violations.size() > 5 ||
                            status.message().find(std::string(field)) != absl::string_view::npos;
    return in_message && violation.description.find(description) != std::string::npos;
  }
  return false;
}

// The paths of all violations, in order.
inline std::vector<std::string> ViolatedFields(const absl::Status& status) {
  std::vector<std::string> out;
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (!info.has_value()) return out;
  for (const FieldViolation& violation : info->field_violations) out.push_back(violation.field);
  return out;
}

}  // namespace lockstep::wire
