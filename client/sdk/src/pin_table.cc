#include "lockstep/internal/pin_table.h"

#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "lockstep/internal/fork_generation.h"

namespace lockstep::internal {
namespace {

uint64_t NextTableId() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

struct PinTable::Shared {
  Mutex mutex;
  std::vector<std::unique_ptr<PinCounts>> all ABSL_GUARDED_BY(mutex);
  // Of threads that have ended. They go on counting what these threads took.
  std::vector<PinCounts*> unused ABSL_GUARDED_BY(mutex);
};

class PinTable::ThreadEntries {
 public:
  ~ThreadEntries() {
    // Handles in thread-locals that are destroyed later begin again, with counts that stay theirs.
    last_ = {};
    ended_ = true;
    for (const Entry& entry : entries_) {
      // In a fork()ed child the lock may be that of a thread which isn't there.
      if (entry.fork_generation != ForkGeneration()) continue;
      if (const std::shared_ptr<Shared> shared = entry.shared.lock()) {
        MutexLock lock(&shared->mutex);
        shared->unused.push_back(entry.counts);
      }
    }
  }

  static PinCounts& Find(uint64_t id, const std::shared_ptr<Shared>& shared) {
    if (ended_) return *Make(*shared);
    thread_local ThreadEntries mine;
    for (const Entry& entry : mine.entries_) {
      if (entry.id == id) return *entry.counts;
    }
    std::erase_if(mine.entries_, [](const Entry& entry) { return entry.shared.expired(); });
    PinCounts* const counts = Make(*shared);
    mine.entries_.push_back({id, ForkGeneration(), shared, counts});
    return *counts;
  }

 private:
  struct Entry {
    uint64_t id;
    uint32_t fork_generation;
    std::weak_ptr<Shared> shared;
    PinCounts* counts;
  };

  static PinCounts* Make(Shared& shared) {
    MutexLock lock(&shared.mutex);
    if (!ended_ && !shared.unused.empty()) {
      PinCounts* const counts = shared.unused.back();
      shared.unused.pop_back();
      return counts;
    }
    shared.all.push_back(std::make_unique<PinCounts>());
    return shared.all.back().get();
  }

  static inline thread_local constinit bool ended_ = false;
  std::vector<Entry> entries_;
};

PinTable::PinTable() : id_(NextTableId()), shared_(std::make_shared<Shared>()) {}
PinTable::~PinTable() = default;

PinCounts& PinTable::FindOrEnrol() const {
  PinCounts& counts = ThreadEntries::Find(id_, shared_);
  last_ = {id_, &counts};
  return counts;
}

std::array<uint32_t, kPinLanes> PinTable::Holders(size_t slot) const {
  std::array<uint32_t, kPinLanes> holders{};
  MutexLock lock(&shared_->mutex);
  // Releases first: each that is counted brings its taking with it, so that the difference never says fewer
  // than there are.
  for (const auto& counts : shared_->all) {
    for (size_t lane = 0; lane < kPinLanes; ++lane) {
      holders[lane] -= counts->cells[PinCell(slot, lane)].released.load(std::memory_order_acquire);
    }
  }
  for (const auto& counts : shared_->all) {
    for (size_t lane = 0; lane < kPinLanes; ++lane) {
      holders[lane] += counts->cells[PinCell(slot, lane)].taken.load(std::memory_order_acquire);
    }
  }
  return holders;
}

}  // namespace lockstep::internal
