#include "client/sdk/src/lease.h"

#include <algorithm>

namespace lockstep::internal {

Lease::Lease(absl::Duration ttl, domain::LeasePolicy policy)
    : usable_(policy == domain::LeasePolicy::kFailWrites ? ttl * kUsableShare : ttl),
      fails_writes_(policy == domain::LeasePolicy::kFailWrites) {}

void Lease::Opened(absl::Duration now) {
  opened_at_ = now;
  won_on_stream_ = false;
  unanswered_.clear();
}

void Lease::Won(absl::Duration now) {
  if (won_on_stream_) return;
  won_on_stream_ = true;
  const bool begins = !ever_won() || lost(now);
  // An answer that took longer than the lease may be from before others went on without this instance.
  if (fails_writes_ && now > opened_at_ + usable_) return;
  if (begins) term_.fetch_add(1, std::memory_order_acq_rel);
  RenewFrom(opened_at_);
}

void Lease::Answered(absl::Duration now) {
  if (unanswered_.empty()) return;
  const absl::Duration sent = unanswered_.front();
  unanswered_.pop_front();
  // Before the first state message it is not known what to act on.
  if (!won_on_stream_ || lost(now)) return;
  RenewFrom(sent);
}

void Lease::RenewFrom(absl::Duration sent) {
  const int64_t end = absl::ToInt64Nanoseconds(sent + usable_);
  end_ns_.store(std::max(end, end_ns_.load(std::memory_order_relaxed)), std::memory_order_release);
}

}  // namespace lockstep::internal
