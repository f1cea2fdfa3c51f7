#include "lockstep/internal/mirror_breaker.h"

#include "absl/strings/str_cat.h"

namespace lockstep::internal {

bool SpeaksOfSickness(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kCancelled:
      return false;
    default:
      return true;
  }
}

bool MirrorBreaker::Allow(absl::Duration now) {
  if (!open()) return true;
  MutexLock lock(&mutex_);
  if (!open()) return true;
  if (now < next_probe_) return false;
  next_probe_ = now + probe_interval_;
  return true;
}

void MirrorBreaker::OnSuccess() {
  if (failures_.load(std::memory_order_relaxed) == 0) return;
  MutexLock lock(&mutex_);
  failures_.store(0, std::memory_order_relaxed);
}

void MirrorBreaker::OnFailure(absl::Duration now) {
  MutexLock lock(&mutex_);
  if (open()) return;  // a probe, or one that was under way: the next probe is due as it is
  failures_.fetch_add(1, std::memory_order_relaxed);
  if (!open()) return;
  opened_at_ = now;
  next_probe_ = now + probe_interval_;
}

std::optional<absl::Duration> MirrorBreaker::OpenFor(absl::Duration now) const {
  MutexLock lock(&mutex_);
  if (!open()) return std::nullopt;
  return now - opened_at_;
}

absl::Status MirrorGate::Enter(domain::Side side, absl::Duration now) {
  MirrorBreaker& breaker = breakers_[static_cast<size_t>(side)];
  int taken = in_flight_.load(std::memory_order_relaxed);
  do {
    if (taken >= max_in_flight_) {
      return absl::UnavailableError(absl::StrCat(
          "not attempted: ", taken, " mirror writes are in flight (MigratorOptions::max_mirrors_in_flight)"));
    }
  } while (!in_flight_.compare_exchange_weak(taken, taken + 1, std::memory_order_relaxed));
  if (breaker.Allow(now)) return absl::OkStatus();
  in_flight_.fetch_sub(1, std::memory_order_relaxed);
  return absl::UnavailableError(
      absl::StrCat("not attempted: the ", domain::SideName(side),
                   " side has failed mirror writes in a row, and the breaker has been open for ",
                   absl::FormatDuration(breaker.OpenFor(now).value_or(absl::ZeroDuration()))));
}

void MirrorGate::Leave(domain::Side side, const absl::Status& result, absl::Duration now) {
  in_flight_.fetch_sub(1, std::memory_order_relaxed);
  MirrorBreaker& breaker = breakers_[static_cast<size_t>(side)];
  if (result.ok()) {
    breaker.OnSuccess();
  } else if (SpeaksOfSickness(result)) {
    breaker.OnFailure(now);
  }
}

}  // namespace lockstep::internal
