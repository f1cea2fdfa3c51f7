#include "server/engine/instance_session.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"

namespace lockstep::engine {

InstanceSession::InstanceSession(Engine* engine, const EnrolRequest& request)
    : engine_(engine), instance_id_(request.instance_id), migrations_(request.migrations) {}

absl::StatusOr<std::unique_ptr<InstanceSession>> InstanceSession::Open(Engine* engine,
                                                                       const EnrolRequest& request,
                                                                       std::function<void()> wake) {
  std::unique_ptr<InstanceSession> session(new InstanceSession(engine, request));
  LOCKSTEP_ASSIGN_OR_RETURN(session->connection_, engine->registry().Enrol(request));
  // Something may have waited for its being here. The enrolment stands whatever becomes of a publish.
  for (const std::string& name : request.migrations) engine->registry().PublishIfPossible(name).IgnoreError();
  session->subscription_ = engine->hub().Subscribe(request.migrations, std::move(wake));
  return session;
}

InstanceSession::~InstanceSession() {
  subscription_.reset();  // from here on no wake-up comes
  if (connection_ != 0) engine_->instances().Disconnected(instance_id_, connection_);
}

absl::Status InstanceSession::OnAccept(uint64_t revision) {
  std::shared_ptr<const domain::Snapshot> accepted;
  {
    MutexLock lock(&mutex_);
    // An older one than was sent last: a rollback has overtaken it.
    if (sent_ == nullptr || sent_->revision != revision) return absl::OkStatus();
    accepted_ = std::exchange(sent_, nullptr);
    accepted = accepted_;
  }
  return engine_->Accept(instance_id_, connection_, *accepted);
}

absl::Status InstanceSession::OnAck(uint64_t, const std::map<std::string, uint64_t>& held,
                                    const std::vector<domain::SliceCheck>& slice_checks) {
  return engine_->Acknowledge(instance_id_, connection_, held, slice_checks);
}

absl::Status InstanceSession::OnNack(uint64_t revision, std::string reason) {
  {
    MutexLock lock(&mutex_);
    // One of an older message than was sent last says nothing of that: a rollback has overtaken it, and is
    // answered on its own.
    if (sent_ == nullptr || revision >= sent_->revision) {
      // A snapshot that was rejected as a whole would be rejected again, over and over: it waits for a
      // heartbeat.
      send_due_ = send_due_ || sent_ == nullptr || !sent_is_full_;
      sent_ = nullptr;
      accepted_ = nullptr;
    }
  }
  return engine_->instances().Nack(instance_id_, connection_, std::move(reason));
}

absl::Status InstanceSession::OnHeartbeat(uint64_t, const domain::InstanceStatus& status) {
  LOCKSTEP_RETURN_IF_ERROR(engine_->instances().Heartbeat(instance_id_, connection_, status));
  MutexLock lock(&mutex_);
  ++heartbeats_due_;
  if (sent_ == nullptr && accepted_ == nullptr && newest_ != nullptr) send_due_ = true;
  return absl::OkStatus();
}

absl::Status InstanceSession::OnLeave() { return engine_->Leave(instance_id_, connection_); }

void InstanceSession::Drain(absl::Duration reconnect_after) {
  MutexLock lock(&mutex_);
  if (!drain_ && !drained_) drain_ = reconnect_after;
}

void InstanceSession::Renew() {
  MutexLock lock(&mutex_);
  renewal_due_ = true;
}

bool InstanceSession::settled() const {
  {
    MutexLock lock(&mutex_);
    if (sent_ != nullptr || send_due_) return false;
  }
  return std::none_of(migrations_.begin(), migrations_.end(),
                      [this](const std::string& name) { return engine_->registry().IsMoving(name); });
}

bool InstanceSession::drained() const {
  MutexLock lock(&mutex_);
  return drained_;
}

std::optional<InstanceMessage> InstanceSession::Next() {
  MutexLock lock(&mutex_);
  if (drained_) return std::nullopt;
  TakenSnapshot taken = subscription_->TakeLatest();
  if (taken.snapshot != nullptr) {
    newest_ = std::move(taken.snapshot);
    send_due_ = true;
  }
  if (send_due_ && (sent_ == nullptr || taken.urgent)) return StateMessage();
  if (heartbeats_due_ > 0) {
    --heartbeats_due_;
    return HeartbeatMessage{newest_ == nullptr ? 0 : newest_->revision};
  }
  if (drain_) {
    drained_ = true;
    return DrainMessage{*drain_};
  }
  if (std::exchange(renewal_due_, false)) return DrainMessage{absl::ZeroDuration()};
  return std::nullopt;
}

InstanceMessage InstanceSession::StateMessage() {
  // With a message on its way it is not known here what the instance has by the time this one arrives.
  sent_is_full_ = accepted_ == nullptr || sent_ != nullptr;
  sent_ = newest_;
  send_due_ = false;
  for (const domain::MigrationRouting& migration : sent_->migrations) {
    engine_->instances().NoteSent(instance_id_, connection_, migration.name, migration.state.epoch);
  }
  SnapshotGroup& group = subscription_->group();
  if (sent_is_full_) return group.Whole(sent_);
  return group.Since(accepted_, sent_);
}

}  // namespace lockstep::engine
