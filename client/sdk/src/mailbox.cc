#include "client/sdk/src/mailbox.h"

namespace lockstep::internal {

class Mailbox::Handler final : public StreamHandler {
 public:
  Handler(std::shared_ptr<Mailbox> mailbox, uint64_t stream)
      : mailbox_(std::move(mailbox)), stream_(stream) {}

  void OnSnapshot(domain::Snapshot snapshot, uint64_t digest) override {
    mailbox_->Put(stream_, [&](Mail& mail) {
      mail.snapshot = {std::move(snapshot), digest};
      mail.deltas.clear();
    });
  }
  void OnDelta(domain::SnapshotDelta delta, uint64_t digest) override {
    mailbox_->Put(stream_, [&](Mail& mail) {
      if (mail.deltas.size() < kMaxDeltas) mail.deltas.push_back({std::move(delta), digest});
    });
  }
  void OnUndecodableSnapshot(uint64_t revision, absl::Status why) override {
    mailbox_->Put(stream_, [&](Mail& mail) { mail.undecodable.emplace(revision, std::move(why)); });
  }
  void OnHeartbeat(uint64_t revision) override {
    mailbox_->Put(stream_, [&](Mail& mail) {
      ++mail.heartbeats;
      mail.announced_revision = revision;
    });
  }
  void OnDrain(absl::Duration reconnect_after) override {
    mailbox_->Put(stream_, [&](Mail& mail) { mail.drain = reconnect_after; });
  }
  void OnClosed(absl::Status why) override {
    mailbox_->Put(stream_, [&](Mail& mail) { mail.closed = std::move(why); });
  }

 private:
  const std::shared_ptr<Mailbox> mailbox_;
  const uint64_t stream_;
};

template <typename Update>
void Mailbox::Put(uint64_t stream, Update&& update) {
  MutexLock lock(&mutex_);
  if (stream != stream_) return;
  update(mail_);
  awake_ = true;
  arrived_.Signal();
}

std::shared_ptr<StreamHandler> Mailbox::NewStream() {
  MutexLock lock(&mutex_);
  Mail kept;
  kept.report.swap(mail_.report);  // it belongs to no stream
  std::swap(mail_, kept);
  return std::make_shared<Handler>(shared_from_this(), ++stream_);
}

void Mailbox::PutReport(absl::StatusOr<ReportReply> reply) {
  MutexLock lock(&mutex_);
  mail_.report = std::move(reply);
  awake_ = true;
  arrived_.Signal();
}

void Mailbox::Wake() {
  MutexLock lock(&mutex_);
  awake_ = true;
  arrived_.Signal();
}

Mail Mailbox::Take() {
  MutexLock lock(&mutex_);
  awake_ = false;
  return std::exchange(mail_, Mail());
}

void Mailbox::Wait(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  if (!awake_) arrived_.WaitFor(&mutex_, absl::ToChronoNanoseconds(timeout));
}

}  // namespace lockstep::internal
