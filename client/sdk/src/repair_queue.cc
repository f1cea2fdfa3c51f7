#include "lockstep/internal/repair_queue.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"
#include "lockstep/internal/backoff.h"

namespace lockstep::internal {

RepairQueue::RepairQueue(size_t capacity, Executor* executor, const Clock* clock,
                         TelemetryRecorder* telemetry, uint64_t seed)
    : capacity_(capacity), executor_(executor), clock_(clock), telemetry_(telemetry), prng_(seed) {}

bool RepairQueue::Reserve() {
  MutexLock lock(&mutex_);
  if (closed_ || outstanding_ + reserved_ >= capacity_) return false;
  ++reserved_;
  return true;
}

void RepairQueue::Unreserve() {
  MutexLock lock(&mutex_);
  --reserved_;
}

bool RepairQueue::TakePlaceLocked(bool reserved) {
  if (reserved) return !closed_;
  return !closed_ && outstanding_ + reserved_ < capacity_;
}

bool RepairQueue::Add(Repair repair, bool reserved) {
  MutexLock lock(&mutex_);
  const bool taken = TakePlaceLocked(reserved);
  if (reserved) --reserved_;
  if (!taken) {
    if (!reserved) RefuseLocked(repair);
    return false;
  }
  ++outstanding_;
  WaitLocked(std::move(repair));
  return true;
}

void RepairQueue::Refuse(const Repair& repair) {
  MutexLock lock(&mutex_);
  RefuseLocked(repair);
}

void RepairQueue::RefuseLocked(const Repair& repair) {
  ++refused_;
  telemetry_->RecordRepairQueued(repair.attribution);
  ++refused_marks_[MarkOf(repair)];
}

RepairQueue::Mark RepairQueue::MarkOf(const Repair& repair) {
  return {repair.attribution.migration_index, repair.attribution.generation, repair.store_epoch,
          repair.attribution.epoch, repair.bucket};
}

bool RepairQueue::IsOf(const Mark& mark, uint32_t migration_index, std::optional<BucketRange> buckets) {
  if (mark.migration_index != migration_index) return false;
  if (!buckets.has_value()) return true;
  return mark.bucket.has_value() ? buckets->Contains(*mark.bucket) : buckets->begin < buckets->end;
}

bool RepairQueue::AddMirror(Repair mirror, bool reserved) {
  MutexLock lock(&mutex_);
  if (!TakePlaceLocked(reserved)) return false;
  if (reserved) --reserved_;
  ++outstanding_;
  ++mirrors_held_[mirror.attribution.migration_index][{mirror.store_epoch, mirror.attribution.epoch}];
  mirrors_.push_back(std::move(mirror));
  ScheduleMirrorsLocked();
  return true;
}

void RepairQueue::AddRecovered(Repair repair) {
  MutexLock lock(&mutex_);
  if (closed_) return;  // the journal still has it
  ++outstanding_;
  WaitLocked(std::move(repair));
}

void RepairQueue::Hold(const Attribution& attribution, uint64_t store_epoch) {
  MutexLock lock(&mutex_);
  ++unclaimed_[attribution.migration_index][{store_epoch, attribution.epoch}];
}

void RepairQueue::ReleaseHold(const Attribution& attribution, uint64_t store_epoch) {
  MutexLock lock(&mutex_);
  Release(unclaimed_, attribution, store_epoch);
}

void RepairQueue::Release(std::map<uint32_t, Epochs>& held, const Attribution& attribution,
                          uint64_t store_epoch) {
  const auto epochs = held.find(attribution.migration_index);
  LOCKSTEP_CHECK(epochs != held.end(), "what is released was held");
  const auto count = epochs->second.find({store_epoch, attribution.epoch});
  LOCKSTEP_CHECK(count != epochs->second.end(), "what is released was held");
  if (--count->second == 0) epochs->second.erase(count);
  if (epochs->second.empty()) held.erase(epochs);
}

void RepairQueue::WaitLocked(Repair repair) {
  // Under the lock, so that it is counted before it can be done.
  if (!repair.counted) telemetry_->RecordRepairQueued(repair.attribution);
  ++repairs_held_[repair.attribution.migration_index][{repair.store_epoch, repair.attribution.epoch}];
  const absl::Duration delay = FullJitter(repair.backoff_initial, repair.backoff_max, 0, prng_);
  waiting_.emplace(clock_->SinceBoot() + delay, Item{std::move(repair), 1});
  ScheduleLocked();
}

size_t RepairQueue::outstanding() const {
  const OpenMirrors counts = Counts();
  return counts.repairs + counts.queued_mirrors - refused();
}

OpenMirrors RepairQueue::Counts() const {
  MutexLock lock(&mutex_);
  OpenMirrors counts;
  counts.queued_mirrors = mirrors_.size() + mirrors_running_;
  counts.repairs = outstanding_ - counts.queued_mirrors + refused_;
  for (const auto& [migration, epochs] : unclaimed_) {
    for (const auto& [epoch, count] : epochs) counts.repairs += count;
  }
  return counts;
}

uint64_t RepairQueue::refused() const {
  MutexLock lock(&mutex_);
  return refused_;
}

std::optional<uint64_t> RepairQueue::OldestEpoch(uint32_t migration_index, uint64_t store_epoch,
                                                 std::optional<BucketRange> buckets) const {
  std::optional<uint64_t> oldest;
  const auto add = [&](uint64_t of_store, uint64_t epoch) {
    const bool comparable = store_epoch == 0 || of_store == store_epoch;
    oldest = std::min(oldest.value_or(UINT64_MAX), comparable ? epoch : 0);
  };
  MutexLock lock(&mutex_);
  const auto add_all = [&](const std::map<uint32_t, Epochs>& by_migration) {
    const auto epochs = by_migration.find(migration_index);
    if (epochs == by_migration.end()) return;
    for (const auto& [epoch, count] : epochs->second) add(epoch.first, epoch.second);
  };
  add_all(mirrors_held_);
  add_all(unclaimed_);
  const auto add_repair = [&](const Mark& mark) {
    if (IsOf(mark, migration_index, buckets)) add(mark.store_epoch, mark.epoch);
  };
  for (const auto& [mark, count] : refused_marks_) add_repair(mark);
  if (!buckets.has_value()) {
    add_all(repairs_held_);
  } else if (buckets->begin < buckets->end && repairs_held_.contains(migration_index)) {
    for (const auto& [at, item] : waiting_) {
      if (!item.set_aside) add_repair(MarkOf(item.repair));
    }
    if (running_mark_.has_value()) add_repair(*running_mark_);
  }
  return oldest;
}

size_t RepairQueue::SetAside(uint32_t migration_index, BucketRange buckets) {
  MutexLock lock(&mutex_);
  const auto unreadable = unreadable_.find({migration_index, domain::Side::kNew});
  if (unreadable == unreadable_.end() || unreadable->second < kUnreadableInARow) return 0;
  size_t count = 0;
  for (auto& [at, item] : waiting_) {
    if (item.repair.authoritative != domain::Side::kNew || !item.unreadable) continue;
    if (!IsOf(MarkOf(item.repair), migration_index, buckets)) continue;
    item.set_aside = true;
    ++count;
  }
  return count;
}

void RepairQueue::Forget(uint32_t migration_index, uint64_t generation) {
  MutexLock lock(&mutex_);
  std::erase_if(refused_marks_, [&](const auto& refused) {
    mutex_.AssertHeld();
    if (refused.first.migration_index != migration_index || refused.first.generation >= generation)
      return false;
    refused_ -= refused.second;
    return true;
  });
}

void RepairQueue::TakeUp(uint32_t migration_index, uint32_t new_below) {
  MutexLock lock(&mutex_);
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    Item& item = at->second;
    if (!item.set_aside || item.repair.attribution.migration_index != migration_index) {
      ++at;
      continue;
    }
    item.set_aside = false;
    if (item.repair.bucket.has_value() && *item.repair.bucket < new_below) {
      ++at;
      continue;
    }
    Release(repairs_held_, item.repair.attribution, item.repair.store_epoch);
    --outstanding_;
    // It may write to the disk, and is destroyed without the lock.
    executor_->Submit(absl::ZeroDuration(), [queue = weak_from_this(), repair = std::move(item.repair)] {
      const std::shared_ptr<RepairQueue> alive = queue.lock();
      if (alive != nullptr && repair.on_lost != nullptr) repair.on_lost();
    });
    at = waiting_.erase(at);
  }
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
  std::deque<Repair> dropped_mirrors;
  MutexLock lock(&mutex_);
  closed_ = true;
  dropped.swap(waiting_);
  dropped_mirrors.swap(mirrors_);
  for (const auto& [at, item] : dropped) {
    Release(repairs_held_, item.repair.attribution, item.repair.store_epoch);
    --outstanding_;
  }
  for (const Repair& mirror : dropped_mirrors) {
    CountDroppedMirrorLocked(mirror);
    Release(mirrors_held_, mirror.attribution, mirror.store_epoch);
    --outstanding_;
  }
  return dropped.size() + dropped_mirrors.size();
}

// Its record is wrong for now, as that of a repair that was dropped.
void RepairQueue::CountDroppedMirrorLocked(const Repair& mirror) {
  telemetry_->RecordMirrorWrite(mirror.attribution, MirrorResult::kShed);
  telemetry_->RecordRepairQueued(mirror.attribution);
}

void RepairQueue::LearnLocked(const Repair& repair, RepairOutcome outcome) {
  const std::pair<uint32_t, domain::Side> source{repair.attribution.migration_index, repair.authoritative};
  if (outcome == RepairOutcome::kUnreadable) {
    ++unreadable_[source];
  } else {
    unreadable_.erase(source);
  }
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

void RepairQueue::ScheduleMirrorsLocked() {
  while (mirror_lanes_ < std::min(kMirrorLanes, mirrors_.size() + mirrors_running_)) {
    ++mirror_lanes_;
    executor_->Submit(absl::ZeroDuration(), [queue = weak_from_this()] {
      if (const std::shared_ptr<RepairQueue> alive = queue.lock()) alive->RunMirror();
    });
  }
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
    if (item.set_aside) {
      const absl::Duration again = clock_->SinceBoot() + item.repair.backoff_max;
      waiting_.emplace(again, std::move(item));
      return ScheduleLocked();
    }
    running_ = true;
    running_mark_ = MarkOf(item.repair);
  }
  const RepairOutcome outcome = item.repair.attempt();
  // Before it stops being outstanding: a client that shuts down collects the last counts after that.
  if (IsOver(outcome) && outcome != RepairOutcome::kLost) {
    telemetry_->RecordRepairDone(item.repair.attribution);
  }
  MutexLock lock(&mutex_);
  running_ = false;
  running_mark_.reset();
  LearnLocked(item.repair, outcome);
  if (!IsOver(outcome) && !closed_) {
    const absl::Duration delay =
        FullJitter(item.repair.backoff_initial, item.repair.backoff_max, item.attempts, prng_);
    ++item.attempts;
    item.unreadable = outcome == RepairOutcome::kUnreadable;
    waiting_.emplace(clock_->SinceBoot() + delay, std::move(item));
  } else {
    Release(repairs_held_, item.repair.attribution, item.repair.store_epoch);
    --outstanding_;
  }
  ScheduleLocked();
}

// One for each task, so that other work of the executor gets its turn in between.
void RepairQueue::RunMirror() {
  Repair mirror;
  {
    MutexLock lock(&mutex_);
    if (mirrors_.empty()) {
      --mirror_lanes_;
      return;
    }
    mirror = std::move(mirrors_.front());
    mirrors_.pop_front();
    ++mirrors_running_;
  }
  const RepairOutcome outcome = mirror.attempt();
  const bool failed = !IsOver(outcome);
  if (failed && mirror.on_failure != nullptr) mirror.on_failure();
  MutexLock lock(&mutex_);
  --mirrors_running_;
  --mirror_lanes_;
  Release(mirrors_held_, mirror.attribution, mirror.store_epoch);
  if (failed && !closed_) {
    WaitLocked(std::move(mirror));
  } else {
    if (failed || outcome == RepairOutcome::kLost) telemetry_->RecordRepairQueued(mirror.attribution);
    --outstanding_;
  }
  ScheduleMirrorsLocked();
}

}  // namespace lockstep::internal
