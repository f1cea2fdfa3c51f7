#include "client/cli/render.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/render_fleet.h"
#include "client/cli/render_gate.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "core/domain/bucketing.h"
#include "core/domain/migration.h"

namespace lockstep::cli {
namespace {

std::string NameOf(v1::Stage stage) { return EnumName(*v1::Stage_descriptor(), stage); }

struct Look {
  Glyph glyph;
  Tone tone;
};

Look LookOf(v1::RunState state) {
  switch (state) {
    case v1::RUN_STATE_RUNNING:
      return {Glyph::kCurrent, Tone::kGood};
    case v1::RUN_STATE_PAUSED:
      return {Glyph::kPaused, Tone::kWaiting};
    case v1::RUN_STATE_ROLLED_BACK:
      return {Glyph::kFailed, Tone::kBad};
    case v1::RUN_STATE_SUCCEEDED:
      return {Glyph::kDone, Tone::kGood};
    case v1::RUN_STATE_UNSPECIFIED:
    case v1::RUN_STATE_DRAFT:
    case v1::RunState_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::RunState_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return {Glyph::kAhead, Tone::kFaint};
}

Look LookOf(v1::Verdict verdict) {
  switch (verdict) {
    case v1::VERDICT_ADVANCE:
      return {Glyph::kDone, Tone::kGood};
    case v1::VERDICT_ROLL_BACK:
      return {Glyph::kFailed, Tone::kBad};
    case v1::VERDICT_UNSPECIFIED:
    case v1::VERDICT_HOLD:
    case v1::Verdict_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::Verdict_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return {Glyph::kWaiting, Tone::kWaiting};
}

// "▶ RUNNING".
Cell RunStateCell(v1::RunState state, const Style& style) {
  const Look look = LookOf(state);
  return {absl::StrCat(GlyphText(style, look.glyph), " ", EnumName(*v1::RunState_descriptor(), state)),
          look.tone};
}

std::string StepPosition(const v1::Migration& migration) {
  return migration.has_step() ? absl::StrCat(migration.step() + 1, "/", migration.plan().steps_size()) : "";
}

std::string Section(absl::string_view title, const Style& style) {
  return absl::StrCat("\n", Paint(style, Tone::kStrong, title), "\n");
}

std::string DescribeStep(const v1::PlanStep& step) {
  std::vector<std::string> notes;
  if (step.has_min_bake()) notes.push_back("bake " + ShortDuration(FromProto(step.min_bake())));
  if (step.has_deadline()) notes.push_back("deadline " + ShortDuration(FromProto(step.deadline())));
  if (step.checks_size() > 0)
    notes.push_back(absl::StrCat(step.checks_size(), step.checks_size() == 1 ? " check" : " checks"));
  if (step.manual()) notes.push_back("manual");
  return absl::StrJoin(notes, ", ");
}

// Who gets the writes, where that differs from key to key.
std::string DescribeWrites(const v1::RoutingState& state) {
  if (state.stage() != v1::STAGE_CUTOVER) return "";
  std::vector<std::string> parts;
  if (state.write_weight() > 0) {
    parts.push_back(absl::StrCat("new first for ", FormatWeight(state.write_weight()), " of keys"));
  }
  const std::string held = DescribeHeldSlice(state);
  if (!held.empty()) parts.push_back("held for " + held);
  if (state.drain_weight() < domain::kBucketCount) parts.push_back("old first for the rest");
  return absl::StrJoin(parts, ", ");
}

std::string RenderHeader(const v1::Migration& migration, const RenderOptions& options) {
  const Style& style = options.style;
  const v1::RoutingState& routing = migration.routing();
  std::string out =
      absl::StrCat(Paint(style, Tone::kStrong, Printable(domain::ShortMigrationName(migration.name()))), "  ",
                   PaintCell(RunStateCell(migration.run_state(), style), style), "\n");
  if (!migration.description().empty()) absl::StrAppend(&out, Printable(migration.description()), "\n");
  Table fields;
  const auto add = [&](absl::string_view name, const std::string& value) {
    if (!value.empty()) fields.AddRow({Cell(std::string(name), Tone::kFaint), Cell(value)});
  };
  add("stage", DescribeRouting(routing));
  add("writes", DescribeWrites(routing));
  add("why", migration.run_state_reason());
  std::string step = StepPosition(migration);
  if (!step.empty() && migration.has_step_start_time()) {
    absl::StrAppend(&step, ", for ", Age(migration.step_start_time(), options.now));
  }
  add("step", step);
  if (migration.has_deadline_time()) {
    const absl::Time deadline = FromProto(migration.deadline_time());
    add("deadline",
        absl::StrCat(UtcTime(migration.deadline_time()), " UTC, ", deadline > options.now ? "in " : "passed ",
                     ShortDuration(deadline > options.now ? deadline - options.now : options.now - deadline),
                     deadline > options.now ? "" : " ago"));
  }
  if (routing.stage() >= v1::STAGE_DUAL_WRITE) {
    add("way back", migration.reversible() ? "rollback, or abort to OFF" : "none");
  }
  add("routing", absl::StrCat("epoch ", routing.epoch(), ", generation ", routing.generation()));
  add("owners", absl::StrJoin(migration.owners(), ", "));
  std::vector<std::string> labels;
  for (const auto& [key, value] : migration.labels()) labels.push_back(absl::StrCat(key, "=", value));
  std::sort(labels.begin(), labels.end());
  add("labels", absl::StrJoin(labels, ", "));
  add("etag", migration.etag());
  if (options.wide) {
    add("uid", migration.uid());
    if (migration.has_create_time()) add("created", UtcTime(migration.create_time()) + " UTC");
    if (migration.has_update_time()) add("updated", UtcTime(migration.update_time()) + " UTC");
    add("compared", FormatWeight(routing.comparison_weight()) + " of requests");
  }
  return out + fields.ToString(style, "  ");
}

std::string RenderGate(const v1::Migration& migration, const RenderOptions& options) {
  if (!migration.has_gate()) return "";
  return Section("Gate", options.style) + RenderVerdict(migration.gate(), options);
}

std::string RenderChecks(const v1::GateResult& gate, const RenderOptions& options, absl::string_view indent) {
  Table table;
  for (const v1::CheckResult& check : gate.checks()) {
    std::vector<Cell> row;
    row.push_back(VerdictCell(check.verdict(), options.style));
    row.push_back(check.advisory() ? check.check() + " (advisory)" : check.check());
    row.push_back(MetricText(check));
    row.push_back(ObservedText(check));
    row.push_back(IntervalText(check));
    row.push_back(BoundText(check));
    row.push_back(MissingText(check));
    if (options.wide) {
      row.push_back("else " + LowerNameOf(*v1::BreachAction_descriptor(), check.on_breach()));
      row.push_back(absl::StrFormat("ln E %.2f/%.2f advance, %.2f/%.2f rollback",
                                    check.log_evidence_advance(), check.log_threshold_advance(),
                                    check.log_evidence_rollback(), check.log_threshold_rollback()));
    }
    table.AddRow(std::move(row));
  }
  return table.ToString(options.style, indent);
}

// Of reads in CANARY_READ, of writes in CUTOVER; elsewhere the stage says it.
std::string WeightOf(const v1::PlanStep& step) {
  const bool weighted = step.stage() == v1::STAGE_CANARY_READ || step.stage() == v1::STAGE_CUTOVER;
  return weighted ? FormatWeight(step.weight()) : "";
}

std::string RenderPlan(const v1::Migration& migration, const RenderOptions& options) {
  if (migration.plan().steps_size() == 0) return "";
  const int current = migration.has_step() ? static_cast<int>(migration.step()) : -1;
  const bool succeeded = migration.run_state() == v1::RUN_STATE_SUCCEEDED;
  Table steps;
  for (int i = 0; i < migration.plan().steps_size(); ++i) {
    const v1::PlanStep& step = migration.plan().steps(i);
    const bool done = i < current || succeeded;
    const Glyph glyph = done ? Glyph::kDone : i == current ? Glyph::kCurrent : Glyph::kAhead;
    const Tone tone = done ? Tone::kGood : i == current ? Tone::kStrong : Tone::kFaint;
    const char* word = done ? "done" : i == current ? "now" : "ahead";
    steps.AddRow({Cell(std::string(GlyphText(options.style, glyph)), tone), Cell(absl::StrCat(i + 1)),
                  Cell(NameOf(step.stage()), tone), WeightOf(step), Cell(word, tone), DescribeStep(step)});
  }
  // The checks go below the current step, where a tree has its branch.
  std::string out = Section("Plan", options.style);
  const std::string lines = steps.ToString(options.style, "  ");
  size_t begin = 0;
  for (int i = 0; begin < lines.size(); ++i) {
    const size_t end = lines.find('\n', begin) + 1;
    out.append(lines, begin, end - begin);
    if (i == current && migration.has_gate()) out += RenderChecks(migration.gate(), options, "       ");
    begin = end;
  }
  return out;
}

}  // namespace

std::string UtcTime(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", FromProto(time), absl::UTCTimeZone());
}

std::string Age(const google::protobuf::Timestamp& time, absl::Time now) {
  return ShortDuration(now - FromProto(time));
}

std::string LowerNameOf(const google::protobuf::EnumDescriptor& type, int value) {
  return absl::AsciiStrToLower(EnumName(type, value));
}

Cell VerdictCell(v1::Verdict verdict, const Style& style) {
  const Look look = LookOf(verdict);
  return {absl::StrCat(GlyphText(style, look.glyph), " ", EnumName(*v1::Verdict_descriptor(), verdict)),
          look.tone};
}

std::string PaintCell(const Cell& cell, const Style& style) { return Paint(style, cell.tone, cell.text); }

std::string DescribeRouting(const v1::RoutingState& state) {
  std::string text = NameOf(state.stage());
  if (state.stage() == v1::STAGE_CANARY_READ) absl::StrAppend(&text, " ", FormatWeight(state.read_weight()));
  if (state.stage() == v1::STAGE_CUTOVER) {
    absl::StrAppend(&text, " ", FormatWeight(state.write_weight()), " written new");
    if (state.drain_weight() > state.write_weight()) {
      absl::StrAppend(&text, ", held up to ", FormatWeight(state.drain_weight()));
    }
  }
  return text;
}

std::string DescribeHeldSlice(const v1::RoutingState& state) {
  if (state.drain_weight() <= state.write_weight()) return "";
  return absl::StrCat("those from ", FormatWeight(state.write_weight()), " to ",
                      FormatWeight(state.drain_weight()));
}

std::string RenderMigrations(const std::vector<v1::Migration>& migrations, const RenderOptions& options) {
  std::vector<std::string> headers = {"NAME", "STATE", "STAGE", "STEP", "GATE", "EPOCH", "PENDING"};
  if (options.wide) headers.insert(headers.end(), {"OWNERS", "ETAG", "UPDATED", "WHY"});
  Table table(std::move(headers));
  for (const v1::Migration& migration : migrations) {
    std::vector<Cell> row = {
        domain::ShortMigrationName(migration.name()),
        RunStateCell(migration.run_state(), options.style),
        DescribeRouting(migration.routing()),
        StepPosition(migration),
        migration.has_gate() ? VerdictCell(migration.gate().verdict(), options.style) : Cell(""),
        absl::StrCat(migration.routing().epoch()),
        migration.has_pending_routing() ? DescribeRouting(migration.pending_routing()) : ""};
    if (options.wide) {
      row.push_back(absl::StrJoin(migration.owners(), ","));
      row.push_back(migration.etag());
      row.push_back(migration.has_update_time() ? UtcTime(migration.update_time()) : "");
      row.push_back(migration.run_state_reason());
    }
    table.AddRow(std::move(row));
  }
  return table.empty() ? "" : table.ToString(options.style);
}

std::string RenderMigration(const v1::Migration& migration, const std::vector<v1::Instance>& instances,
                            const RenderOptions& options) {
  std::string out = RenderHeader(migration, options) + RenderGate(migration, options) +
                    RenderPlan(migration, options) + RenderPending(migration, options);
  absl::StrAppend(&out, Section(absl::StrCat("Instances (", instances.size(), ")"), options.style));
  if (instances.empty()) return out + "  none enrolled\n";
  const std::string table = RenderInstances(instances, options);
  for (size_t begin = 0; begin < table.size();) {
    const size_t end = table.find('\n', begin) + 1;
    absl::StrAppend(&out, "  ", table.substr(begin, end - begin));
    begin = end;
  }
  return out;
}

std::string RenderDecisions(const std::vector<v1::DecisionRecord>& decisions, const RenderOptions& options) {
  std::vector<std::string> headers = {"TIME (UTC)", "ACTOR", "ACTION", "FROM", "TO", "EPOCH", "REASON"};
  if (options.wide) headers.insert(headers.end(), {"STATE", "PLAN", "VERDICT"});
  Table table(std::move(headers));
  for (const v1::DecisionRecord& record : decisions) {
    std::vector<Cell> row = {UtcTime(record.time()),
                             record.actor(),
                             record.action(),
                             DescribeRouting(record.before()),
                             DescribeRouting(record.after()),
                             record.after().epoch() == 0 ? "pending" : absl::StrCat(record.after().epoch()),
                             record.reason()};
    if (options.wide) {
      row.push_back(RunStateCell(record.run_state(), options.style));
      row.push_back(absl::StrCat("r", record.plan_revision()));
      row.push_back(record.has_evidence() ? VerdictCell(record.evidence().verdict(), options.style)
                                          : Cell(""));
    }
    table.AddRow(std::move(row));
  }
  return table.empty() ? "" : table.ToString(options.style);
}

std::string RenderMismatches(const std::vector<v1::MismatchSample>& samples, const RenderOptions& options) {
  std::vector<std::string> headers = {"TIME (UTC)", "FIELD", "KIND",     "KEY",
                                      "OLD",        "NEW",   "INSTANCE", "EPOCH"};
  if (options.wide) headers.push_back("TRACE");
  Table table(std::move(headers));
  const auto value = [](const std::string& digest, uint32_t length) {
    return digest.empty() && length == 0
               ? ""
               : absl::StrCat(digest.empty() ? "?" : digest.substr(0, 12), ", ", length, " B");
  };
  for (const v1::MismatchSample& sample : samples) {
    std::vector<Cell> row = {UtcTime(sample.time()),
                             sample.field().empty() ? "(whole record)" : sample.field(),
                             sample.kind(),
                             options.wide ? sample.key_digest() : sample.key_digest().substr(0, 12),
                             value(sample.old_digest(), sample.old_length()),
                             value(sample.new_digest(), sample.new_length()),
                             sample.instance_id(),
                             absl::StrCat(sample.epoch())};
    if (options.wide) row.push_back(sample.trace_id());
    table.AddRow(std::move(row));
  }
  return table.empty() ? "" : table.ToString(options.style);
}

std::string RenderRoute(absl::string_view migration, absl::string_view key, const v1::RouteResponse& response,
                        const RenderOptions& options) {
  const v1::Decision& decision = response.decision();
  Table table;
  const auto add = [&](absl::string_view name, std::string value) {
    table.AddRow({Cell(std::string(name), Tone::kFaint), Cell(std::move(value))});
  };
  add("migration", domain::ShortMigrationName(migration));
  add("key", std::string(key));
  add("bucket", absl::StrCat(decision.bucket(), " of 100000"));
  add("read", LowerNameOf(*v1::Side_descriptor(), decision.read_side()));
  add("because", LowerNameOf(*v1::DecisionReason_descriptor(), decision.reason()));
  add("write", LowerNameOf(*v1::WriteMode_descriptor(), decision.write_mode()));
  add("compared", decision.compare() ? "yes" : "no");
  add("stage", NameOf(response.stage()));
  add("epoch", absl::StrCat(response.epoch()));
  return table.ToString(options.style);
}

std::string RenderPreconditions(const ErrorInfo& info, const Style& style) {
  Table table({"WAITS FOR", "SUBJECT", "WHY"});
  for (const PreconditionViolation& violation : info.precondition_violations) {
    table.AddRow({Cell(absl::AsciiStrToLower(violation.type), Tone::kWaiting), violation.subject,
                  violation.description});
  }
  return table.empty() ? "" : table.ToString(style, "  ");
}

}  // namespace lockstep::cli
