#include "lockstep/internal/thread_slot.h"

#include <array>
#include <atomic>
#include <bit>

namespace lockstep::internal {
namespace {

constexpr uint32_t kWordBits = 64;
static_assert(kThreadSlots % kWordBits == 0);

// A bit for each number that is taken. No lock, because a fork() might copy it while it is held.
constinit std::array<std::atomic<uint64_t>, kThreadSlots / kWordBits> taken = {};

// The lowest free one, so that few are ever used.
uint32_t Take() {
  for (uint32_t word = 0; word < taken.size(); ++word) {
    uint64_t bits = taken[word].load(std::memory_order_relaxed);
    while (~bits != 0) {
      const auto bit = static_cast<uint32_t>(std::countr_one(bits));
      // Acquire: what the number's last holder did comes before.
      if (taken[word].compare_exchange_weak(bits, bits | uint64_t{1} << bit, std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
        return word * kWordBits + bit;
      }
    }
  }
  return kSharedThreadSlot;
}

void GiveBack(uint32_t slot) {
  if (slot == kSharedThreadSlot) return;
  taken[slot / kWordBits].fetch_and(~(uint64_t{1} << slot % kWordBits), std::memory_order_release);
}

struct Holder {
  const uint32_t slot = Take();
  ~Holder() {
    thread_slot_plus_one = kSharedThreadSlot + 1;
    GiveBack(slot);
  }
};

}  // namespace

uint32_t TakeThreadSlot() {
  thread_local const Holder holder;
  thread_slot_plus_one = holder.slot + 1;
  return holder.slot;
}

}  // namespace lockstep::internal
