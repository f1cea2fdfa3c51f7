// The machine-readable output formats.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"

namespace lockstep::cli {

enum class OutputFormat { kTable, kWide, kJson, kYaml, kJsonl, kName };

// "table|wide|json|yaml|jsonl|name": what -o accepts.
inline constexpr char kOutputFormats[] = "table|wide|json|yaml|jsonl|name";
absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view text);

inline bool ForPeople(OutputFormat format) {
  return format == OutputFormat::kTable || format == OutputFormat::kWide;
}

// Proto JSON: lowerCamelCase names, enums by full name, 64-bit integers as strings; zero values are written,
// so that a script finds every field. `pretty` is indented, else one line. Ends with a line break.
std::string ToJson(const google::protobuf::Message& message, bool pretty);

// One line without the fields that have their default value: for logs, where nothing is what most lines say
// of most fields. Ends with a line break.
std::string ToJsonLine(const google::protobuf::Message& message);

// The same document as YAML. Ends with a line break.
std::string ToYaml(const google::protobuf::Message& message);

}  // namespace lockstep::cli
