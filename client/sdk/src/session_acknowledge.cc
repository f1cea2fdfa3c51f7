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

bool FoundNothing(const domain::SliceCheck& check) { return check.differing == 0 && check.unchecked == 0; }

}  // namespace

void Session::Acknowledge(absl::Duration now) {
  const domain::Snapshot* const current = ring_->current();
  if (stream_ == nullptr || !accepted_on_stream_ || current == nullptr) return;
  SetRepairsAside(*current);
  const HeldEpochs open = HeldNow();
  StartSliceChecks(*current, open);
  Acknowledgement acknowledgement{.revision = current->revision,
                                  .slice_checks = parts_.slice_checker->Results()};
  AddSetAside(acknowledgement.slice_checks);
  acknowledgement.held = WithoutUnchecked(open, *current, acknowledgement.slice_checks, /*clean=*/false);
  if (acknowledged_ == acknowledgement) return;
  // Until everything older has ended only what is news: a migration doesn't wait for the operations of
  // others.
  const bool all_ended = !ring_->OlderPinned() && !parts_.slice_checker->Busy();
  if (!all_ended && !Raises(acknowledgement.held)) return;
  // Nobody but this process knows of a check that found something, until the control plane has said what
  // becomes of it. What comes after it must not seem to have come through a clean one.
  if (!Save(*current, WithoutUnchecked(open, *current, acknowledgement.slice_checks, /*clean=*/true), now)) {
    return;
  }
  stream_->SendAck(acknowledgement.revision, acknowledgement.held, acknowledgement.slice_checks);
  acknowledged_ = std::move(acknowledgement);
  told_ = acknowledged_->held;
  if (!all_ended) return;
  MutexLock lock(&stats_mutex_);
  stats_.acknowledged_revision = acknowledged_->revision;
}

void Session::StartSliceChecks(const domain::Snapshot& current, const HeldEpochs& held) {
  // Where a mirror of an older epoch is open, a difference is no surprise: that migration's turn comes when
  // nothing is. Its epoch isn't acknowledged before.
  domain::Snapshot settled{.revision = current.revision, .store_epoch = current.store_epoch};
  for (const domain::MigrationRouting& routing : current.migrations) {
    if (!domain::HoldsWrites(routing.state)) continue;
    const auto epoch = held.find(routing.name);
    if (epoch != held.end() && epoch->second == routing.state.epoch) settled.migrations.push_back(routing);
  }
  parts_.slice_checker->Start(settled);
}

HeldEpochs Session::WithoutUnchecked(HeldEpochs held, const domain::Snapshot& current,
                                     const std::vector<domain::SliceCheck>& checks, bool clean) const {
  for (auto& [migration, epoch] : held) {
    const domain::MigrationRouting* const routing = current.Find(migration);
    if (routing == nullptr || routing->state.epoch != epoch || !domain::HoldsWrites(routing->state)) continue;
    const auto settles = [clean, &migration = migration, &epoch = epoch](const domain::SliceCheck& check) {
      return check.migration == migration && check.epoch == epoch && (!clean || FoundNothing(check));
    };
    if (std::any_of(checks.begin(), checks.end(), settles) || IsOnDisk(migration, epoch)) continue;
    const auto told = told_.find(migration);
    epoch = told == told_.end() ? 0 : std::min(told->second, epoch - 1);
  }
  return held;
}

void Session::SetRepairsAside(const domain::Snapshot& current) {
  for (uint32_t i = 0; i < options_.enrolment.migrations.size(); ++i) {
    const std::string& name = options_.enrolment.migrations[i];
    const domain::MigrationRouting* const routing = current.Find(name);
    if (routing != nullptr) parts_.repairs->Forget(i, routing->state.generation);
    if (routing == nullptr || !domain::HoldsWrites(routing->state)) {
      const uint32_t new_below = routing == nullptr ? 0 : routing->state.write_weight;
      if (set_aside_.erase(name) > 0) parts_.repairs->TakeUp(i, new_below);
      continue;
    }
    const size_t count =
        parts_.repairs->SetAside(i, {routing->state.write_weight, routing->state.drain_weight});
    if (count > 0) set_aside_[name] = count;
  }
}

void Session::AddSetAside(std::vector<domain::SliceCheck>& checks) const {
  for (domain::SliceCheck& check : checks) {
    const auto set_aside = set_aside_.find(check.migration);
    if (set_aside == set_aside_.end()) continue;
    if (check.unchecked + check.differing == 0) {
      check.example = "a write that the old side may lack, and the new side can't be read";
    }
    check.unchecked += static_cast<uint32_t>(set_aside->second);
  }
}

bool Session::IsOnDisk(const std::string& migration, uint64_t epoch) const {
  if (!durable_.has_value() || durable_->store_epoch != store_epoch_) return false;
  const auto on_disk = durable_->held.find(migration);
  return on_disk != durable_->held.end() && on_disk->second >= epoch;
}

bool Session::Raises(const HeldEpochs& held) const {
  // What an earlier stream has brought over is not known for certain, and a claim counts for less.
  const HeldEpochs before = acknowledged_.has_value() ? acknowledged_->held : HeldEpochs();
  return std::any_of(held.begin(), held.end(), [&before](const auto& now) {
    const auto last = before.find(now.first);
    return now.second > (last == before.end() ? 0 : last->second);
  });
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
