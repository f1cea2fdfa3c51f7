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
// How long a server may announce a revision without sending it, in heartbeats.
constexpr int kAnnouncedHeartbeats = 2;

}  // namespace

Session::Session(SessionOptions options, SessionParts parts, uint64_t seed, const StoredClientState& restored)
    : options_(std::move(options)),
      parts_(parts),
      ring_(parts.ring),
      mailbox_(std::make_shared<Mailbox>()),
      lease_(options_.enrolment.lease_ttl, options_.enrolment.lease_policy),
      prng_(seed),
      reporter_(options_.reporter, prng_.Next()),
      intake_(ring_) {
  if (!restored.snapshot.has_value()) return;
  domain::Snapshot snapshot = *restored.snapshot;
  durable_ = saved_ = {snapshot.store_epoch, snapshot.revision, restored.held};
  store_epoch_ = snapshot.store_epoch;
  told_ = restored.held;
  ring_->TryPublish(snapshot, parts_.clock->SinceBoot());
  standing_.store({lease_.term(), /*stale=*/true}, std::memory_order_relaxed);
  ready_.store(true, std::memory_order_release);
  MutexLock lock(&stats_mutex_);
  stats_.snapshot_revision = ring_->current()->revision;
}

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
  Mail mail = mailbox_->Take();
  // Read after the mail: an answer is never taken to have come earlier than it did.
  const absl::Duration now = parts_.clock->SinceBoot();
  TakeState(mail);
  if (mail.drain.has_value()) {
    // About that long: between half and one and a half times.
    drained_until_ = now + *mail.drain * (0.5 + prng_.Unit());
  }
  if (mail.report.has_value()) {
    reporter_.OnReply(*mail.report, now);
    parts_.telemetry->LimitSamples(reporter_.samples_per_fingerprint());
  }
  if (closing_.load(std::memory_order_acquire)) {
    intake_.Close();
    ring_->Close();
  } else {
    PublishPending(now);
  }
  if (mail.closed.has_value()) {
    HandleClosed(*mail.closed, now);
  } else if (mail.drain == absl::ZeroDuration()) {
    Renew(now);
  }
  if (stream_ == nullptr && !left() && now >= connect_at_) Connect(now);
  WatchAnnounced(mail.announced_revision, now);
  Acknowledge(now);
  KeepLease(mail.heartbeats, now);
  Report(now);
  if (closing_.load(std::memory_order_acquire)) FinishClosing();
  rounds_.fetch_add(1, std::memory_order_release);
  return UntilNext(now);
}

// What came before the end of a stream is still worth having.
void Session::TakeState(Mail& mail) {
  if (mail.undecodable.has_value()) Reject(mail.undecodable->first, mail.undecodable->second);
  if (closing_.load(std::memory_order_acquire)) return;
  if (mail.snapshot.has_value()) {
    const uint64_t revision = mail.snapshot->snapshot.revision;
    const absl::Status taken = intake_.Take(std::move(mail.snapshot->snapshot), mail.snapshot->digest);
    if (!taken.ok()) Reject(revision, taken);
  }
  for (DeltaMail& change : mail.deltas) {
    const uint64_t revision = change.delta.revision;
    const absl::Status taken = intake_.Take(std::move(change.delta), change.digest);
    if (!taken.ok()) Reject(revision, taken);
  }
}

void Session::HandleClosed(const absl::Status& why, absl::Duration now) {
  stream_.reset();
  retiring_.reset();
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

void Session::Renew(absl::Duration now) {
  drained_until_.reset();
  // One that has not even answered the enrolment is not asked again at once.
  if (stream_ == nullptr || !accepted_on_stream_ || closing_.load(std::memory_order_acquire)) return;
  // The control plane goes on counting the old one's lease until the new one enrols, and so does the lease
  // here.
  retiring_ = std::move(stream_);
  Connect(now);
}

void Session::Connect(absl::Duration now) {
  lease_.Opened(now);
  intake_.NewStream();
  accepted_on_stream_ = false;
  acknowledged_.reset();
  announced_.reset();
  next_heartbeat_ = now + options_.heartbeat_interval;
  StreamEnrolment enrolment = options_.enrolment;
  told_ = enrolment.held = ClaimNow();
  enrolment.store_epoch = store_epoch_;
  if (connect_attempts_ > 0) {
    MutexLock lock(&stats_mutex_);
    ++stats_.reconnects;
  }
  stream_ = parts_.transport->OpenStream(enrolment, mailbox_->NewStream());
}

void Session::Reject(uint64_t revision, const absl::Status& why) {
  Log(LogLevel::kError, "snapshot rejected; the last good one stays in force",
      {{"revision", absl::StrCat(revision)}, {"reason", why.message()}});
  if (stream_ != nullptr) stream_->SendNack(revision, why.message());
  MutexLock lock(&stats_mutex_);
  ++stats_.snapshots_rejected;
  stats_.last_rejection = std::string(why.message());
}

void Session::PublishPending(absl::Duration now) {
  const domain::Snapshot* const before = ring_->current();
  const std::optional<uint64_t> accepted = intake_.Publish(now);
  const domain::Snapshot* const current = ring_->current();
  if (current != before) {
    if (before != nullptr && before->store_epoch != current->store_epoch) {
      Log(LogLevel::kWarning, "the control plane runs on other data than before; its numbers count anew",
          {{"revision_before", absl::StrCat(before->revision)},
           {"revision", absl::StrCat(current->revision)}});
    }
    if (std::exchange(store_epoch_, current->store_epoch) != current->store_epoch) {
      told_.clear();
      back_since_.clear();
    }
    for (const domain::MigrationRouting& routing : current->migrations) {
      const domain::MigrationRouting* const last = before == nullptr ? nullptr : before->Find(routing.name);
      if (last == nullptr || before->store_epoch != store_epoch_) continue;
      const bool is_back =
          last->state.stage == domain::Stage::kCutover && routing.state.stage < last->state.stage;
      if (is_back) back_since_[routing.name] = routing.state.epoch;
    }
    ready_.store(true, std::memory_order_release);
    // Held writes look again, now that they find it.
    parts_.held_writes->ResumeAll();
    MutexLock lock(&stats_mutex_);
    stats_.snapshot_revision = current->revision;
  }
  if (!accepted.has_value() || stream_ == nullptr) return;
  // Before the accept: what is routed from now on, is routed by it.
  lease_.Won(now);
  standing_.store({lease_.term(), stale()}, std::memory_order_release);
  connect_attempts_ = 0;
  accepted_on_stream_ = true;
  retiring_.reset();
  heard_.store(true, std::memory_order_release);
  stream_->SendAccept(*accepted);
  MutexLock lock(&stats_mutex_);
  stats_.connected = true;
  stats_.accepted_revision = *accepted;
}

void Session::WatchAnnounced(uint64_t announced, absl::Duration now) {
  const domain::Snapshot* const latest = intake_.latest();
  const uint64_t have = latest == nullptr ? 0 : latest->revision;
  if (announced > have) announced_ = {announced, announced_.has_value() ? announced_->second : now};
  if (stream_ == nullptr || !announced_.has_value()) return;
  if (announced_->first <= have) return announced_.reset();
  if (now - announced_->second <= kAnnouncedHeartbeats * options_.heartbeat_interval) return;
  const uint64_t revision = announced_->first;
  announced_.reset();
  Reject(revision,
         absl::DataLossError(absl::StrCat("revision ", revision, " was announced and never came; revision ",
                                          have, " is in force")));
}

HeldEpochs Session::HeldNow() const {
  const bool mixed = ring_->OtherStorePinned(store_epoch_);
  const std::vector<std::optional<uint64_t>> pinned = ring_->OldestEpochs();
  const domain::Snapshot* const current = ring_->current();
  HeldEpochs held;
  for (uint32_t i = 0; i < pinned.size(); ++i) {
    const std::string& name = options_.enrolment.migrations[i];
    const domain::MigrationRouting* const routing = current == nullptr ? nullptr : current->Find(name);
    std::optional<BucketRange> buckets;
    if (routing != nullptr && routing->state.stage == domain::Stage::kCutover) {
      buckets = {routing->state.write_weight, routing->state.drain_weight};
    }
    std::optional<uint64_t> open = parts_.repairs->OldestEpoch(i, store_epoch_, buckets);
    // What an acknowledgement did not have to wait for is no reason to take it back.
    const auto told = told_.find(name);
    if (open.value_or(0) > 0 && told != told_.end()) open = std::max(*open, told->second);
    const auto back = back_since_.find(name);
    if (open.value_or(0) > 0 && back != back_since_.end()) open = std::max(*open, back->second);
    if (!pinned[i].has_value() && !open.has_value()) continue;
    constexpr uint64_t kNone = ~uint64_t{0};
    // Numbers of different stores can't be compared: 0 goes with nothing.
    held[name] = mixed ? 0 : std::min(pinned[i].value_or(kNone), open.value_or(kNone));
  }
  return held;
}

HeldEpochs Session::ClaimNow() const {
  HeldEpochs claim = HeldNow();
  if (const domain::Snapshot* const current = ring_->current(); current != nullptr) {
    std::vector<domain::SliceCheck> checks = parts_.slice_checker->Results();
    AddSetAside(checks);
    claim = WithoutUnchecked(std::move(claim), *current, checks, /*clean=*/true);
  }
  if (!durable_.has_value()) return claim;
  // A claim is an acknowledgement, too: were this process to end now, the next one would act on what is on
  // disk.
  const bool other_store = durable_->store_epoch != store_epoch_;
  for (const auto& [migration, on_disk] : durable_->held) {
    const uint64_t epoch = other_store ? 0 : on_disk;
    const auto [held, added] = claim.emplace(migration, epoch);
    if (!added) held->second = std::min(held->second, epoch);
  }
  return claim;
}

domain::InstanceStatus Session::StatusNow(absl::Duration now) const {
  const SnapshotRing::PinnedOperations pinned = ring_->OlderPins(now);
  const OpenMirrors open = parts_.repairs->Counts();
  return {.operations = static_cast<uint32_t>(pinned.operations),
          .oldest_operation = pinned.oldest,
          .repairs = static_cast<uint32_t>(open.repairs),
          .queued_mirrors = static_cast<uint32_t>(open.queued_mirrors),
          .held_writes = static_cast<uint32_t>(parts_.held_writes->Stats().waiting)};
}

void Session::KeepLease(int heartbeats_answered, absl::Duration now) {
  for (; heartbeats_answered > 0; --heartbeats_answered) lease_.Answered(now);
  if (lease_.lost(now) && stream_ != nullptr && accepted_on_stream_) {
    // Others may have gone on without us: only an enrolment tells what is in force now.
    mailbox_->NewStream();
    HandleClosed(absl::DeadlineExceededError("the lease ended, and writes are refused until it is won again"),
                 now);
  }
  if (stream_ != nullptr && now >= next_heartbeat_ && lease_.may_send()) {
    const domain::Snapshot* const current = ring_->current();
    lease_.Sent(now);
    stream_->SendHeartbeat(current == nullptr ? 0 : current->revision, StatusNow(now));
    next_heartbeat_ = now + options_.heartbeat_interval;
  }
  UpdateStale(now);
}

void Session::UpdateStale(absl::Duration now) {
  const bool stale = ready() && lease_.Over(now);
  if (stale == this->stale()) return;
  Log(LogLevel::kWarning, stale ? "lease expired: reads go to the authoritative side and comparisons stop"
                                : "lease won: routing by the snapshot again");
  standing_.store({lease_.term(), stale}, std::memory_order_release);
}

void Session::Report(absl::Duration now) {
  if (now >= next_collection_ || closing_.load(std::memory_order_acquire)) {
    reporter_.Add(parts_.telemetry->Collect());
    next_collection_ = now + options_.telemetry_interval;
  }
  if (IsExpectedToReport()) reporter_.KeepAlive(now);
  if (const domain::TelemetryBatch* const batch = reporter_.NextToSend(now)) {
    parts_.transport->ReportComparisons(*batch, [mailbox = mailbox_](absl::StatusOr<ReportReply> reply) {
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
  if (stream_ == nullptr || !accepted_on_stream_ || current == nullptr) return false;
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
  // An instance that boots with a snapshot must be one that is counted.
  enrolment_kept_.store(!ForgetEnrolment(), std::memory_order_release);
  if (stream_ == nullptr || enrolment_kept()) {
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
  if (ready() && !stale()) next = std::min(next, lease_.end() + absl::Milliseconds(1));
  if (intake_.waits() || ring_->OlderPinned() || parts_.slice_checker->Busy()) {
    next = std::min(next, now + kDrainPoll);
  }
  if (parts_.repairs->outstanding() > 0) next = std::min(next, now + kRepairPoll);
  if (save_at_ > now) next = std::min(next, save_at_);
  return std::max(next - now, absl::ZeroDuration());
}

}  // namespace lockstep::internal
