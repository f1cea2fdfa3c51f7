// What all mutations have in common: etag, request id, validate_only, reason.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/domain/transition.h"
#include "core/wire/violations.h"
#include "lockstep/v1/migration_service.pb.h"

namespace lockstep::wire {

inline constexpr size_t kMaxReasonBytes = 1024;

// The decimal form of domain::Migration::version.
std::string EtagOf(uint64_t version);

// A violation unless `request_id` is empty or a UUID of version 4 in its usual form. Returns it in lower
// case: equal ids have equal text.
std::string ReadRequestId(absl::string_view request_id, const FieldPath& path, Violations& violations);

// nullopt for an empty etag (whatever it is now). A violation for text that is no etag of this server's.
std::optional<uint64_t> ReadEtag(absl::string_view etag, const FieldPath& path, Violations& violations);

// As a mutation's options arrive; see proto/lockstep/v1/migration_service.proto.
struct MutationOptions {
  std::optional<uint64_t> expected_version;  // from the etag; nullopt = whatever it is
  std::string request_id;                    // lower case; empty = not idempotent
  bool validate_only = false;
  std::string reason;
};

// What a state change asks of which migration.
struct StateChangeRequest {
  std::string name;
  domain::Command command;  // domain::Plan judges weight and override
  MutationOptions options;
};

// INVALID_ARGUMENT with every violation: name, change.etag, change.request_id, change.reason.
absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::StartMigrationRequest& request);
absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::AdvanceMigrationRequest& request);
absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::PauseMigrationRequest& request);
absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::ResumeMigrationRequest& request);
absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::RollbackMigrationRequest& request);
absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::AbortMigrationRequest& request);
absl::StatusOr<StateChangeRequest> StateChangeFromProto(const v1::SetMigrationWeightRequest& request);

// An instance of a migration to be declared gone.
struct EvictRequest {
  std::string name;
  std::string instance_id;
  MutationOptions options;
};
// As StateChangeFromProto; and instance_id.
absl::StatusOr<EvictRequest> EvictFromProto(const v1::EvictInstanceRequest& request);

struct DrillRequest {
  std::string name;
  MutationOptions options;
};
// As StateChangeFromProto.
absl::StatusOr<DrillRequest> DrillFromProto(const v1::DrillRollbackRequest& request);

struct DeleteRequest {
  std::string name;
  MutationOptions options;
};
// As StateChangeFromProto; the paths are name, etag and request_id.
absl::StatusOr<DeleteRequest> DeleteFromProto(const v1::DeleteMigrationRequest& request);

}  // namespace lockstep::wire
