#include "core/wire/evidence_log.h"

#include <variant>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/wire/plan.h"
#include "core/wire/resource_name.h"
#include "core/wire/timestamps.h"
#include "core/wire/violations.h"
#include "core/wire/window_stats.h"

namespace lockstep::wire {
namespace {

v1::EvidenceHeader ToProto(const domain::EvidenceHeader& header) {
  v1::EvidenceHeader out;
  out.set_migration(header.migration);
  *out.mutable_plan() = wire::ToProto(header.plan);
  out.set_declared_fields(header.epoch.declared_fields);
  out.set_evidence_restarts(header.epoch.restarts);
  SetTime(header.epoch.start, out, &v1::EvidenceHeader::mutable_start_time);
  return out;
}

v1::EvidenceStep ToProto(const domain::EvidenceStep& step) {
  v1::EvidenceStep out;
  out.set_step(static_cast<uint32_t>(step.step));
  *out.mutable_start_time() = wire::ToProto(step.start);
  return out;
}

v1::EvidenceBucket ToProto(const domain::EvidenceBucket& bucket) {
  v1::EvidenceBucket out;
  *out.mutable_start_time() = wire::ToProto(bucket.start);
  *out.mutable_stats() = wire::ToProto(bucket.stats);
  return out;
}

// A start_time that has to be there.
template <typename Message>
absl::Time ReadStart(const Message& message, const FieldPath& path, Violations& violations) {
  if (!message.has_start_time()) {
    violations.Add(path / "start_time",
                   "is not set; give the start of the bucket, as in \"2026-01-31T09:00:05Z\"");
    return absl::InfinitePast();
  }
  return ReadTime(message.start_time(), path / "start_time", violations);
}

domain::EvidenceHeader ReadHeader(const v1::EvidenceHeader& header, const FieldPath& path,
                                  Violations& violations) {
  domain::EvidenceHeader out;
  if (!header.migration().empty()) CheckMigrationName(path / "migration", header.migration(), violations);
  out.migration = header.migration();
  out.plan = ReadPlan(header.plan(), path / "plan", violations);
  CheckPlan(out.plan, path, violations);
  out.epoch.declared_fields = header.declared_fields();
  out.epoch.restarts = header.evidence_restarts();
  out.epoch.start =
      ReadOptionalTime(header.has_start_time(), header.start_time(), path / "start_time", violations);
  return out;
}

domain::EvidenceStep ReadEvidenceStep(const v1::EvidenceStep& step, const FieldPath& path,
                                      Violations& violations) {
  domain::EvidenceStep out;
  if (step.step() >= domain::kMaxPlanSteps) {
    violations.Add(path / "step",
                   absl::StrCat(step.step(), " is no index into plan.steps; a plan has at most ",
                                domain::kMaxPlanSteps, " steps, counted from 0"));
  } else {
    out.step = static_cast<int>(step.step());
  }
  out.start = ReadStart(step, path, violations);
  return out;
}

domain::EvidenceBucket ReadBucket(const v1::EvidenceBucket& bucket, const FieldPath& path,
                                  Violations& violations) {
  domain::EvidenceBucket out;
  out.start = ReadStart(bucket, path, violations);
  const FieldPath stats = path / "stats";
  out.stats = ReadWindowStats(bucket.stats(), stats, violations);
  const absl::Status valid = out.stats.Validate();
  if (!valid.ok()) violations.Add(stats, valid.message());
  return out;
}

domain::EvidenceLine ReadLine(const v1::EvidenceLine& line, Violations& violations) {
  const FieldPath root;
  switch (line.line_case()) {
    case v1::EvidenceLine::kHeader:
      return ReadHeader(line.header(), root / "header", violations);
    case v1::EvidenceLine::kStep:
      return ReadEvidenceStep(line.step(), root / "step", violations);
    case v1::EvidenceLine::kBucket:
      return ReadBucket(line.bucket(), root / "bucket", violations);
    case v1::EvidenceLine::LINE_NOT_SET:
      violations.Add(root / "line", "is not set; a line has one of \"header\", \"step\" and \"bucket\"");
      return {};
  }
  LOCKSTEP_CHECK(false, "no such line");
}

}  // namespace

v1::EvidenceLine ToProto(const domain::EvidenceLine& line) {
  v1::EvidenceLine out;
  if (const auto* header = std::get_if<domain::EvidenceHeader>(&line))
    *out.mutable_header() = ToProto(*header);
  if (const auto* step = std::get_if<domain::EvidenceStep>(&line)) *out.mutable_step() = ToProto(*step);
  if (const auto* bucket = std::get_if<domain::EvidenceBucket>(&line))
    *out.mutable_bucket() = ToProto(*bucket);
  return out;
}

absl::StatusOr<domain::EvidenceLine> EvidenceLineFromProto(const v1::EvidenceLine& line) {
  Violations violations;
  domain::EvidenceLine out = ReadLine(line, violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

}  // namespace lockstep::wire
