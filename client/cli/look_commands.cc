// get, wait, route explain, mismatch list, server health.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/condition.h"
#include "client/cli/text.h"
#include "core/domain/migration.h"

namespace lockstep::cli {
namespace {

using Migrations = v1::MigrationService::Stub;

CLI::App* AddGroup(CLI::App* root, const std::string& name, const std::string& help) {
  CLI::App* group = root->add_subcommand(name, help)->group("Looking closer");
  group->require_subcommand(1);
  return group;
}

void AddName(CLI::App* command, std::string* name) {
  command->add_option("name", *name, "Migration: id, ns/id or full name")->required()->type_name("NAME");
}

ExitCode Get(Session& session, const std::string& name) {
  v1::GetMigrationRequest request;
  request.set_name(name);
  const auto migration = session.connection().Call(&Migrations::GetMigration, request);
  if (!migration.ok()) return session.Fail(migration.status());
  std::vector<v1::Instance> instances;
  if (ForPeople(session.settings().output)) {
    auto fetched = FetchInstances(session, name);
    if (!fetched.ok()) return session.Fail(fetched.status());
    instances = *std::move(fetched);
  }
  session.Print(*migration, migration->name(),
                [&] { return RenderMigration(*migration, instances, session.render_options()); });
  return ExitCode::kOk;
}

void SayReconnecting(Session& session, const absl::Status& status) {
  session.Note(Glyph::kWaiting, Tone::kWaiting, absl::StrCat("trying again: ", status.message()));
}

// On a terminal the view is redrawn, elsewhere each change is a line of JSON.
ExitCode WatchAndShow(Session& session, const std::string& name) {
  const bool redraw = session.streams().out_is_terminal && ForPeople(session.settings().output);
  absl::Status failed;
  const absl::Status status = session.connection().Watch(
      name, absl::InfiniteFuture(),
      [&](const v1::Migration& migration) {
        if (!redraw) {
          session.Out(session.settings().output == OutputFormat::kName ? migration.name() + "\n"
                                                                       : ToJson(migration, /*pretty=*/false));
          return true;
        }
        const auto instances = FetchInstances(session, name);
        if (!instances.ok()) failed = instances.status();
        if (!instances.ok() && !absl::IsUnavailable(failed)) return false;
        // Home, then clear to the end: the screen's history stays.
        session.Out(absl::StrCat("\x1b[H\x1b[J",
                                 RenderMigration(migration, instances.value_or(std::vector<v1::Instance>()),
                                                 session.render_options())));
        return true;
      },
      [&](const absl::Status& why) { SayReconnecting(session, why); });
  return session.Fail(status.ok() ? failed : status);
}

struct WaitArgs {
  std::string name;
  std::string condition;
  std::string timeout;
};

ExitCode Wait(Session& session, const WaitArgs& args) {
  const auto name = ResolveMigrationName(session.settings(), args.name);
  if (!name.ok()) return session.UsageError(name.status().message());
  const auto condition = ParseCondition(args.condition);
  if (!condition.ok()) return session.UsageError(absl::StrCat("--for: ", condition.status().message()));
  absl::Time deadline = absl::InfiniteFuture();
  if (!args.timeout.empty()) {
    const auto timeout = ParseDuration(args.timeout);
    if (!timeout.ok()) return session.UsageError(absl::StrCat("--timeout: ", timeout.status().message()));
    deadline = absl::Now() + *timeout;
  }
  v1::Migration last;
  Progress progress = Progress::kNotYet;
  const absl::Status status = session.connection().Watch(
      *name, deadline,
      [&](const v1::Migration& migration) {
        last = migration;
        progress = Judge(*condition, migration);
        return progress == Progress::kNotYet;
      },
      [&](const absl::Status& why) { SayReconnecting(session, why); });
  const std::string short_name = domain::ShortMigrationName(*name);
  const std::string where =
      last.name().empty()
          ? absl::StrCat(session.settings().address, " has not answered")
          : absl::StrCat(short_name, " is ", EnumName(*v1::RunState_descriptor(), last.run_state()), " at ",
                         DescribeRouting(last.routing()));
  if (absl::IsDeadlineExceeded(status)) {
    PrintError(session.streams(), session.err_style(),
               absl::StrCat("waited ", args.timeout, " for ", args.condition, ", and ", where),
               absl::StrCat("`lockstep get ", short_name, "` says what it waits for"));
    return ExitCode::kUnavailable;
  }
  if (!status.ok()) return session.Fail(status);
  session.Print(last, last.name(), [&] { return RenderMigrations({last}, session.render_options()); });
  if (progress == Progress::kReached) return ExitCode::kOk;
  PrintError(
      session.streams(), session.err_style(),
      absl::StrCat(args.condition, " will not come: ", where, last.run_state_reason().empty() ? "" : ": ",
                   last.run_state_reason()),
      absl::StrCat("`lockstep migration history ", short_name, "` says why; `lockstep resume` goes on"));
  return ExitCode::kRolledBack;
}

void AddWait(CLI::App* root, Action* action) {
  CLI::App* command =
      root->add_subcommand("wait", "Wait until a migration has come somewhere")->group("Looking closer");
  const auto args = std::make_shared<WaitArgs>();
  AddName(command, &args->name);
  command->add_option("--for", args->condition, kConditionHelp)->required()->type_name("CONDITION");
  command->add_option("--timeout", args->timeout, "Give up after this long, with exit code 6; default: never")
      ->type_name("DURATION");
  command->callback([=] { *action = [=](Session& session) { return Wait(session, *args); }; });
}

struct RouteArgs {
  std::string name;
  std::string key;
  std::vector<std::string> attributes;
};

ExitCode ExplainRoute(Session& session, const RouteArgs& args) {
  const auto name = ResolveMigrationName(session.settings(), args.name);
  if (!name.ok()) return session.UsageError(name.status().message());
  if (args.key.empty()) return session.UsageError("--key is empty: a routing key has at least one byte");
  v1::RouteRequest request;
  request.set_migration(*name);
  request.set_key(args.key);
  request.set_explain_only(true);
  for (const std::string& attribute : args.attributes) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(attribute, absl::MaxSplits('=', 1));
    if (parts.first.empty() || !absl::StrContains(attribute, '=')) {
      return session.UsageError(absl::StrCat("--attr: \"", attribute, "\" is not of the form name=value"));
    }
    if (!request.mutable_attributes()->insert({parts.first, parts.second}).second) {
      return session.UsageError(absl::StrCat("--attr: \"", parts.first, "\" is given twice"));
    }
  }
  const auto response = session.connection().Call(&v1::RoutingService::Stub::Route, request);
  if (!response.ok()) return session.Fail(response.status());
  session.Print(*response, *name,
                [&] { return RenderRoute(*name, args.key, *response, session.render_options()); });
  return ExitCode::kOk;
}

void AddRoute(CLI::App* root, Action* action) {
  CLI::App* group = AddGroup(root, "route", "Ask for routing decisions");
  CLI::App* command =
      group->add_subcommand("explain", "Which side a key is read from and written to, and why");
  const auto args = std::make_shared<RouteArgs>();
  AddName(command, &args->name);
  command->add_option("--key", args->key, "The routing key")->required()->type_name("KEY");
  command->add_option("--attr", args->attributes, "An attribute of the request; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command->callback([=] { *action = [=](Session& session) { return ExplainRoute(session, *args); }; });
}

ExitCode ListMismatches(Session& session, const std::string& text, size_t limit) {
  const auto name = ResolveMigrationName(session.settings(), text);
  if (!name.ok()) return session.UsageError(name.status().message());
  const auto samples = FetchAll<v1::MismatchSample, v1::ListMismatchSamplesResponse>(
      [&](const std::string& page_token) {
        v1::ListMismatchSamplesRequest request;
        request.set_parent(*name);
        request.set_page_token(page_token);
        return session.connection().Call(&Migrations::ListMismatchSamples, request);
      },
      [](const v1::ListMismatchSamplesResponse& response) -> const auto& { return response.samples(); },
      limit);
  if (!samples.ok()) return session.Fail(samples.status());
  v1::ListMismatchSamplesResponse all;
  all.mutable_samples()->Assign(samples->begin(), samples->end());
  session.PrintList<v1::MismatchSample>(
      all, *samples, [](const v1::MismatchSample& sample) { return sample.key_digest(); },
      [&] { return RenderMismatches(*samples, session.render_options()); },
      "no mismatch samples in this generation");
  return ExitCode::kOk;
}

void AddMismatch(CLI::App* root, Action* action) {
  CLI::App* group = AddGroup(root, "mismatch", "Records that differ between the sides");
  CLI::App* command =
      group->add_subcommand("list", "Samples of mismatches, newest first, without raw values");
  const auto name = std::make_shared<std::string>();
  const auto limit = std::make_shared<size_t>(100);
  AddName(command, name.get());
  command->add_option("--limit", *limit, "At most this many; default 100")->type_name("N");
  command->callback(
      [=] { *action = [=](Session& session) { return ListMismatches(session, *name, *limit); }; });
}

ExitCode ServerHealth(Session& session, const std::string& wait) {
  std::optional<absl::Duration> wait_for_server;
  if (!wait.empty()) {
    const auto duration = ParseDuration(wait);
    if (!duration.ok()) return session.UsageError(absl::StrCat("--wait: ", duration.status().message()));
    wait_for_server = *duration;
  }
  const auto health = session.connection().Call(&grpc::health::v1::Health::Stub::Check,
                                                grpc::health::v1::HealthCheckRequest(), wait_for_server);
  if (!health.ok()) {
    if (wait_for_server && absl::IsDeadlineExceeded(health.status())) {
      return session.Fail(absl::UnavailableError(
          absl::StrCat("no server at ", session.settings().address, " within ", wait)));
    }
    return session.Fail(health.status());
  }
  const bool serving = health->status() == grpc::health::v1::HealthCheckResponse::SERVING;
  const std::string status = grpc::health::v1::HealthCheckResponse::ServingStatus_Name(health->status());
  session.Print(*health, session.settings().address, [&] {
    const RenderOptions options = session.render_options();
    return absl::StrCat(
        Paint(options.style, serving ? Tone::kGood : Tone::kBad,
              absl::StrCat(GlyphText(options.style, serving ? Glyph::kDone : Glyph::kFailed), " ", status)),
        "  ", session.settings().address, "\n");
  });
  return serving ? ExitCode::kOk : ExitCode::kUnavailable;
}

void AddServer(CLI::App* root, Action* action) {
  CLI::App* group = AddGroup(root, "server", "The control plane itself");
  CLI::App* command = group->add_subcommand("health", "Whether the server serves; exit code 6 if not");
  const auto wait = std::make_shared<std::string>();
  command->add_option("--wait", *wait, "Wait this long for a server that is starting")->type_name("DURATION");
  command->callback([=] { *action = [=](Session& session) { return ServerHealth(session, *wait); }; });
}

}  // namespace

void AddGetCommand(CLI::App* parent, Action* action) {
  CLI::App* command = parent->add_subcommand("get", "A migration: plan, gate, checks, instances");
  struct Args {
    std::string name;
    bool watch = false;
  };
  const auto args = std::make_shared<Args>();
  AddName(command, &args->name);
  command->add_flag("-w,--watch", args->watch,
                    "Show every change until interrupted; JSON lines if not on a terminal");
  command->callback([=] {
    *action = [=](Session& session) {
      const auto name = ResolveMigrationName(session.settings(), args->name);
      if (!name.ok()) return session.UsageError(name.status().message());
      return args->watch ? WatchAndShow(session, *name) : Get(session, *name);
    };
  });
}

void AddLookCommands(CLI::App* root, Action* action) {
  AddGetCommand(root, action);
  root->get_subcommand("get")->group("Looking closer");
  AddWait(root, action);
  AddRoute(root, action);
  AddMismatch(root, action);
  AddServer(root, action);
}

}  // namespace lockstep::cli
