// The client's side of its conversation with the control plane: connects and reconnects, takes snapshots in,
// accepts what is in force, acknowledges when old epochs have drained, keeps the lease, and sends telemetry.
//
// A Session has no thread of its own: RunOnce does whatever is due and says when to come back, and Wait
// sleeps until then or until something arrives. The client gives it a thread; tests call it on a fake clock.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/sdk/src/client_state.h"
#include "client/sdk/src/lease.h"
#include "client/sdk/src/mailbox.h"
#include "client/sdk/src/reporter.h"
#include "client/sdk/src/snapshot_intake.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/base/prng.h"
#include "core/domain/snapshot.h"
#include "lockstep/client.h"
#include "lockstep/internal/held_writes.h"
#include "lockstep/internal/lease_standing.h"
#include "lockstep/internal/repair_queue.h"
#include "lockstep/internal/slice_checker.h"
#include "lockstep/internal/snapshot_ring.h"
#include "lockstep/telemetry.h"
#include "lockstep/transport.h"

namespace lockstep::internal {

struct SessionOptions {
  StreamEnrolment enrolment;  // `held` and `store_epoch` are filled in at each connect
  absl::Duration heartbeat_interval;
  absl::Duration backoff_initial;
  absl::Duration backoff_max;
  absl::Duration telemetry_interval;
  ReporterOptions reporter;
};

// What a session works with; all must outlive it.
struct SessionParts {
  Transport* transport = nullptr;
  SnapshotRing* ring = nullptr;
  TelemetryRecorder* telemetry = nullptr;
  RepairQueue* repairs = nullptr;
  HeldWrites* held_writes = nullptr;
  SliceChecker* slice_checker = nullptr;
  StateStorage* state_storage = nullptr;  // null: nothing is kept over a restart
  const Clock* clock = nullptr;
};

class Session {
 public:
  // `seed`: jitter and the telemetry session's number. `restored`: what an earlier process of the instance
  // left, put in force at once; the lease is still to be won.
  Session(SessionOptions options, SessionParts parts, uint64_t seed,
          const StoredClientState& restored = StoredClientState());
  ~Session();

  // One thread at a time: does what is due, returns how long until something else may be. Never negative.
  absl::Duration RunOnce();
  // Any thread, but usually that of RunOnce: returns after `timeout` of real time, or when there is something
  // to do.
  void Wait(absl::Duration timeout);
  // Any thread: makes Wait return.
  void Wake();

  // Any thread. From the next RunOnce on there is no current snapshot, and telemetry is sent as it comes.
  void Close();
  // Any thread, after Close: gives the enrolment up at the next RunOnce.
  void Leave();
  // Any thread, after Close: no snapshot is current any more, and every count has been collected and
  // acknowledged.
  bool flushed() const { return flushed_.load(std::memory_order_acquire); }
  // Any thread: the stream has ended after Leave, or there was none, or the enrolment is kept.
  bool left() const { return left_.load(std::memory_order_acquire); }
  // Any thread, once left: not given up after all, because the state directory can't be written.
  bool enrolment_kept() const { return enrolment_kept_.load(std::memory_order_acquire); }
  // How often RunOnce has finished.
  uint64_t rounds() const { return rounds_.load(std::memory_order_acquire); }
  bool closed() const { return closing_.load(std::memory_order_acquire); }

  bool ready() const { return ready_.load(std::memory_order_acquire); }
  bool stale() const { return standing_.load(std::memory_order_relaxed).stale(); }
  // That, and the lease's term, for readers on a request's path.
  const std::atomic<LeaseStanding>& standing() const { return standing_; }
  // A snapshot has come from the control plane.
  bool heard() const { return heard_.load(std::memory_order_acquire); }
  const Lease& lease() const { return lease_; }
  // Why the last stream ended; OK if none has.
  absl::Status last_error() const;
  // Of the fields that the session knows.
  ClientStats Stats() const;

 private:
  void TakeState(Mail& mail);
  void HandleClosed(const absl::Status& why, absl::Duration now);
  void Connect(absl::Duration now);
  // Enrols anew over another stream; the old one lasts until that is answered.
  void Renew(absl::Duration now);
  void Reject(uint64_t revision, const absl::Status& why);
  void PublishPending(absl::Duration now);
  // Heartbeats say which revision is the newest; one that does not come is asked for.
  void WatchAnnounced(uint64_t announced, absl::Duration now);
  void Acknowledge(absl::Duration now);
  // Begins to compare what was written lately in the slices held now, as soon as nothing older is open there.
  void StartSliceChecks(const domain::Snapshot& current, const HeldEpochs& held);
  // `held` without the epochs of `current` that hold a slice, unless its check has an end in `checks`; with
  // `clean`, one that found nothing wrong.
  HeldEpochs WithoutUnchecked(HeldEpochs held, const domain::Snapshot& current,
                              const std::vector<domain::SliceCheck>& checks, bool clean) const;
  // An earlier process has acknowledged it, or this one, and what was found was no reason not to.
  bool IsOnDisk(const std::string& migration, uint64_t epoch) const;
  // Sets aside what must not keep the slices of `current` from moving back to old. In `checks` it is
  // unchecked.
  void SetRepairsAside(const domain::Snapshot& current);
  void AddSetAside(std::vector<domain::SliceCheck>& checks) const;
  // Whether `held` lets go of an epoch of some migration that was not acknowledged on this stream.
  bool Raises(const HeldEpochs& held) const;
  // Keeps what is about to be acknowledged over a restart; false: not yet.
  bool Save(const domain::Snapshot& current, const HeldEpochs& held, absl::Duration now);
  // So that the next process of the instance starts without a snapshot; false: it could not be written.
  bool ForgetEnrolment();
  HeldEpochs HeldNow() const;
  // What an enrolment says it holds: no more than a restart from the state directory would, and no epoch
  // whose acknowledgement would have to bring what the check of its slice has found.
  HeldEpochs ClaimNow() const;
  domain::InstanceStatus StatusNow(absl::Duration now) const;
  void KeepLease(int heartbeats_answered, absl::Duration now);
  void UpdateStale(absl::Duration now);
  void Report(absl::Duration now);
  // The control plane hears us, and waits for what we count: some migration mirrors or compares.
  bool IsExpectedToReport() const;
  void FinishClosing();
  absl::Duration UntilNext(absl::Duration now) const;

  const SessionOptions options_;
  const SessionParts parts_;
  SnapshotRing* const ring_;

  std::shared_ptr<Mailbox> mailbox_;
  std::atomic<bool> closing_{false};
  std::atomic<bool> leaving_{false};
  std::atomic<bool> flushed_{false};
  std::atomic<bool> left_{false};
  std::atomic<bool> enrolment_kept_{false};
  std::atomic<uint64_t> rounds_{0};
  std::atomic<bool> ready_{false};
  std::atomic<LeaseStanding> standing_{};
  std::atomic<bool> heard_{false};
  Lease lease_;

  mutable Mutex stats_mutex_;
  ClientStats stats_ ABSL_GUARDED_BY(stats_mutex_);
  absl::Status last_error_ ABSL_GUARDED_BY(stats_mutex_);

  // The rest belongs to RunOnce.
  Prng prng_;
  Reporter reporter_;
  SnapshotIntake intake_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Stream> retiring_;  // the one before, while stream_ is not in force yet
  bool leave_sent_ = false;
  int connect_attempts_ = 0;
  absl::Duration connect_at_ = absl::ZeroDuration();
  std::optional<absl::Duration> drained_until_;  // the server asked not to come back before
  uint64_t store_epoch_ = 0;                     // of what was in force last
  bool accepted_on_stream_ = false;              // what is in force was sent on this stream
  struct Acknowledgement {
    uint64_t revision = 0;
    HeldEpochs held;
    std::vector<domain::SliceCheck> slice_checks;
    bool operator==(const Acknowledgement&) const = default;
  };
  std::optional<Acknowledgement> acknowledged_;  // last on this stream
  // What the control plane may go by: the last claim or acknowledgement, on whichever stream; of
  // store_epoch_.
  HeldEpochs told_;
  // By migration, the epoch that it came back from CUTOVER with. What is still to be repaired since before
  // holds this one: an older one would be in the way of rollbacks.
  std::map<std::string, uint64_t> back_since_;
  // Repairs that are set aside, by migration.
  std::map<std::string, size_t> set_aside_;
  // What the state directory holds; nothing: not known, or not what should be there.
  struct Saved {
    uint64_t store_epoch = 0;
    uint64_t revision = 0;
    HeldEpochs held;
    bool operator==(const Saved&) const = default;
  };
  std::optional<Saved> saved_;  // nothing: not known, after a failure
  // The newest that is in the state directory for certain: a restart may act on it, so that no enrolment
  // claims more.
  std::optional<Saved> durable_;
  absl::Duration save_at_ = absl::ZeroDuration();  // not before, after a failure
  // The newest revision that heartbeats have announced and that has not come, and since when.
  std::optional<std::pair<uint64_t, absl::Duration>> announced_;
  absl::Duration next_heartbeat_ = absl::ZeroDuration();
  absl::Duration next_collection_ = absl::ZeroDuration();
};

}  // namespace lockstep::internal
