#include "core/domain/rise_evidence.h"

#include <cmath>

#include "core/domain/log_math.h"

namespace lockstep::domain {
void RiseEvidence::BeginStep(absl::Time start) {
  once_.BeginStep(start);
  if (every_) every_->BeginStep(start);
}

double RiseEvidence::LogMean(double once, double every) {
  static const double kLogOnce = std::log1p(-kEveryEventPart), kLogEvery = std::log(kEveryEventPart);
  return LogAddExp(kLogOnce + once, kLogEvery + every);
}

std::optional<ChangePointEvidence::Rise> RiseEvidence::MostLikelyRise() const {
  const auto once = once_.MostLikelyRise();
  if (!every_) return once;
  const auto every = every_->MostLikelyRise();
  if (!once || (every && every->log_evidence > once->log_evidence)) return every;
  return once;
}

}  // namespace lockstep::domain
