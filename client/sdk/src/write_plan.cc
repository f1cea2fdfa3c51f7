#include "lockstep/internal/write_plan.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep::internal {

absl::StatusOr<WritePlan> PlanWrite(domain::WriteMode mode, absl::string_view migration) {
  using domain::Side;
  switch (mode) {
    case domain::WriteMode::kOldOnly:
      return WritePlan{Side::kOld, std::nullopt};
    case domain::WriteMode::kOldThenNew:
      return WritePlan{Side::kOld, Side::kNew};
    case domain::WriteMode::kHeld:
      return absl::UnavailableError(
          absl::StrCat(migration,
                       ": writes of this key are held while their authority moves from the old side to the "
                       "new one; nothing was written, retry in a moment"));
    case domain::WriteMode::kNewThenOld:
      return WritePlan{Side::kNew, Side::kOld};
    case domain::WriteMode::kNewOnly:
      return WritePlan{Side::kNew, std::nullopt};
  }
  return absl::InternalError(absl::StrCat(migration, ": no such write mode"));
}

absl::Status ValidateMigratorOptions(const MigratorOptions& options) {
  const auto wrong = [](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("MigratorOptions::", what));
  };
  if (options.comparison_deadline <= absl::ZeroDuration())
    return wrong("comparison_deadline must be positive");
  if (options.mirror_deadline <= absl::ZeroDuration()) return wrong("mirror_deadline must be positive");
  if (options.max_comparisons_in_flight < 0) return wrong("max_comparisons_in_flight must not be negative");
  if (!(options.paired_latency_share >= 0 && options.paired_latency_share <= 1)) {
    return wrong("paired_latency_share must be in [0, 1]");
  }
  if (options.repair_backoff_initial <= absl::ZeroDuration() ||
      options.repair_backoff_max < options.repair_backoff_initial) {
    return wrong("repair_backoff_initial must be positive and at most repair_backoff_max");
  }
  for (absl::Duration delay : options.settle_delays) {
    if (delay < absl::ZeroDuration()) return wrong("settle_delays must not be negative");
  }
  return absl::OkStatus();
}

absl::Status MissingWriteCallback(absl::string_view migration, domain::Stage stage) {
  return absl::FailedPreconditionError(absl::StrCat(
      migration, ": nothing was written: stage ", domain::StageName(stage),
      " writes the new side first, and this Migrator was built without WriteNew and MirrorToOld; roll back "
      "or deploy a version of the service that has them"));
}

bool OutcomeUnknown(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDataLoss:
      return true;
    default:  // the other codes say that the side has refused
      return false;
  }
}

absl::Status AfterMirrorFailure(const MirrorFailure& failure, const absl::Status& mirror_status,
                                bool queued) {
  bool fail_call = false;
  switch (failure.policy) {
    case MirrorFailurePolicy::kByStage:
      fail_call = failure.stage >= domain::Stage::kCanaryRead;
      break;
    case MirrorFailurePolicy::kFailCall:
      fail_call = true;
      break;
    case MirrorFailurePolicy::kRepair:
      break;
  }
  if (!fail_call && queued) return absl::OkStatus();
  return absl::Status(
      mirror_status.code(),
      absl::StrCat(failure.migration, ": the authoritative write stands (version ", failure.version,
                   "), but its mirror to the ", domain::SideName(failure.mirror),
                   " side failed: ", mirror_status.message(),
                   queued ? "; the repair is queued"
                          : "; the repair queue is full or closed, so write again or copy the record"));
}

bool RepairIsObsolete(const Client& client, MigrationHandle migration, absl::string_view routing_key,
                      uint64_t generation, domain::Side authoritative) {
  const absl::StatusOr<RouteHandle> route = client.Route(migration, routing_key);
  if (!route.ok()) return false;
  if (route->generation() != generation) return true;
  const absl::StatusOr<WritePlan> plan = PlanWrite(route->decision().write_mode, route->migration());
  if (!plan.ok()) return false;  // held: the copy still has to follow
  return plan->authoritative != authoritative || !plan->mirror.has_value();
}

}  // namespace lockstep::internal
