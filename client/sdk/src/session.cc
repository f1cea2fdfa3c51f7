#include "client/sdk/src/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/domain/ladder.h"
#include "lockstep/internal/backoff.h"

namespace lockstep::internal {
namespace {

// How often the counters of old epochs are looked at while somebody is still pinned to one.
constexpr absl::Duration kDrainPoll = absl::Milliseconds(5);
// The same while only repairs hold an epoch: they take their time.
constexpr absl::Duration kRepairPoll = absl::Milliseconds(50);
// How often a client that is shutting down looks at everything.
constexpr absl::Duration kClosingPoll = absl::Milliseconds(2);
// A server that answers none of this many heartbeats is not listened to any more; bounds the queue of sent
// ones.
constexpr size_t kMaxUnansweredHeartbeats = 64;

}  // namespace

Session::Session(SessionOptions options, Transport* transport, SnapshotRing* ring,
                 TelemetryRecorder* telemetry, const RepairQueue* repairs, const Clock* clock, uint64_t seed)
    : options_(std::move(options)),
      transport_(transport),
      ring_(ring),
      telemetry_(telemetry),
      repairs_(repairs),
      clock_(clock),
      mailbox_(std::make_shared<Mailbox>()),
      prng_(seed),
      reporter_(options_.reporter, prng_.Next()) {}

Session::~Session() {
  // Whatever still arrives is for nobody.
  mailbox_->NewStream();
}

void Session::Wait(absl::Duration timeout) { mailbox_->Wait(timeout); }
void Session::Wake() { mailbox_->Wake(); }

void Session::Close() {
  closing_.store(true, std::memory_order_release);
  mailbox_->Wake();
}

void Session::Leave() {
  leaving_.store(true, std::memory_order_release);
  mailbox_->Wake();
}

absl::Status Session::last_error() const {
  MutexLock lock(&stats_mutex_);
  return last_error_;
}

ClientStats Session::Stats() const {
  MutexLock lock(&stats_mutex_);
  ClientStats stats = stats_;
  stats.stale = stale();
  return stats;
}

absl::Duration Session::RunOnce() {
  const absl::Duration now = clock_->SinceBoot();
  Mail mail = mailbox_->Take();
  // What came before the end of a stream is still worth having.
  if (mail.undecodable.has_value()) Reject(mail.undecodable->first, mail.undecodable->second);
  if (mail.snapshot.has_value()) HandleSnapshot(*std::move(mail.snapshot), now);
  if (mail.drain.has_value()) {
    // About that long: between half and one and a half times.
    drained_until_ = now + *mail.drain * (0.5 + prng_.Unit());
  }
  if (mail.report.has_value()) reporter_.OnReply(*mail.report, now);
  if (mail.closed.has_value()) HandleClosed(*mail.closed, now);
  if (closing_.load(std::memory_order_acquire)) {
    pending_.reset();
    ring_->Close();
  }
  if (stream_ == nullptr && !left() && now >= connect_at_) Connect(now);
  PublishPending();
  Acknowledge();
  KeepLease(mail.heartbeats, now);
  Report(now);
  if (closing_.load(std::memory_order_acquire)) FinishClosing();
  rounds_.fetch_add(1, std::memory_order_release);
  return UntilNext(now);
}

void Session::HandleClosed(const absl::Status& why, absl::Duration now) {
  stream_.reset();
  if (leave_sent_) {
    left_.store(true, std::memory_order_release);
    return;
  }
  connect_at_ = now + FullJitter(options_.backoff_initial, options_.backoff_max, connect_attempts_, prng_);
  if (drained_until_.has_value()) connect_at_ = std::max(connect_at_, *drained_until_);
  drained_until_.reset();
  ++connect_attempts_;
  Log(LogLevel::kInfo, "stream closed; serving the last good snapshot until it is back",
      {{"reason", why.ToString()}, {"retry_in", absl::FormatDuration(connect_at_ - now)}});
  MutexLock lock(&stats_mutex_);
  stats_.connected = false;
  last_error_ = why;
}

void Session::Connect(absl::Duration now) {
  opened_at_ = now;
  snapshot_on_stream_ = false;
  acknowledged_.reset();
  unanswered_heartbeats_.clear();
  next_heartbeat_ = now + options_.heartbeat_interval;
  StreamEnrolment enrolment = options_.enrolment;
  enrolment.held = HeldNow();
  if (connect_attempts_ > 0) {
    MutexLock lock(&stats_mutex_);
    ++stats_.reconnects;
  }
  stream_ = transport_->OpenStream(enrolment, mailbox_->NewStream());
}

void Session::HandleSnapshot(domain::Snapshot snapshot, absl::Duration now) {
  if (closing_.load(std::memory_order_acquire)) return;
  const domain::Snapshot* const last_good = pending_.has_value() ? &*pending_ : ring_->current();
  if (last_good != nullptr && snapshot.revision < last_good->revision) {
    return Reject(snapshot.revision, absl::InvalidArgumentError(absl::StrCat(
                                         "snapshot of revision ", snapshot.revision, ", but revision ",
                                         last_good->revision, " is in force")));
  }
  if (const absl::Status valid = domain::ValidateSnapshot(snapshot, last_good); !valid.ok()) {
    return Reject(snapshot.revision, valid);
  }
  connect_attempts_ = 0;
  snapshot_on_stream_ = true;
  lease_renewed_at_ = std::max(lease_renewed_at_, opened_at_);
  {
    MutexLock lock(&stats_mutex_);
    stats_.connected = true;
  }
  // After a reconnect the server repeats what we hold.
  if (last_good != nullptr && snapshot.revision == last_good->revision) return;
  pending_ = std::move(snapshot);
}

void Session::Reject(uint64_t revision, const absl::Status& why) {
  Log(LogLevel::kError, "snapshot rejected; the last good one stays in force",
      {{"revision", absl::StrCat(revision)}, {"reason", why.message()}});
  if (stream_ != nullptr) stream_->SendNack(revision, why.message());
  MutexLock lock(&stats_mutex_);
  ++stats_.snapshots_rejected;
  stats_.last_rejection = std::string(why.message());
}

void Session::PublishPending() {
  // When every slot is pinned, the newest snapshot waits here, and a newer one takes its place.
  if (!pending_.has_value() || !ring_->TryPublish(*pending_)) return;
  pending_.reset();
  {
    MutexLock lock(&stats_mutex_);
    stats_.snapshot_revision = ring_->current()->revision;
  }
  ready_.store(true, std::memory_order_release);
}

HeldEpochs Session::HeldNow() const {
  HeldEpochs held;
  const std::vector<std::optional<uint64_t>> pinned = ring_->OldestEpochs();
  for (uint32_t i = 0; i < pinned.size(); ++i) {
    const std::optional<uint64_t> repair = repairs_->OldestEpoch(i);
    if (!pinned[i].has_value() && !repair.has_value()) continue;
    constexpr uint64_t kNone = ~uint64_t{0};
    held[options_.enrolment.migrations[i]] = std::min(pinned[i].value_or(kNone), repair.value_or(kNone));
  }
  return held;
}

void Session::Acknowledge() {
  const domain::Snapshot* const current = ring_->current();
  if (stream_ == nullptr || !snapshot_on_stream_ || current == nullptr || ring_->OlderPinned()) return;
  std::pair<uint64_t, HeldEpochs> acknowledgement(current->revision, HeldNow());
  if (acknowledged_ == acknowledgement) return;
  stream_->SendAck(acknowledgement.first, acknowledgement.second);
  acknowledged_ = std::move(acknowledgement);
  MutexLock lock(&stats_mutex_);
  stats_.acknowledged_revision = acknowledged_->first;
}

void Session::KeepLease(int heartbeats_answered, absl::Duration now) {
  for (; heartbeats_answered > 0 && !unanswered_heartbeats_.empty(); --heartbeats_answered) {
    // Counted from when it was sent: the server may have answered at any moment since.
    lease_renewed_at_ = std::max(lease_renewed_at_, unanswered_heartbeats_.front());
    unanswered_heartbeats_.pop_front();
  }
  const domain::Snapshot* const current = ring_->current();
  if (stream_ != nullptr && now >= next_heartbeat_ &&
      unanswered_heartbeats_.size() < kMaxUnansweredHeartbeats) {
    stream_->SendHeartbeat(current == nullptr ? 0 : current->revision);
    unanswered_heartbeats_.push_back(now);
    next_heartbeat_ = now + options_.heartbeat_interval;
  }
  const bool stale = ready() && now - lease_renewed_at_ > options_.lease_ttl;
  if (stale != stale_.load(std::memory_order_relaxed)) {
    Log(LogLevel::kWarning, stale ? "lease expired: reads go to the authoritative side and comparisons stop"
                                  : "lease renewed: routing by the snapshot again");
    stale_.store(stale, std::memory_order_relaxed);
  }
}

void Session::Report(absl::Duration now) {
  if (now >= next_collection_ || closing_.load(std::memory_order_acquire)) {
    reporter_.Add(telemetry_->Collect());
    next_collection_ = now + options_.telemetry_interval;
  }
  if (IsExpectedToReport()) reporter_.KeepAlive(now);
  if (const domain::TelemetryBatch* const batch = reporter_.NextToSend(now)) {
    transport_->ReportComparisons(*batch, [mailbox = mailbox_](absl::StatusOr<ReportReply> reply) {
      mailbox->PutReport(std::move(reply));
    });
  }
  MutexLock lock(&stats_mutex_);
  stats_.batches_acknowledged = reporter_.acknowledged();
  stats_.telemetry_dropped = reporter_.operations_dropped();
  stats_.operations_unreported = reporter_.operations_waiting();
}

bool Session::IsExpectedToReport() const {
  const domain::Snapshot* const current = ring_->current();  // null while closing
  if (stream_ == nullptr || !snapshot_on_stream_ || current == nullptr) return false;
  return std::any_of(current->migrations.begin(), current->migrations.end(), [](const auto& migration) {
    const domain::LadderRow& row = domain::LadderRowOf(migration.state.stage);
    return row.compares || (row.writes_old && row.writes_new);
  });
}

void Session::FinishClosing() {
  // Operations that are still pinned may still count, so this may turn false again.
  flushed_.store(reporter_.idle(), std::memory_order_release);
  if (!leaving_.load(std::memory_order_acquire) || leave_sent_) return;
  leave_sent_ = true;
  if (stream_ == nullptr) {
    left_.store(true, std::memory_order_release);
  } else {
    stream_->SendLeave();
  }
}

absl::Duration Session::UntilNext(absl::Duration now) const {
  if (closing_.load(std::memory_order_acquire)) return kClosingPoll;
  absl::Duration next = next_collection_;
  if (stream_ == nullptr) {
    next = std::min(next, connect_at_);
  } else {
    next = std::min(next, next_heartbeat_);
  }
  if (const std::optional<absl::Duration> report = reporter_.due()) next = std::min(next, *report);
  if (ready() && !stale())
    next = std::min(next, lease_renewed_at_ + options_.lease_ttl + absl::Milliseconds(1));
  if (pending_.has_value() || ring_->OlderPinned()) next = std::min(next, now + kDrainPoll);
  if (repairs_->outstanding() > 0) next = std::min(next, now + kRepairPoll);
  return std::max(next - now, absl::ZeroDuration());
}

}  // namespace lockstep::internal
