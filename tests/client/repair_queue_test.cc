// What holds which epoch, what is counted how, and what finds a place.
#include "lockstep/internal/repair_queue.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lockstep/manual_executor.h"

namespace lockstep::internal {
namespace {

class RepairQueueTest : public ::testing::Test {
 protected:
  // Answers one after the other, the last one for ever.
  Repair Of(uint64_t epoch, std::vector<RepairOutcome> answers = {RepairOutcome::kDone},
            uint64_t store_epoch = 1) {
    Repair repair;
    repair.attribution = {0, 1, epoch, 0};
    repair.store_epoch = store_epoch;
    repair.backoff_initial = absl::Milliseconds(10);
    repair.backoff_max = absl::Seconds(1);
    repair.attempt = [this, epoch, answers, next = size_t{0}]() mutable {
      attempts_.push_back(epoch);
      return answers[std::min(next++, answers.size() - 1)];
    };
    return repair;
  }
  domain::RepairStats Counted() const { return telemetry_.Totals(0).repairs; }

  FakeClock clock_{absl::FromUnixSeconds(1000)};
  ManualExecutor executor_{&clock_};
  TelemetryRecorder telemetry_{{.migrations = {"m"}}, &clock_};
  std::shared_ptr<RepairQueue> queue_ = std::make_shared<RepairQueue>(4, &executor_, &clock_, &telemetry_, 1);
  std::vector<uint64_t> attempts_;
  std::vector<uint64_t> lost_;
};

TEST_F(RepairQueueTest, EverythingOpenHoldsItsEpoch) {
  EXPECT_FALSE(queue_->OldestEpoch(0, 1).has_value());
  EXPECT_TRUE(queue_->Add(Of(9)));
  EXPECT_EQ(queue_->OldestEpoch(0, 1), 9u);
  EXPECT_TRUE(queue_->AddMirror(Of(7)));
  EXPECT_EQ(queue_->OldestEpoch(0, 1), 7u);
  queue_->Hold({0, 1, 5, 0}, 1);
  queue_->Hold({0, 1, 5, 0}, 1);
  EXPECT_EQ(queue_->OldestEpoch(0, 1), 5u);
  EXPECT_EQ(queue_->OldestEpoch(0, 2), 0u) << "epochs of another store";
  EXPECT_EQ(queue_->OldestEpoch(0), 5u);
  EXPECT_FALSE(queue_->OldestEpoch(1, 1).has_value());
  EXPECT_EQ(queue_->Counts().repairs, 3u);
  EXPECT_EQ(queue_->Counts().queued_mirrors, 1u);
  EXPECT_EQ(queue_->outstanding(), 4u);
  queue_->ReleaseHold({0, 1, 5, 0}, 1);
  EXPECT_EQ(queue_->OldestEpoch(0, 1), 5u);
  queue_->ReleaseHold({0, 1, 5, 0}, 1);
  executor_.RunAll();
  EXPECT_FALSE(queue_->OldestEpoch(0, 1).has_value());
  EXPECT_EQ(queue_->outstanding(), 0u);
}

TEST_F(RepairQueueTest, AQueuedMirrorThatFailsBecomesARepair) {
  int failures = 0;
  Repair mirror = Of(7, {RepairOutcome::kRetry, RepairOutcome::kRetry, RepairOutcome::kDone});
  mirror.on_failure = [&] { ++failures; };
  EXPECT_TRUE(queue_->AddMirror(std::move(mirror)));
  EXPECT_EQ(Counted(), domain::RepairStats());
  executor_.RunDue();
  EXPECT_EQ(failures, 1);
  EXPECT_EQ(Counted(), (domain::RepairStats{.queued = 1, .done = 0}));
  EXPECT_EQ(queue_->Counts().repairs, 1u);
  EXPECT_EQ(queue_->Counts().queued_mirrors, 0u);
  executor_.RunAll();
  EXPECT_EQ(failures, 1);
  EXPECT_EQ(Counted(), (domain::RepairStats{.queued = 1, .done = 1}));
  EXPECT_EQ(attempts_.size(), 3u);
}

TEST_F(RepairQueueTest, AQueuedMirrorThatSucceedsIsNoRepair) {
  for (uint64_t epoch = 1; epoch <= 4; ++epoch) EXPECT_TRUE(queue_->AddMirror(Of(epoch)));
  executor_.RunDue();
  EXPECT_EQ(attempts_, (std::vector<uint64_t>{1, 2, 3, 4}));
  EXPECT_EQ(Counted(), domain::RepairStats());
}

TEST_F(RepairQueueTest, PlacesAreSharedAndReserved) {
  EXPECT_TRUE(queue_->Reserve());
  EXPECT_TRUE(queue_->Reserve());
  EXPECT_TRUE(queue_->Add(Of(1)));
  EXPECT_TRUE(queue_->AddMirror(Of(2)));
  EXPECT_FALSE(queue_->Reserve());
  EXPECT_FALSE(queue_->Add(Of(3)));
  EXPECT_EQ(queue_->refused(), 1u);
  EXPECT_EQ(Counted(), (domain::RepairStats{.queued = 2, .done = 0})) << "outstanding for good";
  EXPECT_EQ(queue_->Counts().repairs, 2u);
  queue_->Forget(0, 2);
  EXPECT_EQ(queue_->refused(), 0u) << "of an earlier generation";
  EXPECT_FALSE(queue_->AddMirror(Of(3)));
  EXPECT_TRUE(queue_->Add(Of(4), /*reserved=*/true));
  EXPECT_TRUE(queue_->AddMirror(Of(5), /*reserved=*/true));
  queue_->AddRecovered(Of(6));
  EXPECT_EQ(queue_->outstanding(), 5u) << "what was left open has a place in any case";
  EXPECT_FALSE(queue_->Reserve());
  executor_.RunAll();
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(queue_->Reserve());
  EXPECT_FALSE(queue_->Reserve());
  for (int i = 0; i < 4; ++i) queue_->Unreserve();
  EXPECT_TRUE(queue_->Add(Of(1)));
}

TEST_F(RepairQueueTest, WhatAnEarlierProcessCountedIsNotCountedAgain) {
  Repair repair = Of(1);
  repair.counted = true;
  queue_->AddRecovered(std::move(repair));
  queue_->AddRecovered(Of(2));
  EXPECT_EQ(Counted().queued, 1u);
  executor_.RunAll();
  EXPECT_EQ(Counted().done, 2u);
}

TEST_F(RepairQueueTest, CloseCountsQueuedMirrorsAsOutstanding) {
  EXPECT_TRUE(queue_->Add(Of(1, {RepairOutcome::kRetry})));
  EXPECT_TRUE(queue_->AddMirror(Of(2)));
  EXPECT_TRUE(queue_->Reserve());
  EXPECT_EQ(queue_->Close(), 2u);
  EXPECT_EQ(Counted(), (domain::RepairStats{.queued = 2, .done = 0}));
  EXPECT_EQ(telemetry_.Totals(0).writes.mirror_shed, 1u);
  EXPECT_FALSE(queue_->Add(Of(3)));
  EXPECT_FALSE(queue_->Add(Of(3), /*reserved=*/true));
  EXPECT_FALSE(queue_->Reserve());
  EXPECT_EQ(queue_->OldestEpoch(0, 1), 3u) << "the one that nothing has";
  EXPECT_EQ(queue_->refused(), 1u);
  EXPECT_EQ(Counted(), (domain::RepairStats{.queued = 3, .done = 0}));
  executor_.RunAll();
  EXPECT_TRUE(attempts_.empty());
}

TEST_F(RepairQueueTest, WhatIsRefusedHoldsItsEpoch) {
  queue_->Refuse(Of(7));
  EXPECT_EQ(queue_->OldestEpoch(0, 1), 7u);
  EXPECT_EQ(queue_->OldestEpoch(0, 1, BucketRange{0, 0}), std::nullopt);
  EXPECT_EQ(queue_->OldestEpoch(0, 1, BucketRange{0, 10}), 7u) << "it may be any bucket";
  EXPECT_EQ(queue_->outstanding(), 0u) << "nothing to wait for";
}

TEST_F(RepairQueueTest, OnlyTheRepairsOfTheBucketsCount) {
  for (uint32_t bucket : {5u, 15u}) {
    Repair repair = Of(bucket);
    repair.bucket = bucket;
    EXPECT_TRUE(queue_->Add(std::move(repair)));
  }
  EXPECT_TRUE(queue_->AddMirror(Of(9)));
  EXPECT_EQ(queue_->OldestEpoch(0, 1), 5u);
  EXPECT_EQ(queue_->OldestEpoch(0, 1, BucketRange{10, 20}), 9u) << "queued mirrors always do";
  executor_.RunDue();
  EXPECT_EQ(queue_->OldestEpoch(0, 1, BucketRange{10, 20}), 15u);
  EXPECT_EQ(queue_->OldestEpoch(0, 1, BucketRange{0, 0}), std::nullopt);
}

TEST_F(RepairQueueTest, WhatIsLostStaysOutstanding) {
  EXPECT_TRUE(queue_->Add(Of(7, {RepairOutcome::kLost})));
  EXPECT_TRUE(queue_->AddMirror(Of(7, {RepairOutcome::kLost})));
  executor_.RunAll();
  EXPECT_EQ(queue_->outstanding(), 0u);
  EXPECT_FALSE(queue_->OldestEpoch(0, 1).has_value());
  EXPECT_EQ(Counted(), (domain::RepairStats{.queued = 2, .done = 0}));
}

TEST_F(RepairQueueTest, WhatCannotBeReadIsSetAsideForTheWayBack) {
  const auto add = [&](domain::Side authoritative, uint32_t bucket) {
    Repair repair = Of(bucket, {RepairOutcome::kUnreadable});
    repair.authoritative = authoritative;
    repair.bucket = bucket;
    repair.on_lost = [this, bucket] { lost_.push_back(bucket); };
    EXPECT_TRUE(queue_->Add(std::move(repair)));
  };
  add(domain::Side::kNew, 5);
  EXPECT_EQ(queue_->SetAside(0, {0, 10}), 0u) << "it may be read the first time";
  executor_.RunAll(RepairQueue::kUnreadableInARow);
  add(domain::Side::kNew, 6);
  EXPECT_EQ(queue_->SetAside(0, {6, 10}), 0u) << "this one may not need to read";
  executor_.RunAll(6);
  add(domain::Side::kNew, 15);
  add(domain::Side::kOld, 7);
  EXPECT_EQ(queue_->SetAside(0, {0, 10}), 2u);
  EXPECT_EQ(queue_->OldestEpoch(0, 1, BucketRange{0, 10}), 7u);
  EXPECT_EQ(queue_->OldestEpoch(0, 1, BucketRange{0, 7}), std::nullopt);
  attempts_.clear();
  executor_.RunAll(20);
  EXPECT_EQ(std::count(attempts_.begin(), attempts_.end(), 5u), 0);
  EXPECT_EQ(std::count(attempts_.begin(), attempts_.end(), 6u), 0);
  EXPECT_GT(std::count(attempts_.begin(), attempts_.end(), 15u), 0);
  queue_->TakeUp(0, /*new_below=*/6);
  EXPECT_EQ(queue_->OldestEpoch(0, 1, BucketRange{0, 10}), 5u);
  executor_.RunAll(20);
  EXPECT_GT(std::count(attempts_.begin(), attempts_.end(), 5u), 0);
  EXPECT_EQ(std::count(attempts_.begin(), attempts_.end(), 6u), 0);
  EXPECT_EQ(lost_, (std::vector<uint64_t>{6}));
  EXPECT_EQ(queue_->outstanding(), 3u);
  EXPECT_EQ(Counted(), (domain::RepairStats{.queued = 4, .done = 0}));
}

}  // namespace
}  // namespace lockstep::internal
