// What may be said about a migration's definition without a server: lint, and the comparison behind `apply`.
// Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/migration_file.h"
#include "core/base/error_info.h"
#include "core/domain/plan.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::cli {

// Violations where they stand in the file, in order of position. A path may start with "migration.".
std::vector<Diagnostic> LocateViolations(const std::vector<FieldViolation>& violations,
                                         const SourceMap& source, Severity severity);

// Everything wrong with the file (errors: the server would refuse it) and everything that is probably not
// meant (warnings), in order of position. With `traffic` also what it can't certify in time.
std::vector<Diagnostic> LintMigrationFile(absl::string_view text, absl::string_view default_namespace,
                                          const std::optional<domain::TrafficHint>& traffic = std::nullopt);

// A plan by itself, for `gate replay` and `gate simulate`.
struct PlanDefinition {
  domain::MigrationPlan plan;
  uint32_t declared_fields = 0;  // of the contract that comes with it
};

// The plan of a file as for `migration create`; the name may be left out, and the file defines one migration.
// Nothing if there are errors among `diagnostics`.
std::optional<PlanDefinition> ReadPlanFile(absl::string_view text, std::vector<Diagnostic>* diagnostics);

// One top-level field that differs.
struct DefinitionChange {
  std::string field;       // as in an update mask: "plan"
  std::string difference;  // for people: indented lines
};

// The fields that may be updated and differ; a value that was left out equals its default. A different salt
// is reported as a change of "salt", which the server refuses. INVALID_ARGUMENT with field violations when
// `wanted` is not valid.
absl::StatusOr<std::vector<DefinitionChange>> CompareDefinitions(const v1::Migration& current,
                                                                 const v1::Migration& wanted);

}  // namespace lockstep::cli
