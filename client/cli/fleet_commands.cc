// instance list, instance evict, drill rollback.
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/render_fleet.h"
#include "client/cli/text.h"
#include "core/domain/migration.h"
#include "google/protobuf/struct.pb.h"

namespace lockstep::cli {
namespace {

using Migrations = v1::MigrationService::Stub;

constexpr absl::Duration kDrillTimeout = absl::Seconds(30);
constexpr absl::Duration kDrillPoll = absl::Milliseconds(100);

ExitCode ListInstances(Session& session, const std::string& text) {
  const auto name = ResolveMigrationName(session.settings(), text);
  if (!name.ok()) return session.UsageError(name.status().message());
  const auto instances = FetchInstances(session, *name);
  if (!instances.ok()) return session.Fail(instances.status());
  v1::ListInstancesResponse all;
  all.mutable_instances()->Assign(instances->begin(), instances->end());
  session.PrintList<v1::Instance>(
      all, *instances, [](const v1::Instance& instance) { return instance.instance_id(); },
      [&] { return RenderInstances(*instances, session.render_options()); }, "no instance is enrolled");
  return ExitCode::kOk;
}

struct EvictArgs {
  std::string name;
  std::string instance_id;
  std::string reason;
  std::string if_match;
  bool dry_run = false;
};

// Says what an eviction risks, or that it risks nothing.
void ReportRisks(Session& session, const EvictArgs& args, const v1::EvictInstanceResponse& checked) {
  for (const std::string& risk : checked.risks()) session.Warn(risk);
  if (checked.risks().empty()) {
    session.Note(Glyph::kDone, Tone::kGood,
                 absl::StrCat("nothing is at risk at present if ", args.instance_id, " is still there"));
  }
}

ExitCode Evict(Session& session, const EvictArgs& args) {
  const auto name = ResolveMigrationName(session.settings(), args.name);
  if (!name.ok()) return session.UsageError(name.status().message());
  if (args.reason.empty()) {
    return session.UsageError("instance evict needs --reason: it is written into the decision record");
  }
  v1::EvictInstanceRequest request;
  request.set_name(*name);
  request.set_instance_id(args.instance_id);
  request.mutable_change()->set_reason(args.reason);
  request.mutable_change()->set_etag(args.if_match);
  request.mutable_change()->set_validate_only(true);
  // Asked first, so that whoever confirms knows what is being risked.
  const auto checked = session.connection().Call(&Migrations::EvictInstance, request);
  const std::string short_name = domain::ShortMigrationName(*name);
  if (!checked.ok()) {
    return session.Fail(checked.status(),
                        absl::IsNotFound(checked.status())
                            ? absl::StrCat("`lockstep instance list ", short_name, "` shows who is enrolled")
                            : "");
  }
  ReportRisks(session, args, *checked);
  const auto print = [&](const v1::EvictInstanceResponse& response) {
    session.Print(response, args.instance_id,
                  [&] { return RenderInstances({response.instance()}, session.render_options()); });
  };
  if (args.dry_run) {
    session.Note(
        Glyph::kDone, Tone::kGood,
        absl::StrCat("instance evict ", args.instance_id, ": would be granted; nothing was changed"));
    print(*checked);
    return ExitCode::kOk;
  }
  const ExitCode confirmed =
      session.Confirm(absl::StrCat("fences of ", short_name, " will no longer wait for ", args.instance_id,
                                   ", on your word that it is gone"),
                      args.instance_id);
  if (confirmed != ExitCode::kOk) return confirmed;
  request.mutable_change()->set_validate_only(false);
  request.mutable_change()->set_request_id(session.NewRequestId());
  const auto evicted = session.connection().Call(&Migrations::EvictInstance, request);
  if (!evicted.ok()) return session.Fail(evicted.status());
  session.Note(Glyph::kDone, Tone::kGood, absl::StrCat("evicted ", args.instance_id, " from ", short_name));
  print(*evicted);
  return ExitCode::kOk;
}

struct DrillArgs {
  std::string name;
  std::string reason;
  std::string timeout;
  bool dry_run = false;
};

google::protobuf::Struct DrillJson(const DrillReport& report) {
  google::protobuf::Struct json;
  auto& fields = *json.mutable_fields();
  fields["migration"].set_string_value(report.migration);
  fields["epoch"].set_number_value(static_cast<double>(report.epoch));
  fields["enrolled"].set_number_value(static_cast<double>(report.enrolled));
  fields["following"].set_number_value(static_cast<double>(report.following));
  for (const auto& [key, share] : {std::pair{"p50Ms", 0.5}, {"p99Ms", 0.99}, {"maxMs", 1.0}}) {
    if (report.delays.empty()) {
      fields[key].set_null_value(google::protobuf::NULL_VALUE);
    } else {
      fields[key].set_number_value(absl::ToDoubleMilliseconds(DelayQuantile(report.delays, share)));
    }
  }
  auto* missing = fields["missing"].mutable_list_value();
  for (const v1::Instance& instance : report.missing) {
    missing->add_values()->set_string_value(instance.instance_id());
  }
  return json;
}

ExitCode Drill(Session& session, const DrillArgs& args) {
  const auto name = ResolveMigrationName(session.settings(), args.name);
  if (!name.ok()) return session.UsageError(name.status().message());
  absl::Duration timeout = kDrillTimeout;
  if (!args.timeout.empty()) {
    const auto given = ParseDuration(args.timeout);
    if (!given.ok()) return session.UsageError(absl::StrCat("--timeout: ", given.status().message()));
    timeout = *given;
  }
  const std::string short_name = domain::ShortMigrationName(*name);
  v1::DrillRollbackRequest request;
  request.set_name(*name);
  request.mutable_change()->set_request_id(session.NewRequestId());
  request.mutable_change()->set_reason(args.reason);
  request.mutable_change()->set_validate_only(args.dry_run);
  const absl::Time deadline = absl::Now() + timeout;
  const auto drill = session.connection().Call(&Migrations::DrillRollback, request);
  if (!drill.ok()) return session.Fail(drill.status());
  if (args.dry_run) {
    session.Note(Glyph::kDone, Tone::kGood,
                 absl::StrCat("drill rollback ", short_name, ": would be granted; nothing was published"));
    return ExitCode::kOk;
  }
  const uint64_t epoch = drill->migration().routing().epoch();
  DrillReport report;
  while (true) {
    const auto instances = FetchInstances(session, *name);
    if (!instances.ok()) return session.Fail(instances.status());
    report = JudgeDrill(short_name, epoch, *instances);
    if (report.missing.empty() || absl::Now() >= deadline) break;
    absl::SleepFor(kDrillPoll);
  }
  session.Print(DrillJson(report), short_name, [&] { return RenderDrill(report, session.render_options()); });
  if (report.missing.empty()) return ExitCode::kOk;
  PrintError(session.streams(), session.err_style(),
             absl::StrCat(report.missing.size(), " of ", report.enrolled, " instances did not follow within ",
                          ShortDuration(timeout)),
             absl::StrCat("a rollback would not have reached them either; `lockstep instance list ",
                          short_name, "` says where they are"));
  return ExitCode::kError;
}

void AddName(CLI::App* command, std::string* name) {
  command->add_option("name", *name, "Migration: id, ns/id or full name")->required()->type_name("NAME");
}

void AddInstance(CLI::App* root, Action* action) {
  CLI::App* group =
      root->add_subcommand("instance", "The service processes that take part")->group("Looking closer");
  group->require_subcommand(1);
  CLI::App* list = group->add_subcommand("list", "Enrolled instances with epoch, lag, lease and pins");
  const auto name = std::make_shared<std::string>();
  AddName(list, name.get());
  list->callback([=] { *action = [=](Session& session) { return ListInstances(session, *name); }; });

  CLI::App* evict = group->add_subcommand(
      "evict", "Declare an instance gone, so that fences no longer wait for it; says what that risks");
  const auto args = std::make_shared<EvictArgs>();
  AddName(evict, &args->name);
  evict->add_option("instance", args->instance_id, "Its id, as `instance list` shows it")
      ->required()
      ->type_name("ID");
  evict->add_option("--reason", args->reason, "Why, for the decision record; required")->type_name("TEXT");
  evict->add_option("--if-match", args->if_match, "Only if the migration still has this etag")
      ->type_name("ETAG");
  evict->add_flag("--dry-run", args->dry_run, "Say what it risks, change nothing");
  evict->callback([=] { *action = [=](Session& session) { return Evict(session, *args); }; });
}

void AddDrill(CLI::App* root, Action* action) {
  CLI::App* group = root->add_subcommand("drill", "Rehearse on the live fleet")->group("Moving a migration");
  group->require_subcommand(1);
  CLI::App* command = group->add_subcommand(
      "rollback", "How long until every instance follows: publishes the same routing once more");
  const auto args = std::make_shared<DrillArgs>();
  AddName(command, &args->name);
  command->add_option("--reason", args->reason, "Why, for the decision record")->type_name("TEXT");
  command->add_option("--timeout", args->timeout, "Wait this long for the last one; default 30s")
      ->type_name("DURATION");
  command->add_flag("--dry-run", args->dry_run, "Run every check, publish nothing");
  command->callback([=] { *action = [=](Session& session) { return Drill(session, *args); }; });
}

}  // namespace

absl::StatusOr<std::vector<v1::Instance>> FetchInstances(Session& session, const std::string& migration) {
  return FetchAll<v1::Instance, v1::ListInstancesResponse>(
      [&](const std::string& page_token) {
        v1::ListInstancesRequest request;
        request.set_parent(migration);
        request.set_page_token(page_token);
        request.set_page_size(1000);  // the most that a server gives
        return session.connection().Call(&Migrations::ListInstances, request);
      },
      [](const v1::ListInstancesResponse& response) -> const auto& { return response.instances(); },
      std::numeric_limits<size_t>::max());
}

void AddFleetCommands(CLI::App* root, Action* action) {
  AddInstance(root, action);
  AddDrill(root, action);
}

}  // namespace lockstep::cli
