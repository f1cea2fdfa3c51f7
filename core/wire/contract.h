// The contract of a migration: how its records are compared.
#pragma once

#include "core/domain/contract.h"
#include "core/wire/violations.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::wire {

v1::Contract ToProto(const domain::Contract& contract);

// Converts, revision included, with violations only for what has no counterpart in the domain.
domain::Contract ReadContract(const v1::Contract& contract, const FieldPath& path, Violations& violations);

// The API's limits, and domain::ValidateContract.
void CheckContract(const domain::Contract& contract, const FieldPath& path, Violations& violations);

}  // namespace lockstep::wire
