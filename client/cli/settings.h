// Where the command talks to and how it behaves. Precedence: flag, LOCKSTEP_* variable, context file,
// default.
//
//   flag          variable             context file   default
//   --address     LOCKSTEP_ADDRESS     address        127.0.0.1:7420
//   --namespace   LOCKSTEP_NAMESPACE   namespace      default
//   --output      LOCKSTEP_OUTPUT                     table
//   --color       LOCKSTEP_COLOR                      auto
//   --timeout     LOCKSTEP_TIMEOUT                    10s
//   --no-input    LOCKSTEP_NO_INPUT                   false
//   --config      LOCKSTEP_CONFIG                     $XDG_CONFIG_HOME or ~/.config, lockstep/config.yaml
//
// --yes has no variable: consent is given call by call.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/output.h"
#include "client/cli/terminal.h"

namespace lockstep::cli {

// As given on the command line; empty = not given.
struct GlobalFlags {
  std::string address;
  std::string ns;
  std::string output;
  std::string color;
  std::string timeout;
  std::string config;
  bool yes = false;
  bool no_input = false;
};

struct Settings {
  std::string address = "127.0.0.1:7420";
  std::string ns = "default";
  OutputFormat output = OutputFormat::kTable;
  ColorMode color = ColorMode::kAuto;
  absl::Duration timeout = absl::Seconds(10);  // deadline of one call
  bool yes = false;
  bool no_input = false;
};

// INVALID_ARGUMENT says which flag, variable or line of the file is wrong. The context file is read here; it
// may be missing unless it was named.
absl::StatusOr<Settings> ResolveSettings(const GlobalFlags& flags, const Streams& streams);

// The full resource name of what the user calls `id`, `ns/id` or by its full name.
absl::StatusOr<std::string> ResolveMigrationName(const Settings& settings, absl::string_view text);

}  // namespace lockstep::cli
