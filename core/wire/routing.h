// The routing stream and unary decisions: snapshots, enrolment, acknowledgements, requests for one key or
// many.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/domain/decision.h"
#include "core/domain/records.h"
#include "core/domain/snapshot.h"
#include "core/wire/violations.h"
#include "google/protobuf/map.h"
#include "lockstep/v1/routing_service.pb.h"

namespace lockstep::wire {

inline constexpr size_t kMaxMigrationsPerInstance = 1000;
inline constexpr size_t kMaxAttributes = 64;
inline constexpr size_t kMaxAttributesBytes = 8 << 10;
inline constexpr size_t kMaxKeysPerBatch = 1000;
inline constexpr size_t kMaxSliceExampleBytes = 1024;

// `digest` is that of the snapshot (domain::SnapshotDigest), and of the one that the delta results in.
v1::Snapshot ToProto(const domain::Snapshot& snapshot, uint64_t digest);
v1::SnapshotDelta ToProto(const domain::SnapshotDelta& delta, uint64_t digest);
// Convert, and compute the digest of each migration, not that of the whole: whether the message's own is
// right is the caller's to see. INVALID_ARGUMENT naming the field for what has no counterpart in the domain.
// domain::ValidateSnapshot judges the rest, and the caller sends either message as the NACK's reason.
absl::StatusOr<domain::Snapshot> SnapshotFromProto(const v1::Snapshot& snapshot);
absl::StatusOr<domain::SnapshotDelta> SnapshotDeltaFromProto(const v1::SnapshotDelta& delta);

// Oldest epochs in use by migration name, as in domain::Enrolment::acknowledged_epochs.
using HeldEpochs = std::map<std::string, uint64_t>;

// What the SDK opens its stream with; `held` becomes acknowledged_epochs, of the store `store_epoch`.
v1::Enrol EnrolToProto(const domain::Enrolment& enrolment, uint64_t store_epoch);
// INVALID_ARGUMENT with every violation: id, service, version, names, repeated names, held epochs of other
// migrations, a lease outside [domain::kMinLeaseTtl, domain::kMaxLeaseTtl]. enrolled_at is the engine's to
// set, and what the held epochs are worth under enrol.store_epoch() the engine's to judge.
absl::StatusOr<domain::Enrolment> EnrolFromProto(const v1::Enrol& enrol);

struct Ack {
  uint64_t revision = 0;
  HeldEpochs held;
  std::vector<domain::SliceCheck> slice_checks;  // an example is cut to kMaxSliceExampleBytes
};
v1::Ack ToProto(const Ack& ack);
// INVALID_ARGUMENT for a migration that comes twice or whose name is malformed.
absl::StatusOr<Ack> AckFromProto(const v1::Ack& ack);

v1::InstanceStatus ToProto(const domain::InstanceStatus& status);
// INVALID_ARGUMENT for an impossible duration.
absl::StatusOr<domain::InstanceStatus> InstanceStatusFromProto(const v1::InstanceStatus& status);

// The SDK's reason, cut to kMaxReasonBytes: refusing a NACK for its length would lose it.
v1::Nack MakeNack(uint64_t revision, absl::string_view reason);
std::string NackReason(const v1::Nack& nack);

// The epoch travels beside the decision, in the response.
v1::Decision ToProto(const domain::Decision& decision);
absl::StatusOr<domain::Decision> DecisionFromProto(const v1::Decision& decision, uint64_t epoch);

// INVALID_ARGUMENT with every violation: name, keys (1 to domain::kMaxKeyBytes bytes), attributes, number of
// keys.
absl::Status ValidateRouteRequest(const v1::RouteRequest& request);
absl::Status ValidateBatchRouteRequest(const v1::BatchRouteRequest& request);

// Of a validated request.
domain::Attributes AttributesFromProto(const google::protobuf::Map<std::string, std::string>& attributes);

}  // namespace lockstep::wire
