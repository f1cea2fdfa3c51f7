// The snapshots an SDK may still be acting on, and who is acting on them.
//
// A fixed ring of slots that live as long as the ring, each with a count of the operations pinned to it. A
// reader loads the current slot, counts itself in, and looks again whether the slot is still current; if it
// moved, it counts itself out and tries again. So a counted reader either was seen by the writer or has seen
// the writer, and the guard that keeps a snapshot alive is the same one that tells when its epochs have
// drained. Readers take no lock, allocate nothing and share no cache line that anybody writes: they count in
// their thread's part of a PinTable, and the fence between counting and looking again is the writer's to pay
// (asymmetric_fence.h).
//
// Operations are counted by migration, so that those of one don't keep the epochs of another: a slot has a
// lane for each of the first kPinLanes migrations, and further ones share them.
//
// Readers: any thread. One writer at a time (the caller sees to it).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/time/time.h"
#include "core/base/check.h"
#include "core/domain/decision.h"
#include "core/domain/snapshot.h"
#include "lockstep/internal/asymmetric_fence.h"
#include "lockstep/internal/pin_table.h"

namespace lockstep::internal {

// A migration as a snapshot has it.
struct alignas(64) RoutedMigration {
  domain::DecisionRule rule;
  const domain::MigrationRouting* routing = nullptr;  // null: not in the snapshot
  uint32_t index = 0;
};

struct alignas(64) SnapshotSlot {
  // Set once.
  const PinTable* pins = nullptr;
  size_t index = 0;
  size_t first_cell = 0;  // of `pins`: PinCell(index, 0)
  std::unique_ptr<RoutedMigration[]> by_index;
  size_t migrations = 0;
  const RoutedMigration& Of(uint32_t migration) const {
    LOCKSTEP_CHECK(migration < migrations, "a MigrationHandle of another client");
    return by_index[migration];
  }
  // Written, as the elements of `by_index`, while the slot is neither current nor pinned.
  domain::Snapshot snapshot;
  // Only the writer uses these.
  uint64_t published_number = 0;  // 0: never used
  absl::Duration superseded_at = absl::ZeroDuration();
};

// Keeps the snapshot it was taken on; any thread may destroy it.
class SnapshotPin {
 public:
  SnapshotPin() = default;
  SnapshotPin(SnapshotPin&& other) noexcept
      : slot_(std::exchange(other.slot_, nullptr)), cell_(other.cell_) {}
  SnapshotPin& operator=(SnapshotPin&& other) noexcept {
    if (this != &other) {
      Release();
      slot_ = std::exchange(other.slot_, nullptr);
      cell_ = other.cell_;
    }
    return *this;
  }
  ~SnapshotPin() { Release(); }

  // Null: nothing is pinned.
  const SnapshotSlot* slot() const { return slot_; }
  void Release() {
    if (slot_ == nullptr) return;
    slot_->pins->Release(cell_);
    slot_ = nullptr;
  }

 private:
  friend class SnapshotRing;
  SnapshotPin(const SnapshotSlot* slot, size_t cell) : slot_(slot), cell_(static_cast<uint32_t>(cell)) {}

  const SnapshotSlot* slot_ = nullptr;
  uint32_t cell_ = 0;
};

class SnapshotRing {
 public:
  static constexpr size_t kSlots = kPinSlots;

  // `migrations`: full names, by index.
  explicit SnapshotRing(std::vector<std::string> migrations, FenceKind fences = BestFenceKind());
  // Aborts when something is still pinned: handles must not outlive the client.
  ~SnapshotRing();

  // Reader. An empty pin when there is no current snapshot. It keeps the epoch of this migration only.
  SnapshotPin PinCurrent(uint32_t migration_index = 0) const {
    const size_t lane = migration_index % kPinLanes;
    const SnapshotSlot* slot = current_.load(std::memory_order_acquire);
    while (ABSL_PREDICT_TRUE(slot != nullptr)) {
      const size_t cell = slot->first_cell + lane;
      pins_.Take(cell);
      LightFence(fences_);  // pairs with the one after the writer's store
      const SnapshotSlot* const now = current_.load(std::memory_order_acquire);
      if (ABSL_PREDICT_TRUE(now == slot)) return SnapshotPin(slot, cell);
      pins_.Release(cell);
      slot = now;
    }
    return SnapshotPin();
  }

  // Writer. Makes `snapshot` (validated) current at `now` (since boot). False when every slot is current or
  // pinned: the snapshot is left untouched, and the caller tries again later, with a newer one if it has come
  // meanwhile.
  bool TryPublish(domain::Snapshot& snapshot, absl::Duration now);
  // Writer. From now on there is no current snapshot.
  void Close();
  // Writer. Null before the first publish and after Close.
  const domain::Snapshot* current() const;
  // Writer. Whether an operation is pinned to a slot other than the current one; after Close, to any.
  bool OlderPinned() const { return OlderPins(absl::ZeroDuration()).operations > 0; }
  struct PinnedOperations {
    uint64_t operations = 0;
    // Since the oldest snapshot that has any was superseded: a lower bound of the oldest operation's age,
    // which costs nothing per operation.
    absl::Duration oldest = absl::ZeroDuration();
  };
  // Writer. The operations that OlderPinned tells of.
  PinnedOperations OlderPins(absl::Duration now) const;
  // Writer. Oldest epoch by migration index among the slots that operations of its lane are pinned to and the
  // current one; nothing for a migration that is in none of them.
  std::vector<std::optional<uint64_t>> OldestEpochs() const;
  // Writer. Whether a pinned slot is of another store than this one.
  bool OtherStorePinned(uint64_t store_epoch) const;
  // Any thread; a snapshot of moving numbers.
  uint64_t PinCount() const;

 private:
  uint64_t PinsOf(const SnapshotSlot& slot) const;
  bool IsPinned(const SnapshotSlot& slot) const { return PinsOf(slot) != 0; }
  // Makes `slot` current; from then on, whoever is not counted in another slot will not get it any more.
  void SetCurrent(SnapshotSlot* slot);

  std::atomic<SnapshotSlot*> current_{nullptr};
  const FenceKind fences_;
  PinTable pins_;
  const std::vector<std::string> migrations_;
  std::unique_ptr<std::array<SnapshotSlot, kSlots>> slots_;
  uint64_t published_ = 0;
  size_t next_slot_ = 0;
};

}  // namespace lockstep::internal
