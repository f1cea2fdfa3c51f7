#include "client/cli/migration_file.h"

#include <algorithm>
#include <exception>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/yaml_message.h"
#include "core/domain/migration.h"
#include "yaml-cpp/yaml.h"

namespace lockstep::cli {
namespace {

// A definition is text written by people. The limit keeps a wrong file (a dump, a device) from being read for
// long.
constexpr size_t kMaxFileBytes = 16 << 20;

// Whether a document has to say whose definition it is.
enum class NameRule { kRequired, kOptional };

void ResolveName(absl::string_view default_namespace, NameRule rule, MigrationDocument* document,
                 std::vector<Diagnostic>* diagnostics) {
  std::string name = document->migration.name();
  const Position position = document->source.Find("name");
  if (!document->source.Contains("name")) {
    if (rule == NameRule::kOptional) return;
    diagnostics->push_back(
        {Severity::kError, position, "`name` is missing: write \"name: {namespace}/{id}\""});
    return;
  }
  // What could not be read as text has been reported.
  const bool reported = std::any_of(diagnostics->begin(), diagnostics->end(),
                                    [&](const Diagnostic& d) { return d.position == position; });
  if (name.empty() && reported) return;
  if (!absl::StrContains(name, '/')) name = absl::StrCat(default_namespace, "/", name);
  const auto id = domain::ParseMigrationName(name);
  if (!id.ok()) {
    diagnostics->push_back({Severity::kError, position, std::string(id.status().message())});
    return;
  }
  document->migration.set_name(domain::FullMigrationName(*id));
}

void RefuseRepeatedNames(MigrationFile* file) {
  std::map<std::string, Position> seen;
  for (const MigrationDocument& document : file->documents) {
    if (document.migration.name().empty()) continue;
    const Position position = document.source.Find("name");
    const auto [first, inserted] = seen.emplace(document.migration.name(), position);
    if (!inserted) {
      file->diagnostics.push_back(
          {Severity::kError, position,
           absl::StrCat("this migration is defined twice; first on line ", first->second.line)});
    }
  }
}

MigrationFile Parse(absl::string_view text, absl::string_view default_namespace, NameRule rule) {
  MigrationFile file;
  const auto refuse = [&](Position position, std::string message) {
    file.documents.clear();
    file.diagnostics = {{Severity::kError, position, std::move(message)}};
    return file;
  };
  if (text.size() > kMaxFileBytes) {
    return refuse(
        {}, absl::StrCat("the file has ", text.size(), " bytes; at most ", kMaxFileBytes, " are allowed"));
  }
  std::vector<YAML::Node> nodes;
  try {
    nodes = YAML::LoadAll(std::string(text));
  } catch (const YAML::Exception& e) {
    return refuse(PositionOf(e.mark), absl::StrCat("not valid YAML: ", e.msg));
  } catch (const std::exception& e) {
    return refuse({}, absl::StrCat("not valid YAML: ", e.what()));
  }
  for (const YAML::Node& node : nodes) {
    if (node.IsNull()) continue;  // an empty document, as after a trailing "---"
    MigrationDocument document{{}, SourceMap(PositionOf(node.Mark()))};
    std::vector<Diagnostic> diagnostics;
    MapYaml(node, "", &document.migration, &document.source, &diagnostics);
    if (node.IsMap()) ResolveName(default_namespace, rule, &document, &diagnostics);
    file.documents.push_back(std::move(document));
    file.diagnostics.insert(file.diagnostics.end(), diagnostics.begin(), diagnostics.end());
  }
  if (file.documents.empty()) return refuse({}, "the file defines no migration");
  RefuseRepeatedNames(&file);
  std::stable_sort(
      file.diagnostics.begin(), file.diagnostics.end(), [](const Diagnostic& a, const Diagnostic& b) {
        return std::pair(a.position.line, a.position.column) < std::pair(b.position.line, b.position.column);
      });
  return file;
}

}  // namespace

std::string FormatDiagnostic(absl::string_view file, const Diagnostic& diagnostic) {
  return absl::StrCat(file, ":", diagnostic.position.line, ":", diagnostic.position.column, ": ",
                      diagnostic.severity == Severity::kError ? "error: " : "warning: ", diagnostic.message);
}

Position SourceMap::Find(absl::string_view path) const {
  while (true) {
    const auto found = positions_.find(path);
    if (found != positions_.end()) return found->second;
    const size_t end = path.find_last_of(".[");
    path = end == absl::string_view::npos ? "" : path.substr(0, end);
  }
}

bool MigrationFile::ok() const {
  return std::none_of(diagnostics.begin(), diagnostics.end(),
                      [](const Diagnostic& d) { return d.severity == Severity::kError; });
}

MigrationFile ParseMigrationFile(absl::string_view text, absl::string_view default_namespace) {
  return Parse(text, default_namespace, NameRule::kRequired);
}

MigrationFile ParsePlanFile(absl::string_view text) {
  MigrationFile file = Parse(text, "default", NameRule::kOptional);
  if (file.documents.size() > 1) {
    file.diagnostics.push_back({Severity::kError, file.documents[1].source.Find(""),
                                "a second migration: a plan is read from a file that defines one"});
  }
  return file;
}

}  // namespace lockstep::cli
