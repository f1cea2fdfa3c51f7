// The lease as the instance counts it: from when it sent what the control plane has answered, because the
// answer may have been on its way for any time.
//
// A KEEP_SERVING instance only learns from it that it is stale. For a FAIL_WRITES instance the end of the
// lease passes fences by itself, so it is counted carefully: the instance takes its lease as over at 95 % of
// the time that the control plane gives it from receipt, which allows for clocks that run at rates 5 % apart;
// and once it is over, no late answer revives it. It has to be won again by a new enrolment whose snapshot is
// in force, which begins another term: what was decided in an earlier term is worth nothing then.
//
// Times are since boot. One writer; `end`, `term` and what builds on them are for any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>

#include "absl/time/time.h"
#include "core/domain/records.h"

namespace lockstep::internal {

class Lease {
 public:
  // Of the time that the control plane counts, what a FAIL_WRITES instance makes use of.
  static constexpr double kUsableShare = 0.95;
  // A server that answers none of this many heartbeats is not listened to any more; bounds what is
  // remembered.
  static constexpr size_t kMaxUnanswered = 64;

  Lease(absl::Duration ttl, domain::LeasePolicy policy);

  // An enrolment was sent on a new stream: answers to heartbeats of the last one won't come any more.
  void Opened(absl::Duration now);
  // The control plane's answer to that enrolment is in force. Only the first call for a stream counts.
  void Won(absl::Duration now);
  bool may_send() const { return unanswered_.size() < kMaxUnanswered; }
  void Sent(absl::Duration now) { unanswered_.push_back(now); }
  // The oldest unanswered heartbeat was answered. `now` is read after the answer arrived.
  void Answered(absl::Duration now);

  // Writes are refused until the instance enrols anew.
  bool lost(absl::Duration now) const { return fails_writes_ && Over(now); }
  bool fails_writes() const { return fails_writes_; }

  // The last moment of the lease; zero if it has never been won.
  absl::Duration end() const { return absl::Nanoseconds(end_ns_.load(std::memory_order_acquire)); }
  bool Over(absl::Duration now) const { return now > end(); }
  bool ever_won() const { return term() > 0; }
  // 0 until the lease is won for the first time. Higher for each time that it was won after a FAIL_WRITES
  // instance had lost it.
  uint32_t term() const { return term_.load(std::memory_order_acquire); }

 private:
  void RenewFrom(absl::Duration sent);

  const absl::Duration usable_;
  const bool fails_writes_;
  absl::Duration opened_at_ = absl::ZeroDuration();
  bool won_on_stream_ = false;
  std::deque<absl::Duration> unanswered_;  // when they were sent
  std::atomic<int64_t> end_ns_{0};
  std::atomic<uint32_t> term_{0};
};

}  // namespace lockstep::internal
