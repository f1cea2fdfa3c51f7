// How ValidatePlan and LintPlan collect what they find. Internal to both.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/plan.h"

namespace lockstep::domain {

// Collects violations; paths are built from the parts given. Not thread-safe.
class Findings {
 public:
  template <typename... PathParts>
  void Add(std::string message, const PathParts&... path) {
    violations_.push_back({absl::StrCat(path...), std::move(message)});
  }
  std::vector<Violation> Take() { return std::move(violations_); }

 private:
  std::vector<Violation> violations_;
};

inline std::string StepPath(size_t step) { return absl::StrCat("plan.steps[", step, "]"); }
inline std::string CheckPath(size_t step, size_t check) {
  return absl::StrCat(StepPath(step), ".checks[", check, "]");
}

}  // namespace lockstep::domain
