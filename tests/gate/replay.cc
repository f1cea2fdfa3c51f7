// Point 8, first half: a recorded bucket log reproduces every verdict bit for bit.
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/prng.h"
#include "core/domain/rehearsal.h"
#include "core/wire/evidence_log.h"
#include "google/protobuf/util/json_util.h"
#include "tests/gate/bar.h"

namespace lockstep::bar {
namespace {

using domain::EvidenceLine;
using domain::RehearsedBucket;

// Everything in which two verdicts could differ, doubles as their bits.
void AppendBits(const domain::GateResult& result, std::string* bits) {
  const auto number = [&](double value) { absl::StrAppend(bits, std::bit_cast<uint64_t>(value), " "); };
  absl::StrAppend(bits, domain::VerdictName(result.verdict), " ", result.sentence, "\n");
  number(result.log_evidence_rollback);
  number(result.log_threshold_rollback);
  for (const domain::CheckResult& check : result.checks) {
    absl::StrAppend(bits, check.check, " ", check.bad, " ", check.total, " ", check.bad_baseline, " ",
                    check.total_baseline, " ", check.affected_subjects, " ", check.distinct_subjects, " ",
                    check.needed_more.value_or(0), " ", check.sentence, " ");
    for (const double value : {check.dispersion, check.estimate, check.lower, check.upper,
                               check.log_evidence_rollback, check.log_evidence_advance}) {
      number(value);
    }
    absl::StrAppend(bits, check.onset ? absl::FormatTime(*check.onset) : "none", "\n");
  }
}

std::string Replay(const std::vector<EvidenceLine>& lines, size_t copy_at) {
  domain::Rehearsal rehearsal;
  std::string bits;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i == copy_at) {  // as after a restart: what goes on is another object
      domain::Rehearsal copy = rehearsal;
      rehearsal = domain::Rehearsal();
      rehearsal = std::move(copy);
    }
    const auto judged = rehearsal.Add(lines[i], i + 1);
    LOCKSTEP_CHECK(judged.ok(), std::string(judged.status().message()).c_str());
    if (*judged) AppendBits((*judged)->result, &bits);
  }
  return bits;
}

domain::WindowStats Sum(const std::vector<domain::WindowStats>& parts, const std::vector<size_t>& order) {
  domain::WindowStats sum;
  for (const size_t part : order) LOCKSTEP_CHECK(sum.Merge(parts[part]).ok(), "far from the highest count");
  return sum;
}

// Through the outer form and back.
EvidenceLine ThroughJson(const EvidenceLine& line) {
  std::string json;
  LOCKSTEP_CHECK(google::protobuf::util::MessageToJsonString(wire::ToProto(line), &json).ok(), "to JSON");
  v1::EvidenceLine parsed;
  LOCKSTEP_CHECK(google::protobuf::util::JsonStringToMessage(json, &parsed).ok(), "from JSON");
  absl::StatusOr<EvidenceLine> read = wire::EvidenceLineFromProto(parsed);
  LOCKSTEP_CHECK(read.ok(), std::string(read.status().message()).c_str());
  return *std::move(read);
}

}  // namespace

Report MeasureReplay(const Options& options) {
  // Three instances, of which the new side of one goes bad in the middle.
  domain::TrafficModel model;
  model.reads_per_second = 300;
  model.comparison_share = 0.2;
  model.error_rate = 0.002;
  model.latency_median = absl::Milliseconds(5);
  model.new_side = model.new_side_before_onset = domain::HealthyNewSide(model);
  model.mean_burst = 3;
  model.subjects = domain::SubjectModel::kPopulation;
  model.population = 20'000;
  domain::TrafficModel bad = model;
  bad.onset = absl::Minutes(20);
  bad.new_side.error_rate = 0.1;
  const domain::MigrationPlan plan = WholePlan({0.05, 0.25, 0.5}, FiveChecks(0.005));
  const size_t buckets = options.Runs(1'440, 600);

  std::vector<domain::TrafficSource> instances = {
      {model, options.seed}, {model, options.seed + 1}, {bad, options.seed + 2}};
  domain::Rehearsal live;
  const domain::EvidenceHeader header{"namespaces/a/migrations/b", plan, {}};
  std::vector<EvidenceLine> recorded = {header}, otherwise_merged = {header},
                            through_json = {ThroughJson(header)};
  LOCKSTEP_CHECK(live.Add(header, 1).ok(), "the plan is valid");
  std::string live_bits;
  domain::RoutingState routing = domain::StateOfStage(plan.steps[0].stage, 0);
  size_t rollbacks = 0;
  for (size_t i = 0; i < buckets; ++i) {
    const absl::Time start = absl::UnixEpoch() + instances[0].elapsed();
    std::vector<domain::WindowStats> parts;
    for (domain::TrafficSource& instance : instances) {
      parts.push_back(instance.Next(routing.stage, routing.read_weight));
    }
    const domain::EvidenceBucket bucket{start, Sum(parts, {0, 1, 2})};
    recorded.push_back(bucket);
    otherwise_merged.push_back(domain::EvidenceBucket{start, Sum(parts, {2, 0, 1})});
    through_json.push_back(ThroughJson(bucket));
    const auto judged = live.Add(bucket, i + 2);
    LOCKSTEP_CHECK(judged.ok(), std::string(judged.status().message()).c_str());
    AppendBits((*judged)->result, &live_bits);
    if ((*judged)->transition && (*judged)->transition->action == "rollback") ++rollbacks;
    routing = live.migration().published;
  }
  Report report;
  const auto row = [&](const std::string& claim, const std::vector<EvidenceLine>& lines, size_t copy_at) {
    const bool same = Replay(lines, copy_at) == live_bits;
    report.rows.push_back({claim, "every bit the same", same ? "the same" : "DIFFERENT", same});
  };
  row("replayed as recorded", recorded, recorded.size());
  row("replayed, instances merged in another order", otherwise_merged, recorded.size());
  row("replayed, carried over to another object in the middle", recorded, recorded.size() / 2);
  row("replayed from JSON lines", through_json, recorded.size());
  report.notes = {
      absl::StrCat(buckets, " buckets of 3 instances, with ", rollbacks,
                   " rollback; verdicts, evidence, bounds, counts and sentences are compared; the "
                   "cost is measured by tests/bench/run.sh gate")};
  return report;
}

}  // namespace lockstep::bar
