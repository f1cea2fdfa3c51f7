// start, advance, pause, resume, rollback, abort, set-weight.
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/render_fleet.h"
#include "client/cli/text.h"
#include "core/base/error_info.h"
#include "core/domain/migration.h"

namespace lockstep::cli {
namespace {

struct ChangeArgs {
  std::string name;
  std::string reason;
  std::string if_match;
  std::string weight;
  bool dry_run = false;
  bool override_gate = false;
  bool accept_no_way_back = false;
  bool accept_differences = false;
};

v1::StateChange MakeChange(Session& session, const ChangeArgs& args) {
  v1::StateChange change;
  change.set_etag(args.if_match);
  change.set_request_id(session.NewRequestId());
  change.set_validate_only(args.dry_run);
  change.set_reason(args.reason);
  return change;
}

// What the server answered, in words on stderr and as data on stdout.
void Report(Session& session, absl::string_view command, bool dry_run, const v1::Migration& migration) {
  const std::string name = domain::ShortMigrationName(migration.name());
  const std::string state = EnumName(*v1::RunState_descriptor(), migration.run_state());
  if (dry_run) {
    session.Note(Glyph::kDone, Tone::kGood,
                 absl::StrCat(command, " ", name, ": would be granted; nothing was changed"));
  } else {
    session.Note(Glyph::kDone, Tone::kGood,
                 absl::StrCat(command, " ", name, ": ", state, " at ", DescribeRouting(migration.routing()),
                              ", epoch ", migration.routing().epoch()));
  }
  if (migration.has_pending_routing()) {
    const uint32_t waiting_for = WaitingForCount(migration);
    session.Note(Glyph::kWaiting, Tone::kWaiting,
                 absl::StrCat("on the way to ", DescribeRouting(migration.pending_routing()),
                              waiting_for == 0   ? ""
                              : waiting_for == 1 ? ", waits for 1 instance"
                                                 : absl::StrCat(", waits for ", waiting_for, " instances")));
    for (const FenceWaitGroup& group : GroupFenceWaits(migration)) {
      session.Note(Glyph::kWaiting, Tone::kWaiting,
                   absl::StrCat(DescribeWaitedFor(group), ": ", group.reason,
                                group.unblock.empty() ? "" : "; ", group.unblock));
    }
  }
  session.Print(migration, migration.name(),
                [&] { return RenderMigrations({migration}, session.render_options()); });
}

template <typename Request>
ExitCode Send(Session& session, const ChangeArgs& args, absl::string_view command, const std::string& name,
              Request request,
              grpc::Status (v1::MigrationService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                 v1::Migration*),
              absl::Status* refusal = nullptr) {
  request.set_name(name);
  *request.mutable_change() = MakeChange(session, args);
  const auto migration = session.connection().Call(method, request);
  if (!migration.ok()) {
    if (refusal != nullptr) *refusal = migration.status();
    return refusal != nullptr ? ExitCodeOf(migration.status()) : session.Fail(migration.status());
  }
  Report(session, command, args.dry_run, *migration);
  return ExitCode::kOk;
}

// `consequence`: asked about before the call; empty = the call is harmless, or must not be held up.
template <typename Request>
ExitCode Change(Session& session, const ChangeArgs& args, absl::string_view command, Request request,
                absl::string_view consequence,
                grpc::Status (v1::MigrationService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                   v1::Migration*)) {
  const auto name = ResolveMigrationName(session.settings(), args.name);
  if (!name.ok()) return session.UsageError(name.status().message());
  const std::string short_name = domain::ShortMigrationName(*name);
  if (!consequence.empty() && !args.dry_run) {
    const ExitCode confirmed =
        session.Confirm(absl::StrCat(command, " ", short_name, " ", consequence), short_name);
    if (confirmed != ExitCode::kOk) return confirmed;
  }
  return Send(session, args, command, *name, request, method);
}

constexpr absl::string_view kOverrideConsequence = "goes on although the gate may hold, on your word alone";

ExitCode NeedsReason(Session& session) {
  return session.UsageError("--override needs --reason: it is written into the decision record");
}

std::shared_ptr<ChangeArgs> AddChangeArgs(CLI::App* command) {
  auto args = std::make_shared<ChangeArgs>();
  command->add_option("name", args->name, "Migration: id, ns/id or full name")->required()->type_name("NAME");
  command->add_option("--reason", args->reason, "Why, for the decision record")->type_name("TEXT");
  command->add_option("--if-match", args->if_match, "Only if the migration still has this etag")
      ->type_name("ETAG");
  command->add_flag("--dry-run", args->dry_run, "Run every check, change nothing");
  return args;
}

void AddOverride(CLI::App* command, const std::shared_ptr<ChangeArgs>& args) {
  command->add_flag("--override", args->override_gate, "Go on although the gate holds; needs --reason");
}

// A command whose request has nothing but name and change.
template <typename Request>
void AddPlainCommand(CLI::App* root, Action* action, const std::string& name, const std::string& help,
                     const std::string& consequence,
                     grpc::Status (v1::MigrationService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                        v1::Migration*)) {
  CLI::App* command = root->add_subcommand(name, help)->group("Moving a migration");
  const auto args = AddChangeArgs(command);
  command->callback([=] {
    *action = [=](Session& session) { return Change(session, *args, name, Request(), consequence, method); };
  });
}

bool IsPointOfNoReturn(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  return info.has_value() && info->reason == "POINT_OF_NO_RETURN";
}

// Whether the next step is the one without a way back is for the server to know: it refuses, and then this
// asks.
// --yes is not enough, because scripts give it for everything.
ExitCode Advance(Session& session, const ChangeArgs& args) {
  if (args.override_gate && args.reason.empty()) return NeedsReason(session);
  const auto name = ResolveMigrationName(session.settings(), args.name);
  if (!name.ok()) return session.UsageError(name.status().message());
  const std::string short_name = domain::ShortMigrationName(*name);
  if (args.override_gate && !args.dry_run) {
    const ExitCode confirmed =
        session.Confirm(absl::StrCat("advance ", short_name, " ", kOverrideConsequence), short_name);
    if (confirmed != ExitCode::kOk) return confirmed;
  }
  const auto method = &v1::MigrationService::Stub::AdvanceMigration;
  v1::AdvanceMigrationRequest request;
  request.set_override_gate(args.override_gate);
  request.set_accept_no_way_back(args.accept_no_way_back);
  absl::Status refusal;
  const ExitCode answer = Send(session, args, "advance", *name, request, method, &refusal);
  if (refusal.ok()) return answer;
  if (!IsPointOfNoReturn(refusal) || args.dry_run) return session.Fail(refusal);
  const ExitCode accepted = session.Ask(
      absl::StrCat(
          "advance ", short_name,
          " ends the way back: from NEW_ONLY on the old side gets no more writes, so neither rollback nor "
          "abort can return to it; what is written from then on would be lost there"),
      short_name, "--accept-no-way-back");
  if (accepted != ExitCode::kOk) return accepted;
  request.set_accept_no_way_back(true);
  return Send(session, args, "advance", *name, request, method);
}

void AddAdvance(CLI::App* root, Action* action) {
  CLI::App* command =
      root->add_subcommand("advance", "Go to the next step of the plan; asks before the point of no return")
          ->group("Moving a migration");
  const auto args = AddChangeArgs(command);
  AddOverride(command, args);
  command->add_flag("--accept-no-way-back", args->accept_no_way_back,
                    "Take the step into NEW_ONLY without being asked: from there on there is no way back");
  command->callback([=] { *action = [=](Session& session) { return Advance(session, *args); }; });
}

// What accepting differences puts at risk, on stderr.
void TellWhatDiffers(Session& session, const std::string& name) {
  v1::GetMigrationRequest request;
  request.set_name(name);
  const auto migration = session.connection().Call(&v1::MigrationService::Stub::GetMigration, request);
  if (!migration.ok()) return;  // the rollback itself will say what is wrong
  const uint32_t known = migration->differing_records();
  const std::string count = known == 0   ? "no record is known to differ, but some may"
                            : known == 1 ? "1 record, at least, differs"
                                         : absl::StrCat(known, " records, at least, differ");
  session.Warn(
      absl::StrCat("at risk: ", count,
                   "; the old side's row counts for them from there on, and what only new has of them "
                   "is not carried back"));
}

// Never asks: whoever rolls back is in a hurry, and it can be undone.
void AddRollback(CLI::App* root, Action* action) {
  CLI::App* command =
      root->add_subcommand("rollback", "To the stage below, from CUTOVER slice by slice; never asks")
          ->group("Moving a migration");
  const auto args = AddChangeArgs(command);
  command->add_flag("--accept-differences", args->accept_differences,
                    "Go back from CUTOVER although records differ; needs --reason");
  command->callback([=] {
    *action = [=](Session& session) {
      if (args->accept_differences && args->reason.empty()) {
        return session.UsageError(
            "--accept-differences needs --reason: it is written into the decision record");
      }
      const auto name = ResolveMigrationName(session.settings(), args->name);
      if (name.ok() && args->accept_differences) TellWhatDiffers(session, *name);
      v1::RollbackMigrationRequest request;
      request.set_accept_differences(args->accept_differences);
      return Change(session, *args, "rollback", request, "", &v1::MigrationService::Stub::RollbackMigration);
    };
  });
}

void AddSetWeight(CLI::App* root, Action* action) {
  CLI::App* command =
      root->add_subcommand("set-weight", "Set the share of reads served from new, within CANARY_READ")
          ->group("Moving a migration");
  const auto args = AddChangeArgs(command);
  command->add_option("weight", args->weight, "\"5%\", or a number of buckets of 0.001 %")
      ->required()
      ->type_name("WEIGHT");
  AddOverride(command, args);
  command->callback([=] {
    *action = [=](Session& session) {
      const auto weight = ParseWeight(args->weight);
      if (!weight.ok()) return session.UsageError(weight.status().message());
      if (args->override_gate && args->reason.empty()) return NeedsReason(session);
      if (*weight > 0 && *weight <= 100 && !absl::StrContains(args->weight, '%')) {
        session.Warn(
            absl::StrCat(*weight, " without a \"%\" counts buckets and means ", FormatWeight(*weight)));
      }
      v1::SetMigrationWeightRequest request;
      request.set_weight(*weight);
      request.set_override_gate(args->override_gate);
      return Change(session, *args, "set-weight", request, args->override_gate ? kOverrideConsequence : "",
                    &v1::MigrationService::Stub::SetMigrationWeight);
    };
  });
}

}  // namespace

void AddChangeCommands(CLI::App* root, Action* action) {
  using Stub = v1::MigrationService::Stub;
  AddPlainCommand(root, action, "start", "From OFF to the first step of the plan", "", &Stub::StartMigration);
  AddAdvance(root, action);
  AddPlainCommand(root, action, "pause", "Stay at this step; a rollback still happens", "",
                  &Stub::PauseMigration);
  AddPlainCommand(root, action, "resume", "Go on after a pause or a rollback", "", &Stub::ResumeMigration);
  AddRollback(root, action);
  AddPlainCommand(root, action, "abort", "To OFF; evidence and coverage are void",
                  "takes it to OFF, and its evidence and coverage are void", &Stub::AbortMigration);
  AddSetWeight(root, action);
}

}  // namespace lockstep::cli
