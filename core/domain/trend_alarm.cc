#include "core/domain/trend_alarm.h"

#include <cmath>
#include <limits>

#include "core/base/check.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

constexpr double kBucketsPerDay = 24 * 3600 / 5;

}  // namespace

void TrendAlarm::BeginStep(absl::Time start) {
  *this = TrendAlarm();
  start_ = start;
}

void TrendAlarm::TakeReference(const RateEvidence& so_far, double budget) {
  reference_taken_ = true;
  const absl::StatusOr<RateInterval> interval = so_far.Interval(kAlpha);
  LOCKSTEP_CHECK(interval.ok(), "alpha is a constant");
  const double reference = kMargin * interval->upper;
  if (reference >= budget) return;
  null_.emplace(reference);
  log_s_.fill(-std::numeric_limits<double>::infinity());
}

void TrendAlarm::AddBucket(double events, double trials) {
  if (!null_) return;
  std::array<double, kMaxGridSize> deltas;
  null_->LogLikelihoodRatiosUp(events, trials, absl::MakeSpan(deltas));
  for (size_t j = 0; j < UpGrid().size(); ++j) log_s_[j] = LogAddExp(log_s_[j], 0) + deltas[j];
}

bool TrendAlarm::raised() const {
  if (!null_) return false;
  static const double kLogLevel = std::log(kBucketsPerDay / kAlpha);
  const MixtureGrid& grid = UpGrid();
  std::array<double, kMaxGridSize> terms;
  for (size_t j = 0; j < grid.size(); ++j) terms[j] = grid.log_weights[j] + log_s_[j];
  return LogSumExp(absl::MakeConstSpan(terms.data(), grid.size())) >= kLogLevel;
}

}  // namespace lockstep::domain
