// The way of a write to the mirror: noted in the journal, attempted if the side isn't sick, repaired if that
// failed; and noted for the check of its slice. One per Migrator, whatever its types.
//
// Thread-safe. Held by repairs and queued mirrors, which may outlive the Migrator, but not the client.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/client.h"
#include "lockstep/internal/mirror_breaker.h"
#include "lockstep/internal/mirror_journal.h"
#include "lockstep/internal/record_access.h"
#include "lockstep/internal/repair_queue.h"
#include "lockstep/internal/slice_checker.h"
#include "lockstep/internal/write_plan.h"
#include "lockstep/migrator_types.h"

namespace lockstep::internal {

// A write on its way to the mirror.
struct MirrorWrite {
  Attribution attribution;
  uint64_t store_epoch = 0;
  uint32_t bucket = 0;
  std::string routing_key;
  domain::Side authoritative = domain::Side::kOld;
  std::string idempotency_key;

  domain::Side mirror() const { return OtherSide(authoritative); }
  WriteContext Context(absl::Time deadline) const {
    return {.epoch = attribution.epoch,
            .side = mirror(),
            .idempotency_key = idempotency_key,
            .deadline = deadline};
  }
};

// What is kept while a mirror is open: its entry in the journal, and a place in the repair queue. Nothing of
// either without a journal.
struct OpenMirror {
  std::optional<uint64_t> journal_id;
};

class MirrorPath : public std::enable_shared_from_this<MirrorPath> {
 public:
  // `journal` is null when there is none.
  MirrorPath(Client* client, MigrationHandle migration, const MigratorOptions& options,
             std::shared_ptr<MirrorJournal> journal);

  Client& client() const { return *client_; }
  MigrationHandle migration() const { return migration_; }
  const MigratorOptions& options() const { return options_; }
  bool has_journal() const { return journal_ != nullptr; }
  bool IsSick(domain::Side side) const { return gate_.IsSick(side); }

  // Before the authoritative write. `key`: as KeyCodec has it; unused without a journal. `sync`: a crash of
  // the machine must not lose it, because the call will be answered before its mirror is written.
  // RESOURCE_EXHAUSTED: so many are open that this one could be lost. Errors of the disk as UNAVAILABLE.
  // Either way nothing may be written.
  absl::StatusOr<OpenMirror> Begin(const MirrorWrite& write, std::string key, bool sync);
  // The mirror has it, or there is nothing to mirror.
  void End(const OpenMirror& open);

  // The attempt that belongs to the call, counted; `mirror` is called unless it is shed. `route`: what it is
  // made by; null: the client no longer routes.
  absl::Status Attempt(const RouteHandle* route, const MirrorWrite& write, absl::Time call_deadline,
                       const std::function<absl::Status(const WriteContext&)>& mirror);
  // The write may have happened, and nothing can tell: outstanding for good.
  void GiveUp(const OpenMirror& open, const MirrorWrite& write);
  // Makes a repair of it. False: it found no place, and no journal has it; it is outstanding for good then.
  bool Repair(const OpenMirror& open, const MirrorWrite& write, std::shared_ptr<const RecordAccess> record);
  // Mirrors it after the call. False: the queue has no place for it, so it is written through.
  bool WriteBehind(const OpenMirror& open, const MirrorWrite& write,
                   std::shared_ptr<const RecordAccess> record);
  // Takes over what an earlier process left open.
  void Recover(const JournalEntry& entry, std::shared_ptr<const RecordAccess> record);

  // For the check of its slice. `identity` tells records of one routing key apart; empty: each is one of its
  // own.
  void NoteForSliceCheck(const MirrorWrite& write, absl::string_view identity,
                         std::shared_ptr<const RecordAccess> record);

 private:
  internal::Repair RepairOf(const OpenMirror& open, const MirrorWrite& write,
                            std::shared_ptr<const RecordAccess> record);
  RepairOutcome AttemptQueued(const MirrorWrite& write, const RecordAccess& record);
  RepairOutcome AttemptRepair(const MirrorWrite& write, const RecordAccess& record);
  void LogLost(const MirrorWrite& write) const;
  // What has become of it, if nothing is left to be attempted.
  std::optional<RepairOutcome> EndWithoutAttempt(const RouteHandle& present, const MirrorWrite& write) const;
  // With what the write is known to have resulted in, or what its authoritative side has now.
  RepairOutcome Copy(const MirrorWrite& write, const RecordAccess& record, const WriteContext& to);
  void Strike(const OpenMirror& open);
  void MarkCounted(const OpenMirror& open);
  // Until when a mirror write that starts now may go on.
  absl::StatusOr<absl::Time> MirrorDeadline(absl::Time call_deadline, const RouteHandle* route) const;

  Client* const client_;
  const MigrationHandle migration_;
  const MigratorOptions options_;
  const std::shared_ptr<MirrorJournal> journal_;
  MirrorGate gate_;
  std::atomic<uint64_t> anonymous_records_{0};
};

// One pass of the check of a record that was last written under `write`; see NotedRecord. Exposed for tests.
RecordCheckResult CheckRecord(Client& client, MigrationHandle migration, const MirrorWrite& write,
                              const RecordAccess& record, absl::Duration timeout, bool repair);

}  // namespace lockstep::internal
