#include "core/wire/window_stats.h"

#include <array>
#include <bitset>
#include <cstdint>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/utf8.h"
#include "core/domain/log_math.h"
#include "core/wire/enums.h"

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
  return out;
}

}  // namespace lockstep::wire
