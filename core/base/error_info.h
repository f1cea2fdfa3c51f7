// Structured detail on an absl::Status, independent of any wire format: a machine-readable reason with
// metadata, field violations of bad input, and unmet preconditions. The service layer turns it into
// google.rpc.ErrorInfo, BadRequest and PreconditionFailure; the CLI reads it back.
//
//   return WithErrorInfo(absl::AbortedError("the migration was changed by somebody else: read it again and
//   retry"),
//                        {.reason = "ETAG_MISMATCH", .metadata = {{"etag", current}}});
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace lockstep {

struct FieldViolation {
  std::string field;  // path as in the API: "plan.steps[2].weight"
  std::string description;
  bool operator==(const FieldViolation&) const = default;
};

struct PreconditionViolation {
  std::string type;     // "GATE_HOLDS", "FENCE_WAITS", "STAGE"
  std::string subject;  // the check, instance or stage
  std::string description;
  bool operator==(const PreconditionViolation&) const = default;
};

struct ErrorInfo {
  std::string reason;  // UPPER_SNAKE_CASE, stable: part of the API
  std::map<std::string, std::string> metadata;
  std::vector<FieldViolation> field_violations;
  std::vector<PreconditionViolation> precondition_violations;
  bool operator==(const ErrorInfo&) const = default;
};

// `status` must not be OK. Replaces what was attached before.
absl::Status WithErrorInfo(absl::Status status, const ErrorInfo& info);

// What was attached; nothing otherwise.
std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status);

// INVALID_ARGUMENT with reason "INVALID_ARGUMENT" and these violations; the message lists the first few of
// them. `violations` must not be empty.
absl::Status InvalidArgumentWithViolations(std::vector<FieldViolation> violations);

}  // namespace lockstep
