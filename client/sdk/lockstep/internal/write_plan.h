// The decisions of a dual write that do not depend on the record's type.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/domain/decision.h"
#include "core/domain/ladder.h"
#include "core/domain/window_stats.h"
#include "lockstep/client.h"
#include "lockstep/migrator_types.h"

namespace lockstep::internal {

struct WritePlan {
  domain::Side authoritative = domain::Side::kOld;
  std::optional<domain::Side> mirror;
};

// UNAVAILABLE for a held write.
absl::StatusOr<WritePlan> PlanWrite(domain::WriteMode mode, absl::string_view migration);

// INVALID_ARGUMENT names the option that is out of range.
absl::Status ValidateMigratorOptions(const MigratorOptions& options);

// FAILED_PRECONDITION: the stage writes a side that the service gave no code for.
absl::Status MissingWriteCallback(absl::string_view migration, domain::Stage stage);

// Whether a write that failed with `status` may have happened all the same.
bool OutcomeUnknown(const absl::Status& status);

struct MirrorFailure {
  absl::string_view migration;
  domain::Side mirror = domain::Side::kNew;
  Version version = 0;
  domain::Stage stage = domain::Stage::kOff;
  MirrorFailurePolicy policy = MirrorFailurePolicy::kByStage;
};

// What the call answers after its mirror failed with `mirror_status`. `queued`: the repair queue took it.
absl::Status AfterMirrorFailure(const MirrorFailure& failure, const absl::Status& mirror_status, bool queued);

// A repair of a write with this authoritative side no longer matters: the migration has restarted or now
// writes otherwise. While that can't be told (the client is shutting down), it matters.
bool RepairIsObsolete(const Client& client, MigrationHandle migration, absl::string_view routing_key,
                      uint64_t generation, domain::Side authoritative);

inline domain::Arm ArmOf(domain::Side side) {
  return side == domain::Side::kNew ? domain::Arm::kNew : domain::Arm::kOld;
}

}  // namespace lockstep::internal
