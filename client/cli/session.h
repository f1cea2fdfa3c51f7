// One run of the command: its settings, its server, and how it speaks to the user.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/cli/connection.h"
#include "client/cli/exit_code.h"
#include "client/cli/render.h"
#include "client/cli/settings.h"
#include "client/cli/terminal.h"
#include "core/base/prng.h"

namespace lockstep::cli {

// Not thread-safe.
class Session {
 public:
  Session(const Settings& settings, const Streams& streams);

  const Settings& settings() const { return settings_; }
  const Streams& streams() const { return streams_; }
  Connection& connection() { return connection_; }
  const Style& err_style() const { return err_style_; }
  std::string NewRequestId() { return prng_.Uuid(); }

  // How tables are to look, now.
  RenderOptions render_options() const;

  // Data. Flushed, so that a reader of a pipe sees each message when it comes.
  void Out(absl::string_view text);
  // For people: one line on stderr, with a glyph.
  void Note(Glyph glyph, Tone tone, absl::string_view text);
  void Warn(absl::string_view text) { Note(Glyph::kWarning, Tone::kWaiting, text); }

  // A message in the chosen format: `table` and `names` for -o table, wide and name, else JSON or YAML.
  void Print(const google::protobuf::Message& message, absl::string_view name,
             absl::FunctionRef<std::string()> table);
  // A list: -o json and yaml show `response`, jsonl and name one line for each of `items`.
  template <typename Item>
  void PrintList(const google::protobuf::Message& response, const std::vector<Item>& items,
                 absl::FunctionRef<std::string(const Item&)> name, absl::FunctionRef<std::string()> table,
                 absl::string_view if_empty);

  // Says what went wrong and what to do about it; the exit code that goes with it.
  ExitCode Fail(const absl::Status& status, absl::string_view hint = "");
  ExitCode UsageError(absl::string_view message, absl::string_view hint = "");

  // Asks the user to type `name` after saying what will happen. kOk to go on: also when --yes was given.
  // Without a terminal to ask on, kUsage with what to pass instead; kError when something else was typed.
  ExitCode Confirm(absl::string_view consequence, absl::string_view name);
  // The same where --yes does not suffice; `instead` is the flag that does.
  ExitCode Ask(absl::string_view consequence, absl::string_view name, absl::string_view instead);

 private:
  const Settings settings_;
  const Streams& streams_;
  const Style out_style_;
  const Style err_style_;
  Connection connection_;
  Prng prng_;
};

// For errors before there is a session.
void PrintError(const Streams& streams, const Style& style, absl::string_view message,
                absl::string_view hint);

template <typename Item>
void Session::PrintList(const google::protobuf::Message& response, const std::vector<Item>& items,
                        absl::FunctionRef<std::string(const Item&)> name,
                        absl::FunctionRef<std::string()> table, absl::string_view if_empty) {
  if (settings_.output == OutputFormat::kJsonl) {
    for (const Item& item : items) Out(ToJson(item, /*pretty=*/false));
  } else if (settings_.output == OutputFormat::kName) {
    for (const Item& item : items) Out(name(item) + "\n");
  } else if (items.empty() && ForPeople(settings_.output)) {
    Note(Glyph::kAhead, Tone::kFaint, if_empty);
  } else {
    Print(response, "", table);
  }
}

}  // namespace lockstep::cli
