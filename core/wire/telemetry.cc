#include "core/wire/telemetry.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "core/wire/resource_name.h"
#include "core/wire/timestamps.h"
#include "core/wire/window_stats.h"

namespace lockstep::wire {
namespace {

constexpr size_t kMaxFieldPathBytes = 256;
constexpr size_t kKeyDigestCharacters = 32;
constexpr size_t kMaxValueDigestCharacters = 64;
constexpr size_t kTraceIdCharacters = 32;
constexpr std::array<absl::string_view, 7> kSampleKinds = {
    "value", "type", "missing", "extra", "order", "missing_in_new", "missing_in_old"};
// 2020-01-01T00:00:00Z: older than any release of Lockstep, so an older bucket is a broken clock.
constexpr int64_t kEarliestBucketSeconds = 1'577'836'800;

void CheckSample(const v1::MismatchSample& sample, absl::string_view instance_id, const FieldPath& path,
                 Violations& violations) {
  if (!sample.has_time()) violations.Add(path / "time", "is not set");
  CheckBytes(path / "field", sample.field().size(), {.max = kMaxFieldPathBytes}, violations);
  if (std::find(kSampleKinds.begin(), kSampleKinds.end(), sample.kind()) == kSampleKinds.end()) {
    violations.Add(path / "kind", absl::StrCat("is none of ", absl::StrJoin(kSampleKinds, ", ")));
  }
  CheckHex(path / "key_digest", sample.key_digest(),
           {.min = kKeyDigestCharacters, .max = kKeyDigestCharacters}, violations);
  CheckHex(path / "old_digest", sample.old_digest(), {.max = kMaxValueDigestCharacters}, violations);
  CheckHex(path / "new_digest", sample.new_digest(), {.max = kMaxValueDigestCharacters}, violations);
  if (!sample.instance_id().empty() && sample.instance_id() != instance_id) {
    violations.Add(path / "instance_id", "is not the batch's; leave it out");
  }
  if (!sample.trace_id().empty()) {
    CheckHex(path / "trace_id", sample.trace_id(), {.min = kTraceIdCharacters, .max = kTraceIdCharacters},
             violations);
  }
}

// What a service's own record and caller put into a sample must not cost the batch its counts.
v1::MismatchSample SendableSample(const domain::MismatchSample& sample) {
  v1::MismatchSample out = ToProto(sample);
  out.set_field(std::string(Utf8Prefix(out.field(), kMaxFieldPathBytes)));
  Violations violations;
  if (!CheckHex(FieldPath(), out.trace_id(), {.min = kTraceIdCharacters, .max = kTraceIdCharacters},
                violations)) {
    out.clear_trace_id();
  }
  return out;
}

void CheckBucketStart(const v1::MigrationDelta& delta, absl::Time start, absl::Time now,
                      const FieldPath& path, Violations& violations) {
  if (!delta.has_bucket_start()) {
    violations.Add(path, "is not set");
  } else if (delta.bucket_start().nanos() != 0 ||
             delta.bucket_start().seconds() % absl::ToInt64Seconds(domain::kTelemetryBucket) != 0) {
    violations.Add(path, absl::StrCat(absl::FormatTime(start, absl::UTCTimeZone()), " is not a multiple of ",
                                      absl::FormatDuration(domain::kTelemetryBucket)));
  } else if (start < absl::FromUnixSeconds(kEarliestBucketSeconds)) {
    violations.Add(path, absl::StrCat(absl::FormatTime(start, absl::UTCTimeZone()),
                                      " is before 2020; is the instance's clock right?"));
  } else if (start > now + kMaxClockLead) {
    violations.Add(
        path, absl::StrCat(absl::FormatTime(start, absl::UTCTimeZone()), " is more than ",
                           absl::FormatDuration(kMaxClockLead), " ahead of the server's clock, ",
                           absl::FormatTime(now, absl::UTCTimeZone()), "; is the instance's clock right?"));
  }
}

domain::TelemetryDelta ReadDelta(const v1::MigrationDelta& delta, absl::string_view instance_id,
                                 absl::Time now, const FieldPath& path, Violations& violations) {
  domain::TelemetryDelta out;
  CheckMigrationName(path / "migration", delta.migration(), violations);
  out.migration = delta.migration();
  if (delta.generation() == 0) violations.Add(path / "generation", "is 0; generations count from 1");
  out.generation = delta.generation();
  out.epoch = delta.epoch();
  if (delta.contract_revision() == 0) {
    violations.Add(path / "contract_revision", "is 0; revisions count from 1");
  }
  out.contract_revision = delta.contract_revision();
  out.bucket_start = ReadTime(delta.bucket_start(), path / "bucket_start", violations);
  CheckBucketStart(delta, out.bucket_start, now, path / "bucket_start", violations);
  const FieldPath stats = path / "stats";
  out.stats = ReadWindowStats(delta.stats(), stats, violations);
  const absl::Status valid = out.stats.Validate();
  if (!valid.ok()) violations.Add(stats, valid.message());
  if (!CheckCount(path / "samples", delta.samples_size(), {.max = domain::kMaxSamplesPerDelta}, violations)) {
    return out;
  }
  out.samples.reserve(delta.samples_size());
  for (int i = 0; i < delta.samples_size(); ++i) {
    const FieldPath sample = path.At("samples", i);
    CheckSample(delta.samples(i), instance_id, sample, violations);
    out.samples.push_back(ReadSample(delta.samples(i), sample, violations));
    out.samples.back().instance_id = std::string(instance_id);
  }
  return out;
}

}  // namespace

v1::ReportComparisonsRequest ToProto(const domain::TelemetryBatch& batch) {
  v1::ReportComparisonsRequest out;
  out.set_instance_id(batch.instance_id);
  out.set_session(batch.session);
  out.set_sequence(batch.sequence);
  for (const domain::TelemetryDelta& delta : batch.deltas) {
    v1::MigrationDelta* added = out.add_deltas();
    added->set_migration(delta.migration);
    added->set_generation(delta.generation);
    added->set_epoch(delta.epoch);
    added->set_contract_revision(delta.contract_revision);
    *added->mutable_bucket_start() = ToProto(delta.bucket_start);
    *added->mutable_stats() = ToProto(delta.stats);
    for (const domain::MismatchSample& sample : delta.samples) *added->add_samples() = SendableSample(sample);
  }
  return out;
}

absl::StatusOr<domain::TelemetryBatch> TelemetryBatchFromProto(const v1::ReportComparisonsRequest& request,
                                                               absl::Time now) {
  Violations violations;
  const FieldPath root;
  domain::TelemetryBatch out;
  CheckInstanceId(root / "instance_id", request.instance_id(), violations);
  out.instance_id = request.instance_id();
  if (request.session() == 0) violations.Add(root / "session", "is 0; draw a random number for each process");
  out.session = request.session();
  if (request.sequence() == 0) violations.Add(root / "sequence", "is 0; batches count from 1");
  out.sequence = request.sequence();
  CheckBytes(root / "deltas", request.ByteSizeLong(), {.max = kMaxBatchBytes}, violations);
  CheckCount(root / "deltas", request.deltas_size(), {.max = domain::kMaxDeltasPerBatch}, violations);
  // What is too large to be looked at isn't.
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  out.deltas.reserve(request.deltas_size());
  for (int i = 0; i < request.deltas_size(); ++i) {
    out.deltas.push_back(
        ReadDelta(request.deltas(i), out.instance_id, now, root.At("deltas", i), violations));
  }
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

v1::MismatchSample ToProto(const domain::MismatchSample& sample) {
  v1::MismatchSample out;
  SetTime(sample.time, out, &v1::MismatchSample::mutable_time);
  out.set_field(ToValidUtf8(sample.field));
  out.set_kind(ToValidUtf8(sample.kind));
  out.set_key_digest(ToValidUtf8(sample.key_digest));
  out.set_old_digest(ToValidUtf8(sample.old_digest));
  out.set_new_digest(ToValidUtf8(sample.new_digest));
  out.set_old_length(sample.old_length);
  out.set_new_length(sample.new_length);
  out.set_instance_id(ToValidUtf8(sample.instance_id));
  out.set_epoch(sample.epoch);
  out.set_trace_id(ToValidUtf8(sample.trace_id));
  return out;
}

domain::MismatchSample ReadSample(const v1::MismatchSample& sample, const FieldPath& path,
                                  Violations& violations) {
  domain::MismatchSample out;
  out.time = ReadOptionalTime(sample.has_time(), sample.time(), path / "time", violations);
  out.field = sample.field();
  out.kind = sample.kind();
  out.key_digest = sample.key_digest();
  out.old_digest = sample.old_digest();
  out.new_digest = sample.new_digest();
  out.old_length = sample.old_length();
  out.new_length = sample.new_length();
  out.instance_id = sample.instance_id();
  out.epoch = sample.epoch();
  out.trace_id = sample.trace_id();
  return out;
}

}  // namespace lockstep::wire
