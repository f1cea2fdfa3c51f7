// gate explain and export; replay and simulate are in rehearsal_commands.cc.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/render_gate.h"
#include "client/cli/text.h"
#include "core/wire/timestamps.h"
#include "lockstep/v1/gate_service.pb.h"

namespace lockstep::cli {
namespace {

using Gate = v1::GateService::Stub;

constexpr char kNoEvidenceHint[] =
    "evidence gathers while the migration stands at a step of its plan; `lockstep get NAME` says where it is";

ExitCode FailedGate(Session& session, const absl::Status& status) {
  return session.Fail(status, absl::IsFailedPrecondition(status) ? kNoEvidenceHint : "");
}

ExitCode Explain(Session& session, const std::string& text, const std::string& at) {
  const auto name = ResolveMigrationName(session.settings(), text);
  if (!name.ok()) return session.UsageError(name.status().message());
  v1::ExplainGateRequest request;
  request.set_name(*name);
  if (!at.empty()) {
    const auto time = ParseTime(at, absl::Now());
    if (!time.ok()) return session.UsageError(absl::StrCat("--at: ", time.status().message()));
    *request.mutable_time() = wire::ToProto(*time);
  }
  const auto response = session.connection().Call(&Gate::ExplainGate, request);
  if (!response.ok()) return FailedGate(session, response.status());
  session.Print(*response, *name,
                [&] { return RenderExplanation(*name, *response, session.render_options()); });
  return ExitCode::kOk;
}

// JSON lines whatever the output format: it is a file format, and `gate replay` reads no other.
ExitCode Export(Session& session, const std::string& text) {
  const auto name = ResolveMigrationName(session.settings(), text);
  if (!name.ok()) return session.UsageError(name.status().message());
  v1::ExportEvidenceRequest request;
  request.set_name(*name);
  const absl::Status status = session.connection().Read<Gate, v1::ExportEvidenceRequest, v1::EvidenceLine>(
      &Gate::ExportEvidence, request, [&](const v1::EvidenceLine& line) { session.Out(ToJsonLine(line)); });
  return status.ok() ? ExitCode::kOk : FailedGate(session, status);
}

void AddName(CLI::App* command, std::string* name) {
  command->add_option("name", *name, "Migration: id, ns/id or full name")->required()->type_name("NAME");
}

}  // namespace

void AddGateCommands(CLI::App* root, Action* action) {
  CLI::App* gate =
      root->add_subcommand("gate", "What the gate knows, and what it would do")->group("Looking closer");
  gate->require_subcommand(1);

  CLI::App* explain =
      gate->add_subcommand("explain", "Every check: null, counts, bounds, evidence, what is missing");
  const auto name = std::make_shared<std::string>();
  const auto at = std::make_shared<std::string>();
  AddName(explain, name.get());
  explain->add_option("--at", *at, "What it said then: \"2026-01-31T09:00:00Z\" or \"10m ago\"; default: now")
      ->type_name("TIME");
  explain->footer("Example: lockstep gate explain demo/cities --at \"10m ago\" -o wide");
  explain->callback([=] { *action = [=](Session& session) { return Explain(session, *name, *at); }; });

  CLI::App* export_evidence =
      gate->add_subcommand("export", "The evidence behind the verdict, as JSON lines for `gate replay`");
  const auto exported = std::make_shared<std::string>();
  AddName(export_evidence, exported.get());
  export_evidence->footer(
      "Example: lockstep gate export demo/cities > cities.jsonl && lockstep gate replay -f cities.jsonl");
  export_evidence->callback([=] { *action = [=](Session& session) { return Export(session, *exported); }; });

  AddRehearsalCommands(gate, action);
}

}  // namespace lockstep::cli
