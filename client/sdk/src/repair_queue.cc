#include "lockstep/internal/repair_queue.h"

#include <algorithm>
#include <utility>

#include "lockstep/internal/backoff.h"

namespace lockstep::internal {

RepairQueue::RepairQueue(size_t capacity, Executor* executor, const Clock* clock,
                         TelemetryRecorder* telemetry, uint64_t seed)
    : capacity_(capacity), executor_(executor), clock_(clock), telemetry_(telemetry), prng_(seed) {}

bool RepairQueue::Add(Repair repair) {
  MutexLock lock(&mutex_);
  if (closed_ || outstanding_ >= capacity_) {
    ++refused_;
    return false;
  }
  ++outstanding_;
  ++held_[repair.attribution.migration_index][repair.attribution.epoch];
  // Under the lock, so that it is counted before it can be done.
  telemetry_->RecordRepairQueued(repair.attribution);
  const absl::Duration delay = FullJitter(repair.backoff_initial, repair.backoff_max, 0, prng_);
  waiting_.emplace(clock_->SinceBoot() + delay, Item{std::move(repair), 1});
  ScheduleLocked();
  return true;
}

size_t RepairQueue::outstanding() const {
  MutexLock lock(&mutex_);
  return outstanding_;
}

uint64_t RepairQueue::refused() const {
  MutexLock lock(&mutex_);
  return refused_;
}

std::optional<uint64_t> RepairQueue::OldestEpoch(uint32_t migration_index) const {
  MutexLock lock(&mutex_);
  const auto epochs = held_.find(migration_index);
  if (epochs == held_.end()) return std::nullopt;
  return epochs->second.begin()->first;
}

void RepairQueue::Hasten() {
  MutexLock lock(&mutex_);
  std::multimap<absl::Duration, Item> due;
  const absl::Duration now = clock_->SinceBoot();
  for (auto& [at, item] : waiting_) due.emplace(std::min(at, now), std::move(item));
  waiting_ = std::move(due);
  ScheduleLocked();
}

size_t RepairQueue::Close() {
  std::multimap<absl::Duration, Item> dropped;  // destroyed outside the lock
  MutexLock lock(&mutex_);
  closed_ = true;
  dropped.swap(waiting_);
  for (const auto& [at, item] : dropped) EndLocked(item.repair);
  return dropped.size();
}

void RepairQueue::EndLocked(const Repair& repair) {
  auto& epochs = held_[repair.attribution.migration_index];
  if (--epochs[repair.attribution.epoch] == 0) epochs.erase(repair.attribution.epoch);
  if (epochs.empty()) held_.erase(repair.attribution.migration_index);
  --outstanding_;
}

void RepairQueue::ScheduleLocked() {
  if (running_ || waiting_.empty()) return;
  const absl::Duration due = waiting_.begin()->first;
  if (wake_at_.has_value() && *wake_at_ <= due) return;
  wake_at_ = due;
  executor_->Submit(due - clock_->SinceBoot(), [queue = weak_from_this()] {
    if (const std::shared_ptr<RepairQueue> alive = queue.lock()) alive->RunDue();
  });
}

void RepairQueue::RunDue() {
  Item item;
  {
    MutexLock lock(&mutex_);
    // An earlier wake-up got here first, or this is one that a hastened one has overtaken.
    if (running_) return;
    wake_at_.reset();
    if (waiting_.empty() || waiting_.begin()->first > clock_->SinceBoot()) return ScheduleLocked();
    item = std::move(waiting_.begin()->second);
    waiting_.erase(waiting_.begin());
    running_ = true;
  }
  const RepairOutcome outcome = item.repair.attempt();
  // Before it stops being outstanding: a client that shuts down collects the last counts after that.
  if (outcome != RepairOutcome::kRetry) telemetry_->RecordRepairDone(item.repair.attribution);
  MutexLock lock(&mutex_);
  running_ = false;
  if (outcome == RepairOutcome::kRetry && !closed_) {
    const absl::Duration delay =
        FullJitter(item.repair.backoff_initial, item.repair.backoff_max, item.attempts, prng_);
    ++item.attempts;
    waiting_.emplace(clock_->SinceBoot() + delay, std::move(item));
  } else {
    EndLocked(item.repair);
  }
  ScheduleLocked();
}

}  // namespace lockstep::internal
