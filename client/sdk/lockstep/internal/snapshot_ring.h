// The snapshots an SDK may still be acting on, and who is acting on them.
//
// A fixed ring of slots that live as long as the ring, each with counters of the operations pinned to it. A
// reader loads the current slot, counts itself in, and looks again whether the slot is still current; if it
// moved, it counts itself out and tries again. So a counted reader either was seen by the writer or has seen
// the writer, and the guard that keeps a snapshot alive is the same one that tells when its epochs have
// drained. No lock, no allocation; two atomic additions on a cache line that other threads rarely touch.
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

#include "absl/time/time.h"
#include "core/domain/snapshot.h"
#include "lockstep/internal/thread_shard.h"

namespace lockstep::internal {

struct SnapshotSlot {
  struct alignas(64) Shard {
    std::atomic<uint32_t> pins{0};
  };

  std::array<Shard, kThreadShards> shards;
  // Written while the slot is neither current nor pinned.
  domain::Snapshot snapshot;
  std::vector<const domain::MigrationRouting*> by_index;  // null: not in the snapshot
  // Only the writer uses these.
  uint64_t published_number = 0;  // 0: never used
  absl::Duration superseded_at = absl::ZeroDuration();
};

// Keeps the snapshot it was taken on; any thread may destroy it.
class SnapshotPin {
 public:
  SnapshotPin() = default;
  SnapshotPin(SnapshotPin&& other) noexcept
      : slot_(std::exchange(other.slot_, nullptr)), shard_(other.shard_) {}
  SnapshotPin& operator=(SnapshotPin&& other) noexcept {
    if (this != &other) {
      Release();
      slot_ = std::exchange(other.slot_, nullptr);
      shard_ = other.shard_;
    }
    return *this;
  }
  ~SnapshotPin() { Release(); }

  // Null: nothing is pinned.
  const SnapshotSlot* slot() const { return slot_; }
  void Release() {
    if (slot_ == nullptr) return;
    // Release: the writer that sees the zero may overwrite the slot.
    slot_->shards[shard_].pins.fetch_sub(1, std::memory_order_release);
    slot_ = nullptr;
  }

 private:
  friend class SnapshotRing;
  SnapshotPin(SnapshotSlot* slot, uint32_t shard) : slot_(slot), shard_(shard) {}

  SnapshotSlot* slot_ = nullptr;
  uint32_t shard_ = 0;
};

class SnapshotRing {
 public:
  static constexpr size_t kSlots = 64;

  // `migrations`: full names, by index.
  explicit SnapshotRing(std::vector<std::string> migrations);
  // Aborts when something is still pinned: handles must not outlive the client.
  ~SnapshotRing();

  // Reader. An empty pin when there is no current snapshot.
  SnapshotPin PinCurrent() {
    const uint32_t shard = ThreadShard();
    SnapshotSlot* slot = current_.load(std::memory_order_acquire);
    while (slot != nullptr) {
      // Sequentially consistent, as are the writer's exchange and its reading of the counters: one of the two
      // sees the other.
      slot->shards[shard].pins.fetch_add(1, std::memory_order_seq_cst);
      SnapshotSlot* const now = current_.load(std::memory_order_seq_cst);
      if (now == slot) return SnapshotPin(slot, shard);
      slot->shards[shard].pins.fetch_sub(1, std::memory_order_release);
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
  // Writer. Oldest epoch by migration index among pinned slots and the current one; nothing for a migration
  // that is in none of them.
  std::vector<std::optional<uint64_t>> OldestEpochs() const;
  // Writer. Whether a pinned slot is of another store than this one.
  bool OtherStorePinned(uint64_t store_epoch) const;
  // Any thread; a snapshot of moving numbers.
  uint64_t PinCount() const;

 private:
  static uint64_t PinsOf(const SnapshotSlot& slot);
  static bool IsPinned(const SnapshotSlot& slot) { return PinsOf(slot) != 0; }

  const std::vector<std::string> migrations_;
  std::unique_ptr<std::array<SnapshotSlot, kSlots>> slots_;
  std::atomic<SnapshotSlot*> current_{nullptr};
  uint64_t published_ = 0;
  size_t next_slot_ = 0;
};

}  // namespace lockstep::internal
