#include "lockstep/internal/snapshot_ring.h"

#include <algorithm>

#include "core/base/check.h"

namespace lockstep::internal {

SnapshotRing::SnapshotRing(std::vector<std::string> migrations)
    : migrations_(std::move(migrations)), slots_(std::make_unique<std::array<SnapshotSlot, kSlots>>()) {}

SnapshotRing::~SnapshotRing() { LOCKSTEP_CHECK(PinCount() == 0, "a RouteHandle outlived its Client"); }

uint64_t SnapshotRing::PinsOf(const SnapshotSlot& slot) {
  uint64_t pins = 0;
  // Acquire pairs with the release of the pin: what its holder read, it has read before we overwrite. A pin
  // that is taken while we count is of a reader that will see that the slot is no longer current.
  for (const SnapshotSlot::Shard& shard : slot.shards) pins += shard.pins.load(std::memory_order_seq_cst);
  return pins;
}

bool SnapshotRing::TryPublish(domain::Snapshot& snapshot, absl::Duration now) {
  SnapshotSlot* const current = current_.load(std::memory_order_relaxed);
  for (size_t i = 0; i < kSlots; ++i) {
    SnapshotSlot& slot = (*slots_)[(next_slot_ + i) % kSlots];
    if (&slot == current || IsPinned(slot)) continue;
    slot.snapshot = std::move(snapshot);
    slot.by_index.clear();
    for (const std::string& name : migrations_) slot.by_index.push_back(slot.snapshot.Find(name));
    slot.published_number = ++published_;
    next_slot_ = (next_slot_ + i + 1) % kSlots;
    current_.store(&slot, std::memory_order_seq_cst);
    if (current != nullptr) current->superseded_at = now;
    return true;
  }
  return false;
}

void SnapshotRing::Close() { current_.store(nullptr, std::memory_order_seq_cst); }

const domain::Snapshot* SnapshotRing::current() const {
  const SnapshotSlot* const slot = current_.load(std::memory_order_relaxed);
  return slot == nullptr ? nullptr : &slot->snapshot;
}

SnapshotRing::PinnedOperations SnapshotRing::OlderPins(absl::Duration now) const {
  const SnapshotSlot* const current = current_.load(std::memory_order_relaxed);
  PinnedOperations result;
  for (const SnapshotSlot& slot : *slots_) {
    if (&slot == current) continue;
    const uint64_t pins = PinsOf(slot);
    if (pins == 0) continue;
    result.operations += pins;
    result.oldest = std::max(result.oldest, now - slot.superseded_at);
  }
  return result;
}

bool SnapshotRing::OtherStorePinned(uint64_t store_epoch) const {
  return std::any_of(slots_->begin(), slots_->end(), [store_epoch](const SnapshotSlot& slot) {
    return slot.snapshot.store_epoch != store_epoch && IsPinned(slot);
  });
}

std::vector<std::optional<uint64_t>> SnapshotRing::OldestEpochs() const {
  const SnapshotSlot* const current = current_.load(std::memory_order_relaxed);
  std::vector<std::optional<uint64_t>> oldest(migrations_.size());
  for (const SnapshotSlot& slot : *slots_) {
    if (slot.published_number == 0 || (&slot != current && !IsPinned(slot))) continue;
    for (size_t i = 0; i < oldest.size(); ++i) {
      if (slot.by_index[i] == nullptr) continue;
      const uint64_t epoch = slot.by_index[i]->state.epoch;
      oldest[i] = oldest[i].has_value() ? std::min(*oldest[i], epoch) : epoch;
    }
  }
  return oldest;
}

uint64_t SnapshotRing::PinCount() const {
  uint64_t count = 0;
  for (const SnapshotSlot& slot : *slots_) {
    for (const SnapshotSlot::Shard& shard : slot.shards) count += shard.pins.load(std::memory_order_relaxed);
  }
  return count;
}

}  // namespace lockstep::internal
