#include "client/cli/render_gate.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/cli/output.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "core/domain/metric.h"
#include "core/domain/migration.h"
#include "core/wire/enums.h"
#include "google/protobuf/struct.pb.h"

namespace lockstep::cli {
namespace {

// Nothing for a metric that this version doesn't know: it is shown like a rate.
const domain::MetricRow* RowOf(const v1::CheckResult& check) {
  const auto metric = wire::EnumFromProto(check.metric());
  return metric.has_value() ? &domain::RowOf(*metric) : nullptr;
}

bool IsLevel(const v1::CheckResult& check) {
  const domain::MetricRow* row = RowOf(check);
  return row != nullptr && row->family == domain::MetricFamily::kLevel;
}

bool ComparesSides(const v1::CheckResult& check) {
  const domain::MetricRow* row = RowOf(check);
  return row != nullptr && row->family == domain::MetricFamily::kRatio;
}

// A level in its metric's own unit: a count, a share, or a factor.
std::string LevelText(v1::Metric metric, double level) {
  if (metric == v1::METRIC_COVERAGE) return FormatRatio(level);
  if (metric == v1::METRIC_THROUGHPUT_SHARE) return absl::StrFormat("factor %.3g", level);
  return absl::StrFormat("%.12g", level);
}

constexpr int kBarCells = 20;

// How far evidence has come towards its threshold: "[######..............]", or the same in blocks.
std::string Bar(const Style& style, double log_evidence, double log_threshold) {
  const double share = log_threshold > 0 ? std::clamp(log_evidence / log_threshold, 0.0, 1.0) : 0;
  // Full only when the threshold is reached.
  const int full = std::isnan(share) ? 0 : static_cast<int>(std::floor(share * kBarCells));
  std::string out = style.unicode ? "" : "[";
  for (int i = 0; i < kBarCells; ++i) {
    out += style.unicode ? (i < full ? "█" : "░") : (i < full ? "#" : ".");
  }
  return style.unicode ? out : out + "]";
}

// Minus infinity is no evidence at all: of a rollback, say, that would be about one subject.
std::string EvidenceText(double log_evidence, double log_threshold) {
  return absl::StrCat(std::isfinite(log_evidence) ? absl::StrFormat("ln E %.2f", log_evidence) : "none",
                      absl::StrFormat(" of %.2f", log_threshold));
}

std::string BarLine(const Style& style, double log_evidence, double log_threshold) {
  return absl::StrCat(Bar(style, log_evidence, log_threshold), " ", EvidenceText(log_evidence, log_threshold),
                      log_evidence >= log_threshold ? ": enough" : "");
}

std::string KOfN(uint64_t k, uint64_t n, double estimate) {
  return absl::StrCat(FormatCount(k), " of ", FormatCount(n), " (", FormatRatio(estimate), ")");
}

std::string SubjectsText(const v1::CheckResult& check) {
  std::string text = absl::StrCat(FormatCount(check.affected_subjects()), " affected");
  if (ComparesSides(check)) {
    absl::StrAppend(&text, " on new, ", FormatCount(check.affected_subjects_baseline()), " on old");
  }
  return absl::StrCat(text, "; ", FormatCount(check.distinct_subjects()), " distinct observed");
}

std::string RenderCheck(const v1::CheckResult& check, const RenderOptions& options) {
  const Style& style = options.style;
  std::string out =
      absl::StrCat("\n", Paint(style, Tone::kStrong, Printable(check.check())), "  ",
                   PaintCell(VerdictCell(check.verdict(), style), style), "  ", Printable(MetricText(check)),
                   check.advisory() ? ", advisory" : "", ", else ",
                   LowerNameOf(*v1::BreachAction_descriptor(), check.on_breach()), "\n");
  Table lines;
  const auto add = [&](absl::string_view name, std::string value) {
    if (!value.empty()) lines.AddRow({Cell(std::string(name), Tone::kFaint), Cell(std::move(value))});
  };
  add("null", check.null_hypothesis());
  if (IsLevel(check)) {
    add("level", ObservedText(check));
    add("limit", LevelText(check.metric(), check.budget()));
  } else {
    const bool sides = ComparesSides(check);
    add(sides ? "new" : "observed", KOfN(check.bad(), check.total(), check.estimate()));
    if (sides) {
      const double n = static_cast<double>(check.total_baseline());
      add("old", KOfN(check.bad_baseline(), check.total_baseline(),
                      n > 0 ? static_cast<double>(check.bad_baseline()) / n : 0));
    }
    add("bounds", std::string(absl::StripPrefix(IntervalText(check), "in ")));
    add(sides ? "floor" : "budget", check.budget() > 0 ? FormatRatio(check.budget()) : "");
    if (check.distinct_subjects() > 0 || check.affected_subjects() > 0) add("subjects", SubjectsText(check));
    if (check.dispersion() > 1) {
      add("clustered", absl::StrFormat("counts without a subject are divided by %.2f", check.dispersion()));
    }
    add("roll back", BarLine(style, check.log_evidence_rollback(), check.log_threshold_rollback()));
    add("advance", BarLine(style, check.log_evidence_advance(), check.log_threshold_advance()));
    if (check.has_onset_time()) {
      add("onset", absl::StrCat("most likely ", UtcTime(check.onset_time()), " UTC"));
    }
  }
  add("missing", MissingText(check));
  add("in short", check.sentence());
  return out + lines.ToString(style, "  ");
}

std::string LastDecision(const v1::DecisionRecord& record) {
  return absl::StrCat(UtcTime(record.time()), " UTC  ", Printable(record.action()), " by ",
                      Printable(record.actor()), ", ", DescribeRouting(record.before()), " to ",
                      DescribeRouting(record.after()), record.reason().empty() ? "" : ": ",
                      Printable(record.reason()));
}

// "12m (11m .. 15m)"; one number when all runs are alike.
std::string Percentiles(const domain::DurationSummary& summary, absl::Duration from = absl::ZeroDuration()) {
  const auto show = [&](absl::Duration duration) {
    return duration <= from ? std::string("0s") : ShortDuration(duration - from);
  };
  const std::string p10 = show(summary.p10);
  const std::string p90 = show(summary.p90);
  if (p10 == p90) return p10;
  return absl::StrCat(show(summary.median), " (", p10, " .. ", p90, ")");
}

std::string RunsText(size_t runs, size_t of) {
  return absl::StrCat(FormatCount(runs), " of ", FormatCount(of));
}

std::string JsonString(const std::string& text) {
  google::protobuf::Value value;
  value.set_string_value(text);
  std::string json = ToJsonLine(value);
  json.pop_back();
  return json;
}

std::string JsonOf(const domain::DurationSummary& summary) {
  if (summary.runs == 0) return "{\"runs\":0}";
  return absl::StrFormat("{\"runs\":%d,\"p10Seconds\":%g,\"medianSeconds\":%g,\"p90Seconds\":%g}",
                         summary.runs, absl::ToDoubleSeconds(summary.p10),
                         absl::ToDoubleSeconds(summary.median), absl::ToDoubleSeconds(summary.p90));
}

}  // namespace

std::string MetricText(const v1::CheckResult& check) {
  std::string text = LowerNameOf(*v1::Metric_descriptor(), check.metric());
  if (!check.field().empty()) absl::StrAppend(&text, " of ", check.field());
  if (check.quantile() > 0) absl::StrAppend(&text, absl::StrFormat(" p%.4g", check.quantile() * 100));
  return text;
}

std::string ObservedText(const v1::CheckResult& check) {
  if (IsLevel(check)) {
    const std::string level = LevelText(check.metric(), check.estimate());
    return check.total() == 0
               ? level
               : absl::StrCat(level, " (", FormatCount(check.bad()), " of ", FormatCount(check.total()), ")");
  }
  if (check.total() == 0 && check.total_baseline() == 0) return "no data";
  const std::string own = absl::StrCat(FormatRatio(check.estimate()), " (", FormatCount(check.bad()), " of ",
                                       FormatCount(check.total()), ")");
  if (check.total_baseline() == 0) return own;
  return absl::StrCat(own, ", old ", FormatCount(check.bad_baseline()), " of ",
                      FormatCount(check.total_baseline()));
}

std::string IntervalText(const v1::CheckResult& check) {
  if (IsLevel(check)) return "";
  return absl::StrCat("in [", FormatRatio(check.lower()), ", ", FormatRatio(check.upper()), "]");
}

std::string BoundText(const v1::CheckResult& check) {
  if (IsLevel(check)) return absl::StrCat("limit ", LevelText(check.metric(), check.budget()));
  if (check.budget() == 0) return "";
  return absl::StrCat(ComparesSides(check) ? "floor " : "budget ", FormatRatio(check.budget()));
}

std::string MissingText(const v1::CheckResult& check) {
  if (check.verdict() != v1::VERDICT_HOLD) return "";
  if (check.rising()) return "rises within the budget: holds until it stops, or somebody decides";
  if (check.will_not_resolve() && !ComparesSides(check) && check.lower() > check.budget()) {
    return "will not pass: the rate is above the bound";
  }
  if (check.will_not_resolve()) return "will not resolve: the rate is about the bound or above it";
  if (check.has_needed_more()) {
    return absl::StrCat(
        "needs ", FormatCount(check.needed_more()), " more clean, ",
        check.has_eta() ? absl::StrCat("about ", ShortDuration(FromProto(check.eta()))) : "ETA unknown");
  }
  return check.total() == 0 && !IsLevel(check) ? "needs data" : "";
}

std::string RenderVerdict(const v1::GateResult& gate, const RenderOptions& options) {
  std::string out = absl::StrCat("  ", PaintCell(VerdictCell(gate.verdict(), options.style), options.style),
                                 "  ", Printable(gate.sentence()), "\n");
  if (gate.has_bake_remaining() && FromProto(gate.bake_remaining()) > absl::ZeroDuration()) {
    absl::StrAppend(&out, "  ", GlyphText(options.style, Glyph::kWaiting), " BAKE  ",
                    ShortDuration(FromProto(gate.bake_remaining())), " of the minimum stay left\n");
  }
  if (gate.deadline_passed()) {
    const std::string title = absl::StrCat(GlyphText(options.style, Glyph::kWarning), " DEADLINE");
    absl::StrAppend(&out, "  ", Paint(options.style, Tone::kWaiting, title),
                    "  the step's deadline has passed\n");
  }
  for (const v1::Guard& guard : gate.guards()) {
    const std::string title =
        absl::StrCat(GlyphText(options.style, Glyph::kWarning), " GUARD ", Printable(guard.name()));
    absl::StrAppend(&out, "  ", Paint(options.style, Tone::kWaiting, title), "  ",
                    Printable(guard.sentence()), "\n");
  }
  return out;
}

std::string RenderExplanation(absl::string_view migration, const v1::ExplainGateResponse& response,
                              const RenderOptions& options) {
  const v1::GateResult& gate = response.gate();
  const Style& style = options.style;
  std::string out = absl::StrCat(
      Paint(style, Tone::kStrong, Printable(domain::ShortMigrationName(migration))), "  step ",
      response.step() + 1,
      gate.has_evaluate_time() ? absl::StrCat(", at ", UtcTime(gate.evaluate_time()), " UTC") : "", "\n",
      RenderVerdict(gate, options));
  Table lines;
  const auto add = [&](absl::string_view name, std::string value) {
    lines.AddRow({Cell(std::string(name), Tone::kFaint), Cell(std::move(value))});
  };
  if (gate.log_threshold_rollback() > 0) {
    add("roll back", BarLine(style, gate.log_evidence_rollback(), gate.log_threshold_rollback()) +
                         ", all checks together");
  }
  if (gate.suspect_fields_size() > 0) add("suspect fields", absl::StrJoin(gate.suspect_fields(), ", "));
  if (gate.evidence_restarts() > 0) {
    add("restarts", absl::StrCat(gate.evidence_restarts(), ": the error probabilities are divided by ",
                                 absl::StrFormat("%.0f", std::exp2(gate.evidence_restarts()))));
  }
  if (response.has_last_decision()) add("last decision", LastDecision(response.last_decision()));
  if (!lines.empty()) out += lines.ToString(style, "  ");
  for (const v1::CheckResult& check : gate.checks()) out += RenderCheck(check, options);
  return out;
}

std::string RenderReplay(const std::vector<v1::ExplainGateResponse>& buckets, const RenderOptions& options) {
  std::vector<std::string> headers = {"UNTIL (UTC)", "STEP",   "VERDICT", "CHECK",     "OBSERVED",
                                      "BOUNDS",      "BUDGET", "ADVANCE", "ROLL BACK", "DECIDED"};
  if (options.wide) headers.push_back("SENTENCE");
  Table table(std::move(headers));
  for (const v1::ExplainGateResponse& bucket : buckets) {
    const v1::GateResult& gate = bucket.gate();
    std::string decided = bucket.has_last_decision()
                              ? absl::StrCat(bucket.last_decision().action(), " to ",
                                             DescribeRouting(bucket.last_decision().after()))
                              : "";
    std::vector<Cell> first = {UtcTime(gate.evaluate_time()), absl::StrCat(bucket.step() + 1),
                               VerdictCell(gate.verdict(), options.style)};
    if (gate.checks().empty()) {
      std::vector<Cell> row = first;
      row.insert(row.end(), {"", "", "", "", "", "", decided});
      if (options.wide) row.push_back(gate.sentence());
      table.AddRow(std::move(row));
    }
    for (const v1::CheckResult& check : gate.checks()) {
      std::vector<Cell> row = first;
      row[2] = VerdictCell(check.verdict(), options.style);
      const bool level = IsLevel(check);
      row.insert(row.end(),
                 {check.check(), ObservedText(check), IntervalText(check), BoundText(check),
                  level ? "" : EvidenceText(check.log_evidence_advance(), check.log_threshold_advance()),
                  level ? "" : EvidenceText(check.log_evidence_rollback(), check.log_threshold_rollback()),
                  std::exchange(decided, "")});
      if (options.wide) row.push_back(check.sentence());
      table.AddRow(std::move(row));
    }
  }
  return table.empty() ? "" : table.ToString(options.style);
}

std::string RenderSimulation(const SimulationView& view, const RenderOptions& options) {
  const domain::SimulationSummary& summary = *view.summary;
  std::string out = absl::StrCat(Paint(options.style, Tone::kStrong, view.title), "\n");
  Table steps({"STEP", "STAGE", "BEGINS AFTER", "RUNS"});
  for (size_t i = 0; i < summary.until_step.size(); ++i) {
    const domain::PlanStep& step = view.plan->steps[i];
    const bool weighted = step.stage == domain::Stage::kCanaryRead || step.stage == domain::Stage::kCutover;
    steps.AddRow(
        {absl::StrCat(i + 1),
         absl::StrCat(domain::StageName(step.stage), weighted ? " " + FormatWeight(step.weight) : ""),
         summary.until_step[i].runs == 0 ? "" : Percentiles(summary.until_step[i]),
         RunsText(summary.until_step[i].runs, summary.runs)});
  }
  steps.AddRow({"end", "", summary.until_end.runs == 0 ? "" : Percentiles(summary.until_end),
                RunsText(summary.until_end.runs, summary.runs)});
  out += steps.ToString(options.style, "  ");
  for (const auto& [step, held] : summary.held) {
    absl::StrAppend(&out, "  held at step ", step + 1, ": ", RunsText(held.runs, summary.runs), " runs; ",
                    Printable(held.sentence), "\n");
  }
  const domain::DurationSummary& rollback = summary.until_rollback;
  absl::StrAppend(&out, "  rolled back: ", RunsText(rollback.runs, summary.runs), " runs");
  if (rollback.runs > 0) {
    absl::StrAppend(&out, view.healthy ? ", wrongly," : "", " after ", Percentiles(rollback, view.onset),
                    view.onset > absl::ZeroDuration() ? " from the onset" : "", ", by ");
    std::vector<std::string> checks;
    for (const auto& [check, runs] : summary.rollbacks_by_check) {
      checks.push_back(absl::StrCat(Printable(check), " (", runs, ")"));
    }
    absl::StrAppend(&out, absl::StrJoin(checks, ", "), "\n  by then new had served ",
                    FormatCount(summary.reads_until_rollback), " reads, of which ",
                    FormatCount(summary.errors_until_rollback),
                    " had failed (medians)\n  for instance: ", Printable(summary.rollback_sentence));
  }
  return out + "\n";
}

std::string SimulationJson(const SimulationView& view) {
  const domain::SimulationSummary& summary = *view.summary;
  std::vector<std::string> steps;
  for (const domain::DurationSummary& step : summary.until_step) steps.push_back(JsonOf(step));
  std::vector<std::string> held;
  for (const auto& [step, runs] : summary.held) {
    held.push_back(absl::StrCat("{\"step\":", step, ",\"runs\":", runs.runs,
                                ",\"sentence\":", JsonString(runs.sentence), "}"));
  }
  std::vector<std::string> checks;
  for (const auto& [check, runs] : summary.rollbacks_by_check) {
    checks.push_back(absl::StrCat(JsonString(check), ":", runs));
  }
  return absl::StrCat("{\"traffic\":", JsonString(view.title), ",\"runs\":", summary.runs, ",\"untilStep\":[",
                      absl::StrJoin(steps, ","), "],\"untilEnd\":", JsonOf(summary.until_end), ",\"held\":[",
                      absl::StrJoin(held, ","), "],\"untilRollback\":", JsonOf(summary.until_rollback),
                      ",\"newReadsUntilRollback\":", summary.reads_until_rollback,
                      ",\"newErrorsUntilRollback\":", summary.errors_until_rollback,
                      ",\"onsetSeconds\":", absl::ToInt64Seconds(view.onset), ",\"rollbacksByCheck\":{",
                      absl::StrJoin(checks, ","),
                      "},\"rollbackSentence\":", JsonString(summary.rollback_sentence), "}");
}

}  // namespace lockstep::cli
