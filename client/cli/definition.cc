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

std::vector<Diagnostic> LintDocument(const MigrationDocument& document) {
  const auto migration = wire::MigrationFromProto(document.migration);
  if (!migration.ok()) {
    const auto info = GetErrorInfo(migration.status());
    if (info.has_value() && !info->field_violations.empty()) {
      return LocateViolations(info->field_violations, document.source, Severity::kError);
    }
    return {{Severity::kError, document.source.Find(""), std::string(migration.status().message())}};
  }
  std::vector<FieldViolation> warnings;
  for (domain::Violation& violation : domain::LintPlan(migration->plan)) {
    warnings.push_back({std::move(violation.path), std::move(violation.message)});
  }
  return LocateViolations(warnings, document.source, Severity::kWarning);
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

std::vector<Diagnostic> LintMigrationFile(absl::string_view text, absl::string_view default_namespace) {
  MigrationFile file = ParseMigrationFile(text, default_namespace);
  std::vector<Diagnostic> diagnostics = std::move(file.diagnostics);
  const bool readable = std::none_of(diagnostics.begin(), diagnostics.end(),
                                     [](const Diagnostic& d) { return d.severity == Severity::kError; });
  // A document that was read in part only would be accused of what its errors left out.
  if (readable) {
    for (const MigrationDocument& document : file.documents) Append(LintDocument(document), &diagnostics);
    SortByPosition(&diagnostics);
  }
  return diagnostics;
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
