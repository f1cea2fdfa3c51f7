// What tests expect of an absl::Status: code, ErrorInfo reason and parts of the message. A failure shows the
// whole status.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/error_info.h"

namespace lockstep::testing {

inline std::string Describe(const absl::Status& status) {
  std::string text = status.ToString();
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (!info) return text + " (no ErrorInfo)";
  text += " {" + info->reason;
  for (const auto& [key, value] : info->metadata) text += ", " + key + "=" + value;
  for (const FieldViolation& v : info->field_violations) text += "; field " + v.field + ": " + v.description;
  for (const PreconditionViolation& v : info->precondition_violations) {
    text += "; precondition " + v.type + " " + v.subject + ": " + v.description;
  }
  return text + "}";
}

// EXPECT_TRUE(IsOk(api.Get("orders")));
inline ::testing::AssertionResult IsOk(const absl::Status& status) {
  if (status.ok()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << Describe(status);
}
template <typename T>
::testing::AssertionResult IsOk(const absl::StatusOr<T>& result) {
  return IsOk(result.status());
}

// Code and reason as given, and the message holds every one of `parts`.
inline ::testing::AssertionResult Fails(const absl::Status& status, absl::StatusCode code,
                                        const std::string& reason,
                                        const std::vector<std::string>& parts = {}) {
  std::string missing;
  if (status.code() != code) missing += " code " + absl::StatusCodeToString(code);
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (!info || info->reason != reason) missing += " reason " + reason;
  for (const std::string& part : parts) {
    if (status.message().find(part) == absl::string_view::npos) missing += " \"" + part + "\"";
  }
  if (missing.empty()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << Describe(status) << "\n  lacks" << missing;
}
template <typename T>
::testing::AssertionResult Fails(const absl::StatusOr<T>& result, absl::StatusCode code,
                                 const std::string& reason, const std::vector<std::string>& parts = {}) {
  return Fails(result.status(), code, reason, parts);
}

// The paths of the fields that a refused request names.
inline std::vector<std::string> BadFields(const absl::Status& status) {
  std::vector<std::string> fields;
  if (const auto info = GetErrorInfo(status)) {
    for (const FieldViolation& violation : info->field_violations) fields.push_back(violation.field);
  }
  return fields;
}

}  // namespace lockstep::testing
