// Parked writes: each is resumed exactly once, by a snapshot, its deadline, its caller or the end, and never
// within Park.
#include "lockstep/internal/held_writes.h"

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lockstep/manual_executor.h"

namespace lockstep::internal {
namespace {

class HeldWritesTest : public ::testing::Test {
 protected:
  // What a resume has brought.
  struct Ended {
    int times = 0;
    bool expired = false;
  };

  uint64_t Park(Ended& ended, uint64_t epoch = 1, absl::Duration wait = absl::Seconds(10)) {
    return held_->Park(
        epoch, [this] { return current_; }, clock_.Now() + wait,
        [&ended](bool expired) {
          ++ended.times;
          ended.expired = expired;
        });
  }

  uint64_t current_ = 1;
  FakeClock clock_{absl::FromUnixSeconds(1000)};
  ManualExecutor executor_{&clock_};
  std::shared_ptr<HeldWrites> held_ = std::make_shared<HeldWrites>(&executor_, &clock_);
};

struct EndCase {
  const char* name;
  std::function<void(HeldWrites& held, uint64_t id)> end;  // null: only time passes
  bool expired;
};

TEST_F(HeldWritesTest, EndsOnceWhateverComesFirst) {
  const std::vector<EndCase> ends = {
      {"snapshot", [](HeldWrites& held, uint64_t) { held.ResumeAll(); }, false},
      {"caller", [](HeldWrites& held, uint64_t id) { held.Expire(id); }, true},
      {"deadline", nullptr, true},
      {"end", [](HeldWrites& held, uint64_t) { held.Close(); }, true},
  };
  for (const EndCase& first : ends) {
    for (const EndCase& second : ends) {
      SCOPED_TRACE(absl::StrCat(first.name, ", then ", second.name));
      held_ = std::make_shared<HeldWrites>(&executor_, &clock_);
      Ended ended;
      const uint64_t id = Park(ended);
      EXPECT_EQ(ended.times, 0);
      EXPECT_EQ(held_->Stats().waiting, 1u);
      clock_.Advance(absl::Seconds(1));
      for (const EndCase* end : {&first, &second}) {
        if (end->end == nullptr) {
          executor_.RunAll();
        } else {
          end->end(*held_, id);
        }
      }
      executor_.RunAll();
      EXPECT_EQ(ended.times, 1);
      EXPECT_EQ(ended.expired, first.expired);
      EXPECT_EQ(held_->Stats().waiting, 0u);
      EXPECT_EQ(held_->Stats().resumed, first.expired ? 0u : 1u);
      EXPECT_EQ(held_->Stats().expired, first.expired ? 1u : 0u);
      EXPECT_EQ(held_->Stats().longest, absl::Seconds(first.end == nullptr ? 10 : 1));
    }
  }
}

TEST_F(HeldWritesTest, ASnapshotThatCameInBetweenIsNotMissed) {
  Ended ended;
  current_ = 2;
  Park(ended, 1, absl::InfiniteDuration());
  EXPECT_EQ(ended.times, 0) << "never within Park";
  executor_.RunDue();
  EXPECT_EQ(ended.times, 1);
  EXPECT_FALSE(ended.expired);
}

TEST_F(HeldWritesTest, AfterCloseEverythingExpiresAtOnce) {
  held_->Close();
  Ended ended;
  Park(ended);
  EXPECT_EQ(ended.times, 0);
  executor_.RunDue();
  EXPECT_EQ(ended.times, 1);
  EXPECT_TRUE(ended.expired);
}

TEST_F(HeldWritesTest, ADeadlineInThePastExpiresOnTheExecutor) {
  Ended ended;
  Park(ended, 1, -absl::Seconds(1));
  EXPECT_EQ(ended.times, 0);
  executor_.RunDue();
  EXPECT_TRUE(ended.expired);
}

TEST_F(HeldWritesTest, ResumingMayParkAgain) {
  int resumed = 0;
  std::function<void(bool)> again = [&](bool) {
    if (++resumed < 3)
      held_->Park(
          1, [] { return 1; }, absl::InfiniteFuture(), again);
  };
  held_->Park(
      1, [] { return 1; }, absl::InfiniteFuture(), again);
  held_->ResumeAll();
  EXPECT_EQ(resumed, 1) << "one look for each snapshot";
  held_->ResumeAll();
  held_->ResumeAll();
  EXPECT_EQ(resumed, 3);
}

TEST_F(HeldWritesTest, ThreadsParkAndResume) {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  ThreadPoolExecutor pool(2);
  const auto held = std::make_shared<HeldWrites>(&pool, SystemClock::Get());
  std::atomic<uint64_t> current{1};
  std::atomic<int> ended{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        const uint64_t epoch = current.load();
        const uint64_t id = held->Park(
            epoch, [&] { return current.load(); }, absl::InfiniteFuture(), [&](bool) { ended.fetch_add(1); });
        if (i % 3 == 0) held->Expire(id);
      }
    });
  }
  while (ended.load() < kThreads * kEach) {
    current.fetch_add(1);
    held->ResumeAll();
    std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  pool.Stop();
  EXPECT_EQ(ended.load(), kThreads * kEach);
  EXPECT_EQ(held->Stats().waiting, 0u);
  EXPECT_EQ(held->Stats().resumed + held->Stats().expired, static_cast<uint64_t>(kThreads * kEach));
}

}  // namespace
}  // namespace lockstep::internal
