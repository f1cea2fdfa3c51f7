#include "client/cli/settings.h"

#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "client/cli/yaml_message.h"
#include "core/base/status_macros.h"
#include "core/domain/migration.h"
#include "yaml-cpp/yaml.h"

namespace lockstep::cli {
namespace {

struct ContextFile {
  std::string address;
  std::string ns;
};

absl::Status FileError(const std::string& path, const YAML::Mark& mark, absl::string_view why) {
  const Position position = PositionOf(mark);
  return absl::InvalidArgumentError(absl::StrCat(path, ":", position.line, ":", position.column, ": ", why));
}

absl::StatusOr<ContextFile> ParseContextFile(const std::string& path, const std::string& text) {
  ContextFile file;
  try {
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return file;
    if (!root.IsMap())
      return FileError(path, root.Mark(), "must be a mapping with the keys address and namespace");
    for (const auto& entry : root) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      std::string* const value = key == "address" ? &file.address : key == "namespace" ? &file.ns : nullptr;
      if (value == nullptr) {
        return FileError(path, entry.first.Mark(),
                         absl::StrCat("unknown key `", key, "`: known are address and namespace"));
      }
      if (!entry.second.IsScalar())
        return FileError(path, entry.first.Mark(), absl::StrCat("`", key, "` must be text"));
      if (!value->empty())
        return FileError(path, entry.first.Mark(), absl::StrCat("`", key, "` is given twice"));
      *value = entry.second.Scalar();
    }
  } catch (const YAML::Exception& e) {
    return FileError(path, e.mark, absl::StrCat("not valid YAML: ", e.msg));
  }
  return file;
}

absl::StatusOr<ContextFile> ReadContextFile(const GlobalFlags& flags, const Streams& streams) {
  std::string path =
      !flags.config.empty() ? flags.config : Environment(streams, "LOCKSTEP_CONFIG").value_or("");
  const bool named = !path.empty();
  if (!named) {
    const auto xdg = Environment(streams, "XDG_CONFIG_HOME");
    const auto home = Environment(streams, "HOME");
    if (!xdg && !home) return ContextFile();
    path = absl::StrCat(xdg ? *xdg : *home + "/.config", "/lockstep/config.yaml");
  }
  std::ifstream in(path);
  if (!in) {
    if (!named) return ContextFile();
    return absl::InvalidArgumentError(absl::StrCat("the context file ", path, " can't be read"));
  }
  std::ostringstream text;
  text << in.rdbuf();
  return ParseContextFile(path, text.str());
}

// The first source that says anything, and its name for error messages.
struct Choice {
  std::string value;
  std::string source;
};

Choice Choose(const std::string& flag, absl::string_view flag_name, const Streams& streams,
              absl::string_view variable, absl::string_view otherwise) {
  if (!flag.empty()) return {flag, std::string(flag_name)};
  if (const auto value = Environment(streams, variable)) return {*value, std::string(variable)};
  return {std::string(otherwise), "default"};
}

absl::Status WrongSetting(const Choice& choice, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(choice.source, ": ", why));
}

absl::StatusOr<ColorMode> ParseColorMode(const Choice& choice) {
  if (choice.value == "auto") return ColorMode::kAuto;
  if (choice.value == "always") return ColorMode::kAlways;
  if (choice.value == "never") return ColorMode::kNever;
  return WrongSetting(choice,
                      absl::StrCat("unknown mode \"", choice.value, "\": allowed are auto, always, never"));
}

absl::StatusOr<bool> ParseBool(const Choice& choice) {
  if (choice.value == "1" || choice.value == "true") return true;
  if (choice.value == "0" || choice.value == "false") return false;
  return WrongSetting(choice, absl::StrCat("must be true or false; found \"", choice.value, "\""));
}

}  // namespace

absl::StatusOr<Settings> ResolveSettings(const GlobalFlags& flags, const Streams& streams) {
  LOCKSTEP_ASSIGN_OR_RETURN(const ContextFile file, ReadContextFile(flags, streams));
  Settings settings;
  const auto or_default = [](const std::string& value, const std::string& otherwise) {
    return value.empty() ? otherwise : value;
  };
  settings.address = Choose(flags.address, "--address", streams, "LOCKSTEP_ADDRESS",
                            or_default(file.address, settings.address))
                         .value;
  settings.ns =
      Choose(flags.ns, "--namespace", streams, "LOCKSTEP_NAMESPACE", or_default(file.ns, settings.ns)).value;

  const Choice output = Choose(flags.output, "--output", streams, "LOCKSTEP_OUTPUT", "table");
  const auto format = ParseOutputFormat(output.value);
  if (!format.ok()) return WrongSetting(output, format.status().message());
  settings.output = *format;

  LOCKSTEP_ASSIGN_OR_RETURN(
      settings.color, ParseColorMode(Choose(flags.color, "--color", streams, "LOCKSTEP_COLOR", "auto")));

  const Choice timeout = Choose(flags.timeout, "--timeout", streams, "LOCKSTEP_TIMEOUT", "10s");
  const auto duration = ParseDuration(timeout.value);
  if (!duration.ok()) return WrongSetting(timeout, duration.status().message());
  if (*duration == absl::ZeroDuration()) return WrongSetting(timeout, "must be more than 0");
  settings.timeout = *duration;

  settings.yes = flags.yes;
  LOCKSTEP_ASSIGN_OR_RETURN(settings.no_input, ParseBool(Choose(flags.no_input ? "true" : "", "--no-input",
                                                                streams, "LOCKSTEP_NO_INPUT", "false")));
  return settings;
}

absl::StatusOr<std::string> ResolveMigrationName(const Settings& settings, absl::string_view text) {
  const std::string name =
      absl::StrContains(text, '/') ? std::string(text) : absl::StrCat(settings.ns, "/", text);
  LOCKSTEP_ASSIGN_OR_RETURN(const domain::MigrationId id, domain::ParseMigrationName(name));
  return domain::FullMigrationName(id);
}

}  // namespace lockstep::cli
