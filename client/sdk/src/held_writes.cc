#include "lockstep/internal/held_writes.h"

#include <algorithm>
#include <utility>

namespace lockstep::internal {

HeldWrites::HeldWrites(Executor* executor, const Clock* clock) : executor_(executor), clock_(clock) {}

uint64_t HeldWrites::Park(uint64_t epoch, const std::function<uint64_t()>& current_epoch, absl::Time deadline,
                          std::function<void(bool expired)> resume) {
  uint64_t id = 0;
  bool closed = false;
  {
    MutexLock lock(&mutex_);
    id = next_id_++;
    closed = closed_;
    parked_.emplace(id, Parked{clock_->SinceBoot(), std::move(resume)});
  }
  if (closed) {
    FinishLater(id, absl::ZeroDuration(), /*expired=*/true);
  } else if (current_epoch() != epoch) {
    // Asked only now that ResumeAll would find it: what came before is seen here, what comes after is seen
    // there.
    FinishLater(id, absl::ZeroDuration(), /*expired=*/false);
  } else if (deadline != absl::InfiniteFuture()) {
    FinishLater(id, std::max(deadline - clock_->Now(), absl::ZeroDuration()), /*expired=*/true);
  }
  return id;
}

void HeldWrites::FinishLater(uint64_t id, absl::Duration delay, bool expired) {
  executor_->Submit(delay, [held = weak_from_this(), id, expired] {
    if (const std::shared_ptr<HeldWrites> alive = held.lock()) alive->Finish(id, expired);
  });
}

void HeldWrites::Finish(uint64_t id, bool expired) {
  Parked parked;
  {
    MutexLock lock(&mutex_);
    const auto found = parked_.find(id);
    if (found == parked_.end()) return;
    parked = std::move(found->second);
    parked_.erase(found);
    CountEndLocked(parked, expired);
  }
  parked.resume(expired);
}

void HeldWrites::FinishAll(bool close) {
  std::map<uint64_t, Parked> ended;
  {
    MutexLock lock(&mutex_);
    closed_ = closed_ || close;
    ended.swap(parked_);
    for (const auto& [id, parked] : ended) CountEndLocked(parked, close);
  }
  for (const auto& [id, parked] : ended) parked.resume(close);
}

void HeldWrites::ResumeAll() { FinishAll(/*close=*/false); }

void HeldWrites::Close() { FinishAll(/*close=*/true); }

HeldWriteStats HeldWrites::Stats() const {
  MutexLock lock(&mutex_);
  HeldWriteStats stats = stats_;
  stats.waiting = parked_.size();
  return stats;
}

void HeldWrites::CountEndLocked(const Parked& parked, bool expired) {
  ++(expired ? stats_.expired : stats_.resumed);
  stats_.longest = std::max(stats_.longest, clock_->SinceBoot() - parked.since);
}

}  // namespace lockstep::internal
