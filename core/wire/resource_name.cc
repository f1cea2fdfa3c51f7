#include "core/wire/resource_name.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/domain/migration.h"

namespace lockstep::wire {
namespace {

constexpr absl::string_view kNamespacePrefix = "namespaces/";
constexpr absl::string_view kMigrationsInfix = "/migrations/";
constexpr absl::string_view kDecisionsInfix = "/decisions/";
// Stands in for the part that is not being checked.
constexpr absl::string_view kAnyPart = "x";

// domain::ParseMigrationName's message without its "migration name: ", which the field's path replaces.
bool CheckFullName(const FieldPath& path, absl::string_view full_name, Violations& violations) {
  const absl::Status status = domain::ParseMigrationName(full_name).status();
  if (status.ok()) return true;
  absl::string_view message = status.message();
  absl::ConsumePrefix(&message, "migration name: ");
  violations.Add(path, message);
  return false;
}

}  // namespace

bool CheckMigrationName(const FieldPath& path, absl::string_view name, Violations& violations) {
  if (name.empty()) {
    violations.Add(path, "is empty; use \"namespaces/{namespace}/migrations/{migration}\"");
    return false;
  }
  if (!absl::StartsWith(name, kNamespacePrefix) || !absl::StrContains(name, kMigrationsInfix)) {
    violations.Add(path, "is not a full name; use \"namespaces/{namespace}/migrations/{migration}\"");
    return false;
  }
  return CheckFullName(path, name, violations);
}

bool CheckNamespaceName(const FieldPath& path, absl::string_view name, Violations& violations) {
  absl::string_view part = name;
  if (!absl::ConsumePrefix(&part, kNamespacePrefix) || absl::StrContains(part, '/')) {
    violations.Add(path, "is not the name of a namespace; use \"namespaces/{namespace}\"");
    return false;
  }
  return CheckFullName(path, absl::StrCat(name, kMigrationsInfix, kAnyPart), violations);
}

absl::Status ValidateMigrationName(absl::string_view field, absl::string_view name) {
  Violations violations;
  const FieldPath root;
  CheckMigrationName(root / field, name, violations);
  return violations.ToStatus();
}

absl::Status ValidateListParent(absl::string_view field, absl::string_view parent) {
  if (parent == "namespaces/-") return absl::OkStatus();
  Violations violations;
  const FieldPath root;
  CheckNamespaceName(root / field, parent, violations);
  return violations.ToStatus();
}

absl::StatusOr<std::string> MigrationNameOf(absl::string_view parent, absl::string_view migration_id) {
  Violations violations;
  const FieldPath root;
  CheckNamespaceName(root / "parent", parent, violations);
  if (absl::StrContains(migration_id, '/')) {
    violations.Add(root / "migration_id", "must not hold a '/'; give the last part of the name only");
  } else {
    CheckFullName(root / "migration_id",
                  absl::StrCat(kNamespacePrefix, kAnyPart, kMigrationsInfix, migration_id), violations);
  }
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return absl::StrCat(parent, kMigrationsInfix, migration_id);
}

std::string DecisionName(absl::string_view migration, uint64_t number) {
  return absl::StrCat(migration, kDecisionsInfix, number);
}

absl::StatusOr<DecisionId> ParseDecisionName(absl::string_view name) {
  const size_t at = name.rfind(kDecisionsInfix);
  DecisionId id;
  if (at == 0 || at == absl::string_view::npos ||
      !absl::SimpleAtoi(name.substr(at + kDecisionsInfix.size()), &id.number) || id.number == 0 ||
      name != DecisionName(name.substr(0, at), id.number)) {
    return absl::InvalidArgumentError("name: is not \"{migration}/decisions/{number}\"");
  }
  id.migration = std::string(name.substr(0, at));
  return id;
}

}  // namespace lockstep::wire
