#include "server/store/commit_queue.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep::store {

CommitQueue::CommitQueue(uint64_t revision, size_t max_group_bytes, GroupWriter write)
    : max_group_bytes_(max_group_bytes), write_(std::move(write)), revision_(revision) {}

absl::StatusOr<uint64_t> CommitQueue::Commit(const WriteBatch& batch,
                                             std::optional<uint64_t> expected_revision) {
  Pending mine{.batch = &batch, .expected_revision = expected_revision};
  mutex_.Lock();
  queue_.push_back(&mine);
  while (!mine.done && queue_.front() != &mine) mine.wake.Wait(&mutex_);
  if (!mine.done) {
    const std::vector<Pending*> group = TakeGroup();
    mutex_.Unlock();
    WriteGroup(group);
    mutex_.Lock();
    Finish(group);
  }
  mutex_.Unlock();
  return std::move(mine.result);
}

std::vector<CommitQueue::Pending*> CommitQueue::TakeGroup() const {
  std::vector<Pending*> group;
  size_t bytes = 0;
  for (Pending* pending : queue_) {
    bytes += pending->batch->bytes();
    if (!group.empty() && bytes > max_group_bytes_) break;
    group.push_back(pending);
  }
  return group;
}

void CommitQueue::WriteGroup(const std::vector<Pending*>& group) {
  uint64_t revision = revision_.load(std::memory_order_relaxed);
  std::vector<Pending*> written;
  std::vector<const WriteBatch*> batches;
  for (Pending* pending : group) {
    if (pending->expected_revision && *pending->expected_revision != revision) {
      pending->result = absl::AbortedError(absl::StrCat("expected store revision ",
                                                        *pending->expected_revision, ", but it is ", revision,
                                                        "; read the current state and decide again"));
      continue;
    }
    pending->result = ++revision;
    written.push_back(pending);
    batches.push_back(pending->batch);
  }
  if (batches.empty()) return;
  if (absl::Status status = write_(batches, revision); !status.ok()) {
    for (Pending* pending : written) pending->result = status;
    return;
  }
  revision_.store(revision, std::memory_order_release);
}

void CommitQueue::Finish(const std::vector<Pending*>& group) {
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<ptrdiff_t>(group.size()));
  // Signalled under the lock: a woken thread returns, and its Pending ends, only after the lock is released.
  for (Pending* pending : group) {
    pending->done = true;
    pending->wake.Signal();
  }
  if (!queue_.empty()) queue_.front()->wake.Signal();
}

}  // namespace lockstep::store
