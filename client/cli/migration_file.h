// Migration files: YAML, one document per migration, mapped strictly onto lockstep.v1.Migration.
//
//   name: demo/cities            # or namespaces/demo/migrations/cities, or cities
//   plan:
//     steps:
//       - stage: CANARY_READ
//         weight: 5%
//
// The mapping follows the message's descriptor: field names as in the .proto (or lowerCamelCase), enums by
// short name, durations like "1h30m", weights like "5%" (or buckets), rates like "0.1%" (or 0.001), quantiles
// like "p95" (or 0.95). Unknown
// fields, duplicate keys and fields that only the server sets are errors. All errors of a file are reported
// at once, each with its line and column. Pure functions.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "lockstep/v1/migration.pb.h"

namespace lockstep::cli {

// Both count from 1; the column counts bytes.
struct Position {
  int line = 1;
  int column = 1;
  bool operator==(const Position&) const = default;
};

enum class Severity { kError, kWarning };

struct Diagnostic {
  Severity severity = Severity::kError;
  Position position;
  std::string message;
  bool operator==(const Diagnostic&) const = default;
};

// "cities.yaml:12:9: error: ...".
std::string FormatDiagnostic(absl::string_view file, const Diagnostic& diagnostic);

// Where each field of a document was written, by its path in the API: "plan.steps[2].weight".
class SourceMap {
 public:
  explicit SourceMap(Position start) { positions_[""] = start; }
  void Add(const std::string& path, Position position) { positions_[path] = position; }
  bool Contains(absl::string_view path) const { return positions_.find(path) != positions_.end(); }
  // The position of `path`, or of what contains it: a missing field is reported where it is missed.
  Position Find(absl::string_view path) const;

 private:
  std::map<std::string, Position, std::less<>> positions_;
};

struct MigrationDocument {
  v1::Migration migration;  // `name` is a full resource name
  SourceMap source;
};

struct MigrationFile {
  std::vector<MigrationDocument> documents;
  std::vector<Diagnostic> diagnostics;  // in order of position; documents are usable only without errors
  bool ok() const;
};

// A document whose name is a bare id belongs to `default_namespace`.
MigrationFile ParseMigrationFile(absl::string_view text, absl::string_view default_namespace);

// A file that is read for its plan: one document, whose name may be left out.
MigrationFile ParsePlanFile(absl::string_view text);

}  // namespace lockstep::cli
