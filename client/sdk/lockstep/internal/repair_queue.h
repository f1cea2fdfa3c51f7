// Mirror writes that are still open when their call has returned: those that failed and must be repaired, and
// those that were queued to be written behind.
//
// Bounded and in memory: it lives as long as the process, and Client::Shutdown reports what is left; what
// shall survive the process is in a MirrorJournal as well. Repairs run one at a time on the client's
// executor, each with its own back-off, so that one row the mirror refuses does not hold up the others and a
// sick side is not flooded. Queued mirrors run kMirrorLanes at a time, in order of arrival; one that fails
// becomes a repair.
//
// While anything is open, the epoch it was written under is held: the client doesn't acknowledge a later one.
// In CUTOVER a repair holds its epoch only while the writes of its own bucket are held: each attempt is made
// by the state in force, so that nothing but a move of that bucket's authority has to wait for it.
//
// What was queued for repair and what was done is counted, each repair once however often it is tried; one
// that is dropped, here or with the process, or finds no place, stays counted as outstanding, because its
// record is still wrong. One that found no place holds its epoch for as long as the process lives and the
// migration's generation lasts.
//
// Thread-safe. Nothing is called with a lock held, telemetry apart.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/base/prng.h"
#include "lockstep/executor.h"
#include "lockstep/telemetry.h"

namespace lockstep::internal {

enum class RepairOutcome : uint8_t {
  kDone,
  kObsolete,  // the migration no longer mirrors to that side: nothing to repair; counts as done
  kLost,      // the authority has moved without it: ends, and stays counted as outstanding
  kRetry,
  kUnreadable,  // to be tried again, too: what is right can't be read
};

inline bool IsOver(RepairOutcome outcome) {
  return outcome != RepairOutcome::kRetry && outcome != RepairOutcome::kUnreadable;
}

// Of buckets, [begin, end).
struct BucketRange {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool Contains(uint32_t bucket) const { return begin <= bucket && bucket < end; }
};

struct Repair {
  Attribution attribution;         // of the write that the mirror missed
  uint64_t store_epoch = 0;        // of its snapshot: which history its epoch is a number of
  std::optional<uint32_t> bucket;  // nothing: not known, so that it may be any
  domain::Side authoritative = domain::Side::kOld;
  absl::Duration backoff_initial;
  absl::Duration backoff_max;
  // One attempt; may block up to its own deadline.
  std::function<RepairOutcome()> attempt;
  // Called when a queued mirror turns into a repair. May be null.
  std::function<void()> on_failure;
  // Called, on the executor, when TakeUp finds that the authority has moved without it. May be null.
  std::function<void()> on_lost;
  // RecordRepairQueued has been called for it by an earlier process.
  bool counted = false;
};

struct OpenMirrors {
  // Waiting or running, those of journals that nobody has taken over yet, and those that found no place.
  size_t repairs = 0;
  size_t queued_mirrors = 0;  // waiting or running
};

class RepairQueue : public std::enable_shared_from_this<RepairQueue> {
 public:
  static constexpr size_t kMirrorLanes = 4;
  // After so many repairs in a row whose authoritative side could not be read it is taken for unreadable.
  static constexpr int kUnreadableInARow = 3;

  // `executor`, `clock` and `telemetry` must outlive the queue's tasks. `capacity`: repairs, queued mirrors
  // and reserved places together.
  RepairQueue(size_t capacity, Executor* executor, const Clock* clock, TelemetryRecorder* telemetry,
              uint64_t seed);

  // Takes a place before it is known whether it will be needed; false when there is none or the queue is
  // closed. Given back by Unreserve, or used by an Add with `reserved`. It holds no epoch: the operation's
  // RouteHandle does.
  bool Reserve();
  void Unreserve();

  // A mirror that failed or was not attempted. False when the queue is full or closed: it is refused then, as
  // by Refuse, unless it has a place `reserved`, which means that a journal has it. The place is gone either
  // way.
  bool Add(Repair repair, bool reserved = false);
  // A mirror that nothing can be done about: outstanding for good, and holds its epoch.
  void Refuse(const Repair& repair);
  // A mirror to be written behind: `attempt` runs as soon as a lane is free, kRetry makes a repair of it.
  // False as Add, but a reserved place is kept then.
  bool AddMirror(Repair mirror, bool reserved = false);
  // What an earlier process left open. Always taken, however many there are.
  void AddRecovered(Repair repair);

  // Open mirrors that nobody can work on yet (those of a journal, until their Migrator has been built): they
  // hold their epoch and count as repairs. ReleaseHold ends one.
  void Hold(const Attribution& attribution, uint64_t store_epoch);
  void ReleaseHold(const Attribution& attribution, uint64_t store_epoch);

  // For a held slice on its way to old, which must not wait for new: sets the repairs of these buckets aside
  // whose authority is new, if new is unreadable and was so when they were attempted last. Until TakeUp they
  // are not attempted, because a late mirror could undo what the old side has written since, and hold no
  // epoch. Returns how many are.
  size_t SetAside(uint32_t migration_index, BucketRange buckets);
  // `generation` is in force: what was refused in earlier ones is of no account any more.
  void Forget(uint32_t migration_index, uint64_t generation);

  // The hold is over, and new has the authority over buckets below `new_below`: what was set aside there is
  // attempted again, and the rest is lost. To be called before the state is acknowledged: in the next hold it
  // could not be told any more.
  void TakeUp(uint32_t migration_index, uint32_t new_below);

  // Everything that is open and may get done, repairs and queued mirrors alike.
  size_t outstanding() const;
  OpenMirrors Counts() const;
  // Oldest epoch held by anything open of the migration. 0 if something was written under another store epoch
  // than `store_epoch`: its numbers can't be compared. `store_epoch` 0 compares them all the same. With
  // `buckets` only repairs of these count.
  std::optional<uint64_t> OldestEpoch(uint32_t migration_index, uint64_t store_epoch = 0,
                                      std::optional<BucketRange> buckets = std::nullopt) const;
  // Repairs that were refused.
  uint64_t refused() const;
  // Makes every waiting repair due now; used when draining.
  void Hasten();
  // Drops what waits and refuses more; what is under way ends by itself. Returns how many were dropped.
  size_t Close();

 private:
  struct Item {
    Repair repair;
    int attempts = 0;
    bool unreadable = false;  // at the last attempt
    bool set_aside = false;
  };
  // Of one migration, (store epoch, epoch) -> how many.
  using Epochs = std::map<std::pair<uint64_t, uint64_t>, size_t>;
  // Of a repair, what is known without it.
  struct Mark {
    uint32_t migration_index = 0;
    uint64_t generation = 0;
    uint64_t store_epoch = 0;
    uint64_t epoch = 0;
    std::optional<uint32_t> bucket;
    auto operator<=>(const Mark&) const = default;
  };

  static Mark MarkOf(const Repair& repair);
  static bool IsOf(const Mark& mark, uint32_t migration_index, std::optional<BucketRange> buckets);
  static void Release(std::map<uint32_t, Epochs>& held, const Attribution& attribution, uint64_t store_epoch);
  bool TakePlaceLocked(bool reserved) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RefuseLocked(const Repair& repair) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // After an attempt of `repair`.
  void LearnLocked(const Repair& repair, RepairOutcome outcome) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes a waiting repair of what has begun.
  void WaitLocked(Repair repair) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountDroppedMirrorLocked(const Repair& mirror) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ScheduleLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ScheduleMirrorsLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunDue();
  void RunMirror();

  const size_t capacity_;
  Executor* const executor_;
  const Clock* const clock_;
  TelemetryRecorder* const telemetry_;
  mutable Mutex mutex_;
  Prng prng_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  size_t reserved_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t outstanding_ ABSL_GUARDED_BY(mutex_) = 0;  // waiting and running, of both kinds
  size_t mirrors_running_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t mirror_lanes_ ABSL_GUARDED_BY(mutex_) = 0;  // tasks submitted or running
  uint64_t refused_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<Mark, uint64_t> refused_marks_ ABSL_GUARDED_BY(mutex_);
  std::optional<Mark> running_mark_ ABSL_GUARDED_BY(mutex_);  // of the repair that is being attempted
  // Attempts in a row, by migration and authoritative side.
  std::map<std::pair<uint32_t, domain::Side>, int> unreadable_ ABSL_GUARDED_BY(mutex_);
  // When the earliest scheduled wake-up is due; later ones find nothing and end.
  std::optional<absl::Duration> wake_at_ ABSL_GUARDED_BY(mutex_);
  std::multimap<absl::Duration, Item> waiting_ ABSL_GUARDED_BY(mutex_);  // by due time since boot
  std::deque<Repair> mirrors_ ABSL_GUARDED_BY(mutex_);                   // waiting
  std::map<uint32_t, Epochs> repairs_held_ ABSL_GUARDED_BY(mutex_);      // by migration
  std::map<uint32_t, Epochs> mirrors_held_ ABSL_GUARDED_BY(mutex_);      // by migration
  std::map<uint32_t, Epochs> unclaimed_ ABSL_GUARDED_BY(mutex_);         // of Hold, by migration
};

}  // namespace lockstep::internal
