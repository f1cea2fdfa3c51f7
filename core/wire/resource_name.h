// Resource names as the API takes them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/wire/violations.h"

namespace lockstep::wire {

// Adds a violation and returns false unless `name` is "namespaces/{namespace}/migrations/{migration}". The
// short form that people type is for the CLI: the API answers with the names it was given.
bool CheckMigrationName(const FieldPath& path, absl::string_view name, Violations& violations);
// "namespaces/{namespace}".
bool CheckNamespaceName(const FieldPath& path, absl::string_view name, Violations& violations);

// For requests whose only argument is a name: INVALID_ARGUMENT naming `field`.
absl::Status ValidateMigrationName(absl::string_view field, absl::string_view name);
// The parent of a list: "namespaces/{namespace}", or "namespaces/-" for all.
absl::Status ValidateListParent(absl::string_view field, absl::string_view parent);

// "{parent}/migrations/{migration_id}"; INVALID_ARGUMENT naming "parent", "migration_id" or both.
absl::StatusOr<std::string> MigrationNameOf(absl::string_view parent, absl::string_view migration_id);

// "{migration}/decisions/{number}".
std::string DecisionName(absl::string_view migration, uint64_t number);

struct DecisionId {
  std::string migration;  // not checked, save that it isn't empty
  uint64_t number = 0;    // at least 1
};
// The reverse of DecisionName; INVALID_ARGUMENT for anything else.
absl::StatusOr<DecisionId> ParseDecisionName(absl::string_view name);

}  // namespace lockstep::wire
