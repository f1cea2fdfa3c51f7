// How many operations hold each of a few slots, counted by every thread for itself.
//
// A thread's counts are written by that thread alone, with plain stores on cache lines of its own, and only
// rise. What is taken on one thread may be released on another: so takings and releases are counted apart,
// and a slot is held while their sums differ. Summing is the writer's business, which happens seldom.
//
// A thread's first taking or release in a table allocates its counts; nothing takes a lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/base/optimization.h"
#include "lockstep/internal/thread_slot.h"

namespace lockstep::internal {

inline constexpr size_t kPinSlots = 64;
// Holders of a slot are told apart by lane: those of other kinds share one.
inline constexpr size_t kPinLanes = 8;

// The cell of a lane of a slot.
constexpr size_t PinCell(size_t slot, size_t lane) { return slot * kPinLanes + lane; }

// Counts wrap around; only differences matter.
struct alignas(64) PinCounts {
  struct Cell {
    std::atomic<uint32_t> taken{0};
    std::atomic<uint32_t> released{0};
  };
  std::array<Cell, kPinSlots * kPinLanes> cells;  // a cache line for each slot
};

// Thread-safe.
class PinTable {
 public:
  PinTable() = default;
  ~PinTable();
  PinTable(const PinTable&) = delete;
  PinTable& operator=(const PinTable&) = delete;

  void Take(size_t cell) const {
    if (PinCounts* const mine = OfThisThread(); ABSL_PREDICT_TRUE(mine != nullptr)) {
      Raise(mine->cells[cell].taken, std::memory_order_relaxed);
    } else {
      TakeSlowly(cell);
    }
  }
  // Release: who reads this count may overwrite what the holder has read.
  void Release(size_t cell) const {
    if (PinCounts* const mine = OfThisThread(); ABSL_PREDICT_TRUE(mine != nullptr)) {
      Raise(mine->cells[cell].released, std::memory_order_release);
    } else {
      ReleaseSlowly(cell);
    }
  }

  // Holders of `slot`, by lane. Zero: whoever took it before a fence that pairs with the takers' one (see
  // asymmetric_fence.h) has released it, and what they read of it happened before. Higher while somebody who
  // takes a slot has not looked yet whether it is still the right one.
  std::array<uint32_t, kPinLanes> Holders(size_t slot) const;

 private:
  // No read-modify-write: nobody else writes it.
  static void Raise(std::atomic<uint32_t>& count, std::memory_order order) {
    count.store(count.load(std::memory_order_relaxed) + 1, order);
  }
  // Null: it has none yet, or no thread slot of its own.
  PinCounts* OfThisThread() const { return counts_[ThreadSlotPlusOne()].load(std::memory_order_relaxed); }
  // Those of the calling thread; null for kSharedThreadSlot.
  PinCounts* FindOrMake() const;
  [[gnu::cold]] void TakeSlowly(size_t cell) const;
  [[gnu::cold]] void ReleaseSlowly(size_t cell) const;

  // By thread slot plus one, each null until its thread comes; always null at 0 and for the shared slot.
  mutable std::array<std::atomic<PinCounts*>, kThreadSlots + 2> counts_{};
  mutable PinCounts shared_;  // of all threads that share a slot
};

}  // namespace lockstep::internal
