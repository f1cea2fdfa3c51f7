// A small number for the calling thread that no other living thread has: an index into what threads keep
// apart.
//
// When a thread ends, a later one gets its number, and with it whatever is kept under it; all that the first
// one did happened before.
#pragma once

#include <cstdint>

namespace lockstep::internal {

// Numbers there are. Threads beyond so many at a time, and code that runs while a thread's own storage is
// being destroyed, share kSharedThreadSlot.
inline constexpr uint32_t kThreadSlots = 256;
inline constexpr uint32_t kSharedThreadSlot = kThreadSlots;

// The number plus one; 0: none asked for yet. Only ThreadSlot and its .cc use this.
inline thread_local constinit uint32_t thread_slot_plus_one = 0;

[[gnu::noinline]] uint32_t TakeThreadSlot();

// 0 before the thread's first call of ThreadSlot; then that plus one.
inline uint32_t ThreadSlotPlusOne() { return thread_slot_plus_one; }

// In [0, kThreadSlots], the same for as long as the thread runs.
inline uint32_t ThreadSlot() {
  const uint32_t plus_one = thread_slot_plus_one;
  return plus_one != 0 ? plus_one - 1 : TakeThreadSlot();
}

}  // namespace lockstep::internal
