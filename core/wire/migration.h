// The migration resource: definitions from the API, the resource as the API shows it, and the stored record.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/domain/migration.h"
#include "core/wire/request.h"
#include "google/protobuf/field_mask.pb.h"
#include "lockstep/storage/v1/records.pb.h"
#include "lockstep/v1/migration.pb.h"
#include "lockstep/v1/migration_service.pb.h"

namespace lockstep::wire {

// What the resource shows besides the migration itself.
struct MigrationView {
  const domain::GateResult* gate = nullptr;  // the newest evaluation; null = none yet
  absl::Time gate_time = absl::InfinitePast();
  std::vector<v1::FenceWait> waiting_for;  // whom `pending` waits for, so many of them as are shown
  size_t waiting_for_count = 0;
};

v1::Migration ToProto(const domain::Migration& migration, const MigrationView& view = {});

// The definition a person sent: name, description, labels, owners, salt, plan, contract (at revision 1) and
// pins. Output-only fields are ignored; `salt` stays empty if it was not given. INVALID_ARGUMENT with every
// violation, each with its path relative to the migration, as in "plan.steps[2].weight": bounds, the plan's
// and the contract's own rules, and checks on fields that the contract doesn't declare. An empty name is
// accepted: CreateFromProto sets it.
absl::StatusOr<domain::Migration> MigrationFromProto(const v1::Migration& migration);

struct CreateRequest {
  domain::Migration migration;  // with its full name
  MutationOptions options;
};
// INVALID_ARGUMENT with every violation of the request, those of MigrationFromProto included. migration.name
// may be empty or must be the name made of parent and migration_id.
absl::StatusOr<CreateRequest> CreateFromProto(const v1::CreateMigrationRequest& request);

struct UpdateRequest {
  std::string name;
  MutationOptions options;
  v1::Migration migration;                  // as sent
  google::protobuf::FieldMask update_mask;  // checked; for ApplyUpdateMask
};
// Checks what can be checked without the current resource: name, etag, request_id, update_mask.
absl::StatusOr<UpdateRequest> UpdateFromProto(const v1::UpdateMigrationRequest& request);

// Replaces the fields of `to` that `mask` names by those of `from`, and checks the result; on an error `to`
// is as it was. An empty mask, or "*", names every field that may be updated: description, labels, owners,
// plan, contract, pins. The revisions of plan and contract, version and update_time are the caller's to
// raise. INVALID_ARGUMENT for unknown, nested, immutable and output-only paths, for a salt that differs under
// "*", and for values MigrationFromProto would refuse.
absl::Status ApplyUpdateMask(const google::protobuf::FieldMask& mask, const v1::Migration& from,
                             domain::Migration* to);

storage::v1::MigrationRecord ToRecord(const domain::Migration& migration);
// INVALID_ARGUMENT naming the field for what no ToRecord can have made.
absl::StatusOr<domain::Migration> MigrationFromRecord(const storage::v1::MigrationRecord& record);

}  // namespace lockstep::wire
