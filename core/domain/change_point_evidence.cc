#include "core/domain/change_point_evidence.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/check.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// How the stake is split. A null tested in one step only has nothing to keep for later ones.
constexpr double kFirstStepMass = 0.5;
constexpr double kLaterStepsMass = 0.25;
constexpr double kMinutesMass = 0.25;

constexpr double kLeastRise = 2;  // nats

}  // namespace

ChangePointEvidence::ChangePointEvidence(int later_steps)
    : later_step_mass_(later_steps > 0 ? kLaterStepsMass / later_steps : 0),
      later_steps_left_(later_steps),
      first_mass_(later_steps > 0 ? kFirstStepMass : kFirstStepMass + kLaterStepsMass),
      minute_mass_(kMinutesMass / kHorizonMinutes) {
  LOCKSTEP_CHECK(later_steps >= 0, "a count of steps");
  log_terms_.fill(-kInfinity);
}

void ChangePointEvidence::BeginStep(absl::Time start) {
  if (!started_) {
    started_ = true;
    started_at_ = start;
    Inject(first_mass_);
  } else if (later_steps_left_ > 0) {
    --later_steps_left_;
    Inject(later_step_mass_);
  }
}

void ChangePointEvidence::Inject(double mass) {
  const MixtureGrid& grid = UpGrid();
  const double log_mass = std::log(mass);
  for (size_t j = 0; j < grid.size(); ++j) {
    log_terms_[j] = LogAddExp(log_terms_[j], log_mass + grid.log_weights[j]);
  }
}

void ChangePointEvidence::AddBucket(absl::Time start, absl::Span<const double> deltas, double events,
                                    double trials) {
  if (!started_) return;
  const int64_t due =
      std::min(kHorizonMinutes, absl::ToInt64Minutes(std::max(absl::ZeroDuration(), start - started_at_)));
  if (due > minutes_placed_) {
    Inject(static_cast<double>(due - minutes_placed_) * minute_mass_);
    minutes_placed_ = due;
  }
  for (size_t j = 0; j < deltas.size(); ++j) {
    log_terms_[j] += deltas[j];
    Stretch& stretch = stretches_[j];
    if (stretch.log_evidence <= 0) stretch = {.since = start};
    stretch.log_evidence += deltas[j];
    stretch.events += events;
    stretch.trials += trials;
  }
}

double ChangePointEvidence::Unplaced() const {
  if (!started_) return 1;
  return later_steps_left_ * later_step_mass_ +
         static_cast<double>(kHorizonMinutes - minutes_placed_) * minute_mass_;
}

double ChangePointEvidence::LogEvidence() const {
  if (!started_) return 0;
  const size_t factors = UpGrid().size();
  double high = 0;  // the unplaced stake is at most 1
  for (size_t j = 0; j < factors; ++j) high = std::max(high, log_terms_[j]);
  if (std::isinf(high)) return high;
  double sum = Unplaced() * std::exp(-high);
  for (size_t j = 0; j < factors; ++j) sum += std::exp(log_terms_[j] - high);
  return high + std::log(sum);
}

std::optional<ChangePointEvidence::Rise> ChangePointEvidence::MostLikelyRise() const {
  const Stretch* best = nullptr;
  for (const Stretch& stretch : stretches_) {
    if (stretch.log_evidence >= kLeastRise &&
        (best == nullptr || stretch.log_evidence > best->log_evidence)) {
      best = &stretch;
    }
  }
  if (best == nullptr) return std::nullopt;
  return Rise{best->since, best->log_evidence, best->events, best->trials};
}

}  // namespace lockstep::domain
