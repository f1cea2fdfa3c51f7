#include "core/domain/rise_evidence.h"

#include <cmath>

#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

void Add(absl::Time start, const RiseEvidence::Bucket& bucket, ChangePointEvidence& evidence) {
  evidence.AddBucket(start, bucket.deltas, bucket.count.events, bucket.count.trials);
}

}  // namespace

void RiseEvidence::BeginStep(absl::Time start) {
  once_.BeginStep(start);
  if (every_) every_->BeginStep(start);
}

void RiseEvidence::AddBucket(absl::Time start, const Bucket& once, const std::optional<Bucket>& every) {
  if (every && !every_) every_ = once_;
  Add(start, once, once_);
  if (every_) Add(start, every.value_or(once), *every_);
}

double RiseEvidence::LogEvidence() const {
  const double once = once_.LogEvidence();
  if (!every_) return once;
  static const double kLogOnce = std::log1p(-kEveryEventPart), kLogEvery = std::log(kEveryEventPart);
  return LogAddExp(kLogOnce + once, kLogEvery + every_->LogEvidence());
}

std::optional<ChangePointEvidence::Rise> RiseEvidence::MostLikelyRise() const {
  const auto once = once_.MostLikelyRise();
  if (!every_) return once;
  const auto every = every_->MostLikelyRise();
  if (!once || (every && every->log_evidence > once->log_evidence)) return every;
  return once;
}

}  // namespace lockstep::domain
