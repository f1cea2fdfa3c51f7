#include "client/examples/cities/coverage.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

constexpr char kService[] = "cities-backfill";
constexpr absl::Duration kConnectTime = absl::Seconds(30);
constexpr absl::Duration kShutdownTime = absl::Seconds(10);

}  // namespace

absl::StatusOr<std::unique_ptr<CoverageReport>> CoverageReport::Begin(CoverageOptions options) {
  std::unique_ptr<CoverageReport> report(new CoverageReport());
  report->migration_ = options.migration;
  LOCKSTEP_ASSIGN_OR_RETURN(report->client_, Client::Create({.transport = std::move(options.transport),
                                                             .service = kService,
                                                             .migrations = {options.migration},
                                                             .instance_id = std::move(options.instance_id)}));
  LOCKSTEP_RETURN_IF_ERROR(report->client_->WaitUntilReady(absl::Now() + kConnectTime));
  LOCKSTEP_ASSIGN_OR_RETURN(const MigrationHandle migration, report->client_->Resolve(options.migration));
  LOCKSTEP_ASSIGN_OR_RETURN(const Attribution present, report->client_->PresentAttribution(migration));
  report->generation_ = present.generation;
  return report;
}

void CoverageReport::TakeOn(int64_t rows) {
  taken_on_ += rows;
  Report(rows, 0);
}

void CoverageReport::Progress(const BackfillProgress& progress) {
  const int64_t more = taken_on_ == 0 ? 0 : std::max<int64_t>(0, progress.rows_read - taken_on_);
  const int64_t copied = progress.rows_applied + progress.rows_newer;
  Report(more, copied - copied_);
  taken_on_ += more;
  copied_ = copied;
}

void CoverageReport::Report(int64_t to_copy, int64_t copied) {
  const absl::StatusOr<Attribution> present =
      client_->PresentAttribution(*client_->Resolve(migration_));  // resolved before
  status_.Update(present.status());
  if (!status_.ok()) return;
  if (present->generation != generation_) {
    status_ = absl::FailedPreconditionError(
        absl::StrCat(migration_, " was started anew during the backfill: run it again"));
    return;
  }
  client_->telemetry().RecordBackfill(*present, static_cast<uint64_t>(to_copy),
                                      static_cast<uint64_t>(copied));
}

absl::Status CoverageReport::Finish() {
  absl::Status left = client_->Shutdown(absl::Now() + kShutdownTime);
  return status_.ok() ? left : status_;
}

}  // namespace lockstep::examples
