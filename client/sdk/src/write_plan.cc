#include "lockstep/internal/write_plan.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace lockstep::internal {
namespace {

constexpr size_t kMaxJournalKindBytes = 63;

}  // namespace

std::optional<WritePlan> PlanWrite(domain::WriteMode mode) {
  using domain::Side;
  switch (mode) {
    case domain::WriteMode::kOldOnly:
      return WritePlan{Side::kOld, std::nullopt};
    case domain::WriteMode::kOldThenNew:
      return WritePlan{Side::kOld, Side::kNew};
    case domain::WriteMode::kHeld:
      return std::nullopt;
    case domain::WriteMode::kNewThenOld:
      return WritePlan{Side::kNew, Side::kOld};
    case domain::WriteMode::kNewOnly:
      return WritePlan{Side::kNew, std::nullopt};
  }
  LOCKSTEP_CHECK(false, "no such write mode");
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
  if (options.max_mirrors_in_flight < 1) return wrong("max_mirrors_in_flight must be at least 1");
  if (options.breaker_failures < 1) return wrong("breaker_failures must be at least 1");
  if (options.breaker_probe_interval <= absl::ZeroDuration())
    return wrong("breaker_probe_interval must be positive");
  if (options.max_hold_wait < absl::ZeroDuration()) return wrong("max_hold_wait must not be negative");
  if (options.journal_kind.size() > kMaxJournalKindBytes) {
    return wrong(absl::StrCat("journal_kind must have at most ", kMaxJournalKindBytes, " bytes"));
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

absl::Status HeldTooLong(absl::string_view migration, absl::Duration waited) {
  return absl::UnavailableError(absl::StrCat(
      migration, ": writes of this key are held while their authority moves between the sides, and after ",
      absl::FormatDuration(waited), " this one's time was up; nothing was written, retry"));
}

namespace {

std::string Stands(const MirrorFailure& failure) {
  return absl::StrCat(failure.migration, ": the authoritative write stands (version ", failure.version,
                      "), but its mirror to the ", domain::SideName(failure.mirror), " side ");
}

absl::string_view AboutRepair(bool queued) {
  return queued ? "; the repair is queued"
                : "; the repair queue is full or closed, so write again or copy the record";
}

}  // namespace

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
  return absl::Status(mirror_status.code(), absl::StrCat(Stands(failure), "failed: ", mirror_status.message(),
                                                         AboutRepair(queued)));
}

absl::Status AfterStop(const MirrorFailure& failure, bool queued) {
  return absl::CancelledError(
      absl::StrCat(Stands(failure), "was not attempted because the call was given up", AboutRepair(queued)));
}

bool MayWriteBehind(domain::Stage stage) { return stage < domain::Stage::kCanaryRead; }

bool IsOlderThan(const RouteHandle& present, uint64_t store_epoch, uint64_t epoch) {
  return present.store_epoch() == store_epoch && present.epoch() < epoch;
}

RepairNeed NeedForRepair(const RouteHandle& present, uint64_t generation, domain::Side authoritative) {
  if (present.generation() != generation) return RepairNeed::kObsolete;
  const std::optional<WritePlan> plan = PlanWrite(present.decision().write_mode);
  if (!plan.has_value()) return RepairNeed::kNeeded;
  if (plan->authoritative != authoritative) return RepairNeed::kLost;
  return plan->mirror.has_value() ? RepairNeed::kNeeded : RepairNeed::kObsolete;
}

bool MayLack(const RouteHandle& route, const ReadToken& after) {
  if (after.epoch == 0 || after.mirrored || route.decision().read_side == after.authoritative) return false;
  if (route.epoch() <= after.epoch) return true;
  const std::optional<WritePlan> plan = PlanWrite(route.decision().write_mode);
  return !plan.has_value() || plan->authoritative == after.authoritative;
}

}  // namespace lockstep::internal
