// The whole command against a fake server: what it sends, what it says, what it returns.
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/app.h"
#include "core/base/error_info.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli/fake_server.h"
#include "tests/cli/golden.h"
#include "tests/cli/run_testing.h"
#include "tests/cli/samples.h"

namespace lockstep::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

absl::Status GateHolds() {
  return WithErrorInfo(
      absl::FailedPreconditionError("the gate holds: errors needs more reads"),
      {.reason = "GATE_HOLDS",
       .metadata = {},
       .field_violations = {},
       .precondition_violations = {{"GATE_HOLDS", "errors", "2 of 400: needs 1203 more clean reads"}}});
}

TEST_F(RunTest, UsageErrors) {
  const struct {
    std::vector<const char*> words;
    const char* error;
  } kTable[] = {
      {{}, "error: lockstep needs a subcommand: migration, start"},
      {{"migration"}, "error: lockstep migration needs a subcommand: create, apply"},
      {{"advnce", "x"}, "error: unknown command advnce after lockstep\nhint: did you mean advance?"},
      {{"-o", "json", "migration", "lst"},
       "error: unknown command lst after lockstep migration\nhint: did you mean list?"},
      {{"frobnicate"}, "error: unknown command frobnicate after lockstep\nhint: `lockstep --help` shows"},
      {{"get"}, "error: name is required\nhint: `lockstep get --help`"},
      {{"get", "a", "--wach"}, "error: unknown option --wach of lockstep get\nhint: did you mean --watch?"},
      {{"get", "a", "b"}, "error: The following argument was not expected: b"},
      {{"get", "A"}, "error: migration name: the id may hold a-z"},
      {{"get", "a", "-o", "xml"}, "error: --output: unknown output format \"xml\""},
      {{"set-weight", "a", "101%"}, "error: \"101%\" is more than 100 %"},
      {{"advance", "a", "--override"}, "error: --override needs --reason"},
      {{"set-weight", "a", "5%", "--override", "--yes"}, "error: --override needs --reason"},
      {{"wait", "a", "--for", "tomorrow"}, "error: --for: unknown condition \"tomorrow\""},
      {{"wait", "a", "--for", "succeeded", "--timeout", "9"}, "error: --timeout: \"9\" is not a duration"},
      {{"route", "explain", "a", "--key", "k", "--attr", "x"},
       "error: --attr: \"x\" is not of the form name=value"},
      {{"migration", "create", "-f", "/nonexistent.yaml"}, "error: /nonexistent.yaml can't be read"},
      {{"completion", "tcsh"}, "error: shell: tcsh not in {bash,zsh,fish}"},
      {{"abort", "a"},
       "error: this needs a confirmation, and there is no terminal to ask on: abort default/a takes it"},
      {{"migration", "delete", "a"}, "error: this needs a confirmation"},
      {{"advance", "a", "--override", "--reason", "r"}, "error: this needs a confirmation"},
      {{"wait", "a", "--for", "write_weight=101%"}, "error: --for: \"101%\" is more than 100 %"},
      {{"instance"}, "error: lockstep instance needs a subcommand: list, evict"},
      {{"instance", "evict", "a"}, "error: instance is required"},
      {{"instance", "evict", "a", "i"}, "error: instance evict needs --reason"},
      {{"instance", "evict", "a", "i", "--yes", "--reason", ""}, "error: instance evict needs --reason"},
      {{"instance", "evict", "A", "i", "--reason", "r"}, "error: migration name: the id may hold a-z"},
      {{"drill"}, "error: lockstep drill needs a subcommand: rollback"},
      {{"drill", "rollback"}, "error: name is required"},
      {{"drill", "rollback", "a", "--timeout", "5"}, "error: --timeout: \"5\" is not a duration"},
      {{"advance", "a", "--accept-no-way"}, "error: unknown option --accept-no-way of lockstep advance"},
  };
  for (const auto& row : kTable) {
    EXPECT_EQ(Run(row.words), ExitCode::kUsage) << row.error;
    EXPECT_THAT(err_, StartsWith(row.error));
    EXPECT_EQ(out_, "");
  }
  EXPECT_THAT(server_.calls(), IsEmpty());
}

TEST_F(RunTest, ExitCodeOfEveryFailure) {
  const struct {
    absl::Status status;
    ExitCode code;
    const char* error;
  } kTable[] = {
      {absl::InvalidArgumentError("bad"), ExitCode::kError, "error: bad\n"},
      {absl::NotFoundError("gone"), ExitCode::kError, "error: gone\nhint: `lockstep migration list`"},
      {absl::AlreadyExistsError("there"), ExitCode::kError, "error: there\n"},
      {absl::FailedPreconditionError("OFF"), ExitCode::kError, "error: OFF\n"},
      {WithErrorInfo(absl::FailedPreconditionError("no"), {.reason = "ILLEGAL_TRANSITION"}), ExitCode::kError,
       "error: no\n"},
      {WithErrorInfo(absl::FailedPreconditionError("w"), {.reason = "FENCE_WAITS"}), ExitCode::kHolds,
       "error: w\n"},
      {WithErrorInfo(absl::FailedPreconditionError("b"), {.reason = "GATE_ROLLS_BACK"}), ExitCode::kHolds,
       "error: b\n"},
      {absl::AbortedError("changed"), ExitCode::kConflict, "error: changed\nhint: read it again"},
      {absl::UnavailableError("draining"), ExitCode::kUnavailable, "error: no answer from 127.0.0.1:"},
      {absl::DeadlineExceededError(""), ExitCode::kUnavailable, "error: 127.0.0.1:"},
      {absl::PermissionDeniedError("no"), ExitCode::kDenied, "error: no\nhint: ask an administrator"},
      {absl::UnauthenticatedError("who"), ExitCode::kDenied, "error: who\n"},
      {absl::UnimplementedError("what"), ExitCode::kError,
       "error: what\nhint: the server is of another version"},
      {absl::InternalError(""), ExitCode::kError, "error: INTERNAL\n"},
  };
  for (const auto& row : kTable) {
    server_.script().status = row.status;
    EXPECT_EQ(Run({"advance", "demo/cities"}), row.code) << row.status;
    EXPECT_THAT(err_, StartsWith(row.error));
    EXPECT_EQ(out_, "");
  }
}

TEST_F(RunTest, HoldingGateShowsItsChecks) {
  server_.script().status = GateHolds();
  EXPECT_EQ(Run({"advance", "demo/cities"}), ExitCode::kHolds);
  ExpectGolden("advance_holds.txt", err_);
}

TEST_F(RunTest, NoServer) {
  environment_["LOCKSTEP_ADDRESS"] = "127.0.0.1:1";
  EXPECT_EQ(Run({"get", "demo/cities"}), ExitCode::kUnavailable);
  EXPECT_THAT(err_, StartsWith("error: no answer from 127.0.0.1:1: "));
  EXPECT_THAT(err_,
              HasSubstr("hint: is lockstepd running there? Start it, or name another server with --address"));
  EXPECT_EQ(Run({"wait", "demo/cities", "--for", "succeeded"}), ExitCode::kUnavailable);
  EXPECT_EQ(Run({"get", "demo/cities", "-w"}), ExitCode::kUnavailable);
  EXPECT_EQ(Run({"server", "health"}), ExitCode::kUnavailable);
}

TEST_F(RunTest, ChangesSendWhatTheyShould) {
  const struct {
    const char* command;
    const char* method;
  } kTable[] = {{"start", "StartMigration"},
                {"advance", "AdvanceMigration"},
                {"pause", "PauseMigration"},
                {"resume", "ResumeMigration"},
                {"rollback", "RollbackMigration"}};
  for (const auto& row : kTable) {
    EXPECT_EQ(Run({row.command, "cities", "-n", "demo", "--reason", "because", "--if-match", "12"}),
              ExitCode::kOk)
        << err_;
    EXPECT_EQ(server_.calls().back(), row.method);
  }
  const auto request = server_.Last<v1::RollbackMigrationRequest>();
  EXPECT_EQ(request.name(), kMigrationName);
  EXPECT_EQ(request.change().reason(), "because");
  EXPECT_EQ(request.change().etag(), "12");
  EXPECT_FALSE(request.change().validate_only());
  EXPECT_THAT(request.change().request_id(),
              MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_NE(request.change().request_id(), server_.Last<v1::PauseMigrationRequest>().change().request_id());
  EXPECT_THAT(server_.principal(), StartsWith("user:ann@"));

  EXPECT_EQ(Run({"set-weight", "demo/cities", "5%", "--dry-run"}), ExitCode::kOk);
  EXPECT_EQ(server_.Last<v1::SetMigrationWeightRequest>().weight(), 5000u);
  EXPECT_TRUE(server_.Last<v1::SetMigrationWeightRequest>().change().validate_only());
  EXPECT_THAT(err_, HasSubstr("nothing was changed"));
  EXPECT_EQ(Run({"set-weight", "demo/cities", "5"}), ExitCode::kOk);
  EXPECT_EQ(server_.Last<v1::SetMigrationWeightRequest>().weight(), 5u);
  EXPECT_THAT(err_, HasSubstr("5 without a \"%\" counts buckets and means 0.005 %"));

  EXPECT_EQ(Run({"advance", "demo/cities", "--override", "--reason", "known", "--yes"}), ExitCode::kOk);
  EXPECT_TRUE(server_.Last<v1::AdvanceMigrationRequest>().override_gate());
  EXPECT_EQ(Run({"abort", "demo/cities", "--yes"}), ExitCode::kOk);
  EXPECT_EQ(server_.calls().back(), "AbortMigration");
}

TEST_F(RunTest, PendingPublishNamesWhomItWaitsFor) {
  server_.script().changed = PendingMigration();
  EXPECT_EQ(Run({"advance", "demo/cities"}), ExitCode::kOk);
  EXPECT_THAT(err_, HasSubstr("on the way to SHADOW_READ, waits for 2 instances"));
  EXPECT_THAT(err_, HasSubstr("cities-1, cities-2: OFF may not coexist"));
  EXPECT_THAT(out_, HasSubstr("demo/cities"));
  server_.script().changed = CutoverMigration();
  EXPECT_EQ(Run({"advance", "demo/cities"}), ExitCode::kOk);
  EXPECT_THAT(err_, HasSubstr("on the way to CUTOVER 50 % written new, waits for 1 instance\n"));
  EXPECT_THAT(err_, HasSubstr("to old first; the operations end, or its lease, or it is evicted"));
}

TEST_F(RunTest, ConfirmationByTypingTheName) {
  terminal_ = true;
  EXPECT_EQ(Run({"abort", "demo/cities"}, "demo/cities\n"), ExitCode::kOk);
  EXPECT_THAT(err_, HasSubstr("Type demo/cities to go on: "));
  EXPECT_THAT(server_.calls(), ElementsAre("AbortMigration"));
  for (const char* answer : {"y\n", "", "cities\n"}) {
    EXPECT_EQ(Run({"abort", "demo/cities"}, answer), ExitCode::kError);
    EXPECT_THAT(err_, HasSubstr("nothing was changed"));
  }
  EXPECT_EQ(Run({"migration", "delete", "demo/cities"}, "demo/cities\n"), ExitCode::kOk);
  EXPECT_EQ(Run({"abort", "demo/cities", "--no-input"}, "demo/cities\n"), ExitCode::kUsage);
  EXPECT_EQ(Run({"abort", "demo/cities", "--dry-run"}), ExitCode::kOk);
  // Whoever rolls back is never asked.
  EXPECT_EQ(Run({"rollback", "demo/cities"}), ExitCode::kOk);
  EXPECT_THAT(server_.calls(),
              ElementsAre("AbortMigration", "DeleteMigration", "AbortMigration", "RollbackMigration"));
}

TEST_F(RunTest, ListFormats) {
  for (const char* id : {"alpha", "beta", "gamma"}) {
    v1::Migration migration = DraftMigration();
    migration.set_name(absl::StrCat("namespaces/demo/migrations/", id));
    server_.script().migrations[migration.name()] = migration;
  }
  EXPECT_EQ(Run({"migration", "list", "-n", "demo", "-o", "name"}), ExitCode::kOk);
  EXPECT_EQ(
      out_,
      "namespaces/demo/migrations/alpha\nnamespaces/demo/migrations/beta\nnamespaces/demo/migrations/cities\n"
      "namespaces/demo/migrations/gamma\n");
  EXPECT_EQ(server_.Last<v1::ListMigrationsRequest>().parent(), "namespaces/demo");
  EXPECT_EQ(Run({"migration", "list", "--all", "-o", "jsonl"}), ExitCode::kOk);
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 4);
  EXPECT_EQ(server_.Last<v1::ListMigrationsRequest>().parent(), "namespaces/-");
  EXPECT_EQ(Run({"-o", "json", "migration", "list"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("\"migrations\": ["));
  EXPECT_EQ(Run({"migration", "list", "--output=yaml"}), ExitCode::kOk);
  EXPECT_THAT(out_, StartsWith("migrations:\n"));
  EXPECT_EQ(Run({"migration", "list"}), ExitCode::kOk);
  EXPECT_THAT(out_, StartsWith("NAME"));
  server_.script().migrations.clear();
  EXPECT_EQ(Run({"migration", "list"}), ExitCode::kOk);
  EXPECT_EQ(out_, "");
  EXPECT_THAT(err_, HasSubstr("no migrations in namespace default"));
  EXPECT_EQ(Run({"migration", "list", "-o", "json"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("\"migrations\": []"));
}

TEST_F(RunTest, LooksAtEverything) {
  server_.script().instances = SampleInstances();
  server_.script().decisions = SampleDecisions();
  server_.script().decisions.push_back(SampleDecisions()[0]);
  server_.script().mismatches = SampleMismatches();
  server_.script().route = SampleRoute();
  EXPECT_EQ(Run({"get", "demo/cities"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("Instances (2)"));
  EXPECT_EQ(Run({"migration", "get", "demo/cities", "-o", "name"}), ExitCode::kOk);
  EXPECT_EQ(out_, absl::StrCat(kMigrationName, "\n"));
  EXPECT_EQ(Run({"get", "demo/nothing"}), ExitCode::kError);
  EXPECT_THAT(err_, HasSubstr("does not exist"));
  EXPECT_EQ(Run({"migration", "history", "demo/cities", "-o", "name"}), ExitCode::kOk);
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 3);
  EXPECT_EQ(Run({"migration", "history", "demo/cities", "-o", "name", "--limit", "1"}), ExitCode::kOk);
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 1);
  EXPECT_EQ(Run({"mismatch", "list", "demo/cities"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("admin_code"));
  EXPECT_EQ(Run({"instance", "list", "demo/cities", "-o", "name"}), ExitCode::kOk);
  EXPECT_EQ(out_, "cities-1\ncities-2\n");
  EXPECT_EQ(Run({"route", "explain", "demo/cities", "--key", "k 1", "--attr", "tenant=a=b", "--attr", "x="}),
            ExitCode::kOk);
  const auto request = server_.Last<v1::RouteRequest>();
  EXPECT_TRUE(request.explain_only());
  EXPECT_EQ(request.key(), "k 1");
  EXPECT_EQ(request.attributes().at("tenant"), "a=b");
  EXPECT_EQ(request.attributes().at("x"), "");
  EXPECT_THAT(out_, HasSubstr("bucket_in"));
}

TEST_F(RunTest, Health) {
  EXPECT_EQ(Run({"server", "health"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("SERVING"));
  EXPECT_EQ(Run({"server", "health", "--wait", "10s", "-o", "jsonl"}), ExitCode::kOk);
  EXPECT_EQ(out_, "{\"status\":\"SERVING\"}\n");
  server_.script().serving = false;
  EXPECT_EQ(Run({"server", "health"}), ExitCode::kUnavailable);
  EXPECT_THAT(out_, HasSubstr("NOT_SERVING"));
}

TEST_F(RunTest, WatchEmitsJsonLines) {
  server_.script().watched = {DraftMigration(), CanaryMigration()};
  server_.script().watch_end = absl::PermissionDeniedError("no longer");
  EXPECT_EQ(Run({"get", "demo/cities", "-w"}), ExitCode::kDenied);
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 2);
  EXPECT_THAT(out_, StartsWith("{\"name\":"));
}

TEST_F(RunTest, WatchRedrawsOnATerminal) {
  terminal_ = true;
  server_.script().watched = {DraftMigration(), CanaryMigration()};
  server_.script().watch_end = absl::NotFoundError("deleted");
  EXPECT_EQ(Run({"get", "demo/cities", "-w"}), ExitCode::kError);
  EXPECT_THAT(out_, StartsWith("\x1b[H\x1b[J"));
  EXPECT_THAT(out_, HasSubstr("CANARY_READ"));
}

TEST_F(RunTest, WaitEnds) {
  const struct {
    const char* condition;
    std::vector<v1::Migration> watched;
    ExitCode code;
    const char* error;
  } kTable[] = {
      {"stage=CANARY_READ", {DraftMigration(), CanaryMigration()}, ExitCode::kOk, ""},
      {"weight=1%", {CanaryMigration()}, ExitCode::kOk, ""},
      {"rolled_back", {CanaryMigration(), RolledBackMigration()}, ExitCode::kOk, ""},
      {"succeeded",
       {CanaryMigration(), RolledBackMigration()},
       ExitCode::kRolledBack,
       "error: succeeded will not come: demo/cities is ROLLED_BACK at SHADOW_READ: mismatches: 4.1 % of "
       "comparisons"},
      {"weight=5%",
       {CanaryMigration()},
       ExitCode::kUnavailable,
       "error: waited 300ms for weight=5%, and demo/cities is RUNNING at CANARY_READ 1 %"},
  };
  for (const auto& row : kTable) {
    server_.script().watched = row.watched;
    // Only the last one, for which no news comes, waits for its timeout.
    const char* timeout = row.code == ExitCode::kUnavailable ? "300ms" : "60s";
    EXPECT_EQ(Run({"wait", "demo/cities", "--for", row.condition, "--timeout", timeout}), row.code) << err_;
    EXPECT_THAT(err_, StartsWith(row.error));
  }
}

TEST_F(RunTest, WaitSurvivesABrokenStream) {
  server_.script().watched = {DraftMigration(), CanaryMigration()};
  server_.script().watch_breaks = 1;
  EXPECT_EQ(Run({"wait", "demo/cities", "--for", "stage=CANARY_READ", "--timeout", "60s"}), ExitCode::kOk)
      << err_;
  EXPECT_THAT(err_, HasSubstr("trying again: no answer from"));
  EXPECT_THAT(server_.calls(), ElementsAre("WatchMigration", "WatchMigration"));
}

constexpr char kFile[] =
    "name: demo/cities\ndescription: new\nplan:\n  steps:\n    - stage: DUAL_WRITE\n      min_bake: 1m\n";

TEST_F(RunTest, CreateSendsTheFile) {
  EXPECT_EQ(Run({"migration", "create", "-f", "-"}, kFile), ExitCode::kOk) << err_;
  EXPECT_EQ(out_, "created demo/cities\n");
  const auto request = server_.Last<v1::CreateMigrationRequest>();
  EXPECT_EQ(request.parent(), "namespaces/demo");
  EXPECT_EQ(request.migration_id(), "cities");
  EXPECT_EQ(request.migration().plan().steps(0).min_bake().seconds(), 60);
  EXPECT_FALSE(request.request_id().empty());
}

TEST_F(RunTest, WrongFilesAreNotSent) {
  EXPECT_EQ(Run({"migration", "create", "-f", "-"}, "name: demo/cities\nplam: {}\n"), ExitCode::kError);
  EXPECT_THAT(err_, StartsWith("stdin:2:1: error: unknown field `plam`: did you mean `plan`?\n"));
  EXPECT_THAT(err_, HasSubstr("error: stdin has 1 error: nothing was sent"));
  EXPECT_EQ(Run({"migration", "apply", "-f", "-"}, "name: [\n"), ExitCode::kError);
  EXPECT_THAT(server_.calls(), IsEmpty());
}

TEST_F(RunTest, ServerViolationsPointIntoTheFile) {
  server_.script().status =
      InvalidArgumentWithViolations({{"migration.plan.steps[0].min_bake", "too short"}});
  EXPECT_EQ(Run({"migration", "create", "-f", "-"}, kFile), ExitCode::kError);
  EXPECT_THAT(err_, StartsWith("stdin:6:17: error: plan.steps[0].min_bake: too short\n"));
  server_.script().status = absl::AlreadyExistsError("demo/cities exists");
  EXPECT_EQ(Run({"migration", "create", "-f", "-"}, kFile), ExitCode::kError);
  EXPECT_THAT(err_, HasSubstr("hint: `lockstep migration apply -f` updates it"));
}

TEST_F(RunTest, ApplyCreatesUpdatesOrLeavesAlone) {
  server_.script().migrations.clear();
  EXPECT_EQ(Run({"migration", "apply", "-f", "-"}, kFile), ExitCode::kOk) << err_;
  EXPECT_EQ(out_, "created demo/cities\n");

  v1::Migration current = server_.Last<v1::CreateMigrationRequest>().migration();
  current.set_etag("41");
  server_.script().migrations[kMigrationName] = current;
  EXPECT_EQ(Run({"migration", "apply", "-f", "-"}, kFile), ExitCode::kOk) << err_;
  EXPECT_EQ(out_, "unchanged demo/cities\n");

  current.set_description("old");
  server_.script().migrations[kMigrationName] = current;
  EXPECT_EQ(Run({"migration", "apply", "-f", "-"}, kFile), ExitCode::kOk) << err_;
  EXPECT_EQ(out_, "updated demo/cities\n");
  EXPECT_THAT(err_, HasSubstr("description:\n  modified: description: \"old\" -> \"new\"\n"));
  const auto request = server_.Last<v1::UpdateMigrationRequest>();
  EXPECT_THAT(request.update_mask().paths(), ElementsAre("description"));
  EXPECT_EQ(request.migration().etag(), "41");
  EXPECT_THAT(server_.calls(), ElementsAre("GetMigration", "CreateMigration", "GetMigration", "GetMigration",
                                           "UpdateMigration"));
}

TEST_F(RunTest, Lint) {
  const std::string example = absl::StrCat(LOCKSTEP_SOURCE_DIR, "/client/examples/migration.yaml");
  EXPECT_EQ(Run({"migration", "lint", "-f", example.c_str()}), ExitCode::kOk) << err_;
  EXPECT_THAT(err_, HasSubstr("0 errors, 0 warnings"));
  EXPECT_EQ(Run({"migration", "lint", "-f", "-"}, "name: demo/x\nplan: {steps: [{stage: SHADOW_READ}]}\n"),
            ExitCode::kError);
  EXPECT_THAT(err_, StartsWith("stdin:2:24: error: plan.steps[0].stage: "));
  EXPECT_THAT(server_.calls(), IsEmpty());
}

TEST_F(RunTest, HelpAndVersion) {
  EXPECT_EQ(Run({"--help"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("Moving a migration:"));
  EXPECT_EQ(Run({"route", "explain", "--help"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("--attr NAME=VALUE"));
  EXPECT_EQ(Run({"version"}), ExitCode::kOk);
  EXPECT_THAT(out_, MatchesRegex("lockstep [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

}  // namespace
}  // namespace lockstep::cli
