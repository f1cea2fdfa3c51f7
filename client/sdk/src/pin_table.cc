#include "lockstep/internal/pin_table.h"

namespace lockstep::internal {

PinTable::~PinTable() {
  for (const std::atomic<PinCounts*>& counts : counts_) delete counts.load(std::memory_order_acquire);
}

PinCounts* PinTable::FindOrMake() const {
  const uint32_t thread = ThreadSlot();
  if (thread == kSharedThreadSlot) return nullptr;
  // It has its slot only now; another thread may have had it before, whose counts go on.
  if (PinCounts* const inherited = counts_[thread + 1].load(std::memory_order_acquire)) return inherited;
  auto* const made = new PinCounts();
  counts_[thread + 1].store(made, std::memory_order_release);
  return made;
}

void PinTable::TakeSlowly(size_t cell) const {
  if (PinCounts* const mine = FindOrMake()) return Raise(mine->cells[cell].taken, std::memory_order_relaxed);
  shared_.cells[cell].taken.fetch_add(1, std::memory_order_relaxed);
}

void PinTable::ReleaseSlowly(size_t cell) const {
  if (PinCounts* const mine = FindOrMake()) {
    return Raise(mine->cells[cell].released, std::memory_order_release);
  }
  shared_.cells[cell].released.fetch_add(1, std::memory_order_release);
}

std::array<uint32_t, kPinLanes> PinTable::Holders(size_t slot) const {
  std::array<uint32_t, kPinLanes> holders{};
  const auto add = [&](auto&& count_of) {
    const auto add_of = [&](const PinCounts& counts) {
      for (size_t lane = 0; lane < kPinLanes; ++lane)
        holders[lane] += count_of(counts.cells[PinCell(slot, lane)]);
    };
    for (const std::atomic<PinCounts*>& counts : counts_) {
      if (const PinCounts* const of_thread = counts.load(std::memory_order_acquire)) add_of(*of_thread);
    }
    add_of(shared_);
  };
  // Releases first: each that is counted brings its taking with it, so that the difference never says fewer
  // than there are.
  add([](const PinCounts::Cell& cell) { return -cell.released.load(std::memory_order_acquire); });
  add([](const PinCounts::Cell& cell) { return cell.taken.load(std::memory_order_acquire); });
  return holders;
}

}  // namespace lockstep::internal
