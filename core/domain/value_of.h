// For results that can fail only on what ValidatePlan has refused before: a failure here is our own bug.
#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "core/base/check.h"

namespace lockstep::domain {

template <typename T>
T ValueOf(absl::StatusOr<T> value) {
  LOCKSTEP_CHECK(value.ok(), std::string(value.status().message()).c_str());
  return *std::move(value);
}

}  // namespace lockstep::domain
