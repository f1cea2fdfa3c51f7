// gate replay and gate simulate: the gate without a server, over recorded or made-up evidence.
#include <cmath>
#include <fstream>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/cli/commands.h"
#include "client/cli/definition.h"
#include "client/cli/input.h"
#include "client/cli/render.h"
#include "client/cli/render_gate.h"
#include "client/cli/text.h"
#include "core/base/error_info.h"
#include "core/domain/records.h"
#include "core/domain/rehearsal.h"
#include "core/wire/evidence_log.h"
#include "core/wire/gate.h"
#include "core/wire/plan.h"
#include "core/wire/records.h"
#include "core/wire/routing_state.h"
#include "google/protobuf/util/json_util.h"

namespace lockstep::cli {
namespace {

// The plan of a file; nothing after its errors have been shown, with the exit code in `*failed`.
std::optional<PlanDefinition> LoadPlan(Session& session, const std::string& file, ExitCode* failed) {
  const auto text = ReadFile(session, file);
  if (!text) {
    *failed = session.UsageError(absl::StrCat(file, " can't be read"),
                                 "a plan is read from a YAML file as for `lockstep migration create`");
    return std::nullopt;
  }
  std::vector<Diagnostic> diagnostics;
  auto plan = ReadPlanFile(*text, &diagnostics);
  PrintDiagnostics(session, file, diagnostics);
  if (plan) return plan;
  PrintError(session.streams(), session.err_style(),
             absl::StrCat(NameOfFile(file), " does not define a plan that could run"), "");
  *failed = ExitCode::kError;
  return std::nullopt;
}

struct ReplayArgs {
  std::string file;
  std::string plan_file;
};

// One run of `gate replay`.
class Replay {
 public:
  Replay(Session& session, const ReplayArgs& args, std::optional<PlanDefinition> plan)
      : session_(session), args_(args), plan_(std::move(plan)) {}

  ExitCode Run(std::istream& log) {
    std::string text;
    for (size_t number = 1; std::getline(log, text); ++number) {
      if (absl::StripAsciiWhitespace(text).empty()) continue;
      const absl::Status status = TakeLine(text, number);
      if (!status.ok()) return Refuse(number, status);
    }
    if (log.bad())
      return session_.Fail(absl::DataLossError(absl::StrCat(Name(), " broke off while reading")));
    if (!last_) {
      PrintError(session_.streams(), session_.err_style(),
                 absl::StrCat(Name(), " has no bucket: nothing to judge"),
                 "an evidence log is a header, then one line for each 5 s; docs/gate.md shows one");
      return ExitCode::kError;
    }
    if (ForPeople(session_.settings().output)) {
      session_.Out(RenderReplay(shown_, session_.render_options()));
    }
    return Conclude();
  }

 private:
  std::string Name() const { return NameOfFile(args_.file); }

  absl::Status TakeLine(const std::string& text, size_t number) {
    v1::EvidenceLine message;
    const auto parsed = google::protobuf::util::JsonStringToMessage(text, &message);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("not a line of an evidence log: ",
                       absl::string_view(parsed.message().data(), parsed.message().size())));
    }
    if (plan_) {
      // The header of the log gives way to the plan that was asked about; what it says of the evidence stays.
      if (message.has_header()) {
        *message.mutable_header()->mutable_plan() = wire::ToProto(plan_->plan);
      } else if (!begun_) {
        domain::EvidenceHeader header{.plan = plan_->plan};
        header.epoch.declared_fields = plan_->declared_fields;
        const auto added = rehearsal_.Add(header, number);
        if (!added.ok()) return added.status();
      }
    }
    begun_ = true;
    const auto line = wire::EvidenceLineFromProto(message);
    if (!line.ok()) return line.status();
    const domain::RoutingState before = rehearsal_.migration().published;
    auto judged = rehearsal_.Add(*line, number);
    if (!judged.ok()) return judged.status();
    if (*judged) Show(**std::move(judged), before);
    return absl::OkStatus();
  }

  void Show(domain::RehearsedBucket judged, const domain::RoutingState& before) {
    const absl::Time end = judged.start + domain::kTelemetryBucket;
    v1::ExplainGateResponse out;
    *out.mutable_gate() = wire::ToProto(judged.result, end);
    out.set_step(static_cast<uint32_t>(std::max(judged.step, 0)));
    if (judged.transition) {
      const domain::Migration& migration = rehearsal_.migration();
      *out.mutable_last_decision() = wire::ToProto(domain::DecisionRecord{.migration = migration.name,
                                                                          .number = ++decisions_,
                                                                          .time = end,
                                                                          .actor = "gate",
                                                                          .action = judged.transition->action,
                                                                          .reason = judged.transition->reason,
                                                                          .before = before,
                                                                          .after = migration.published,
                                                                          .run_state = migration.run_state,
                                                                          .step = migration.step});
      // A rehearsal has no decisions in any namespace.
      out.mutable_last_decision()->clear_name();
    }
    if (session_.settings().output == OutputFormat::kJsonl) {
      session_.Out(ToJson(out, /*pretty=*/false));
    } else {
      shown_.push_back(std::move(out));
    }
    last_ = std::move(judged);
  }

  // "log.jsonl:7: ...".
  ExitCode Refuse(size_t number, const absl::Status& status) {
    std::string message(status.message());
    const auto info = GetErrorInfo(status);
    if (info.has_value() && !info->field_violations.empty()) {
      message =
          absl::StrJoin(info->field_violations, "; ", [](std::string* out, const FieldViolation& violation) {
            absl::StrAppend(out, violation.field, ": ", violation.description);
          });
    }
    const std::string prefix = absl::StrCat("line ", number, ": ");
    PrintError(session_.streams(), session_.err_style(),
               absl::StrCat(Name(), ":", number, ": ", absl::StripPrefix(message, prefix)),
               begun_ || plan_ ? "docs/gate.md describes evidence logs; `lockstep gate export` writes them"
                               : "a log without a header needs --plan; docs/gate.md describes evidence logs");
    return ExitCode::kError;
  }

  ExitCode Conclude() {
    const domain::Migration& migration = rehearsal_.migration();
    const domain::Verdict verdict = last_->result.verdict;
    const bool back =
        migration.run_state == domain::RunState::kRolledBack || verdict == domain::Verdict::kRollBack;
    const bool through =
        migration.run_state == domain::RunState::kSucceeded ||
        (migration.run_state == domain::RunState::kRunning && verdict == domain::Verdict::kAdvance);
    const std::string when =
        absl::FormatTime("%Y-%m-%d %H:%M:%S", last_->start + domain::kTelemetryBucket, absl::UTCTimeZone());
    const std::string& why = migration.run_state == domain::RunState::kRunning ? last_->result.sentence
                                                                               : migration.run_state_reason;
    const std::string text =
        absl::StrCat(domain::RunStateName(migration.run_state), " at ",
                     DescribeRouting(wire::ToProto(migration.published)), ", ", domain::VerdictName(verdict),
                     " at ", when, " UTC", why.empty() ? "" : ": ", why);
    if (back) {
      session_.Note(Glyph::kFailed, Tone::kBad, text);
      return ExitCode::kRolledBack;
    }
    session_.Note(through ? Glyph::kDone : Glyph::kWaiting, through ? Tone::kGood : Tone::kWaiting, text);
    return through ? ExitCode::kOk : ExitCode::kHolds;
  }

  Session& session_;
  const ReplayArgs& args_;
  const std::optional<PlanDefinition> plan_;
  domain::Rehearsal rehearsal_;
  bool begun_ = false;
  uint64_t decisions_ = 0;
  std::optional<domain::RehearsedBucket> last_;
  std::vector<v1::ExplainGateResponse> shown_;
};

ExitCode RunReplay(Session& session, const ReplayArgs& args) {
  const OutputFormat output = session.settings().output;
  if (!ForPeople(output) && output != OutputFormat::kJsonl) {
    return session.UsageError("gate replay prints -o table, wide or jsonl: one line for each bucket");
  }
  if (args.file == "-" && args.plan_file == "-") {
    return session.UsageError("-f and --plan can't both be stdin");
  }
  std::optional<PlanDefinition> plan;
  if (!args.plan_file.empty()) {
    ExitCode failed = ExitCode::kError;
    plan = LoadPlan(session, args.plan_file, &failed);
    if (!plan) return failed;
  }
  Replay replay(session, args, std::move(plan));
  if (args.file == "-") return replay.Run(session.streams().in);
  std::ifstream file(args.file, std::ios::binary);
  // A directory opens and then has nothing to read.
  if (!file.is_open() || (file.peek() == std::ifstream::traits_type::eof() && file.bad())) {
    return RefuseUnreadable(session, args.file, "JSON lines");
  }
  return replay.Run(file);
}

// Rates and shares are text, so that both "0.5%" and "0.005" are understood. Empty = not given.
struct SimulateArgs {
  std::string file;
  double rps = 0;
  double wps = -1;
  std::string new_share;
  std::string comparison_share;
  std::string error_rate;
  std::string new_error_rate;
  std::string mismatch_rate;
  std::string mirror_failure_rate;
  double latency_ms = 10;
  double new_latency_factor = 1;
  std::string onset;
  uint64_t population = 0;
  double mean_burst = 1;
  int64_t backfill_rows = -1;
  double backfill_rate = 1000;
  size_t runs = 20;
  uint64_t seed = 1;
  std::string duration;
};

// What was asked for; nothing after a usage error.
struct Simulation {
  domain::MigrationPlan plan;
  domain::TrafficModel traffic;
  domain::SimulationOptions options;
  bool healthy_only = true;
};

absl::Status ReadRates(const SimulateArgs& args, domain::TrafficModel* traffic) {
  double comparison_share = 1;
  double error_rate = 0.001;
  double mismatch_rate = 0;
  double mirror_failure_rate = 0;
  std::optional<double> new_error_rate;
  const auto read = [](absl::string_view option, const std::string& text, auto* value) {
    if (text.empty()) return absl::OkStatus();
    const auto ratio = ParseRatio(text);
    if (!ratio.ok()) return absl::InvalidArgumentError(absl::StrCat(option, ": ", ratio.status().message()));
    *value = *ratio;
    return absl::OkStatus();
  };
  for (const absl::Status& status :
       {read("--comparison-share", args.comparison_share, &comparison_share),
        read("--error-rate", args.error_rate, &error_rate),
        read("--new-error-rate", args.new_error_rate, &new_error_rate),
        read("--mismatch-rate", args.mismatch_rate, &mismatch_rate),
        read("--mirror-failure-rate", args.mirror_failure_rate, &mirror_failure_rate)}) {
    if (!status.ok()) return status;
  }
  traffic->comparison_share = comparison_share;
  traffic->error_rate = error_rate;
  traffic->new_side_before_onset = domain::HealthyNewSide(*traffic);
  traffic->new_side = traffic->new_side_before_onset;
  traffic->new_side.error_rate = new_error_rate.value_or(error_rate);
  traffic->new_side.mismatch_rate = mismatch_rate;
  traffic->new_side.mirror_failure_rate = mirror_failure_rate;
  traffic->new_side.latency_factor = args.new_latency_factor;
  return absl::OkStatus();
}

bool ChecksCoverage(const domain::MigrationPlan& plan) {
  for (const domain::PlanStep& step : plan.steps) {
    for (const domain::Check& check : step.checks) {
      if (check.metric == domain::Metric::kCoverage) return true;
    }
  }
  return false;
}

absl::StatusOr<Simulation> ReadSimulation(const SimulateArgs& args, domain::MigrationPlan plan) {
  Simulation out{.plan = std::move(plan)};
  if (!(args.rps > 0))
    return absl::InvalidArgumentError("--rps must be above 0: reads a second over all instances");
  out.traffic.reads_per_second = args.rps;
  out.traffic.writes_per_second = args.wps < 0 ? args.rps / 10 : args.wps;
  out.traffic.latency_median = absl::Milliseconds(args.latency_ms);
  out.traffic.mean_burst = args.mean_burst;
  // A plan that waits for a backfill would wait for ever without one.
  const int64_t rows = args.backfill_rows >= 0 ? args.backfill_rows : ChecksCoverage(out.plan) ? 10'000 : 0;
  out.traffic.backfill_rows = static_cast<uint64_t>(rows);
  out.traffic.backfill_rows_per_second = rows == 0 ? 0 : args.backfill_rate;
  if (args.population > 0) {
    out.traffic.subjects = domain::SubjectModel::kPopulation;
    out.traffic.population = args.population;
  }
  const absl::Status rates = ReadRates(args, &out.traffic);
  if (!rates.ok()) return rates;
  out.healthy_only = out.traffic.new_side == out.traffic.new_side_before_onset;
  for (const auto& [option, text, value] : {std::tuple("--onset", &args.onset, &out.traffic.onset),
                                            {"--duration", &args.duration, &out.options.horizon}}) {
    if (text->empty()) continue;
    const auto duration = ParseDuration(*text);
    if (!duration.ok())
      return absl::InvalidArgumentError(absl::StrCat(option, ": ", duration.status().message()));
    *value = *duration;
  }
  if (args.duration.empty()) {
    out.options.horizon = absl::Hours(12);
    for (const domain::PlanStep& step : out.plan.steps) out.options.horizon += step.min_bake;
  }
  out.options.runs = args.runs;
  out.options.seed = args.seed;
  return out;
}

// The plan with its CANARY_READ steps replaced by one at this share, with the checks of the first of them.
absl::Status SetNewShare(const std::string& text, domain::MigrationPlan* plan) {
  const auto weight = ParseWeight(text);
  if (!weight.ok())
    return absl::InvalidArgumentError(absl::StrCat("--new-share: ", weight.status().message()));
  if (*weight == 0) return absl::InvalidArgumentError("--new-share: 0 serves no read from the new side");
  auto& steps = plan->steps;
  size_t first = 0;
  while (first < steps.size() && steps[first].stage != domain::Stage::kCanaryRead) ++first;
  if (first == steps.size()) {
    return absl::InvalidArgumentError("--new-share: the plan has no CANARY_READ step to set it for");
  }
  steps.resize(first + 1);
  steps[first].weight = *weight;
  return absl::OkStatus();
}

std::string DescribeTraffic(const domain::TrafficModel& traffic, const domain::NewSideBehaviour& side) {
  std::string text = absl::StrFormat("%g reads/s, %g writes/s, %s compared; errors %s on old, %s on new",
                                     traffic.reads_per_second, traffic.writes_per_second,
                                     FormatRatio(traffic.comparison_share), FormatRatio(traffic.error_rate),
                                     FormatRatio(side.error_rate));
  if (side.mismatch_rate > 0) absl::StrAppend(&text, "; ", FormatRatio(side.mismatch_rate), " mismatches");
  if (side.mirror_failure_rate > 0) {
    absl::StrAppend(&text, "; ", FormatRatio(side.mirror_failure_rate), " of mirror writes fail");
  }
  if (side.latency_factor != 1)
    absl::StrAppend(&text, absl::StrFormat("; new takes %g times as long", side.latency_factor));
  return text;
}

ExitCode RunSimulate(Session& session, const SimulateArgs& args) {
  const OutputFormat output = session.settings().output;
  const bool json = output == OutputFormat::kJson || output == OutputFormat::kJsonl;
  if (!ForPeople(output) && !json) return session.UsageError("gate simulate prints -o table or json");
  ExitCode failed = ExitCode::kError;
  auto definition = LoadPlan(session, args.file, &failed);
  if (!definition) return failed;
  if (!args.new_share.empty()) {
    const absl::Status status = SetNewShare(args.new_share, &definition->plan);
    if (!status.ok()) return session.UsageError(status.message());
  }
  const auto simulation = ReadSimulation(args, std::move(definition->plan));
  if (!simulation.ok()) return session.UsageError(simulation.status().message());
  domain::TrafficModel healthy = simulation->traffic;
  healthy.new_side = healthy.new_side_before_onset;
  healthy.onset = absl::ZeroDuration();
  const auto say = [&](absl::string_view kind) {
    if (!session.streams().err_is_terminal) return;
    session.Note(Glyph::kWaiting, Tone::kFaint,
                 absl::StrCat("simulating ", simulation->options.runs, " runs of ", kind,
                              " traffic, each of at most ", ShortDuration(simulation->options.horizon)));
  };
  say("healthy");
  const auto healthy_summary = domain::SimulateRuns(simulation->plan, healthy, simulation->options);
  if (!healthy_summary.ok()) return session.UsageError(healthy_summary.status().message());
  std::vector<SimulationView> views = {{.title = "Healthy: " + DescribeTraffic(healthy, healthy.new_side),
                                        .plan = &simulation->plan,
                                        .summary = &*healthy_summary}};
  absl::StatusOr<domain::SimulationSummary> bad_summary;
  if (!simulation->healthy_only) {
    const domain::TrafficModel& bad = simulation->traffic;
    say("bad");
    bad_summary = domain::SimulateRuns(simulation->plan, bad, simulation->options);
    if (!bad_summary.ok()) return session.UsageError(bad_summary.status().message());
    const std::string from =
        bad.onset > absl::ZeroDuration() ? absl::StrCat(" from ", ShortDuration(bad.onset), " on") : "";
    views.push_back({.title = absl::StrCat("Bad", from, ": ", DescribeTraffic(bad, bad.new_side)),
                     .plan = &simulation->plan,
                     .summary = &*bad_summary,
                     .onset = bad.onset,
                     .healthy = false});
  }
  if (json) {
    session.Out(absl::StrCat("{\"healthy\":", SimulationJson(views[0]),
                             views.size() > 1 ? absl::StrCat(",\"bad\":", SimulationJson(views[1])) : "",
                             "}\n"));
    return ExitCode::kOk;
  }
  for (size_t i = 0; i < views.size(); ++i) {
    session.Out(absl::StrCat(i > 0 ? "\n" : "", RenderSimulation(views[i], session.render_options())));
  }
  return ExitCode::kOk;
}

void AddSimulate(CLI::App* gate, Action* action) {
  CLI::App* simulate = gate->add_subcommand(
      "simulate", "How long a plan takes and what it would catch, from simulated traffic, without a server");
  const auto args = std::make_shared<SimulateArgs>();
  const auto option = [&](const char* name, auto& value, const char* type, const char* help) {
    return simulate->add_option(name, value, help)->type_name(type);
  };
  option("-f,--file", args->file, "FILE",
         "Migration file with the plan; its name may be left out; - is stdin")
      ->required();
  option("--rps", args->rps, "N", "Reads a second over all instances")->required();
  option("--wps", args->wps, "N", "Writes a second; default a tenth of the reads");
  option("--comparison-share", args->comparison_share, "SHARE",
         "Share of the reads that are compared; default 100%");
  option("--error-rate", args->error_rate, "RATE", "Share of reads that fail on the old side; default 0.1%");
  option("--latency-ms", args->latency_ms, "MS", "Median latency of the old side; default 10");
  option("--subjects", args->population, "N", "Reads come from so many subjects; default: each from another");
  option("--burst", args->mean_burst, "N", "Errors and mismatches come in bursts of this mean; default 1");
  option("--backfill-rows", args->backfill_rows, "N",
         "Rows to copy; default 10000 if the plan checks COVERAGE, else none");
  option("--backfill-rate", args->backfill_rate, "N", "Rows copied a second; default 1000");
  option("--new-share", args->new_share, "SHARE", "One canary step at this share instead of the plan's own");
  option("--new-error-rate", args->new_error_rate, "RATE",
         "Share of reads that fail on new; default as on old");
  option("--mismatch-rate", args->mismatch_rate, "RATE", "Share of comparisons that differ; default 0");
  option("--mirror-failure-rate", args->mirror_failure_rate, "RATE",
         "Share of mirror writes that fail; default 0");
  option("--new-latency-factor", args->new_latency_factor, "F", "New takes so many times as long; default 1");
  option("--onset", args->onset, "DURATION", "What is bad begins so long after the start; default at once");
  option("--runs", args->runs, "N", "Runs of each kind; default 20");
  option("--seed", args->seed, "N", "The same seed gives the same runs; default 1");
  option("--duration", args->duration, "DURATION",
         "Where a run that is still held ends; default: 12h after all bake times");
  simulate->footer(
      "Example: lockstep gate simulate -f cities.yaml --rps 400 --new-error-rate 0.5% --onset 2h");
  simulate->callback([=] { *action = [=](Session& session) { return RunSimulate(session, *args); }; });
}

}  // namespace

void AddRehearsalCommands(CLI::App* gate, Action* action) {
  CLI::App* replay = gate->add_subcommand(
      "replay",
      "Run an evidence log through the gate, without a server: E values, bounds and verdict of each bucket");
  const auto args = std::make_shared<ReplayArgs>();
  replay->add_option("-f,--file", args->file, "Evidence log, JSON lines as of `gate export`; - is stdin")
      ->required()
      ->type_name("FILE");
  replay->add_option("--plan", args->plan_file, "Migration file whose plan judges, instead of the log's own")
      ->type_name("FILE");
  replay->footer(
      "Exit code: 0 it passed, 3 it holds, 4 it was rolled back.\n"
      "Example: lockstep gate replay -f cities.jsonl --plan stricter.yaml -o jsonl");
  replay->callback([=] { *action = [=](Session& session) { return RunReplay(session, *args); }; });
  AddSimulate(gate, action);
}

}  // namespace lockstep::cli
