// migration create, apply, lint, list, get, delete, history.
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/definition.h"
#include "client/cli/input.h"
#include "client/cli/migration_file.h"
#include "client/cli/text.h"
#include "core/base/error_info.h"
#include "core/domain/migration.h"

namespace lockstep::cli {
namespace {

using Migrations = v1::MigrationService::Stub;

constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();

struct FileArgs {
  std::string file;
  std::string if_match;
  bool dry_run = false;
};

ExitCode RefuseFile(Session& session, const std::string& file, size_t errors) {
  PrintError(session.streams(), session.err_style(),
             absl::StrCat(NameOfFile(file), " has ", errors, errors == 1 ? " error" : " errors",
                          ": nothing was sent"),
             "");
  return ExitCode::kError;
}

// The file's documents; nothing after its errors have been printed, with the exit code in `*failed`.
std::optional<MigrationFile> LoadFile(Session& session, const std::string& file, ExitCode* failed) {
  const auto text = ReadFile(session, file);
  if (!text) {
    *failed = RefuseUnreadable(session, file, "YAML");
    return std::nullopt;
  }
  MigrationFile parsed = ParseMigrationFile(*text, session.settings().ns);
  if (parsed.ok()) return parsed;
  PrintDiagnostics(session, file, parsed.diagnostics);
  *failed = RefuseFile(session, file, CountErrors(parsed.diagnostics));
  return std::nullopt;
}

// What the server refuses is shown where it stands in the file.
ExitCode FailInFile(Session& session, const std::string& file, const MigrationDocument& document,
                    const absl::Status& status, absl::string_view hint = "") {
  const auto info = GetErrorInfo(status);
  if (!info.has_value() || info->field_violations.empty()) return session.Fail(status, hint);
  const auto diagnostics = LocateViolations(info->field_violations, document.source, Severity::kError);
  PrintDiagnostics(session, file, diagnostics);
  PrintError(session.streams(), session.err_style(),
             absl::StrCat("the server refused ", domain::ShortMigrationName(document.migration.name())),
             hint);
  return ExitCodeOf(status);
}

absl::StatusOr<v1::Migration> CallCreate(Session& session, const FileArgs& args,
                                         const v1::Migration& migration) {
  const auto id = domain::ParseMigrationName(migration.name());
  if (!id.ok()) return id.status();
  v1::CreateMigrationRequest request;
  request.set_parent(absl::StrCat("namespaces/", id->ns));
  request.set_migration_id(id->id);
  *request.mutable_migration() = migration;
  request.set_request_id(session.NewRequestId());
  request.set_validate_only(args.dry_run);
  return session.connection().Call(&Migrations::CreateMigration, request);
}

absl::StatusOr<v1::Migration> CallGet(Session& session, const std::string& name) {
  v1::GetMigrationRequest request;
  request.set_name(name);
  return session.connection().Call(&Migrations::GetMigration, request);
}

// "created demo/cities", or as data.
void ReportApplied(Session& session, absl::string_view what, bool dry_run, const v1::Migration& migration) {
  session.Print(migration, migration.name(), [&] {
    return absl::StrCat(what, " ", domain::ShortMigrationName(migration.name()), dry_run ? " (dry run)" : "",
                        "\n");
  });
}

ExitCode Create(Session& session, const FileArgs& args) {
  ExitCode failed = ExitCode::kError;
  const auto file = LoadFile(session, args.file, &failed);
  if (!file) return failed;
  PrintDiagnostics(session, args.file, file->diagnostics);
  for (const MigrationDocument& document : file->documents) {
    const auto created = CallCreate(session, args, document.migration);
    if (!created.ok()) {
      const char* hint =
          absl::IsAlreadyExists(created.status()) ? "`lockstep migration apply -f` updates it" : "";
      return FailInFile(session, args.file, document, created.status(), hint);
    }
    ReportApplied(session, "created", args.dry_run, *created);
  }
  return ExitCode::kOk;
}

ExitCode ApplyDocument(Session& session, const FileArgs& args, const MigrationDocument& document) {
  const auto current = CallGet(session, document.migration.name());
  if (absl::IsNotFound(current.status())) {
    const auto created = CallCreate(session, args, document.migration);
    if (!created.ok()) return FailInFile(session, args.file, document, created.status());
    ReportApplied(session, "created", args.dry_run, *created);
    return ExitCode::kOk;
  }
  if (!current.ok()) return session.Fail(current.status());
  const auto changes = CompareDefinitions(*current, document.migration);
  if (!changes.ok()) return FailInFile(session, args.file, document, changes.status());
  if (changes->empty()) {
    ReportApplied(session, "unchanged", args.dry_run, *current);
    return ExitCode::kOk;
  }
  v1::UpdateMigrationRequest request;
  *request.mutable_migration() = document.migration;
  // Without an etag of the user's, the one just read: what is shown as the change is what changes.
  request.mutable_migration()->set_etag(args.if_match.empty() ? current->etag() : args.if_match);
  for (const DefinitionChange& change : *changes) {
    request.mutable_update_mask()->add_paths(change.field);
    session.streams().err << Printable(change.field) << ":\n" << change.difference;
  }
  session.streams().err.flush();
  request.set_request_id(session.NewRequestId());
  request.set_validate_only(args.dry_run);
  const auto updated = session.connection().Call(&Migrations::UpdateMigration, request);
  if (!updated.ok()) return FailInFile(session, args.file, document, updated.status());
  ReportApplied(session, "updated", args.dry_run, *updated);
  return ExitCode::kOk;
}

ExitCode Apply(Session& session, const FileArgs& args) {
  ExitCode failed = ExitCode::kError;
  const auto file = LoadFile(session, args.file, &failed);
  if (!file) return failed;
  if (!args.if_match.empty() && file->documents.size() > 1) {
    return session.UsageError("--if-match is for one migration, and the file defines several");
  }
  PrintDiagnostics(session, args.file, file->diagnostics);
  for (const MigrationDocument& document : file->documents) {
    const ExitCode code = ApplyDocument(session, args, document);
    if (code != ExitCode::kOk) return code;
  }
  return ExitCode::kOk;
}

struct LintArgs {
  std::string file;
  domain::TrafficHint traffic;
};

ExitCode Lint(Session& session, const LintArgs& args) {
  std::optional<domain::TrafficHint> traffic;
  const domain::TrafficHint& given = args.traffic;
  for (const double rate : {given.reads_per_second, given.comparisons_per_second, given.writes_per_second}) {
    if (!(rate >= 0 && std::isfinite(rate))) {
      return session.UsageError(absl::StrCat(rate, " is not a number per second: it must not be negative"));
    }
    if (rate > 0) traffic = given;
  }
  const auto text = ReadFile(session, args.file);
  if (!text) return RefuseUnreadable(session, args.file, "YAML");
  const std::vector<Diagnostic> diagnostics = LintMigrationFile(*text, session.settings().ns, traffic);
  PrintDiagnostics(session, args.file, diagnostics);
  const size_t errors = CountErrors(diagnostics);
  const size_t warnings = diagnostics.size() - errors;
  const std::string summary =
      absl::StrCat(NameOfFile(args.file), ": ", errors, errors == 1 ? " error, " : " errors, ", warnings,
                   warnings == 1 ? " warning" : " warnings");
  if (errors == 0) {
    session.Note(Glyph::kDone, Tone::kGood, summary);
    return ExitCode::kOk;
  }
  session.Note(Glyph::kFailed, Tone::kBad, summary);
  return ExitCode::kError;
}

ExitCode List(Session& session, bool all_namespaces) {
  const std::string parent = absl::StrCat("namespaces/", all_namespaces ? "-" : session.settings().ns);
  const auto migrations = FetchAll<v1::Migration, v1::ListMigrationsResponse>(
      [&](const std::string& page_token) {
        v1::ListMigrationsRequest request;
        request.set_parent(parent);
        request.set_page_token(page_token);
        return session.connection().Call(&Migrations::ListMigrations, request);
      },
      [](const v1::ListMigrationsResponse& response) -> const auto& { return response.migrations(); },
      kNoLimit);
  if (!migrations.ok()) return session.Fail(migrations.status());
  v1::ListMigrationsResponse all;
  all.mutable_migrations()->Assign(migrations->begin(), migrations->end());
  session.PrintList<v1::Migration>(
      all, *migrations, [](const v1::Migration& migration) { return migration.name(); },
      [&] { return RenderMigrations(*migrations, session.render_options()); },
      all_namespaces ? "no migrations"
                     : absl::StrCat("no migrations in namespace ", session.settings().ns,
                                    "; --all shows every namespace"));
  return ExitCode::kOk;
}

struct DeleteArgs {
  std::string name;
  std::string if_match;
  bool dry_run = false;
};

ExitCode Delete(Session& session, const DeleteArgs& args) {
  const auto name = ResolveMigrationName(session.settings(), args.name);
  if (!name.ok()) return session.UsageError(name.status().message());
  const std::string short_name = domain::ShortMigrationName(*name);
  if (!args.dry_run) {
    const ExitCode confirmed = session.Confirm(
        absl::StrCat("delete ", short_name, " removes its definition, evidence and history for good"),
        short_name);
    if (confirmed != ExitCode::kOk) return confirmed;
  }
  v1::DeleteMigrationRequest request;
  request.set_name(*name);
  request.set_etag(args.if_match);
  request.set_request_id(session.NewRequestId());
  request.set_validate_only(args.dry_run);
  const auto deleted = session.connection().Call(&Migrations::DeleteMigration, request);
  if (!deleted.ok()) return session.Fail(deleted.status());
  if (session.settings().output == OutputFormat::kName) {
    session.Out(*name + "\n");
  } else {
    session.Note(Glyph::kDone, Tone::kGood,
                 absl::StrCat("delete ", short_name,
                              args.dry_run ? ": would be granted; nothing was changed" : ": done"));
  }
  return ExitCode::kOk;
}

ExitCode History(Session& session, const std::string& text, size_t limit) {
  const auto name = ResolveMigrationName(session.settings(), text);
  if (!name.ok()) return session.UsageError(name.status().message());
  const auto decisions = FetchAll<v1::DecisionRecord, v1::ListDecisionsResponse>(
      [&](const std::string& page_token) {
        v1::ListDecisionsRequest request;
        request.set_parent(*name);
        request.set_page_token(page_token);
        return session.connection().Call(&Migrations::ListDecisions, request);
      },
      [](const v1::ListDecisionsResponse& response) -> const auto& { return response.decisions(); }, limit);
  if (!decisions.ok()) return session.Fail(decisions.status());
  v1::ListDecisionsResponse all;
  all.mutable_decisions()->Assign(decisions->begin(), decisions->end());
  session.PrintList<v1::DecisionRecord>(
      all, *decisions, [](const v1::DecisionRecord& record) { return record.name(); },
      [&] { return RenderDecisions(*decisions, session.render_options()); }, "no decisions yet");
  return ExitCode::kOk;
}

void AddFileOption(CLI::App* command, std::string* file) {
  command->add_option("-f,--file", *file, "YAML file, one document per migration; - is stdin")
      ->required()
      ->type_name("FILE");
}

std::shared_ptr<FileArgs> AddFileArgs(CLI::App* command) {
  auto args = std::make_shared<FileArgs>();
  AddFileOption(command, &args->file);
  return args;
}

void AddFileCommands(CLI::App* group, Action* action) {
  CLI::App* create = group->add_subcommand("create", "Create migrations, at OFF, from a file");
  const auto create_args = AddFileArgs(create);
  create->add_flag("--dry-run", create_args->dry_run, "Run every check, change nothing");
  create->callback([=] { *action = [=](Session& session) { return Create(session, *create_args); }; });

  CLI::App* apply =
      group->add_subcommand("apply", "Create or update migrations, so that they are as in a file");
  const auto apply_args = AddFileArgs(apply);
  apply->add_flag("--dry-run", apply_args->dry_run,
                  "Run every check, show what would change, change nothing");
  apply->add_option("--if-match", apply_args->if_match, "Update only if the migration still has this etag")
      ->type_name("ETAG");
  apply->callback([=] { *action = [=](Session& session) { return Apply(session, *apply_args); }; });

  CLI::App* lint = group->add_subcommand("lint", "Check a file without a server: errors and likely mistakes");
  const auto lint_args = std::make_shared<LintArgs>();
  AddFileOption(lint, &lint_args->file);
  lint->add_option("--rps", lint_args->traffic.reads_per_second,
                   "Reads a second over all instances: says what they can't certify in time")
      ->type_name("N");
  lint->add_option("--comparisons-per-second", lint_args->traffic.comparisons_per_second,
                   "Comparisons a second over all instances")
      ->type_name("N");
  lint->add_option("--writes-per-second", lint_args->traffic.writes_per_second,
                   "Writes a second over all instances")
      ->type_name("N");
  lint->footer("Example: lockstep migration lint -f cities.yaml --rps 400 --comparisons-per-second 40");
  lint->callback([=] { *action = [=](Session& session) { return Lint(session, *lint_args); }; });
}

}  // namespace

void AddMigrationCommands(CLI::App* root, Action* action) {
  CLI::App* group =
      root->add_subcommand("migration", "Define, list and delete migrations")->group("Migrations");
  group->require_subcommand(1);
  AddFileCommands(group, action);

  CLI::App* list = group->add_subcommand("list", "Migrations of the namespace");
  const auto all = std::make_shared<bool>(false);
  list->add_flag("--all", *all, "Of every namespace");
  list->callback([=] { *action = [=](Session& session) { return List(session, *all); }; });

  AddGetCommand(group, action);

  CLI::App* remove = group->add_subcommand("delete", "Delete a migration that is at OFF or COMPLETE");
  const auto args = std::make_shared<DeleteArgs>();
  remove->add_option("name", args->name, "Migration: id, ns/id or full name")->required()->type_name("NAME");
  remove->add_option("--if-match", args->if_match, "Only if the migration still has this etag")
      ->type_name("ETAG");
  remove->add_flag("--dry-run", args->dry_run, "Run every check, change nothing");
  remove->callback([=] { *action = [=](Session& session) { return Delete(session, *args); }; });

  CLI::App* history = group->add_subcommand("history", "Decisions, newest first: what changed, who, why");
  const auto name = std::make_shared<std::string>();
  const auto limit = std::make_shared<size_t>(50);
  history->add_option("name", *name, "Migration: id, ns/id or full name")->required()->type_name("NAME");
  history->add_option("--limit", *limit, "At most this many; default 50")->type_name("N");
  history->callback([=] { *action = [=](Session& session) { return History(session, *name, *limit); }; });
}

}  // namespace lockstep::cli
