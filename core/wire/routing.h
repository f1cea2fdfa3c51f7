// The routing stream and unary decisions: snapshots, enrolment, acknowledgements, requests for one key or
// many.
#pragma once

#include <cstdint>
#include <map>
#include <string>

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

v1::Snapshot ToProto(const domain::Snapshot& snapshot);
// Converts; INVALID_ARGUMENT naming the field for what has no counterpart in the domain.
// domain::ValidateSnapshot judges the rest, and the caller sends either message as the NACK's reason.
absl::StatusOr<domain::Snapshot> SnapshotFromProto(const v1::Snapshot& snapshot);

// Oldest epochs in use by migration name, as in domain::Enrolment::acknowledged_epochs.
using HeldEpochs = std::map<std::string, uint64_t>;

// What the SDK opens its stream with; `held` becomes acknowledged_epochs.
v1::Enrol EnrolToProto(const domain::Enrolment& enrolment);
// INVALID_ARGUMENT with every violation: id, service, version, names, repeated names, held epochs of other
// migrations. enrolled_at is the engine's to set.
absl::StatusOr<domain::Enrolment> EnrolFromProto(const v1::Enrol& enrol);

struct Ack {
  uint64_t revision = 0;
  HeldEpochs held;
};
v1::Ack ToProto(const Ack& ack);
// INVALID_ARGUMENT for a migration that comes twice or whose name is malformed.
absl::StatusOr<Ack> AckFromProto(const v1::Ack& ack);

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
