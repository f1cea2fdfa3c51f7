#include "server/store/background_sync.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace lockstep::store {
namespace {

// A sync that stands still until it is told its result.
class HeldSync {
 public:
  absl::Status Run() {
    MutexLock lock(&mutex_);
    ++begun_;
    changed_.SignalAll();
    while (results_.size() < begun_) changed_.Wait(&mutex_);
    return results_[begun_ - 1];
  }
  void WaitForBegin(size_t count) {
    MutexLock lock(&mutex_);
    while (begun_ < count) changed_.Wait(&mutex_);
  }
  // Lets the sync that runs, or else the next one, end.
  void Finish(absl::Status result) {
    MutexLock lock(&mutex_);
    results_.push_back(std::move(result));
    changed_.SignalAll();
  }
  size_t begun() {
    MutexLock lock(&mutex_);
    return begun_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  size_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<absl::Status> results_ ABSL_GUARDED_BY(mutex_);
};

class BackgroundSyncTest : public ::testing::Test {
 protected:
  HeldSync held_;
  std::unique_ptr<BackgroundSync> sync_ = std::make_unique<BackgroundSync>([this] { return held_.Run(); });
};

TEST_F(BackgroundSyncTest, NothingStartedIsNothingToWaitFor) {
  EXPECT_EQ(sync_->Wait(), absl::OkStatus());
  sync_.reset();
  EXPECT_EQ(held_.begun(), 0u);
}

TEST_F(BackgroundSyncTest, StartReturnsWhileItRunsAndWaitWhenItIsDone) {
  for (size_t round = 1; round <= 100; ++round) {
    sync_->Start();
    held_.WaitForBegin(round);
    bool finished = false;  // ordered by Wait
    std::thread finisher([this, &finished] {
      finished = true;
      held_.Finish(absl::OkStatus());
    });
    EXPECT_EQ(sync_->Wait(), absl::OkStatus());
    EXPECT_TRUE(finished);
    finisher.join();
  }
  EXPECT_EQ(held_.begun(), 100u);
}

// Whether its thread or the caller of Wait comes to it first.
TEST_F(BackgroundSyncTest, EveryStartIsOneSync) {
  size_t syncs = 0;  // ordered by Start and Wait
  BackgroundSync counting([&syncs] {
    ++syncs;
    return absl::OkStatus();
  });
  for (size_t round = 1; round <= 1000; ++round) {
    counting.Start();
    if (round % 2 == 0) std::this_thread::yield();
    EXPECT_EQ(counting.Wait(), absl::OkStatus());
    ASSERT_EQ(syncs, round);
  }
}

TEST_F(BackgroundSyncTest, WaitTellsHowTheLastOneWentAsOftenAsItIsAsked) {
  const std::vector<absl::Status> results = {absl::OkStatus(), absl::UnavailableError("no"),
                                             absl::OkStatus()};
  for (const absl::Status& result : results) {
    held_.Finish(result);
    sync_->Start();
    EXPECT_EQ(sync_->Wait(), result);
    EXPECT_EQ(sync_->Wait(), result);
  }
}

TEST_F(BackgroundSyncTest, ItsEndWaitsForASyncThatWasStarted) {
  bool finished = false;  // ordered by the destructor
  sync_->Start();
  std::thread finisher([this, &finished] {
    held_.WaitForBegin(1);
    finished = true;
    held_.Finish(absl::OkStatus());
  });
  sync_.reset();
  EXPECT_TRUE(finished);
  finisher.join();
}

TEST_F(BackgroundSyncTest, SeveralMayWait) {
  sync_->Start();
  std::vector<absl::Status> heard(4);
  std::vector<std::thread> threads;
  for (absl::Status& status : heard) threads.emplace_back([this, &status] { status = sync_->Wait(); });
  held_.Finish(absl::UnavailableError("no"));
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : heard) EXPECT_EQ(status, absl::UnavailableError("no"));
}

}  // namespace
}  // namespace lockstep::store
