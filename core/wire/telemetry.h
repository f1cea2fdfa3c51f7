// Telemetry batches: what an instance reports.
#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/domain/records.h"
#include "core/wire/violations.h"
#include "lockstep/v1/migration_service.pb.h"
#include "lockstep/v1/telemetry_service.pb.h"

namespace lockstep::wire {

inline constexpr size_t kMaxBatchBytes = 1 << 20;
// Clocks of instances and server may differ; a bucket further ahead than this would hold the window open.
inline constexpr absl::Duration kMaxClockLead = absl::Hours(1);

// What the SDK sends. What a service's records and callers may put into samples is made acceptable, because
// the server refuses a batch as a whole: text that is not UTF-8 is repaired, a field path is cut to 256
// bytes, and a trace id that is not 32 hexadecimal digits is left out.
v1::ReportComparisonsRequest ToProto(const domain::TelemetryBatch& batch);

// INVALID_ARGUMENT with every violation: counts that cannot be, unknown enums, buckets that are not multiples
// of 5 s or lie before 2020 or more than kMaxClockLead after `now`, names, sizes. Samples get the batch's
// instance id. Whether the migrations exist, generations and sequence are for the engine.
absl::StatusOr<domain::TelemetryBatch> TelemetryBatchFromProto(const v1::ReportComparisonsRequest& request,
                                                               absl::Time now);

v1::MismatchSample ToProto(const domain::MismatchSample& sample);
// Converts without the limits that CheckSample knows. Violations: an impossible time.
domain::MismatchSample ReadSample(const v1::MismatchSample& sample, const FieldPath& path,
                                  Violations& violations);

}  // namespace lockstep::wire
