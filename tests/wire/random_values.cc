#include "tests/wire/random_values.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/util/message_differencer.h"

namespace lockstep::wire {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void CollectUnset(const Message& message, const std::string& prefix, std::vector<std::string>& out) {
  const Reflection* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string path = absl::StrCat(prefix, field->name());
    if (field->is_repeated()) {
      const int size = reflection->FieldSize(message, field);
      if (size == 0) out.push_back(path);
      if (field->is_map() || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
      for (int j = 0; j < size; ++j) {
        CollectUnset(reflection->GetRepeatedMessage(message, field, j), path + "[].", out);
      }
    } else if (!reflection->HasField(message, field)) {
      out.push_back(path);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
               field->message_type()->file()->package() != "google.protobuf") {
      CollectUnset(reflection->GetMessage(message, field), path + ".", out);
    }
  }
}

}  // namespace

size_t RandomValues::Size(size_t most) {
  return presence_ == Presence::kEverything ? 1 + prng_.Below(most) : prng_.Below(most + 1);
}

std::string RandomValues::Text(absl::string_view what) {
  return Coin()
             ? absl::StrCat(what, " ", prng_.Below(1000), prng_.Below(4) == 0 ? " \xc3\xa4\xe2\x82\xac" : "")
             : "";
}

std::string RandomValues::Hex(size_t characters) {
  std::string out;
  for (size_t i = 0; i < characters; ++i) out.push_back("0123456789abcdef"[prng_.Below(16)]);
  return out;
}

std::string RandomValues::Name() {
  return absl::StrCat("namespaces/n", prng_.Below(10), "/migrations/m", ++names_);
}

absl::Time RandomValues::Time() {
  if (!Coin()) return absl::InfinitePast();
  return absl::FromUnixSeconds(1'600'000'000 + static_cast<int64_t>(prng_.Below(1'000'000'000))) +
         absl::Nanoseconds(prng_.Below(1'000'000'000));
}

absl::Duration RandomValues::Period() {
  return Coin() ? absl::Nanoseconds(1 + prng_.Below(1'000'000'000'000'000)) : absl::ZeroDuration();
}

domain::Pins RandomValues::Pins() {
  domain::Pins out;
  for (size_t i = Size(3); i > 0; --i) out.keys.emplace(absl::StrCat("old-", i, Hex(4)), domain::Side::kOld);
  for (size_t i = Size(3); i > 0; --i) out.keys.emplace(absl::StrCat("new-", i, Hex(4)), domain::Side::kNew);
  for (size_t i = Size(2); i > 0; --i) {
    out.rules.push_back({absl::StrCat("attribute", i), {Hex(3), Hex(4)}, Pick(domain::Side::kNew)});
  }
  return out;
}

domain::RoutingState RandomValues::RoutingState() {
  domain::RoutingState out;
  out.stage = Pick(domain::Stage::kComplete);
  out.read_weight = Weight();
  out.drain_weight = Weight();
  out.write_weight = Weight();
  out.epoch = Number();
  out.generation = Number();
  out.comparison_weight = Weight();
  out.salt_seed = prng_.Next() | 1;
  if (Coin()) out.pins = std::make_shared<const domain::Pins>(Pins());
  return out;
}

domain::MigrationPlan RandomValues::Plan() {
  domain::MigrationPlan out;
  for (size_t i = Size(4); i > 0; --i) {
    domain::PlanStep& step = out.steps.emplace_back();
    step.stage = Pick(domain::Stage::kComplete);
    step.weight = Weight();
    step.min_bake = Period();
    step.manual = Coin();
    step.deadline = Period();
    for (size_t j = Size(3); j > 0; --j) {
      step.checks.push_back({.name = absl::StrCat("check", j),
                             .metric = Pick(domain::Metric::kThroughputShare),
                             .budget = Fraction(),
                             .floor = Fraction(),
                             .field = Text("field"),
                             .quantile = Fraction(),
                             .limit = Fraction(),
                             .advisory = Coin(),
                             .on_breach = Pick(domain::BreachAction::kNotify)});
    }
  }
  out.alpha_rollback = Fraction();
  out.alpha_advance = Fraction();
  for (size_t i = Size(2); i > 0; --i)
    out.expected_services.push_back({absl::StrCat("service", i), Weight()});
  out.cool_down = Period();
  out.telemetry_limits = {Fraction(), 1 + Fraction(), Period()};
  out.cutover = {Weight(), absl::Milliseconds(1 + prng_.Below(600'000))};
  return out;
}

domain::Contract RandomValues::Contract() {
  domain::Contract out;
  for (size_t i = Size(3); i > 0; --i) {
    domain::FieldRule& rule = out.fields.emplace_back();
    rule.path = absl::StrCat("field", i);
    rule.old_path = Text("old");
    rule.new_path = Text("new");
    rule.ignore = Coin();
    rule.tolerance = Fraction();
    rule.has_default = Coin();
    if (rule.has_default) rule.default_value = Text("default");
    rule.list_order = Pick(domain::ListOrder::kUnordered);
    rule.sensitive = Coin();
  }
  out.revision = Number();
  return out;
}

domain::GateResult RandomValues::GateResult() {
  domain::GateResult out;
  out.verdict = Pick(domain::Verdict::kRollBack);
  for (size_t i = Size(3); i > 0; --i) {
    domain::CheckResult& check = out.checks.emplace_back();
    check.check = absl::StrCat("check", i);
    check.metric = Pick(domain::Metric::kThroughputShare);
    check.verdict = Pick(domain::Verdict::kRollBack);
    check.advisory = Coin();
    check.on_breach = Pick(domain::BreachAction::kNotify);
    check.null_hypothesis = Text("the rate is at most");
    check.field = Text("field");
    check.quantile = Fraction();
    for (uint64_t* count :
         {&check.bad, &check.total, &check.bad_baseline, &check.total_baseline, &check.affected_subjects,
          &check.affected_subjects_baseline, &check.distinct_subjects}) {
      *count = Number();
    }
    check.dispersion = 1 + Fraction();
    for (double* value :
         {&check.estimate, &check.lower, &check.upper, &check.budget, &check.log_evidence_rollback,
          &check.log_threshold_rollback, &check.log_evidence_advance, &check.log_threshold_advance}) {
      *value = Fraction();
    }
    if (Coin()) check.onset = absl::FromUnixSeconds(1'700'000'000 + Weight());
    if (Coin()) check.needed_more = Number();
    if (Coin()) check.eta = absl::Milliseconds(Weight());
    check.will_not_resolve = Coin();
    check.rising = Coin();
    check.sentence = Text("sentence");
  }
  for (size_t i = Size(2); i > 0; --i) out.guards.push_back({absl::StrCat("guard", i), Text("because")});
  out.bake_remaining = Period();
  out.deadline_passed = Coin();
  out.action = Pick(domain::BreachAction::kNotify);
  out.log_evidence_rollback = Fraction();
  out.log_threshold_rollback = Fraction();
  for (size_t i = Size(3); i > 0; --i) out.suspect_fields.push_back(absl::StrCat("field", i));
  out.evidence_restarts = Weight();
  out.sentence = Text("verdict");
  return out;
}

domain::Migration RandomValues::Migration() {
  domain::Migration out;
  out.name = Name();
  out.uid = prng_.Uuid();
  out.description = Text("description");
  for (size_t i = Size(3); i > 0; --i) out.labels[absl::StrCat("label", i)] = Text("value");
  for (size_t i = Size(3); i > 0; --i) out.owners.push_back(absl::StrCat("owner", i));
  out.salt = Text("salt");
  out.plan = Plan();
  out.plan_revision = Number();
  out.contract = Contract();
  out.pins = Pins();
  out.run_state = Pick(domain::RunState::kSucceeded);
  out.run_state_reason = Text("reason");
  if (!out.plan.steps.empty() && Coin()) out.step = static_cast<int>(prng_.Below(out.plan.steps.size()));
  out.step_started_at = Time();
  out.deadline_from = Time();
  for (size_t i = Size(3); i > 0; --i) out.notified_checks.push_back(absl::StrCat("check", i));
  out.rolled_back_at = Time();
  out.accept_differences = Coin();
  out.differing_records = Weight();
  out.published = RoutingState();
  out.published_at = Time();
  if (Coin()) out.pending = RoutingState();
  out.pending_since = Time();
  for (size_t i = Size(2); i > 0; --i) out.draining.push_back(RoutingState());
  out.create_time = Time();
  out.update_time = Time();
  out.version = Number();
  out.decision_count = Number();
  return out;
}

domain::DecisionRecord RandomValues::DecisionRecord() {
  domain::DecisionRecord out;
  out.migration = Name();
  out.number = Number();
  out.time = Time();
  out.actor = Text("user:ann");
  out.action = Text("advance");
  out.reason = Text("reason");
  out.before = RoutingState();
  out.after = RoutingState();
  out.run_state = Pick(domain::RunState::kSucceeded);
  if (Coin()) out.step = static_cast<int>(prng_.Below(60));
  out.plan_revision = Number();
  if (Coin()) out.evidence = GateResult();
  return out;
}

domain::AuditEntry RandomValues::AuditEntry() {
  domain::AuditEntry out;
  out.number = Number();
  out.time = Time();
  out.actor = Text("actor");
  out.action = Text("action");
  out.resource = Name();
  out.reason = Text("reason");
  out.revision = Number();
  return out;
}

domain::Enrolment RandomValues::Enrolment() {
  domain::Enrolment out;
  out.instance_id = absl::StrCat("instance-", Hex(6));
  out.service = "service";
  out.version = Text("1.2.3");
  for (size_t i = 1 + prng_.Below(3); i > 0; --i) {
    out.migrations.push_back(Name());
    if (Coin()) out.acknowledged_epochs[out.migrations.back()] = Number();
  }
  out.enrolled_at = Time();
  out.lease_ttl = domain::kMinLeaseTtl + absl::Milliseconds(prng_.Below(599'000));
  out.lease_policy = Pick(domain::LeasePolicy::kFailWrites);
  out.passed_by = Coin();
  out.owes_mirrors = Coin();
  return out;
}

std::vector<domain::SliceCheck> RandomValues::SliceChecks() {
  std::vector<domain::SliceCheck> out;
  for (size_t i = Size(3); i > 0; --i) {
    out.push_back({Name(), Number(), Weight(), Weight(), Weight(), Text("record differs"), Weight()});
  }
  return out;
}

domain::InstanceStatus RandomValues::InstanceStatus() {
  return {Weight(), Period(), Weight(), Weight(), Weight()};
}

domain::TelemetryCursor RandomValues::TelemetryCursor() { return {Number(), Time()}; }

domain::MismatchSample RandomValues::MismatchSample() {
  domain::MismatchSample out;
  out.time = absl::FromUnixSeconds(1'700'000'000) + absl::Nanoseconds(prng_.Below(1'000'000'000));
  out.field = Text("address.city");
  out.kind = "value";
  out.key_digest = Hex(32);
  out.old_digest = Coin() ? Hex(32) : "";
  out.new_digest = Coin() ? Hex(32) : "";
  out.old_length = Weight();
  out.new_length = Weight();
  out.instance_id = absl::StrCat("instance-", Hex(6));
  out.epoch = Number();
  out.trace_id = Coin() ? Hex(32) : "";
  return out;
}

domain::WindowStats RandomValues::WindowStats() {
  domain::WindowStats out;
  const auto count = [&] { return 1 + prng_.Below(1000); };
  for (domain::ArmStats& arm : out.arms) {
    if (!Coin()) continue;
    arm.errors = count();
    for (size_t i = 1 + prng_.Below(20); i > 0; --i) {
      arm.latency.RecordBucket(1 + prng_.Below(domain::LatencySketch::kBucketCount - 1), count());
    }
    arm.requests = std::max(arm.errors, arm.latency.count()) + prng_.Below(10);
  }
  out.writes = {count(), count(), count(), count(), count()};
  for (uint64_t& comparison : out.comparisons) comparison = Coin() ? count() : 0;
  const uint64_t mismatches = out.comparison(domain::ComparisonOutcome::kMismatch);
  for (size_t i = Size(4); i > 0 && mismatches > 0; --i) {
    domain::FieldMismatches counts;
    counts[static_cast<domain::MismatchKind>(prng_.Below(domain::kMismatchKindCount))] =
        1 + prng_.Below(mismatches);
    LOCKSTEP_CHECK(out.AddFieldMismatches(absl::StrCat("field", i), counts).ok(), "small counts add up");
  }
  out.paired_errors.new_only = out.compared() > 1 ? 1 : 0;
  out.paired_errors.old_only = out.compared() > 1 ? 1 : 0;
  out.paired_latency = {out.paired_errors.new_only, out.paired_errors.old_only};
  out.repairs = {count(), count()};
  out.backfill = {count(), count()};
  out.dropped = {count(), count(), count()};
  AddSubjects(out);
  return out;
}

void RandomValues::AddSubjects(domain::WindowStats& stats) {
  // Few enough for a sparse sketch under kEverything, sometimes enough for a dense one otherwise.
  const auto fill_trials = [&](uint64_t count, domain::SubjectTrials& trials) {
    if (count == 0 || !Coin()) return;
    const bool many = presence_ == Presence::kSometimes && prng_.Below(2) == 0;
    for (uint64_t i = std::min<uint64_t>(count, 1 + prng_.Below(many ? 3000 : 20)); i > 0; --i) {
      trials.Record(prng_.Next());
    }
  };
  const auto fill_events = [&](uint64_t count, domain::SubjectEvents& events) {
    if (count == 0 || !Coin()) return;
    for (uint64_t i = std::min<uint64_t>(count, 1 + prng_.Below(400)); i > 0; --i) {
      const uint64_t subject = 1 + prng_.Below(500);
      events.Record(subject, subject << 40);
    }
  };
  domain::SubjectStats& subjects = stats.subjects;
  for (size_t i = 0; i < domain::kArmCount; ++i) {
    fill_trials(stats.arms[i].requests, subjects.reads[i]);
    fill_events(stats.arms[i].errors, subjects.errors[i]);
  }
  fill_trials(stats.comparable(), subjects.compared);
  fill_events(stats.mismatches(), subjects.mismatched);
  fill_events(stats.paired_errors.new_only, subjects.new_failed_only);
  fill_events(stats.paired_errors.old_only, subjects.old_failed_only);
}

domain::WindowRecord RandomValues::WindowRecord() {
  domain::WindowRecord out;
  out.migration = Name();
  out.generation = Number();
  out.contract_revision = Number();
  out.bucket_start = absl::FromUnixSeconds(1'700'000'000 + 5 * static_cast<int64_t>(prng_.Below(1'000'000)));
  out.stats = WindowStats();
  return out;
}

domain::TelemetryBatch RandomValues::TelemetryBatch(absl::Time now) {
  domain::TelemetryBatch out;
  out.instance_id = absl::StrCat("instance-", Hex(6));
  out.session = prng_.Next() | 1;
  out.sequence = Number();
  for (size_t i = Size(4); i > 0; --i) {
    domain::TelemetryDelta& delta = out.deltas.emplace_back();
    delta.migration = Name();
    delta.generation = Number();
    delta.epoch = Number();
    delta.contract_revision = Number();
    delta.bucket_start = absl::UnixEpoch() + absl::Floor(now - absl::UnixEpoch(), domain::kTelemetryBucket);
    delta.stats = WindowStats();
    for (size_t j = Size(3); j > 0; --j) {
      delta.samples.push_back(MismatchSample());
      delta.samples.back().instance_id = out.instance_id;
    }
  }
  return out;
}

domain::Snapshot RandomValues::Snapshot() {
  domain::Snapshot out;
  out.revision = Number();
  out.store_epoch = Number();
  for (size_t i = Size(3); i > 0; --i) out.migrations.push_back({Name(), RoutingState(), Contract()});
  return out;
}

domain::SnapshotDelta RandomValues::SnapshotDelta() {
  domain::SnapshotDelta out;
  out.base_revision = Number();
  out.revision = Number();
  for (size_t i = Size(3); i > 0; --i) out.changed.push_back({Name(), RoutingState(), Contract()});
  for (size_t i = Size(3); i > 0; --i) out.removed.push_back(Name());
  return out;
}

domain::Decision RandomValues::Decision() {
  return {Pick(domain::Side::kNew),
          Pick(domain::WriteMode::kNewOnly),
          Coin(),
          Pick(domain::DecisionReason::kAttributeRule),
          Weight() - 1,
          Number()};
}

std::vector<std::string> UnsetFields(const Message& message) {
  std::vector<std::string> out;
  CollectUnset(message, "", out);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::string Difference(const Message& a, const Message& b) {
  std::string report;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&report);
  if (differencer.Compare(a, b)) return "";
  return report.empty() ? "they differ" : report;
}

}  // namespace lockstep::wire
