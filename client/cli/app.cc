#include "client/cli/app.h"

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/completion.h"
#include "client/cli/session.h"
#include "client/cli/text.h"

namespace lockstep::cli {
namespace {

constexpr char kFooter[] =
    "Options may stand before or after the command. Every one but --yes can come from a LOCKSTEP_* "
    "variable;\n"
    "address and namespace also from ~/.config/lockstep/config.yaml.\n"
    "Exit codes: 0 ok, 1 error, 2 usage, 3 gate holds, 4 rolled back, 5 etag conflict, 6 unavailable or "
    "timeout,\n"
    "7 denied, 130 interrupted.";

void AddGlobalFlags(CLI::App* root, GlobalFlags* flags) {
  root->add_option("--address", flags->address, "Server; default 127.0.0.1:7420")->type_name("HOST:PORT");
  root->add_option("-n,--namespace", flags->ns, "Namespace of names without one; default \"default\"")
      ->type_name("NS");
  root->add_option("-o,--output", flags->output, "Format of stdout; default table")
      ->type_name(kOutputFormats);
  root->add_option("--color", flags->color, "Colour; default auto")->type_name("auto|always|never");
  root->add_option("--timeout", flags->timeout, "Deadline of each call; default 10s")->type_name("DURATION");
  root->add_option("--config", flags->config, "Context file")->type_name("FILE");
  root->add_flag("--yes", flags->yes, "Confirm what would be asked");
  root->add_flag("--no-input", flags->no_input, "Never ask; what needs a confirmation fails");
}

// These need neither settings nor a server.
struct LocalCommands {
  bool version = false;
  std::string completion_shell;
};

void AddLocalCommands(CLI::App* root, LocalCommands* local) {
  CLI::App* completion =
      root->add_subcommand("completion", "Shell completion: eval \"$(lockstep completion bash)\"")
          ->group("This command");
  completion->add_option("shell", local->completion_shell, "Which shell")
      ->required()
      ->type_name("bash|zsh|fish")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  CLI::App* version = root->add_subcommand("version", "Version of this command")->group("This command");
  version->callback([local] { local->version = true; });
}

// Where the command line left the tree.
struct Position {
  const CLI::App* app;
  std::string path;     // "lockstep migration"
  std::string unknown;  // the word that is no subcommand of `app`, or no option; empty if there is none
};

const CLI::Option* FindOption(const CLI::App* app, const std::string& name) {
  for (; app != nullptr; app = app->get_parent()) {
    if (const CLI::Option* option = app->get_option_no_throw(name)) return option;
  }
  return nullptr;
}

Position Locate(const CLI::App& root, const std::vector<std::string>& words) {
  Position position{&root, root.get_name(), ""};
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() > 1 && word[0] == '-') {
      const std::string name = word.substr(0, word.find('='));
      const CLI::Option* option = FindOption(position.app, name);
      if (option == nullptr && absl::StartsWith(name, "--")) {
        position.unknown = name;
        return position;
      }
      if (option != nullptr && option->get_items_expected_max() > 0 && !absl::StrContains(word, '=')) ++i;
      continue;
    }
    if (position.app->get_subcommands([](const CLI::App*) { return true; }).empty()) continue;
    const CLI::App* next = nullptr;
    for (const CLI::App* sub : position.app->get_subcommands([](const CLI::App*) { return true; })) {
      if (sub->get_name() == word) next = sub;
    }
    if (next == nullptr) {
      position.unknown = word;
      return position;
    }
    position.app = next;
    absl::StrAppend(&position.path, " ", word);
  }
  return position;
}

std::vector<std::string> KnownWords(const CLI::App* app, bool options) {
  std::vector<std::string> words;
  if (!options) {
    for (const CLI::App* sub : app->get_subcommands([](const CLI::App*) { return true; }))
      words.push_back(sub->get_name());
    return words;
  }
  for (; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
    }
  }
  return words;
}

ExitCode UsageError(const CLI::App& root, const std::vector<std::string>& words, const CLI::ParseError& error,
                    const Streams& streams) {
  const Style style = StyleFor(streams, streams.err_is_terminal, ColorMode::kAuto);
  const Position at = Locate(root, words);
  const std::string help = absl::StrCat("`", at.path, " --help` shows what there is");
  if (at.unknown.empty()) {
    const bool incomplete = !at.app->get_subcommands([](const CLI::App*) { return true; }).empty();
    PrintError(streams, style,
               incomplete ? absl::StrCat(at.path, " needs a subcommand: ",
                                         absl::StrJoin(KnownWords(at.app, /*options=*/false), ", "))
                          : std::string(error.what()),
               help);
    return ExitCode::kUsage;
  }
  const bool option = at.unknown[0] == '-';
  const std::string nearest = Nearest(at.unknown, KnownWords(at.app, option));
  PrintError(streams, style,
             absl::StrCat(option ? "unknown option " : "unknown command ", at.unknown,
                          option ? " of " : " after ", at.path),
             nearest.empty() ? help : absl::StrCat("did you mean ", nearest, "?"));
  return ExitCode::kUsage;
}

}  // namespace

ExitCode Run(int argc, const char* const* argv, const Streams& streams) {
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  CLI::App root("Moves live data from an old schema or store to a new one, step by step.", "lockstep");
  root.require_subcommand(1);
  root.fallthrough();
  root.footer(kFooter);
  GlobalFlags flags;
  LocalCommands local;
  Action action;
  AddGlobalFlags(&root, &flags);
  AddMigrationCommands(&root, &action);
  AddChangeCommands(&root, &action);
  AddLookCommands(&root, &action);
  AddFleetCommands(&root, &action);
  AddGateCommands(&root, &action);
  AddLocalCommands(&root, &local);
  try {
    // CLI11 takes the words in reverse order.
    root.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::CallForHelp&) {
    streams.out << root.help() << std::flush;
    return ExitCode::kOk;
  } catch (const CLI::ParseError& error) {
    return UsageError(root, words, error, streams);
  }
  if (local.version) {
    streams.out << "lockstep " << LOCKSTEP_VERSION << std::endl;
    return ExitCode::kOk;
  }
  if (!local.completion_shell.empty()) {
    streams.out << CompletionScript(root, local.completion_shell) << std::flush;
    return ExitCode::kOk;
  }
  const auto settings = ResolveSettings(flags, streams);
  if (!settings.ok()) {
    PrintError(streams, StyleFor(streams, streams.err_is_terminal, ColorMode::kAuto),
               settings.status().message(), "");
    return ExitCode::kUsage;
  }
  Session session(*settings, streams);
  return action(session);
}

}  // namespace lockstep::cli
