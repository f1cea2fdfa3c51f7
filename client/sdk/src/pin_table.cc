#include "lockstep/internal/pin_table.h"

#include <memory>

namespace lockstep::internal {

PinTable::~PinTable() {
  for (const std::atomic<PinCounts*>& counts : counts_) delete counts.load(std::memory_order_acquire);
}

PinCounts& PinTable::Make(uint32_t thread) const {
  auto made = std::make_unique<PinCounts>(thread == kSharedThreadSlot);
  PinCounts* there = nullptr;
  // Another thread may be first at the shared one.
  if (counts_[thread].compare_exchange_strong(there, made.get(), std::memory_order_acq_rel))
    there = made.release();
  return *there;
}

std::array<uint32_t, kPinLanes> PinTable::Holders(size_t slot) const {
  std::array<uint32_t, kPinLanes> holders{};
  const auto add = [&](auto&& count_of) {
    for (const std::atomic<PinCounts*>& counts : counts_) {
      const PinCounts* const of_thread = counts.load(std::memory_order_acquire);
      if (of_thread == nullptr) continue;
      for (size_t lane = 0; lane < kPinLanes; ++lane)
        holders[lane] += count_of(*of_thread, PinCell(slot, lane));
    }
  };
  // Releases first: each that is counted brings its taking with it, so that the difference never says fewer
  // than there are.
  add([](const PinCounts& counts, size_t cell) { return -counts.released(cell); });
  add([](const PinCounts& counts, size_t cell) { return counts.taken(cell); });
  return holders;
}

}  // namespace lockstep::internal
