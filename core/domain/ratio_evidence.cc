#include "core/domain/ratio_evidence.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {

RatioEvidence::RatioEvidence(Direction direction, double lambda) : direction_(direction), lambda_(lambda) {
  LOCKSTEP_CHECK(lambda > 0 && std::isfinite(lambda), "lambda must be above 0 and finite");
  std::copy(grid().log_weights.begin(), grid().log_weights.end(), log_terms_.begin());
}

absl::Status RatioEvidence::AddBucket(const EventCount& new_arm, const EventCount& old_arm) {
  LOCKSTEP_RETURN_IF_ERROR(ValidateEventCount("new arm", new_arm));
  LOCKSTEP_RETURN_IF_ERROR(ValidateEventCount("old arm", old_arm));
  if (new_arm.trials == 0 || old_arm.trials == 0) return absl::OkStatus();
  const double new_events = static_cast<double>(new_arm.events);
  const double events = new_events + static_cast<double>(old_arm.events);
  if (events == 0) return absl::OkStatus();  // every increment is 0
  const double new_trials = lambda_ * static_cast<double>(new_arm.trials);
  const double theta = new_trials / (new_trials + static_cast<double>(old_arm.trials));
  const MixtureGrid& alternatives = grid();
  for (size_t j = 0; j < alternatives.size(); ++j) {
    log_terms_[j] += LogLikelihoodRatio(alternatives, j, new_events, events, theta);
  }
  return absl::OkStatus();
}

double RatioEvidence::LogEvidence() const {
  return LogSumExp(absl::MakeConstSpan(log_terms_.data(), grid().size()));
}

absl::Status ErrorEvidence::AddBucket(const EventCount& new_arm, const EventCount& old_arm) {
  // Both counts are checked before anything is added.
  LOCKSTEP_RETURN_IF_ERROR(ValidateEventCount("old arm", old_arm));
  LOCKSTEP_RETURN_IF_ERROR(new_rate_.Add(new_arm.events, new_arm.trials));
  LOCKSTEP_RETURN_IF_ERROR(ratio_up_.AddBucket(new_arm, old_arm));
  return ratio_down_.AddBucket(new_arm, old_arm);
}

absl::StatusOr<bool> ErrorEvidence::RollbackIsMaterial(uint64_t affected_subjects, double floor,
                                                       double alpha) const {
  if (!(floor >= 0 && floor < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the floor is ", floor, "; it must be at least 0 and below 1"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const RateInterval interval, new_rate_.Interval(alpha));
  return affected_subjects >= kMinAffectedSubjects && interval.lower > floor;
}

absl::StatusOr<double> ErrorEvidence::LogAdvance(double floor) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const double log_rate_evidence, new_rate_.LogDown(floor));
  return LogAddExp(ratio_down_.LogEvidence(), log_rate_evidence) - std::log(2.0);
}

}  // namespace lockstep::domain
