#include "server/http/metrics_page.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/domain/bucketing.h"
#include "core/domain/ladder.h"
#include "core/domain/plan.h"

namespace lockstep::http {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

using Labels = std::initializer_list<std::pair<absl::string_view, absl::string_view>>;

constexpr double kNanosecondsPerSecond = 1e9;

// The families of one page. Samples are added to the family declared last.
class Page {
 public:
  void Family(absl::string_view name, MetricType type, absl::string_view help) {
    MetricFamily& family = families_.emplace_back();
    family.name = std::string(name);
    family.type = type;
    family.help = std::string(help);
  }

  void Add(double value, Labels labels = {}) {
    ClientMetric& metric = NewMetric(labels);
    if (families_.back().type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
  }

  void Add(ClientMetric::Histogram histogram, Labels labels = {}) {
    NewMetric(labels).histogram = std::move(histogram);
  }

  std::string Serialize() {
    families_.erase(std::remove_if(families_.begin(), families_.end(),
                                   [](const MetricFamily& family) { return family.metric.empty(); }),
                    families_.end());
    return prometheus::TextSerializer().Serialize(families_);
  }

 private:
  ClientMetric& NewMetric(Labels labels) {
    ClientMetric& metric = families_.back().metric.emplace_back();
    for (const auto& [name, value] : labels) {
      metric.label.push_back({std::string(name), std::string(value)});
    }
    return metric;
  }

  std::vector<MetricFamily> families_;
};

double Ratio(uint32_t weight) { return static_cast<double>(weight) / domain::kBucketCount; }

double UnixSeconds(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

// The sketch in the fixed cells of the exposition: cells are exact, since they are cut at edges of the
// sketch.
ClientMetric::Histogram HistogramOf(const domain::LatencySketch& sketch) {
  static constexpr double kBoundsSeconds[] = {0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                              0.025,   0.05,   0.1,     0.25,   0.5,   1,      2.5,   10};
  ClientMetric::Histogram histogram;
  histogram.sample_count = sketch.count();
  const auto counts = sketch.NonZero();
  double sum = 0;
  for (const auto& [index, count] : counts) {
    sum += static_cast<double>(count) * static_cast<double>(domain::LatencySketch::EdgeNanoseconds(index)) /
           kNanosecondsPerSecond;
  }
  histogram.sample_sum = sum;
  for (const double bound : kBoundsSeconds) {
    const auto edge = domain::LatencySketch::BucketIndex(
        static_cast<uint64_t>(std::llround(bound * kNanosecondsPerSecond)));
    histogram.bucket.push_back(
        {sketch.count() - sketch.CountAbove(edge),
         static_cast<double>(domain::LatencySketch::EdgeNanoseconds(edge)) / kNanosecondsPerSecond});
  }
  histogram.bucket.push_back({sketch.count(), std::numeric_limits<double>::infinity()});
  return histogram;
}

ClientMetric::Histogram HistogramOf(const engine::DurationCounts& counts) {
  ClientMetric::Histogram histogram;
  histogram.sample_count = counts.count;
  histogram.sample_sum = counts.sum_seconds;
  uint64_t cumulative = 0;
  for (size_t i = 0; i < counts.cells.size(); ++i) {
    cumulative += counts.cells[i];
    const bool last = i == counts.kBoundsSeconds.size();
    histogram.bucket.push_back(
        {cumulative, last ? std::numeric_limits<double>::infinity() : counts.kBoundsSeconds[i]});
  }
  return histogram;
}

using Migrations = std::vector<engine::MigrationMetrics>;

void AddState(const Migrations& migrations, Page* page) {
  page->Family("lockstep_migration_stage", MetricType::Gauge, "1 for the published stage, 0 for the others.");
  for (const auto& m : migrations) {
    for (const domain::Stage stage : domain::kAllStages) {
      page->Add(m.stage == stage ? 1 : 0, {{"migration", m.name}, {"stage", domain::StageName(stage)}});
    }
  }
  page->Family("lockstep_read_target_ratio", MetricType::Gauge,
               "Published share of keys that are read from new.");
  for (const auto& m : migrations) page->Add(Ratio(m.read_weight), {{"migration", m.name}});
  page->Family("lockstep_read_observed_ratio", MetricType::Gauge,
               "Share of the reads of the present step that new served.");
  for (const auto& m : migrations) {
    if (m.read_observed_ratio) page->Add(*m.read_observed_ratio, {{"migration", m.name}});
  }
  page->Family("lockstep_write_target_ratio", MetricType::Gauge,
               "Published share of keys whose writes new is authoritative for.");
  for (const auto& m : migrations) page->Add(Ratio(m.write_weight), {{"migration", m.name}});
  page->Family("lockstep_migration_epoch", MetricType::Gauge, "Number of the published routing state.");
  for (const auto& m : migrations) page->Add(static_cast<double>(m.epoch), {{"migration", m.name}});
  page->Family("lockstep_fence_waiting_instances", MetricType::Gauge,
               "Instances that a committed routing state waits for.");
  for (const auto& m : migrations) {
    page->Add(static_cast<double>(m.fence_waiting_instances), {{"migration", m.name}});
  }
}

void AddTraffic(const Migrations& migrations, Page* page) {
  page->Family("lockstep_reads_total", MetricType::Counter,
               "Reads reported by instances, by the side that served them.");
  for (const auto& m : migrations) {
    for (const domain::Arm arm : {domain::Arm::kOld, domain::Arm::kNew}) {
      const domain::ArmStats& stats = m.totals.arm(arm);
      const absl::string_view side = domain::ArmName(arm);
      page->Add(static_cast<double>(stats.requests - stats.errors),
                {{"migration", m.name}, {"side", side}, {"outcome", "ok"}});
      page->Add(static_cast<double>(stats.errors),
                {{"migration", m.name}, {"side", side}, {"outcome", "error"}});
    }
  }
  page->Family("lockstep_writes_total", MetricType::Counter,
               "Writes reported by instances, by role of the side.");
  for (const auto& m : migrations) {
    const domain::WriteStats& w = m.totals.writes;
    const auto add = [&](absl::string_view role, absl::string_view outcome, uint64_t count) {
      page->Add(static_cast<double>(count), {{"migration", m.name}, {"role", role}, {"outcome", outcome}});
    };
    add("authoritative", "ok", w.authoritative_ok);
    add("authoritative", "error", w.authoritative_failed);
    add("mirror", "ok", w.mirror_ok);
    add("mirror", "error", w.mirror_failed);
    add("mirror", "shed", w.mirror_shed);
  }
  page->Family("lockstep_repairs_outstanding", MetricType::Gauge,
               "Mirror writes that failed in this generation and are not repaired.");
  for (const auto& m : migrations) {
    page->Add(static_cast<double>(m.repairs_outstanding), {{"migration", m.name}});
  }
  page->Family("lockstep_operation_duration_seconds", MetricType::Histogram,
               "Latency of reads at the serving side, as reported by instances; the sum is within 1 %.");
  for (const auto& m : migrations) {
    for (const domain::Arm arm : {domain::Arm::kOld, domain::Arm::kNew}) {
      page->Add(HistogramOf(m.totals.arm(arm).latency),
                {{"migration", m.name}, {"op", "read"}, {"side", domain::ArmName(arm)}});
    }
  }
}

void AddComparisons(const Migrations& migrations, Page* page) {
  page->Family("lockstep_comparisons_total", MetricType::Counter, "Comparisons of both sides, by outcome.");
  for (const auto& m : migrations) {
    for (const domain::ComparisonOutcomeInfo& info : domain::kComparisonOutcomes) {
      page->Add(static_cast<double>(m.totals.comparison(info.outcome)),
                {{"migration", m.name}, {"outcome", info.name}});
    }
  }
  page->Family("lockstep_field_mismatches_total", MetricType::Counter,
               "Comparisons that differ in a declared field; others are under _other.");
  for (const auto& m : migrations) {
    uint64_t other = 0;
    for (const auto& [field, counts] : m.totals.fields()) {
      const bool declared =
          std::find(m.declared_fields.begin(), m.declared_fields.end(), field) != m.declared_fields.end();
      if (!declared) {
        other += counts.total();
        continue;
      }
      page->Add(static_cast<double>(counts.total()), {{"migration", m.name}, {"field", field}});
    }
    if (other > 0) page->Add(static_cast<double>(other), {{"migration", m.name}, {"field", "_other"}});
  }
  page->Family("lockstep_dropped_samples_total", MetricType::Counter,
               "What instances did not measure or lost, by reason.");
  for (const auto& m : migrations) {
    const domain::DroppedStats& d = m.totals.dropped;
    page->Add(static_cast<double>(d.comparisons_shed),
              {{"migration", m.name}, {"reason", "comparison_shed"}});
    page->Add(static_cast<double>(d.telemetry_dropped),
              {{"migration", m.name}, {"reason", "telemetry_dropped"}});
    page->Add(static_cast<double>(d.samples_dropped), {{"migration", m.name}, {"reason", "sample_dropped"}});
  }
}

void AddGate(const engine::EngineMetrics& metrics, Page* page) {
  page->Family("lockstep_gate_check_value", MetricType::Gauge, "Newest estimate of a check.");
  for (const auto& m : metrics.migrations) {
    if (m.gate == nullptr) continue;
    for (const auto& check : m.gate->outline().checks)
      page->Add(check.estimate, {{"migration", m.name}, {"check", check.check}});
  }
  page->Family("lockstep_gate_check_threshold", MetricType::Gauge, "The bound that the check has to keep.");
  for (const auto& m : metrics.migrations) {
    if (m.gate == nullptr) continue;
    for (const auto& check : m.gate->outline().checks)
      page->Add(check.budget, {{"migration", m.name}, {"check", check.check}});
  }
  page->Family(
      "lockstep_mismatch_ratio_upper_bound", MetricType::Gauge,
      "Upper end of the confidence sequence of the mismatch ratio, by check; those of one field aside.");
  for (const auto& m : metrics.migrations) {
    if (m.gate == nullptr) continue;
    for (const auto& check : m.gate->result().checks) {
      if (check.metric == domain::Metric::kMismatchRatio && check.field.empty()) {
        page->Add(check.upper, {{"migration", m.name}, {"check", check.check}});
      }
    }
  }
  page->Family("lockstep_gate_evaluations_total", MetricType::Counter,
               "Evaluations of gates since the start, by verdict.");
  for (const domain::Verdict verdict :
       {domain::Verdict::kAdvance, domain::Verdict::kHold, domain::Verdict::kRollBack}) {
    page->Add(static_cast<double>(metrics.gate.evaluations_by_verdict[static_cast<size_t>(verdict)]),
              {{"verdict", absl::AsciiStrToLower(domain::VerdictName(verdict))}});
  }
  page->Family("lockstep_gate_last_evaluation_timestamp_seconds", MetricType::Gauge,
               "When a gate was last evaluated, since the Unix epoch.");
  if (metrics.gate.last_evaluation != absl::InfinitePast())
    page->Add(UnixSeconds(metrics.gate.last_evaluation));
  page->Family("lockstep_transitions_total", MetricType::Counter,
               "Published changes of stage since the start.");
  for (const engine::TransitionCount& t : metrics.transitions) {
    page->Add(static_cast<double>(t.count),
              {{"from", domain::StageName(t.from)}, {"to", domain::StageName(t.to)}, {"actor", t.actor}});
  }
}

void AddServer(const engine::EngineMetrics& metrics, absl::string_view version, Page* page) {
  page->Family("lockstep_build_info", MetricType::Gauge, "Always 1.");
  page->Add(1, {{"version", version}});
  page->Family("lockstep_instances", MetricType::Gauge,
               "Enrolled instances; fences count those that are gone, too.");
  page->Add(static_cast<double>(metrics.instances.connected), {{"lease", "live"}});
  page->Add(static_cast<double>(metrics.instances.expired), {{"lease", "expired"}});
  page->Add(static_cast<double>(metrics.instances.disconnected), {{"lease", "disconnected"}});
  page->Family("lockstep_telemetry_batches_total", MetricType::Counter,
               "Batches since the start, by what became of them.");
  page->Add(static_cast<double>(metrics.telemetry.batches), {{"outcome", "counted"}});
  page->Add(static_cast<double>(metrics.telemetry.duplicate_batches), {{"outcome", "duplicate"}});
  page->Add(static_cast<double>(metrics.telemetry.refused_batches), {{"outcome", "refused"}});
  page->Family("lockstep_telemetry_deltas_total", MetricType::Counter,
               "Deltas since the start that are no evidence, by reason.");
  page->Add(static_cast<double>(metrics.telemetry.stale_deltas), {{"reason", "stale"}});
  page->Add(static_cast<double>(metrics.telemetry.void_deltas), {{"reason", "void"}});
  page->Family("lockstep_store_commit_duration_seconds", MetricType::Histogram, "Time to a durable commit.");
  page->Add(HistogramOf(metrics.store_commits));
  page->Family(
      "lockstep_rollback_propagation_seconds", MetricType::Histogram,
      "From the publish of a rollback, a drill or the end of a hold until an instance routed by it; one "
      "observation for each instance.");
  page->Add(HistogramOf(metrics.rollback_propagation));
  page->Family("lockstep_store_revision", MetricType::Gauge, "Number of the newest commit.");
  page->Add(static_cast<double>(metrics.store_revision));
}

}  // namespace

std::string RenderMetrics(const engine::EngineMetrics& metrics, absl::string_view version) {
  Page page;
  AddServer(metrics, version, &page);
  AddState(metrics.migrations, &page);
  AddTraffic(metrics.migrations, &page);
  AddComparisons(metrics.migrations, &page);
  AddGate(metrics, &page);
  return page.Serialize();
}

}  // namespace lockstep::http
