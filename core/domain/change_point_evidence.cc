#include "core/domain/change_point_evidence.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr double kPartMass = (1 - ChangePointEvidence::kFirstStepMass) / ChangePointEvidence::kParts;

constexpr double kLeastRise = 2;  // nats

}  // namespace

ChangePointEvidence::ChangePointEvidence() { log_terms_.fill(-kInfinity); }

void ChangePointEvidence::BeginStep(absl::Time start) {
  if (started_) return Place(kPartsPerStep);
  started_ = true;
  started_at_ = start;
  next_minute_ = start + absl::Minutes(1);
  PlaceMass(kFirstStepMass);
}

void ChangePointEvidence::Place(int64_t parts) {
  parts = std::min(parts, parts_left_);
  if (parts == 0) return;
  parts_left_ -= parts;
  PlaceMass(static_cast<double>(parts) * kPartMass);
}

void ChangePointEvidence::PlaceMass(double mass) {
  const MixtureGrid& grid = UpGrid();
  const double log_mass = std::log(mass);
  for (size_t j = 0; j < grid.size(); ++j) {
    log_terms_[j] = LogAddExp(log_terms_[j], log_mass + grid.log_weights[j]);
  }
}

void ChangePointEvidence::AddBucket(absl::Time start, absl::Span<const double> deltas, double events,
                                    double trials) {
  if (!started_) return;
  if (start >= next_minute_) {
    const int64_t minutes = absl::ToInt64Minutes(start - started_at_);
    Place(minutes - minutes_passed_);
    minutes_passed_ = minutes;
    next_minute_ = started_at_ + absl::Minutes(minutes + 1);
  }
  for (size_t j = 0; j < deltas.size(); ++j) {
    log_terms_[j] += deltas[j];
    Stretch& stretch = stretches_[j];
    if (stretch.log_evidence <= 0) stretch = {start, 0, events_, trials_};
    stretch.log_evidence += deltas[j];
  }
  events_ += events;
  trials_ += trials;
}

double ChangePointEvidence::LogEvidence() const {
  if (!started_) return 0;
  const size_t factors = UpGrid().size();
  double high = 0;  // the unplaced stake is at most 1
  for (size_t j = 0; j < factors; ++j) high = std::max(high, log_terms_[j]);
  if (std::isinf(high)) return high;
  double sum = static_cast<double>(parts_left_) * kPartMass * std::exp(-high);
  for (size_t j = 0; j < factors; ++j) {
    if (log_terms_[j] - high > kNegligible) sum += std::exp(log_terms_[j] - high);
  }
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
  return Rise{best->since, best->log_evidence, events_ - best->events_before, trials_ - best->trials_before};
}

}  // namespace lockstep::domain
