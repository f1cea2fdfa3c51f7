#include "lockstep/internal/thread_slot.h"

#include <latch>
#include <set>
#include <thread>
#include <vector>

#include "core/base/mutex.h"
#include "gtest/gtest.h"

namespace lockstep::internal {
namespace {

TEST(ThreadSlotTest, LivingThreadsHaveDifferentOnes) {
  constexpr size_t kThreads = 20;
  Mutex mutex;
  std::set<uint32_t> seen = {ThreadSlot()};
  std::latch all_have_one(kThreads);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      const uint32_t slot = ThreadSlot();
      all_have_one.arrive_and_wait();
      EXPECT_EQ(ThreadSlot(), slot);
      EXPECT_LT(slot, kThreadSlots);
      MutexLock lock(&mutex);
      seen.insert(slot);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen.size(), kThreads + 1);
}

TEST(ThreadSlotTest, TheSlotOfAThreadThatEndedIsTakenAgain) {
  std::set<uint32_t> seen;
  for (uint32_t i = 0; i < 2 * kThreadSlots; ++i) std::thread([&] { seen.insert(ThreadSlot()); }).join();
  EXPECT_EQ(seen.size(), 1u);
  EXPECT_NE(*seen.begin(), kSharedThreadSlot);
}

TEST(ThreadSlotTest, ThreadsBeyondShareOne) {
  std::latch all_have_one(kThreadSlots + 1);
  Mutex mutex;
  std::multiset<uint32_t> seen = {ThreadSlot()};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kThreadSlots + 1; ++i) {
    threads.emplace_back([&] {
      const uint32_t slot = ThreadSlot();
      all_have_one.arrive_and_wait();
      MutexLock lock(&mutex);
      seen.insert(slot);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen.count(kSharedThreadSlot), 2u);
  for (uint32_t slot = 0; slot < kThreadSlots; ++slot) EXPECT_EQ(seen.count(slot), 1u) << slot;
}

// Destructors of thread-local objects may record, too.
TEST(ThreadSlotTest, WhoEndsSharesOne) {
  static uint32_t while_ending = 0;
  struct AsksLate {
    ~AsksLate() { while_ending = ThreadSlot(); }
  };
  std::thread([] {
    thread_local const AsksLate late;  // before the slot is taken: destroyed after it was given back
    static_cast<void>(&late);
    EXPECT_LT(ThreadSlot(), kThreadSlots);
  }).join();
  EXPECT_EQ(while_ending, kSharedThreadSlot);
}

}  // namespace
}  // namespace lockstep::internal
