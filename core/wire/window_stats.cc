#include "core/wire/window_stats.h"

#include <array>
#include <bitset>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/utf8.h"
#include "core/domain/log_math.h"
#include "core/wire/enums.h"
#include "google/protobuf/repeated_field.h"

namespace lockstep::wire {
namespace {

constexpr size_t kMaxFieldPathBytes = 256;
constexpr absl::string_view kOnce = "comes twice; send each once";

v1::ArmStats ToProto(const domain::ArmStats& arm) {
  v1::ArmStats out;
  out.set_requests(arm.requests);
  out.set_errors(arm.errors);
  for (const auto& [index, count] : arm.latency.NonZero()) {
    v1::LatencyBucket* added = out.add_latency();
    added->set_index(index);
    added->set_count(count);
  }
  return out;
}

uint64_t ReadCount(uint64_t count, const FieldPath& path, Violations& violations) {
  if (count <= domain::kMaxCount) return count;
  violations.Add(path, absl::StrCat(count, " is more than the largest count, ", domain::kMaxCount));
  return 0;
}

domain::ArmStats ReadArm(const v1::ArmStats& arm, const FieldPath& path, Violations& violations) {
  domain::ArmStats out;
  out.requests = ReadCount(arm.requests(), path / "requests", violations);
  out.errors = ReadCount(arm.errors(), path / "errors", violations);
  domain::LatencySketch::SparseCounts counts;
  counts.reserve(arm.latency_size());
  for (const v1::LatencyBucket& bucket : arm.latency()) counts.emplace_back(bucket.index(), bucket.count());
  absl::StatusOr<domain::LatencySketch> latency = domain::LatencySketch::FromNonZero(counts);
  if (latency.ok()) {
    out.latency = *std::move(latency);
  } else {
    violations.Add(path / "latency", latency.status().message());
  }
  return out;
}

void ReadComparisons(const v1::WindowStats& stats, const FieldPath& path, domain::WindowStats& out,
                     Violations& violations) {
  std::bitset<domain::kComparisonOutcomeCount> seen;
  for (int i = 0; i < stats.comparisons_size(); ++i) {
    const FieldPath entry = path.At("comparisons", i);
    const auto outcome = EnumFromProto(stats.comparisons(i).outcome());
    if (!outcome.has_value()) {
      violations.Add(entry / "outcome",
                     UnknownEnumMessage(v1::ComparisonOutcome_descriptor(), stats.comparisons(i).outcome()));
      continue;
    }
    const auto index = static_cast<size_t>(*outcome);
    if (seen.test(index)) violations.Add(entry / "outcome", kOnce);
    seen.set(index);
    out.comparison(*outcome) = ReadCount(stats.comparisons(i).count(), entry / "count", violations);
  }
}

void ReadFieldMismatches(const v1::WindowStats& stats, const FieldPath& path, domain::WindowStats& out,
                         Violations& violations) {
  std::map<absl::string_view, std::pair<domain::FieldMismatches, std::bitset<domain::kMismatchKindCount>>>
      fields;
  for (int i = 0; i < stats.field_mismatches_size(); ++i) {
    const v1::FieldMismatchCount& in = stats.field_mismatches(i);
    const FieldPath entry = path.At("field_mismatches", i);
    const auto kind = EnumFromProto(in.kind());
    if (!kind.has_value()) {
      violations.Add(entry / "kind", UnknownEnumMessage(v1::MismatchKind_descriptor(), in.kind()));
      continue;
    }
    if (!CheckBytes(entry / "field", in.field().size(), {.min = 1, .max = kMaxFieldPathBytes}, violations))
      continue;
    auto& [counts, seen] = fields[in.field()];
    const auto index = static_cast<size_t>(*kind);
    if (seen.test(index)) violations.Add(entry, kOnce);
    seen.set(index);
    counts[*kind] = ReadCount(in.count(), entry / "count", violations);
  }
  const size_t declared = fields.size() - fields.count(domain::WindowStats::kOtherFields);
  CheckCount(path / "field_mismatches", declared, {.max = domain::WindowStats::kMaxFields}, violations);
  for (const auto& [field, counts] : fields) {
    const absl::Status added = out.AddFieldMismatches(field, counts.first);
    if (!added.ok()) violations.Add(path / "field_mismatches", added.message());
  }
}

constexpr uint32_t kRankBits = 6;
// A sparse entry takes three bytes as a rule, a dense register one.
constexpr size_t kMaxSparseRegisters = 1023;

void AddSlots(const domain::SlotCounts& slots, google::protobuf::RepeatedField<uint64_t>& out) {
  if (slots.empty()) return;
  out.Reserve(domain::SlotCounts::kSlots);
  for (size_t i = 0; i < domain::SlotCounts::kSlots; ++i) out.Add(slots[i]);
}

domain::SlotCounts ReadSlots(const google::protobuf::RepeatedField<uint64_t>& slots, const FieldPath& path,
                             Violations& violations) {
  domain::SlotCounts out;
  if (slots.empty()) return out;
  if (slots.size() != static_cast<int>(domain::SlotCounts::kSlots)) {
    violations.Add(path / "slots",
                   absl::StrCat(slots.size(), " entries; send none or ", domain::SlotCounts::kSlots));
    return out;
  }
  for (int i = 0; i < slots.size(); ++i) {
    out.Add(static_cast<size_t>(i), ReadCount(slots[i], path.At("slots", i), violations));
  }
  return out;
}

v1::SubjectTrials ToProto(const domain::SubjectTrials& trials) {
  v1::SubjectTrials out;
  const absl::Span<const uint8_t> registers = trials.distinct.registers();
  if (trials.distinct.hit_registers() > kMaxSparseRegisters) {
    out.mutable_dense_registers()->assign(registers.begin(), registers.end());
  } else {
    for (size_t i = 0; i < registers.size(); ++i) {
      if (registers[i] == 0) continue;
      out.add_sparse_registers((static_cast<uint32_t>(i) << kRankBits) | registers[i]);
    }
  }
  AddSlots(trials.slots, *out.mutable_slots());
  return out;
}

// The registers of a sparse sketch; empty, with a violation, for entries that cannot be.
std::vector<uint8_t> ReadSparseRegisters(const google::protobuf::RepeatedField<uint32_t>& entries,
                                         const FieldPath& path, Violations& violations) {
  using domain::DistinctSketch;
  std::vector<uint8_t> registers(DistinctSketch::kRegisters);
  int64_t previous = -1;
  for (int i = 0; i < entries.size(); ++i) {
    const int64_t index = entries[i] >> kRankBits;
    const uint32_t rank = entries[i] & ((1u << kRankBits) - 1);
    std::string wrong;
    if (index >= static_cast<int64_t>(DistinctSketch::kRegisters)) {
      wrong = absl::StrCat("register ", index, " does not exist; registers are 0 to ",
                           DistinctSketch::kRegisters - 1);
    } else if (index <= previous) {
      wrong = absl::StrCat("register ", index, " comes after register ", previous,
                           "; send each register once, by rising index");
    } else if (rank == 0) {
      wrong = absl::StrCat("register ", index, " has the value 0; leave registers that are not set out");
    } else if (rank > DistinctSketch::kMaxRank) {
      wrong = absl::StrCat("register ", index, " has the value ", rank, "; the largest is ",
                           DistinctSketch::kMaxRank);
    }
    if (!wrong.empty()) {
      violations.Add(path.At("sparse_registers", i), wrong);
      return {};
    }
    registers[static_cast<size_t>(index)] = static_cast<uint8_t>(rank);
    previous = index;
  }
  return registers;
}

domain::SubjectTrials ReadTrials(const v1::SubjectTrials& trials, const FieldPath& path,
                                 Violations& violations) {
  domain::SubjectTrials out;
  out.slots = ReadSlots(trials.slots(), path, violations);
  const std::string& dense = trials.dense_registers();
  if (!dense.empty() && !trials.sparse_registers().empty()) {
    violations.Add(path / "sparse_registers", "is set beside dense_registers; send one of them");
    return out;
  }
  std::vector<uint8_t> registers(dense.begin(), dense.end());
  if (dense.empty() && !trials.sparse_registers().empty()) {
    registers = ReadSparseRegisters(trials.sparse_registers(), path, violations);
  }
  absl::StatusOr<domain::DistinctSketch> distinct = domain::DistinctSketch::FromRegisters(registers);
  if (distinct.ok()) {
    out.distinct = *std::move(distinct);
  } else {
    violations.Add(path / "dense_registers", distinct.status().message());
  }
  return out;
}

v1::SubjectEvents ToProto(const domain::SubjectEvents& events) {
  v1::SubjectEvents out;
  for (const auto& [id, count] : events.affected()) {
    v1::AffectedSubject* added = out.add_affected();
    added->set_id(id);
    added->set_events(count);
  }
  AddSlots(events.slots, *out.mutable_slots());
  return out;
}

domain::SubjectEvents ReadEvents(const v1::SubjectEvents& events, const FieldPath& path,
                                 Violations& violations) {
  domain::SubjectEvents out;
  out.slots = ReadSlots(events.slots(), path, violations);
  if (!CheckCount(path / "affected", events.affected_size(), {.max = domain::SubjectEvents::kMaxAffected},
                  violations)) {
    return out;
  }
  for (int i = 0; i < events.affected_size(); ++i) {
    const v1::AffectedSubject& subject = events.affected(i);
    const FieldPath entry = path.At("affected", i);
    if (i > 0 && subject.id() <= events.affected(i - 1).id()) {
      violations.Add(entry / "id", "is not above the id before it; send each subject once, by rising id");
      continue;
    }
    if (subject.events() == 0) {
      violations.Add(entry / "events", "is 0; leave subjects without events out");
      continue;
    }
    out.AddAffected(subject.id(), ReadCount(subject.events(), entry / "events", violations));
  }
  return out;
}

void AddSubjects(const domain::SubjectStats& subjects, v1::WindowStats& out) {
  const auto arm = [](domain::Arm side) { return static_cast<size_t>(side); };
  const auto trials = [&](const domain::SubjectTrials& from, v1::SubjectTrials* (v1::WindowStats::*field)()) {
    if (!(from == domain::SubjectTrials())) *(out.*field)() = ToProto(from);
  };
  const auto events = [&](const domain::SubjectEvents& from, v1::SubjectEvents* (v1::WindowStats::*field)()) {
    if (!(from == domain::SubjectEvents())) *(out.*field)() = ToProto(from);
  };
  using Out = v1::WindowStats;
  trials(subjects.reads[arm(domain::Arm::kOld)], &Out::mutable_old_reads_subjects);
  trials(subjects.reads[arm(domain::Arm::kNew)], &Out::mutable_new_reads_subjects);
  trials(subjects.compared, &Out::mutable_compared_subjects);
  events(subjects.errors[arm(domain::Arm::kOld)], &Out::mutable_old_errors_subjects);
  events(subjects.errors[arm(domain::Arm::kNew)], &Out::mutable_new_errors_subjects);
  events(subjects.mismatched, &Out::mutable_mismatched_subjects);
  events(subjects.new_failed_only, &Out::mutable_new_failed_only_subjects);
  events(subjects.old_failed_only, &Out::mutable_old_failed_only_subjects);
}

domain::SubjectStats ReadSubjects(const v1::WindowStats& in, const FieldPath& path, Violations& violations) {
  domain::SubjectStats out;
  const auto arm = [](domain::Arm side) { return static_cast<size_t>(side); };
  const auto trials = [&](const v1::SubjectTrials& from, absl::string_view field) {
    return ReadTrials(from, path / field, violations);
  };
  const auto events = [&](const v1::SubjectEvents& from, absl::string_view field) {
    return ReadEvents(from, path / field, violations);
  };
  out.reads[arm(domain::Arm::kOld)] = trials(in.old_reads_subjects(), "old_reads_subjects");
  out.reads[arm(domain::Arm::kNew)] = trials(in.new_reads_subjects(), "new_reads_subjects");
  out.compared = trials(in.compared_subjects(), "compared_subjects");
  out.errors[arm(domain::Arm::kOld)] = events(in.old_errors_subjects(), "old_errors_subjects");
  out.errors[arm(domain::Arm::kNew)] = events(in.new_errors_subjects(), "new_errors_subjects");
  out.mismatched = events(in.mismatched_subjects(), "mismatched_subjects");
  out.new_failed_only = events(in.new_failed_only_subjects(), "new_failed_only_subjects");
  out.old_failed_only = events(in.old_failed_only_subjects(), "old_failed_only_subjects");
  return out;
}

}  // namespace

v1::WindowStats ToProto(const domain::WindowStats& stats) {
  v1::WindowStats out;
  const domain::ArmStats none;
  const domain::ArmStats& old_arm = stats.arm(domain::Arm::kOld);
  const domain::ArmStats& new_arm = stats.arm(domain::Arm::kNew);
  if (!(old_arm == none)) *out.mutable_old_arm() = ToProto(old_arm);
  if (!(new_arm == none)) *out.mutable_new_arm() = ToProto(new_arm);
  if (!(stats.writes == domain::WriteStats())) {
    v1::WriteStats* writes = out.mutable_writes();
    writes->set_authoritative_ok(stats.writes.authoritative_ok);
    writes->set_authoritative_failed(stats.writes.authoritative_failed);
    writes->set_mirror_ok(stats.writes.mirror_ok);
    writes->set_mirror_failed(stats.writes.mirror_failed);
    writes->set_mirror_shed(stats.writes.mirror_shed);
  }
  for (const domain::ComparisonOutcomeInfo& info : domain::kComparisonOutcomes) {
    if (stats.comparison(info.outcome) == 0) continue;
    v1::OutcomeCount* added = out.add_comparisons();
    added->set_outcome(ToProto(info.outcome));
    added->set_count(stats.comparison(info.outcome));
  }
  for (const auto& [field, counts] : stats.fields()) {
    for (size_t i = 0; i < domain::kMismatchKindCount; ++i) {
      if (counts.by_kind[i] == 0) continue;
      v1::FieldMismatchCount* added = out.add_field_mismatches();
      added->set_field(ToValidUtf8(field));
      added->set_kind(ToProto(static_cast<domain::MismatchKind>(i)));
      added->set_count(counts.by_kind[i]);
    }
  }
  out.set_new_failed_only(stats.paired_errors.new_only);
  out.set_old_failed_only(stats.paired_errors.old_only);
  out.set_comparisons_shed(stats.dropped.comparisons_shed);
  out.set_samples_dropped(stats.dropped.samples_dropped);
  out.set_operations_dropped(stats.dropped.telemetry_dropped);
  out.set_paired_slower(stats.paired_latency.slower);
  out.set_paired_not_slower(stats.paired_latency.not_slower);
  out.set_repairs_queued(stats.repairs.queued);
  out.set_repairs_done(stats.repairs.done);
  out.set_rows_to_copy(stats.backfill.rows_to_copy);
  out.set_rows_copied(stats.backfill.rows_copied);
  AddSubjects(stats.subjects, out);
  return out;
}

domain::WindowStats ReadWindowStats(const v1::WindowStats& stats, const FieldPath& path,
                                    Violations& violations) {
  domain::WindowStats out;
  out.arm(domain::Arm::kOld) = ReadArm(stats.old_arm(), path / "old_arm", violations);
  out.arm(domain::Arm::kNew) = ReadArm(stats.new_arm(), path / "new_arm", violations);
  const FieldPath writes = path / "writes";
  const v1::WriteStats& in = stats.writes();
  out.writes.authoritative_ok = ReadCount(in.authoritative_ok(), writes / "authoritative_ok", violations);
  out.writes.authoritative_failed =
      ReadCount(in.authoritative_failed(), writes / "authoritative_failed", violations);
  out.writes.mirror_ok = ReadCount(in.mirror_ok(), writes / "mirror_ok", violations);
  out.writes.mirror_failed = ReadCount(in.mirror_failed(), writes / "mirror_failed", violations);
  out.writes.mirror_shed = ReadCount(in.mirror_shed(), writes / "mirror_shed", violations);
  ReadComparisons(stats, path, out, violations);
  ReadFieldMismatches(stats, path, out, violations);
  out.paired_errors.new_only = ReadCount(stats.new_failed_only(), path / "new_failed_only", violations);
  out.paired_errors.old_only = ReadCount(stats.old_failed_only(), path / "old_failed_only", violations);
  out.dropped.comparisons_shed = ReadCount(stats.comparisons_shed(), path / "comparisons_shed", violations);
  out.dropped.samples_dropped = ReadCount(stats.samples_dropped(), path / "samples_dropped", violations);
  out.dropped.telemetry_dropped =
      ReadCount(stats.operations_dropped(), path / "operations_dropped", violations);
  out.paired_latency.slower = ReadCount(stats.paired_slower(), path / "paired_slower", violations);
  out.paired_latency.not_slower =
      ReadCount(stats.paired_not_slower(), path / "paired_not_slower", violations);
  out.repairs.queued = ReadCount(stats.repairs_queued(), path / "repairs_queued", violations);
  out.repairs.done = ReadCount(stats.repairs_done(), path / "repairs_done", violations);
  out.backfill.rows_to_copy = ReadCount(stats.rows_to_copy(), path / "rows_to_copy", violations);
  out.backfill.rows_copied = ReadCount(stats.rows_copied(), path / "rows_copied", violations);
  out.subjects = ReadSubjects(stats, path, violations);
  return out;
}

}  // namespace lockstep::wire
