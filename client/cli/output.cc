#include "client/cli/output.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "google/protobuf/util/json_util.h"
#include "yaml-cpp/yaml.h"

namespace lockstep::cli {
namespace {

// Whether a JSON string would read as something else, written without quotes.
bool NeedsQuotes(const std::string& text) {
  double number = 0;
  const std::string lower = absl::AsciiStrToLower(text);
  for (const absl::string_view word :
       {"", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n"}) {
    if (lower == word) return true;
  }
  return absl::SimpleAtod(text, &number) || absl::StartsWith(lower, "0x") || absl::StartsWith(lower, "0o");
}

void Emit(const YAML::Node& node, YAML::Emitter* out) {
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      *out << YAML::Null;
      return;
    case YAML::NodeType::Scalar:
      // "!" marks what was quoted in the JSON, that is, a string.
      if (node.Tag() == "!" && NeedsQuotes(node.Scalar())) *out << YAML::DoubleQuoted;
      *out << node.Scalar();
      return;
    case YAML::NodeType::Sequence:
      if (node.size() == 0) *out << YAML::Flow;
      *out << YAML::BeginSeq;
      for (const YAML::Node& item : node) Emit(item, out);
      *out << YAML::EndSeq;
      return;
    case YAML::NodeType::Map:
      if (node.size() == 0) *out << YAML::Flow;
      *out << YAML::BeginMap;
      for (const auto& entry : node) {
        *out << YAML::Key;
        Emit(entry.first, out);
        *out << YAML::Value;
        Emit(entry.second, out);
      }
      *out << YAML::EndMap;
      return;
  }
}

}  // namespace

absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view text) {
  if (text == "table") return OutputFormat::kTable;
  if (text == "wide") return OutputFormat::kWide;
  if (text == "json") return OutputFormat::kJson;
  if (text == "yaml") return OutputFormat::kYaml;
  if (text == "jsonl") return OutputFormat::kJsonl;
  if (text == "name") return OutputFormat::kName;
  return absl::InvalidArgumentError(
      absl::StrCat("unknown output format \"", text, "\": allowed are ", kOutputFormats));
}

std::string ToJson(const google::protobuf::Message& message, bool pretty) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = pretty;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  LOCKSTEP_CHECK(status.ok(), "a message of the API has a JSON form");
  if (json.empty() || json.back() != '\n') json += '\n';
  return json;
}

std::string ToJsonLine(const google::protobuf::Message& message) {
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json);
  LOCKSTEP_CHECK(status.ok(), "a message of the API has a JSON form");
  return json + "\n";
}

std::string ToYaml(const google::protobuf::Message& message) {
  // JSON is YAML: reading it back keeps the order of the fields, which a map of values would not.
  YAML::Emitter out;
  Emit(YAML::Load(ToJson(message, /*pretty=*/false)), &out);
  LOCKSTEP_CHECK(out.good(), "every JSON document has a YAML form");
  return absl::StrCat(out.c_str(), "\n");
}

}  // namespace lockstep::cli
