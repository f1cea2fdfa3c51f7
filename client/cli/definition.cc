#include "client/cli/definition.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/cli/text.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/plan.h"
#include "core/wire/migration.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/util/message_differencer.h"

namespace lockstep::cli {
namespace {

void SortByPosition(std::vector<Diagnostic>* diagnostics) {
  std::stable_sort(diagnostics->begin(), diagnostics->end(), [](const Diagnostic& a, const Diagnostic& b) {
    return std::pair(a.position.line, a.position.column) < std::pair(b.position.line, b.position.column);
  });
}

void Append(std::vector<Diagnostic> more, std::vector<Diagnostic>* diagnostics) {
  diagnostics->insert(diagnostics->end(), std::make_move_iterator(more.begin()),
                      std::make_move_iterator(more.end()));
}

// The document's definition; nothing after its errors have been added to `diagnostics`.
std::optional<domain::Migration> ReadDocument(const MigrationDocument& document,
                                              std::vector<Diagnostic>* diagnostics) {
  auto migration = wire::MigrationFromProto(document.migration);
  if (migration.ok()) return *std::move(migration);
  const auto info = GetErrorInfo(migration.status());
  if (info.has_value() && !info->field_violations.empty()) {
    Append(LocateViolations(info->field_violations, document.source, Severity::kError), diagnostics);
  } else {
    diagnostics->push_back(
        {Severity::kError, document.source.Find(""), std::string(migration.status().message())});
  }
  return std::nullopt;
}

void LintDocument(const MigrationDocument& document, const std::optional<domain::TrafficHint>& traffic,
                  std::vector<Diagnostic>* diagnostics) {
  const auto migration = ReadDocument(document, diagnostics);
  if (!migration) return;
  std::vector<FieldViolation> warnings;
  for (domain::Violation& violation : domain::LintPlan(migration->plan, traffic)) {
    warnings.push_back({std::move(violation.path), std::move(violation.message)});
  }
  Append(LocateViolations(warnings, document.source, Severity::kWarning), diagnostics);
}

// With every default written out and nothing that only the server sets.
absl::StatusOr<v1::Migration> Normalise(const v1::Migration& migration) {
  LOCKSTEP_ASSIGN_OR_RETURN(const domain::Migration definition, wire::MigrationFromProto(migration));
  return wire::ToProto(definition);
}

}  // namespace

std::vector<Diagnostic> LocateViolations(const std::vector<FieldViolation>& violations,
                                         const SourceMap& source, Severity severity) {
  std::vector<Diagnostic> diagnostics;
  for (const FieldViolation& violation : violations) {
    const absl::string_view path = absl::StripPrefix(violation.field, "migration.");
    diagnostics.push_back({severity, source.Find(path), absl::StrCat(path, ": ", violation.description)});
  }
  SortByPosition(&diagnostics);
  return diagnostics;
}

std::vector<Diagnostic> LintMigrationFile(absl::string_view text, absl::string_view default_namespace,
                                          const std::optional<domain::TrafficHint>& traffic) {
  MigrationFile file = ParseMigrationFile(text, default_namespace);
  const bool readable = file.ok();
  std::vector<Diagnostic> diagnostics = std::move(file.diagnostics);
  // A document that was read in part only would be accused of what its errors left out.
  if (readable) {
    for (const MigrationDocument& document : file.documents) LintDocument(document, traffic, &diagnostics);
    SortByPosition(&diagnostics);
  }
  return diagnostics;
}

std::optional<PlanDefinition> ReadPlanFile(absl::string_view text, std::vector<Diagnostic>* diagnostics) {
  MigrationFile file = ParsePlanFile(text);
  const bool readable = file.ok();
  *diagnostics = std::move(file.diagnostics);
  if (!readable) return std::nullopt;
  auto migration = ReadDocument(file.documents[0], diagnostics);
  if (!migration) return std::nullopt;
  PlanDefinition definition{std::move(migration->plan),
                            static_cast<uint32_t>(migration->contract.fields.size())};
  return definition;
}

absl::StatusOr<std::vector<DefinitionChange>> CompareDefinitions(const v1::Migration& current,
                                                                 const v1::Migration& wanted) {
  LOCKSTEP_ASSIGN_OR_RETURN(const v1::Migration to, Normalise(wanted));
  // A server of a later version may know what this command doesn't: then its answer is compared as it is.
  const v1::Migration from = Normalise(current).value_or(current);
  std::vector<std::string> fields = {"description", "labels", "owners", "plan", "contract", "pins"};
  if (!wanted.salt().empty()) fields.push_back("salt");
  std::vector<DefinitionChange> changes;
  for (const std::string& name : fields) {
    const auto* field = v1::Migration::descriptor()->FindFieldByName(name);
    LOCKSTEP_CHECK(field != nullptr, "the fields of a definition are fields of the message");
    DefinitionChange change{name, ""};
    std::string report;
    {
      google::protobuf::io::StringOutputStream stream(&report);
      google::protobuf::util::MessageDifferencer::StreamReporter reporter(&stream);
      reporter.SetMessages(from, to);
      google::protobuf::util::MessageDifferencer differencer;
      differencer.ReportDifferencesTo(&reporter);
      if (differencer.CompareWithFields(from, to, {field}, {field})) continue;
    }  // the reporter's end completes the text
    for (const absl::string_view line : absl::StrSplit(report, '\n', absl::SkipEmpty())) {
      absl::StrAppend(&change.difference, "  ", Printable(line), "\n");
    }
    changes.push_back(std::move(change));
  }
  return changes;
}

}  // namespace lockstep::cli
