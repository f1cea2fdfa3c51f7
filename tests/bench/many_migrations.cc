#include "tests/bench/many_migrations.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/domain/traffic_model.h"
#include "server/engine/engine.h"
#include "server/engine/evidence_timeline.h"
#include "server/engine/registry_keys.h"
#include "server/store/memory_store.h"

namespace lockstep::bench {
namespace {

constexpr char kTemplate[] = "namespaces/bench/migrations/template";
constexpr uint64_t kSeed = 1;
constexpr size_t kCommitBytes = store::kMaxCommitBytes / 2;

// What one migration has in the store.
struct Rows {
  domain::Migration migration;
  std::vector<domain::DecisionRecord> decisions;
  std::vector<std::pair<uint64_t, domain::Migration>> definitions;  // by decision
  std::vector<domain::AuditEntry> audit;
  engine::EvidenceTimeline timeline;
};

// Collects what a commit takes, and commits it.
class BulkWriter {
 public:
  BulkWriter(const store::RecordCodec& codec, store::Store* store) : codec_(codec), store_(store) {}

  template <typename Record>
  absl::Status Put(store::Table table, std::string key, const Record& record) {
    batch_.Put(table, std::move(key), codec_.Encode(record));
    return batch_.bytes() < kCommitBytes ? absl::OkStatus() : Flush();
  }
  void PutMeta(absl::string_view key, std::string value) {
    batch_.Put(store::Table::kMeta, store::MetaKey(key), std::move(value));
  }
  absl::Status Flush() {
    return store_->Commit(std::exchange(batch_, store::WriteBatch()), std::nullopt).status();
  }

 private:
  const store::RecordCodec& codec_;
  store::Store* const store_;
  store::WriteBatch batch_;
};

template <typename Record>
absl::Status ReadAll(const store::Store& store, store::Table table,
                     absl::FunctionRef<absl::StatusOr<Record>(absl::string_view)> decode,
                     absl::FunctionRef<void(Record)> visit) {
  absl::Status status;
  LOCKSTEP_RETURN_IF_ERROR(
      store.Scan(table, "", "", store::kNoLimit, [&](absl::string_view, absl::string_view value) {
        absl::StatusOr<Record> record = decode(value);
        status.Update(record.status());
        if (record.ok()) visit(*std::move(record));
        return status.ok();
      }));
  return status;
}

// A migration that a real engine has created and taken to its last step.
absl::StatusOr<Rows> MakeTemplate(const domain::PlanStep& step, const store::RecordCodec& codec,
                                  const Clock& clock) {
  const std::unique_ptr<store::Store> store = store::NewMemoryStore();
  engine::Engine engine(store.get(), &codec, &clock, kSeed, {});
  LOCKSTEP_RETURN_IF_ERROR(engine.Start());
  engine::MigrationDefinition definition;
  definition.name = kTemplate;
  definition.plan.steps = {{.stage = domain::Stage::kDualWrite}, {.stage = domain::Stage::kShadowRead}, step};
  definition.contract.fields = {{.path = "city"}, {.path = "population"}};
  engine::MutationContext context;
  context.principal = {"user:bench"};
  context.reason = "benchmark";
  engine::Registry& registry = engine.registry();
  LOCKSTEP_RETURN_IF_ERROR(registry.Create(definition, context).status());
  LOCKSTEP_RETURN_IF_ERROR(
      registry.Execute(kTemplate, {.kind = domain::CommandKind::kStart}, context).status());
  for (size_t i = 1; i < definition.plan.steps.size(); ++i) {
    const domain::Command advance = {.kind = domain::CommandKind::kAdvance, .override_gate = true};
    LOCKSTEP_RETURN_IF_ERROR(registry.Execute(kTemplate, advance, context).status());
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const engine::MigrationView view, registry.Get(kTemplate));
  if (view.migration->published.stage != step.stage) {
    return absl::InternalError("the migration did not reach its last step");
  }
  Rows rows;
  rows.migration = *view.migration;
  LOCKSTEP_RETURN_IF_ERROR(ReadAll<domain::DecisionRecord>(
      *store, store::Table::kDecisions, [&](absl::string_view bytes) { return codec.DecodeDecision(bytes); },
      [&](domain::DecisionRecord record) { rows.decisions.push_back(std::move(record)); }));
  LOCKSTEP_RETURN_IF_ERROR(ReadAll<domain::AuditEntry>(
      *store, store::Table::kAudit, [&](absl::string_view bytes) { return codec.DecodeAuditEntry(bytes); },
      [&](domain::AuditEntry entry) { rows.audit.push_back(std::move(entry)); }));
  // Only its creation defined anything.
  LOCKSTEP_RETURN_IF_ERROR(ReadAll<domain::Migration>(
      *store, store::Table::kDefinitions,
      [&](absl::string_view bytes) { return codec.DecodeMigration(bytes); },
      [&](domain::Migration record) { rows.definitions.emplace_back(record.version, std::move(record)); }));
  return rows;
}

// As if it had been paused and resumed in turn.
void ChangeFurther(int changes, Rows* rows) {
  for (int i = 0; i < changes; ++i) {
    domain::DecisionRecord decision = rows->decisions.back();
    decision.number = rows->decisions.size() + 1;
    decision.run_state = i % 2 == 0 ? domain::RunState::kPaused : domain::RunState::kRunning;
    decision.action = std::string(
        domain::CommandName(i % 2 == 0 ? domain::CommandKind::kPause : domain::CommandKind::kResume));
    decision.before = decision.after;
    domain::AuditEntry entry = rows->audit.back();
    entry.action = decision.action;
    rows->migration.run_state = decision.run_state;
    rows->decisions.push_back(std::move(decision));
    rows->audit.push_back(std::move(entry));
  }
  rows->migration.decision_count = rows->decisions.size();
  rows->migration.version = rows->decisions.size();
  for (const domain::DecisionRecord& decision : rows->decisions) rows->timeline.Add(decision);
}

absl::Status WriteBuckets(const ManyMigrations& many, const domain::Migration& migration, const Clock& clock,
                          BulkWriter* writer) {
  if (many.buckets == 0) return absl::OkStatus();
  domain::WindowRecord window;
  window.migration = migration.name;
  window.generation = migration.published.generation;
  window.contract_revision = migration.contract.revision;
  window.stats = many.bucket;
  const auto put = [&](absl::Time start) {
    window.bucket_start = start;
    const auto seconds = static_cast<uint64_t>(absl::ToUnixSeconds(start));
    return writer->Put(store::Table::kWindows, store::WindowKey(window.migration, window.generation, seconds),
                       window);
  };
  LOCKSTEP_RETURN_IF_ERROR(put(absl::UnixEpoch()));  // the total
  const absl::Time end = engine::BucketFloor(clock.Now());
  for (int i = many.buckets; i > 0; --i) LOCKSTEP_RETURN_IF_ERROR(put(end - i * domain::kTelemetryBucket));
  return absl::OkStatus();
}

}  // namespace

std::string ManyName(int number) { return absl::StrFormat("namespaces/bench/migrations/m-%07d", number); }

domain::PlanStep TenChecks() {
  using domain::Metric;
  domain::PlanStep step;
  step.stage = domain::Stage::kCanaryRead;
  step.weight = 5'000;
  step.min_bake = absl::Hours(24 * 365);
  step.checks = {{.name = "mismatches", .metric = Metric::kMismatchRatio, .budget = 0.001},
                 {.name = "city", .metric = Metric::kMismatchRatio, .budget = 0.001, .field = "city"},
                 {.name = "errors", .metric = Metric::kErrorRatio, .floor = 0.001},
                 {.name = "paired-errors", .metric = Metric::kPairedErrorRatio, .floor = 0.001},
                 {.name = "mirror", .metric = Metric::kMirrorFailureRatio, .budget = 0.01},
                 {.name = "p50", .metric = Metric::kLatency, .quantile = 0.5},
                 {.name = "p95", .metric = Metric::kLatency, .quantile = 0.95},
                 {.name = "p99", .metric = Metric::kLatency, .quantile = 0.99},
                 {.name = "paired-latency", .metric = Metric::kPairedLatency},
                 {.name = "share", .metric = Metric::kThroughputShare, .limit = 2}};
  return step;
}

domain::WindowStats BusyBucket(double reads_per_second, bool subjects, uint64_t seed) {
  domain::TrafficModel model;
  model.reads_per_second = reads_per_second;
  model.writes_per_second = reads_per_second / 10;
  model.comparison_share = 0.1;
  model.error_rate = 0.001;
  model.latency_median = absl::Milliseconds(5);
  model.new_side = domain::HealthyNewSide(model);
  model.new_side.mismatch_rate = 0.0005;
  model.new_side.mirror_failure_rate = 0.001;
  model.mismatch_field = "city";
  model.subjects = subjects ? domain::SubjectModel::kPopulation : domain::SubjectModel::kNone;
  domain::TrafficSource traffic(model, seed);
  return traffic.Next(domain::Stage::kCanaryRead, 5'000);
}

absl::Status WriteManyMigrations(const ManyMigrations& many, const store::RecordCodec& codec,
                                 const Clock& clock, store::Store* store) {
  LOCKSTEP_ASSIGN_OR_RETURN(Rows rows, MakeTemplate(many.step, codec, clock));
  ChangeFurther(many.further_changes, &rows);
  BulkWriter writer(codec, store);
  uint64_t audit_count = 0;
  for (int number = 0; number < many.count; ++number) {
    const std::string name = ManyName(number);
    domain::Migration& migration = rows.migration;
    migration.name = name;
    migration.uid = absl::StrFormat("00000000-0000-4000-8000-%012d", number);
    LOCKSTEP_RETURN_IF_ERROR(writer.Put(store::Table::kMigrations, store::MigrationKey(name), migration));
    for (domain::DecisionRecord& decision : rows.decisions) {
      decision.migration = name;
      LOCKSTEP_RETURN_IF_ERROR(
          writer.Put(store::Table::kDecisions, store::DecisionKey(name, decision.number), decision));
    }
    for (auto& [decision, definition] : rows.definitions) {
      definition.name = name;
      definition.uid = migration.uid;
      LOCKSTEP_RETURN_IF_ERROR(
          writer.Put(store::Table::kDefinitions, store::DefinitionKey(name, decision), definition));
    }
    for (domain::AuditEntry& entry : rows.audit) {
      entry.number = ++audit_count;
      entry.resource = name;
      entry.revision = store->revision() + 1;
      LOCKSTEP_RETURN_IF_ERROR(writer.Put(store::Table::kAudit, store::AuditKey(entry.number), entry));
    }
    writer.PutMeta(engine::TimelineKey(name), rows.timeline.ToRow(migration.uid, rows.decisions.size()));
    if (number == 0) LOCKSTEP_RETURN_IF_ERROR(WriteBuckets(many, migration, clock, &writer));
  }
  writer.PutMeta(engine::kAuditCountKey, absl::StrCat(audit_count));
  return writer.Flush();
}

}  // namespace lockstep::bench
