#include "server/store/commit_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace lockstep::store {
namespace {

WriteBatch BatchOf(size_t bytes) {
  WriteBatch batch;
  batch.Put(Table::kMeta, "k", std::string(bytes - 1 - kOperationOverheadBytes, 'v'));
  return batch;
}

// A writer that stands still in its first group until Open.
class Gate {
 public:
  absl::Status Pass(size_t batches, uint64_t last_revision) {
    MutexLock lock(&mutex_);
    group_sizes_.push_back(batches);
    last_revisions_.push_back(last_revision);
    changed_.SignalAll();
    while (!open_) changed_.Wait(&mutex_);
    return group_sizes_.size() == failing_group_ ? absl::UnknownError("no") : absl::OkStatus();
  }
  void WaitForFirstGroup() {
    MutexLock lock(&mutex_);
    while (group_sizes_.empty()) changed_.Wait(&mutex_);
  }
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    changed_.SignalAll();
  }
  // Counted from 1.
  void FailGroup(size_t group) {
    MutexLock lock(&mutex_);
    failing_group_ = group;
  }
  std::vector<size_t> group_sizes() {
    MutexLock lock(&mutex_);
    return group_sizes_;
  }
  std::vector<uint64_t> last_revisions() {
    MutexLock lock(&mutex_);
    return last_revisions_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
  size_t failing_group_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<size_t> group_sizes_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> last_revisions_ ABSL_GUARDED_BY(mutex_);
};

class CommitQueueTest : public ::testing::Test {
 protected:
  static constexpr size_t kMaxGroupBytes = 10'000;

  // Starts a thread that commits `bytes` and returns once the commit is queued behind all earlier ones.
  void Enqueue(size_t bytes, std::optional<uint64_t> expected = std::nullopt) {
    const size_t index = threads_.size();
    results_.push_back(std::make_unique<absl::StatusOr<uint64_t>>(absl::InternalError("not finished")));
    threads_.emplace_back([this, bytes, expected, result = results_[index].get()] {
      *result = queue_.Commit(BatchOf(bytes), expected);
    });
    while (queue_.queued() <= index) std::this_thread::yield();
  }
  void Finish() {
    gate_.Open();
    for (std::thread& thread : threads_) thread.join();
  }
  absl::StatusOr<uint64_t> result(size_t index) { return *results_[index]; }

  Gate gate_;
  CommitQueue queue_{7, kMaxGroupBytes, [this](absl::Span<const WriteBatch* const> batches, uint64_t last) {
                       return gate_.Pass(batches.size(), last);
                     }};
  std::vector<std::unique_ptr<absl::StatusOr<uint64_t>>> results_;
  std::vector<std::thread> threads_;
};

TEST_F(CommitQueueTest, WhatQueuesUpDuringAWriteIsOneGroup) {
  Enqueue(1000);
  gate_.WaitForFirstGroup();
  for (int i = 0; i < 5; ++i) Enqueue(1000);
  EXPECT_EQ(queue_.revision(), 7u) << "not durable yet";
  Finish();
  EXPECT_THAT(gate_.group_sizes(), ::testing::ElementsAre(1, 5));
  EXPECT_THAT(gate_.last_revisions(), ::testing::ElementsAre(8, 13));
  for (uint64_t i = 0; i < 6; ++i) EXPECT_EQ(*result(i), 8 + i) << "revisions follow the queue";
  EXPECT_EQ(queue_.revision(), 13u);
  EXPECT_EQ(queue_.queued(), 0u);
}

TEST_F(CommitQueueTest, GroupsEndAtTheirLimitAndALargerBatchGoesAlone) {
  Enqueue(1000);
  gate_.WaitForFirstGroup();
  for (const size_t bytes : {6'000, 4'000, 200, 50'000, 5'000}) Enqueue(bytes);
  Finish();
  EXPECT_THAT(gate_.group_sizes(), ::testing::ElementsAre(1, 2, 1, 1, 1));
}

TEST_F(CommitQueueTest, ExpectedRevisionIsCheckedAtItsTurn) {
  Enqueue(1000);
  gate_.WaitForFirstGroup();
  Enqueue(1000, 7);  // true when it was queued, not at its turn
  Enqueue(1000, 8);  // true at its turn: after the first group
  Enqueue(1000, 8);  // one of the same group came before
  Enqueue(1000, 9);
  Finish();
  EXPECT_EQ(result(1).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(*result(2), 9u);
  EXPECT_EQ(result(3).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(*result(4), 10u);
  EXPECT_THAT(gate_.group_sizes(), ::testing::ElementsAre(1, 2));
}

TEST_F(CommitQueueTest, AFailedGroupFailsWholeAndItsRevisionsAreGivenOutAgain) {
  gate_.FailGroup(2);
  Enqueue(1000);
  gate_.WaitForFirstGroup();
  Enqueue(1000);
  Enqueue(1000);
  Finish();
  EXPECT_EQ(*result(0), 8u);
  EXPECT_EQ(result(1).status(), absl::UnknownError("no"));
  EXPECT_EQ(result(2).status(), absl::UnknownError("no"));
  EXPECT_EQ(queue_.revision(), 8u);
  EXPECT_EQ(*queue_.Commit(BatchOf(1000), 8), 9u);
}

TEST_F(CommitQueueTest, NothingIsWrittenForAGroupOfMismatches) {
  gate_.Open();
  EXPECT_EQ(queue_.Commit(BatchOf(1000), 3).status().code(), absl::StatusCode::kAborted);
  EXPECT_THAT(gate_.group_sizes(), ::testing::IsEmpty());
}

}  // namespace
}  // namespace lockstep::store
