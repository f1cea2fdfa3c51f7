// The gate's results, for the API and for decision records.
#pragma once

#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/wire/violations.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::wire {

// `evaluate_time` is when it was evaluated; InfinitePast = not known.
v1::GateResult ToProto(const domain::GateResult& result, absl::Time evaluate_time);

// evaluate_time is left to the caller, who has it elsewhere. Violations: unknown enums, impossible durations.
domain::GateResult ReadGateResult(const v1::GateResult& result, const FieldPath& path,
                                  Violations& violations);

}  // namespace lockstep::wire
