#include "lockstep/internal/pin_table.h"

#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace lockstep::internal {
namespace {

void Take(const PinTable& table, size_t slot, size_t lane = 0) { table.Take(PinCell(slot, lane)); }
void Release(const PinTable& table, size_t slot, size_t lane = 0) { table.Release(PinCell(slot, lane)); }
uint32_t Holders(const PinTable& table, size_t slot, size_t lane = 0) { return table.Holders(slot)[lane]; }

TEST(PinTableTest, CountsEachSlotByItself) {
  PinTable table;
  EXPECT_EQ(Holders(table, 0), 0u);
  Take(table, 0);
  Take(table, 0);
  Take(table, kPinSlots - 1);
  EXPECT_EQ(Holders(table, 0), 2u);
  EXPECT_EQ(Holders(table, 1), 0u);
  EXPECT_EQ(Holders(table, kPinSlots - 1), 1u);
  Release(table, 0);
  EXPECT_EQ(Holders(table, 0), 1u);
}

TEST(PinTableTest, AndEachLane) {
  PinTable table;
  Take(table, 4, 1);
  Take(table, 4, kPinLanes - 1);
  Release(table, 4, 1);
  EXPECT_EQ(Holders(table, 4, 1), 0u);
  EXPECT_EQ(Holders(table, 4, kPinLanes - 1), 1u);
  EXPECT_EQ(Holders(table, 5, 0), 0u);
}

TEST(PinTableTest, AnotherThreadMayReleaseAndBothMayEnd) {
  PinTable table;
  std::thread([&] { Take(table, 3); }).join();
  EXPECT_EQ(Holders(table, 3), 1u) << "its thread has ended; it has not been released";
  std::thread([&] { Release(table, 3); }).join();
  EXPECT_EQ(Holders(table, 3), 0u);
}

TEST(PinTableTest, WhatThreadsHaveTakenOutlivesThem) {
  PinTable table;
  for (uint32_t n = 1; n <= 3; ++n) {
    std::thread([&] { Take(table, 5); }).join();
    EXPECT_EQ(Holders(table, 5), n);
  }
}

// More threads than there are slots for: the last ones share one.
TEST(PinTableTest, ThreadsBeyondTheSlotsShareOne) {
  constexpr int kThreads = kThreadSlots + 20;
  constexpr int kEach = 100;
  PinTable table;
  std::atomic<int> there{0};
  std::atomic<bool> go_on{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      Take(table, 6);
      ++there;
      while (there != kThreads) std::this_thread::yield();
      for (int i = 0; i < kEach; ++i) Take(table, 6, 1);
      while (!go_on) std::this_thread::yield();
      for (int i = 0; i < kEach; ++i) Release(table, 6, 1);
      Release(table, 6);
    });
  }
  while (Holders(table, 6, 1) != kThreads * kEach) std::this_thread::yield();
  EXPECT_EQ(Holders(table, 6), kThreads);
  go_on = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Holders(table, 6), 0u);
  EXPECT_EQ(Holders(table, 6, 1), 0u);
}

TEST(PinTableTest, OneThreadInManyTables) {
  std::vector<std::unique_ptr<PinTable>> tables;
  for (int i = 0; i < 20; ++i) tables.push_back(std::make_unique<PinTable>());
  for (int round = 0; round < 3; ++round) {
    for (const auto& table : tables) Take(*table, 1);
  }
  for (const auto& table : tables) EXPECT_EQ(Holders(*table, 1), 3u);
  tables.clear();
  PinTable next;
  Take(next, 1);
  EXPECT_EQ(Holders(next, 1), 1u) << "a table in the place of one that is gone begins anew";
}

TEST(PinTableTest, AThreadMayEndAfterTheTable) {
  auto table = std::make_unique<PinTable>();
  std::atomic<int> phase{0};
  std::thread thread([&] {
    Take(*table, 0);
    Release(*table, 0);
    phase = 1;
    while (phase != 2) std::this_thread::yield();
  });
  while (phase != 1) std::this_thread::yield();
  table.reset();
  phase = 2;
  thread.join();
}

// Made before the thread's entries, so destroyed after them.
struct ReleasesAtTheEnd {
  const PinTable* table = nullptr;
  ~ReleasesAtTheEnd() {
    if (table != nullptr) Release(*table, 2);
  }
};

TEST(PinTableTest, AThreadLocalMayReleaseWhenTheThreadEnds) {
  PinTable table;
  std::thread([&] {
    thread_local ReleasesAtTheEnd at_the_end;
    at_the_end.table = &table;
    Take(table, 2);
  }).join();
  EXPECT_EQ(Holders(table, 2), 0u);
}

}  // namespace
}  // namespace lockstep::internal
