// The client's side of its conversation with the control plane: connects and reconnects, takes snapshots in,
// acknowledges when old epochs have drained, keeps the lease, and sends telemetry.
//
// A Session has no thread of its own: RunOnce does whatever is due and says when to come back, and Wait
// sleeps until then or until something arrives. The client gives it a thread; tests call it on a fake clock.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/sdk/src/mailbox.h"
#include "client/sdk/src/reporter.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/base/prng.h"
#include "core/domain/snapshot.h"
#include "lockstep/client.h"
#include "lockstep/internal/repair_queue.h"
#include "lockstep/internal/snapshot_ring.h"
#include "lockstep/telemetry.h"
#include "lockstep/transport.h"

namespace lockstep::internal {

struct SessionOptions {
  StreamEnrolment enrolment;  // `held` is filled in at each connect
  absl::Duration heartbeat_interval;
  absl::Duration lease_ttl;
  absl::Duration backoff_initial;
  absl::Duration backoff_max;
  absl::Duration telemetry_interval;
  ReporterOptions reporter;
};

class Session {
 public:
  // All pointers must outlive the session. `seed`: jitter and the telemetry session's number.
  Session(SessionOptions options, Transport* transport, SnapshotRing* ring, TelemetryRecorder* telemetry,
          const RepairQueue* repairs, const Clock* clock, uint64_t seed);
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
  // Any thread: the stream has ended after Leave, or there was none.
  bool left() const { return left_.load(std::memory_order_acquire); }
  // How often RunOnce has finished.
  uint64_t rounds() const { return rounds_.load(std::memory_order_acquire); }
  bool closed() const { return closing_.load(std::memory_order_acquire); }

  bool ready() const { return ready_.load(std::memory_order_acquire); }
  bool stale() const { return stale_.load(std::memory_order_relaxed); }
  // Why the last stream ended; OK if none has.
  absl::Status last_error() const;
  // Of the fields that the session knows.
  ClientStats Stats() const;

 private:
  void HandleClosed(const absl::Status& why, absl::Duration now);
  void Connect(absl::Duration now);
  void HandleSnapshot(domain::Snapshot snapshot, absl::Duration now);
  void Reject(uint64_t revision, const absl::Status& why);
  void PublishPending();
  void Acknowledge();
  HeldEpochs HeldNow() const;
  void KeepLease(int heartbeats_answered, absl::Duration now);
  void Report(absl::Duration now);
  // The control plane hears us, and waits for what we count: some migration mirrors or compares.
  bool IsExpectedToReport() const;
  void FinishClosing();
  absl::Duration UntilNext(absl::Duration now) const;

  const SessionOptions options_;
  Transport* const transport_;
  SnapshotRing* const ring_;
  TelemetryRecorder* const telemetry_;
  const RepairQueue* const repairs_;
  const Clock* const clock_;

  std::shared_ptr<Mailbox> mailbox_;
  std::atomic<bool> closing_{false};
  std::atomic<bool> leaving_{false};
  std::atomic<bool> flushed_{false};
  std::atomic<bool> left_{false};
  std::atomic<uint64_t> rounds_{0};
  std::atomic<bool> ready_{false};
  std::atomic<bool> stale_{false};

  mutable Mutex stats_mutex_;
  ClientStats stats_ ABSL_GUARDED_BY(stats_mutex_);
  absl::Status last_error_ ABSL_GUARDED_BY(stats_mutex_);

  // The rest belongs to RunOnce.
  Prng prng_;
  Reporter reporter_;
  std::unique_ptr<Stream> stream_;
  bool leave_sent_ = false;
  int connect_attempts_ = 0;
  absl::Duration connect_at_ = absl::ZeroDuration();
  std::optional<absl::Duration> drained_until_;  // the server asked not to come back before
  absl::Duration opened_at_ = absl::ZeroDuration();
  bool snapshot_on_stream_ = false;
  std::optional<domain::Snapshot> pending_;  // valid, waits for a free slot
  // What was acknowledged last on this stream.
  std::optional<std::pair<uint64_t, HeldEpochs>> acknowledged_;
  absl::Duration next_heartbeat_ = absl::ZeroDuration();
  std::deque<absl::Duration> unanswered_heartbeats_;  // when they were sent
  absl::Duration lease_renewed_at_ = absl::ZeroDuration();
  absl::Duration next_collection_ = absl::ZeroDuration();
};

}  // namespace lockstep::internal
