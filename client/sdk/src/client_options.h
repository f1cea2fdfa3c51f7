// What a Client is given, checked.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/client.h"

namespace lockstep::internal {

// INVALID_ARGUMENT naming the option that makes no sense.
absl::Status ValidateOptions(const ClientOptions& options);

// Full names, sorted, each once. INVALID_ARGUMENT for a malformed one.
absl::StatusOr<std::vector<std::string>> MigrationNames(const ClientOptions& options);

}  // namespace lockstep::internal
