// What has to be true before the session acknowledges an epoch.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/sdk/src/session.h"
#include "core/base/log.h"
#include "core/domain/next_hop.h"

namespace lockstep::internal {
namespace {

// After the state directory could not be written.
constexpr absl::Duration kSaveRetry = absl::Seconds(1);

}  // namespace

void Session::Acknowledge(absl::Duration now) {
  const domain::Snapshot* const current = ring_->current();
  if (stream_ == nullptr || !accepted_on_stream_ || current == nullptr || ring_->OlderPinned()) return;
  Acknowledgement acknowledgement{.revision = current->revision, .held = HeldNow()};
  if (!SlicesChecked(*current, acknowledgement.held)) return;
  acknowledgement.slice_checks = parts_.slice_checker->Results();
  if (acknowledged_ == acknowledgement) return;
  if (!Save(*current, acknowledgement.held, now)) return;
  stream_->SendAck(acknowledgement.revision, acknowledgement.held, acknowledgement.slice_checks);
  acknowledged_ = std::move(acknowledgement);
  MutexLock lock(&stats_mutex_);
  stats_.acknowledged_revision = acknowledged_->revision;
}

bool Session::SlicesChecked(const domain::Snapshot& current, const HeldEpochs& held) {
  // Where a mirror of an older epoch is open, a difference is no surprise: that migration's turn comes when
  // nothing is. Its epoch isn't acknowledged before.
  domain::Snapshot settled{.revision = current.revision, .store_epoch = current.store_epoch};
  for (const domain::MigrationRouting& routing : current.migrations) {
    if (!domain::HoldsWrites(routing.state)) continue;
    const auto epoch = held.find(routing.name);
    if (epoch != held.end() && epoch->second == routing.state.epoch) settled.migrations.push_back(routing);
  }
  parts_.slice_checker->Start(settled);
  return !parts_.slice_checker->Busy();
}

bool Session::Save(const domain::Snapshot& current, const HeldEpochs& held, absl::Duration now) {
  if (parts_.state_storage == nullptr) return true;
  Saved saved{current.store_epoch, current.revision, held};
  if (saved_ == saved) return true;
  if (now < save_at_) return false;
  saved_.reset();
  const absl::Status status =
      SaveClientState(*parts_.state_storage, {.instance_id = options_.enrolment.instance_id,
                                              .service = options_.enrolment.service,
                                              .snapshot = current,
                                              .held = held});
  if (status.ok()) {
    durable_ = saved_ = std::move(saved);
    save_at_ = absl::ZeroDuration();
    return true;
  }
  if (save_at_ == absl::ZeroDuration()) {
    Log(LogLevel::kError,
        "the state directory can't be written: serving goes on, but nothing is acknowledged, so that the "
        "migration waits",
        {{"reason", status.ToString()}});
  }
  save_at_ = now + kSaveRetry;
  MutexLock lock(&stats_mutex_);
  ++stats_.state_writes_failed;
  stats_.last_state_error = status.ToString();
  return false;
}

bool Session::ForgetEnrolment() {
  if (parts_.state_storage == nullptr) return true;
  saved_.reset();
  const absl::Status status =
      SaveClientState(*parts_.state_storage,
                      {.instance_id = options_.enrolment.instance_id, .service = options_.enrolment.service});
  if (status.ok()) return true;
  Log(LogLevel::kError, "the enrolment is kept, because the state directory can't be written",
      {{"reason", status.ToString()}});
  MutexLock lock(&stats_mutex_);
  ++stats_.state_writes_failed;
  stats_.last_state_error = status.ToString();
  return false;
}

}  // namespace lockstep::internal
