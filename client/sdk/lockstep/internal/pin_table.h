// How many operations hold each of a few slots, counted by every thread for itself.
//
// A thread's counts are written by that thread alone, with plain stores on cache lines of its own, and only
// rise. What is taken on one thread may be released on another: so takings and releases are counted apart,
// and a slot is held while their sums differ. Summing is the writer's business, which happens seldom.
//
// A thread's first taking or release in a table allocates its counts, under a lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/base/optimization.h"

namespace lockstep::internal {

inline constexpr size_t kPinSlots = 64;
// Holders of a slot are told apart by lane: those of other kinds share one.
inline constexpr size_t kPinLanes = 8;

// Counts wrap around; only differences matter.
struct alignas(64) PinCounts {
  struct Cell {
    std::atomic<uint32_t> taken{0};
    std::atomic<uint32_t> released{0};

    // By the thread that the counts belong to. No read-modify-write: nobody else writes them.
    void Take() { taken.store(taken.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
    // Release: who reads this count may overwrite what the holder has read.
    void Release() {
      released.store(released.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
  };
  // A cache line for each slot.
  std::array<Cell, kPinSlots * kPinLanes> cells;
};

// The cell of a lane of a slot.
constexpr size_t PinCell(size_t slot, size_t lane) { return slot * kPinLanes + lane; }

// Which counts a thread has in one table.
struct CachedPinCounts {
  uint64_t table = 0;  // of none
  PinCounts* counts = nullptr;
};

// Thread-safe.
class PinTable {
 public:
  PinTable();
  ~PinTable();
  PinTable(const PinTable&) = delete;
  PinTable& operator=(const PinTable&) = delete;

  PinCounts& OfThisThread() const {
    return ABSL_PREDICT_TRUE(last_.table == id_) ? *last_.counts : FindOrEnrol();
  }

  // Holders of `slot`, by lane. Zero: whoever took it before a fence that pairs with the takers' one (see
  // asymmetric_fence.h) has released it, and what they read of it happened before. Higher while somebody who
  // takes a slot has not looked yet whether it is still the right one.
  std::array<uint32_t, kPinLanes> Holders(size_t slot) const;

 private:
  // What outlives the table, for threads that end after it.
  struct Shared;
  // What a thread has in tables, given back when it ends.
  class ThreadEntries;

  PinCounts& FindOrEnrol() const;

  // The table that this thread used last, and those that it used lately.
  static inline thread_local constinit CachedPinCounts last_;
  const uint64_t id_;  // of no other table, before or after
  const std::shared_ptr<Shared> shared_;
};

}  // namespace lockstep::internal
