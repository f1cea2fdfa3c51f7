#include "core/domain/ratio_evidence.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/check.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {

void LogLikelihoodRatios(const MixtureGrid& grid, double lambda, const WeightedCount& new_arm,
                         const WeightedCount& old_arm, absl::Span<double> out) {
  const double events = new_arm.events + old_arm.events;
  if (new_arm.trials == 0 || old_arm.trials == 0 || events == 0) {
    std::fill(out.begin(), out.end(), 0.0);
    return;
  }
  const double null_share = NullShare(lambda, new_arm.trials, old_arm.trials);
  const double new_events = new_arm.events;
  for (size_t j = 0; j < grid.size(); ++j) {
    const double without_new = -events * std::log1p(null_share * (grid.factors[j] - 1));
    // Not k ln f for k = 0, as in LogLikelihoodRatio.
    out[j] = new_events == 0 ? without_new : without_new + new_events * grid.log_factors[j];
  }
}

RatioEvidence::RatioEvidence(double lambda) : lambda_(lambda) {
  LOCKSTEP_CHECK(lambda > 0 && std::isfinite(lambda), "lambda must be above 0 and finite");
  std::copy(DownGrid().log_weights.begin(), DownGrid().log_weights.end(), log_terms_.begin());
}

void RatioEvidence::AddBucket(const WeightedCount& new_arm, const WeightedCount& old_arm) {
  const MixtureGrid& grid = DownGrid();
  std::array<double, kMaxGridSize> deltas;
  LogLikelihoodRatios(grid, lambda_, new_arm, old_arm, absl::MakeSpan(deltas));
  for (size_t j = 0; j < grid.size(); ++j) log_terms_[j] += deltas[j];
}

double RatioEvidence::LogEvidence() const {
  return LogSumExp(absl::MakeConstSpan(log_terms_.data(), DownGrid().size()));
}

double RatioEvidence::DriftPerEvent(double share, double null_share) {
  double best = -std::numeric_limits<double>::infinity();
  for (size_t j = 0; j < DownGrid().size(); ++j) {
    best = std::max(best, LogLikelihoodRatio(DownGrid(), j, share, 1, null_share));
  }
  return best;
}

}  // namespace lockstep::domain
