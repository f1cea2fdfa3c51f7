// The gate's results, for the API and for decision records, and what is asked of the gate.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/wire/violations.h"
#include "lockstep/v1/gate_service.pb.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::wire {

// `evaluate_time` is when it was evaluated; InfinitePast = not known.
v1::GateResult ToProto(const domain::GateResult& result, absl::Time evaluate_time);

// evaluate_time is left to the caller, who has it elsewhere. Violations: unknown enums, impossible durations.
domain::GateResult ReadGateResult(const v1::GateResult& result, const FieldPath& path,
                                  Violations& violations);

struct ExplainGateRequest {
  std::string name;
  std::optional<absl::Time> time;  // nullopt = now
};
// INVALID_ARGUMENT with every violation: name, and a time that is impossible or later than `now`.
absl::StatusOr<ExplainGateRequest> ExplainGateFromProto(const v1::ExplainGateRequest& request,
                                                        absl::Time now);
// INVALID_ARGUMENT naming the field.
absl::Status ValidateExportEvidenceRequest(const v1::ExportEvidenceRequest& request);

}  // namespace lockstep::wire
