// The plan of a migration.
#pragma once

#include "core/domain/contract.h"
#include "core/domain/plan.h"
#include "core/wire/violations.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::wire {

v1::Plan ToProto(const domain::MigrationPlan& plan);

// Converts, with violations only for what has no counterpart in the domain (unknown enums, impossible
// durations): what was stored stays readable when limits change. An alpha of 0 becomes its default, as
// does each limit of the telemetry and of the cutover that is 0 or not set.
domain::MigrationPlan ReadPlan(const v1::Plan& plan, const FieldPath& path, Violations& violations);

// The API's limits, and domain::ValidatePlan against the contract that goes with the plan. `plan` is what
// ReadPlan made of the input at the path "plan".
void CheckPlan(const domain::MigrationPlan& plan, const domain::Contract& contract, Violations& violations);
// As above, for a plan that comes without a contract: its checks may name any field. `parent` is the path of
// the message that has the plan.
void CheckPlan(const domain::MigrationPlan& plan, const FieldPath& parent, Violations& violations);

}  // namespace lockstep::wire
