// The decisions of a dual write that do not depend on the record's type.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
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

// Nothing for a held write.
std::optional<WritePlan> PlanWrite(domain::WriteMode mode);

// INVALID_ARGUMENT names the option that is out of range.
absl::Status ValidateMigratorOptions(const MigratorOptions& options);

// FAILED_PRECONDITION: the stage writes a side that the service gave no code for.
absl::Status MissingWriteCallback(absl::string_view migration, domain::Stage stage);

// UNAVAILABLE: the write was held until its time was up.
absl::Status HeldTooLong(absl::string_view migration, absl::Duration waited);

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

// The same after it was given up between its two writes: CANCELLED.
absl::Status AfterStop(const MirrorFailure& failure, bool queued);

// Whether mirrors may be written after the call has returned: nobody reads them yet.
bool MayWriteBehind(domain::Stage stage);

// Whether what is in force is older than a write of this epoch. So it may be after a restart: an epoch is
// acted on before it is acknowledged, and what is on disk is what was acknowledged. It says nothing of that
// write then.
bool IsOlderThan(const RouteHandle& present, uint64_t store_epoch, uint64_t epoch);

// What has become of the repair of a write with this authoritative side.
enum class RepairNeed : uint8_t {
  kNeeded,    // also while writes of the key are held
  kObsolete,  // the migration has restarted, or no longer mirrors to that side
  // The other side has the authority now, and never got the write. Repairing it could undo what has been
  // written there since, because both sides mint versions.
  kLost,
};
RepairNeed NeedForRepair(const RouteHandle& present, uint64_t generation, domain::Side authoritative);

// Whether the side that `route` reads may lack the write of `after`. If its authority has moved since, it
// can't: the fence has waited for the mirror.
bool MayLack(const RouteHandle& route, const ReadToken& after);

inline domain::Arm ArmOf(domain::Side side) {
  return side == domain::Side::kNew ? domain::Arm::kNew : domain::Arm::kOld;
}

inline domain::Side OtherSide(domain::Side side) {
  return side == domain::Side::kOld ? domain::Side::kNew : domain::Side::kOld;
}

}  // namespace lockstep::internal
