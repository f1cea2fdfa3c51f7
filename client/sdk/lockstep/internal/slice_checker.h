// Compares the records of a held slice that this instance has written lately, before it acknowledges the
// epoch that holds the slice: what a mirror missed without anybody noticing would be lost for good once the
// other side is the authority.
//
// A Migrator notes each record it writes (the newest kRecentRecords of each migration) with a closure that
// compares both sides and, told to, brings the one that is behind up to date. When a snapshot holds buckets,
// the session calls Start and acknowledges each of these epochs when its Results are there, with them.
//
// A check has an end in time, whatever the sides do: a hold lasts only so long, and a rollback must not wait
// for the side that it gets away from. Records whose side could not be read in time are unchecked.
//
// Thread-safe. Nothing is called with a lock held.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/domain/records.h"
#include "core/domain/snapshot.h"
#include "lockstep/executor.h"

namespace lockstep::internal {

enum class RecordCheck : uint8_t { kEqual, kRepaired, kDiffers, kUnchecked };

struct RecordCheckResult {
  RecordCheck outcome = RecordCheck::kEqual;
  std::string why;  // for kDiffers and kUnchecked (a side could not be read): in words, without values
};

// A record as it was written last.
struct NotedRecord {
  uint32_t bucket = 0;   // as decided
  std::string identity;  // tells records apart: the routing key and the key
  // One pass; may block up to deadlines of its own. With `repair`, what differs is repaired and compared
  // again.
  std::function<RecordCheckResult(bool repair)> check;
  // Waits before passes that follow one that was not equal: mirrors of others may be on their way. The pass
  // after the last one repairs.
  std::vector<absl::Duration> settle_delays;
};

class SliceChecker : public std::enable_shared_from_this<SliceChecker> {
 public:
  static constexpr size_t kRecentRecords = 1024;
  // Of one slice, so that checks leave the executor to others, too.
  static constexpr size_t kParallelChecks = 4;
  // After so many records in a row that could not be compared, the rest of the slice is not tried.
  static constexpr size_t kUncheckedInARow = 4;
  // Since the start of a slice: from then on what can't be compared is not tried again, and what has not been
  // compared is not tried any more. All of it within the 10 s that a hold may take unless a plan says
  // otherwise.
  static constexpr absl::Duration kRetryFor = absl::Seconds(2);
  static constexpr absl::Duration kCheckFor = absl::Seconds(6);

  // `migrations`: full names, by index. `executor` and `clock` must outlive it.
  SliceChecker(std::vector<std::string> migrations, Executor* executor, const Clock* clock);

  // A record was written. Replaces what was noted of the same record.
  void Note(uint32_t migration_index, NotedRecord record);

  // `snapshot` is in force, and nothing older is acted on any more: checks what was noted in its held
  // buckets, unless it has been for this epoch. Slices that it doesn't hold any more are forgotten. To be
  // called again now and then, which is what ends a check whose time is up.
  void Start(const domain::Snapshot& snapshot);
  // Checks are under way.
  bool Busy() const;
  // Of the slices held now whose checks have ended; empty without one.
  std::vector<domain::SliceCheck> Results() const;
  // Drops everything.
  void Close();

 private:
  struct Recent {
    std::list<std::shared_ptr<const NotedRecord>> by_age;  // the newest last
    absl::flat_hash_map<std::string, std::list<std::shared_ptr<const NotedRecord>>::iterator> by_identity;
  };
  struct Slice {
    domain::SliceCheck result;
    std::list<std::shared_ptr<const NotedRecord>> waiting;
    size_t running = 0;    // records
    size_t repairing = 0;  // of these; what they write must have ended before the slice moves
    size_t unchecked_in_a_row = 0;
    bool gave_up = false;  // passes that only read may still run, and count for nothing
    absl::Duration started_at = absl::ZeroDuration();
  };

  void StartNext(uint32_t migration_index, uint64_t epoch);
  void RunPass(uint32_t migration_index, uint64_t epoch, std::shared_ptr<const NotedRecord> record,
               size_t pass);
  void SubmitPass(uint32_t migration_index, uint64_t epoch, std::shared_ptr<const NotedRecord> record,
                  size_t pass, absl::Duration delay);
  // A record of the slice has ended with `result`.
  void CountLocked(Slice& slice, const RecordCheckResult& result) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The records that wait, and those that are being read, are taken as unchecked.
  void GiveUpLocked(Slice& slice, absl::string_view why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Null when the slice is not that of `epoch` any more, or nothing of it runs.
  Slice* FindLocked(uint32_t migration_index, uint64_t epoch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<std::string> migrations_;
  Executor* const executor_;
  const Clock* const clock_;
  mutable Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<uint32_t, Recent> noted_ ABSL_GUARDED_BY(mutex_);
  std::map<uint32_t, Slice> slices_ ABSL_GUARDED_BY(mutex_);
  uint64_t store_epoch_ ABSL_GUARDED_BY(mutex_) = 0;  // of slices_
};

}  // namespace lockstep::internal
