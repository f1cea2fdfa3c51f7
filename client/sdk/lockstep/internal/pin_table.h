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

// One thread's, or those of all that share kSharedThreadSlot. Counts wrap around; only differences matter.
class alignas(64) PinCounts {
 public:
  explicit PinCounts(bool shared) : shared_(shared) {}

  void Take(size_t cell) { Raise(cells_[cell].taken, std::memory_order_relaxed); }
  // Release: who reads this count may overwrite what the holder has read.
  void Release(size_t cell) { Raise(cells_[cell].released, std::memory_order_release); }

  uint32_t taken(size_t cell) const { return cells_[cell].taken.load(std::memory_order_acquire); }
  uint32_t released(size_t cell) const { return cells_[cell].released.load(std::memory_order_acquire); }

 private:
  struct Cell {
    std::atomic<uint32_t> taken{0};
    std::atomic<uint32_t> released{0};
  };

  // No read-modify-write where nobody else writes.
  void Raise(std::atomic<uint32_t>& count, std::memory_order order) {
    if (ABSL_PREDICT_FALSE(shared_)) {
      count.fetch_add(1, order);
    } else {
      count.store(count.load(std::memory_order_relaxed) + 1, order);
    }
  }

  std::array<Cell, kPinSlots * kPinLanes> cells_;  // a cache line for each slot
  const bool shared_;
};

// Thread-safe.
class PinTable {
 public:
  PinTable() = default;
  ~PinTable();
  PinTable(const PinTable&) = delete;
  PinTable& operator=(const PinTable&) = delete;

  PinCounts& OfThisThread() const {
    const uint32_t thread = ThreadSlot();
    PinCounts* const counts = counts_[thread].load(std::memory_order_acquire);
    return ABSL_PREDICT_TRUE(counts != nullptr) ? *counts : Make(thread);
  }

  // Holders of `slot`, by lane. Zero: whoever took it before a fence that pairs with the takers' one (see
  // asymmetric_fence.h) has released it, and what they read of it happened before. Higher while somebody who
  // takes a slot has not looked yet whether it is still the right one.
  std::array<uint32_t, kPinLanes> Holders(size_t slot) const;

 private:
  [[gnu::cold]] PinCounts& Make(uint32_t thread) const;

  // By thread slot; null until a thread of that slot comes.
  mutable std::array<std::atomic<PinCounts*>, kThreadSlots + 1> counts_{};
};

}  // namespace lockstep::internal
