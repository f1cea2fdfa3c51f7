// Group commit: threads that commit at the same time share one write and one sync.
//
// The thread at the head of the queue leads. It takes what has queued up so far, gives every commit its
// revision in order, hands the group to the writer as one unit, and wakes everybody with the result;
// meanwhile the next group queues up. No lock is held while writing, and the order of revisions is the order
// of the queue.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/mutex.h"
#include "server/store/store.h"

namespace lockstep::store {

// Thread-safe. Destroy it only when no call is running.
class CommitQueue {
 public:
  // Makes `batches` durable, in order and atomically; `last_revision` is the revision of the last one. Called
  // by one thread at a time with at least one batch. On an error every commit of the group gets that error,
  // and their revisions are given out again.
  using GroupWriter =
      std::function<absl::Status(absl::Span<const WriteBatch* const> batches, uint64_t last_revision)>;

  // A group ends when it reaches `max_group_bytes` (a single larger batch is a group of its own).
  CommitQueue(uint64_t revision, size_t max_group_bytes, GroupWriter write);
  CommitQueue(const CommitQueue&) = delete;
  CommitQueue& operator=(const CommitQueue&) = delete;

  // As Store::Commit, for valid batches: ABORTED on a revision mismatch, else what the writer returns.
  absl::StatusOr<uint64_t> Commit(const WriteBatch& batch, std::optional<uint64_t> expected_revision);

  uint64_t revision() const { return revision_.load(std::memory_order_acquire); }

  // Commits that wait or are being written.
  size_t queued() const {
    MutexLock lock(&mutex_);
    return queue_.size();
  }

 private:
  // Lives on the stack of the committing thread. `result` and `done` are the leader's until `done` is set
  // under mutex_.
  struct Pending {
    const WriteBatch* batch;
    std::optional<uint64_t> expected_revision;
    absl::StatusOr<uint64_t> result = absl::InternalError("the commit was not processed");
    bool done = false;
    CondVar wake;
  };

  // Copies the head of the queue, which stays queued so that nobody else leads meanwhile.
  std::vector<Pending*> TakeGroup() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteGroup(const std::vector<Pending*>& group) ABSL_LOCKS_EXCLUDED(mutex_);
  void Finish(const std::vector<Pending*>& group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_group_bytes_;
  const GroupWriter write_;
  std::atomic<uint64_t> revision_;  // written by the leader only

  mutable Mutex mutex_;
  std::deque<Pending*> queue_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::store
