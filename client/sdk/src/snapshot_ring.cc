#include "lockstep/internal/snapshot_ring.h"

#include <algorithm>
#include <numeric>

#include "core/base/check.h"

namespace lockstep::internal {

SnapshotRing::SnapshotRing(std::vector<std::string> migrations, FenceKind fences)
    : fences_(fences),
      migrations_(std::move(migrations)),
      slots_(std::make_unique<std::array<SnapshotSlot, kSlots>>()) {
  for (size_t i = 0; i < kSlots; ++i) {
    (*slots_)[i].pins = &pins_;
    (*slots_)[i].index = i;
    (*slots_)[i].first_cell = PinCell(i, 0);
    (*slots_)[i].by_index = std::make_unique<RoutedMigration[]>(migrations_.size());
    (*slots_)[i].migrations = migrations_.size();
  }
}

SnapshotRing::~SnapshotRing() { LOCKSTEP_CHECK(PinCount() == 0, "a RouteHandle outlived its Client"); }

uint64_t SnapshotRing::PinsOf(const SnapshotSlot& slot) const {
  const std::array<uint32_t, kPinLanes> holders = pins_.Holders(slot.index);
  return std::accumulate(holders.begin(), holders.end(), uint64_t{0});
}

void SnapshotRing::SetCurrent(SnapshotSlot* slot) {
  current_.store(slot, std::memory_order_release);
  HeavyFence(fences_);
}

bool SnapshotRing::TryPublish(domain::Snapshot& snapshot, absl::Duration now) {
  SnapshotSlot* const current = current_.load(std::memory_order_relaxed);
  for (size_t i = 0; i < kSlots; ++i) {
    SnapshotSlot& slot = (*slots_)[(next_slot_ + i) % kSlots];
    if (&slot == current || IsPinned(slot)) continue;
    slot.snapshot = std::move(snapshot);
    for (size_t m = 0; m < migrations_.size(); ++m) {
      RoutedMigration& migration = slot.by_index[m];
      migration.index = static_cast<uint32_t>(m);
      migration.routing = slot.snapshot.Find(migrations_[m]);
      if (migration.routing != nullptr) migration.rule = domain::RuleOf(migration.routing->state);
    }
    slot.published_number = ++published_;
    next_slot_ = (next_slot_ + i + 1) % kSlots;
    SetCurrent(&slot);
    if (current != nullptr) current->superseded_at = now;
    return true;
  }
  return false;
}

void SnapshotRing::Close() {
  if (current_.load(std::memory_order_relaxed) != nullptr) SetCurrent(nullptr);
}

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
  return std::any_of(slots_->begin(), slots_->end(), [this, store_epoch](const SnapshotSlot& slot) {
    return slot.snapshot.store_epoch != store_epoch && IsPinned(slot);
  });
}

std::vector<std::optional<uint64_t>> SnapshotRing::OldestEpochs() const {
  const SnapshotSlot* const current = current_.load(std::memory_order_relaxed);
  std::vector<std::optional<uint64_t>> oldest(migrations_.size());
  for (const SnapshotSlot& slot : *slots_) {
    if (slot.published_number == 0) continue;
    const std::array<uint32_t, kPinLanes> holders = pins_.Holders(slot.index);
    for (size_t i = 0; i < oldest.size(); ++i) {
      if (slot.by_index[i].routing == nullptr || (&slot != current && holders[i % kPinLanes] == 0)) continue;
      const uint64_t epoch = slot.by_index[i].rule.epoch;
      oldest[i] = oldest[i].has_value() ? std::min(*oldest[i], epoch) : epoch;
    }
  }
  return oldest;
}

uint64_t SnapshotRing::PinCount() const {
  uint64_t count = 0;
  for (const SnapshotSlot& slot : *slots_) count += PinsOf(slot);
  return count;
}

}  // namespace lockstep::internal
