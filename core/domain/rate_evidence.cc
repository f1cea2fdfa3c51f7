#include "core/domain/rate_evidence.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

constexpr std::array<double, 10> kRho = {1.2, 1.5, 2, 3, 5, 10, 20, 50, 200, 1000};
constexpr std::array<double, 10> kRhoWeights = {.1, .1, .1, .1, .1, .1, .1, .1, .1, .1};
constexpr std::array<double, 6> kSigma = {0, .05, .2, .4, .6, .8};
constexpr std::array<double, 6> kSigmaWeights = {.5, .1, .1, .1, .1, .1};
static_assert(kRho.size() <= kMaxGridSize && kSigma.size() <= kMaxGridSize);

// The rates between which bounds are searched. The lower is below any bound that kMaxCount trials can give.
constexpr double kLowestRate = 1e-30;
constexpr double kHighestRate = 1.0 - std::numeric_limits<double>::epsilon() / 2;

template <size_t N>
std::array<double, N> Logarithms(const std::array<double, N>& values) {
  std::array<double, N> logs;
  for (size_t i = 0; i < N; ++i) logs[i] = std::log(values[i]);
  return logs;
}

// ln E for `events` of `trials` at the rate r, in (0, 1).
double LogMixture(const MixtureGrid& grid, double events, double trials, double r) {
  std::array<double, kMaxGridSize> terms;
  for (size_t j = 0; j < grid.size(); ++j) {
    terms[j] = grid.log_weights[j] + LogLikelihoodRatio(grid, j, events, trials, r);
  }
  return LogSumExp(absl::MakeConstSpan(terms.data(), grid.size()));
}

// Written so that NaN fails.
absl::Status CheckInsideUnit(absl::string_view what, double value) {
  if (value > 0 && value < 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", value, "; it must be above 0 and below 1"));
}

struct Bracket {
  double low;
  double high;
};

// The neighbouring doubles between which `excess`, monotone in the rate, changes sign within `bracket`: at
// one end it is >= 0, at the other below. Regula falsi in ln r (bounds lie anywhere between 1e-16 and 1),
// with a step of bisection whenever it has not halved the bracket, and bisection for the last bits, where
// rounding makes `excess` uneven.
template <typename Excess>
Bracket SignChange(Bracket bracket, const Excess& excess) {
  double at_low = excess(bracket.low);
  double at_high = excess(bracket.high);
  const bool holds_at_low = at_low >= 0;
  const auto replace = [&](double rate) {
    const double value = excess(rate);
    const bool is_low = (value >= 0) == holds_at_low;
    (is_low ? bracket.low : bracket.high) = rate;
    (is_low ? at_low : at_high) = value;
  };
  while (bracket.high > bracket.low * (1 + 1e-10)) {
    const double log_low = std::log(bracket.low);
    const double width = std::log(bracket.high) - log_low;
    const double share = std::clamp(at_low / (at_low - at_high), 0.0, 1.0);
    // A little beyond the secant's guess, on both sides, catches the root between two close rates. NaN and
    // infinities fall to the bisection.
    const double margin = std::max(1e-11, width * 1e-3);
    for (const double log_rate : {log_low + share * width - margin, log_low + share * width + margin}) {
      const double rate = std::exp(log_rate);
      if (rate > bracket.low && rate < bracket.high) replace(rate);
    }
    const double left = std::log(bracket.high / bracket.low);
    if (left > width / 2) {
      const double middle = std::sqrt(bracket.low) * std::sqrt(bracket.high);
      if (middle > bracket.low && middle < bracket.high) replace(middle);
    }
  }
  while (true) {
    const double middle = bracket.low + (bracket.high - bracket.low) / 2;
    if (!(middle > bracket.low && middle < bracket.high)) return bracket;
    replace(middle);
  }
}

// The least number of further trials without an event that brings ln E_down(r) to `log_threshold`: ln E_down
// grows with every such trial. Nothing if that takes the trials above kMaxCount.
std::optional<uint64_t> FurtherCleanTrials(double events, double trials, double r, double log_threshold) {
  const auto reached_after = [&](uint64_t further) {
    return LogMixture(DownGrid(), events, trials + static_cast<double>(further), r) >= log_threshold;
  };
  if (reached_after(0)) return 0;
  const uint64_t most = kMaxCount - static_cast<uint64_t>(trials);
  if (!reached_after(most)) return std::nullopt;
  uint64_t too_few = 0;
  uint64_t enough = most;
  while (enough - too_few > 1) {
    const uint64_t middle = too_few + (enough - too_few) / 2;
    (reached_after(middle) ? enough : too_few) = middle;
  }
  return enough;
}

}  // namespace

absl::Status ValidateEventCount(absl::string_view what, const EventCount& count) {
  if (count.events > count.trials) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": ", count.events, " events in ", count.trials, " trials cannot be"));
  }
  // The message is put together for a failure only: this runs for every metric of every bucket.
  return count.trials <= kMaxCount ? absl::OkStatus()
                                   : CheckSum(absl::StrCat(what, ": trials"), 0, count.trials);
}

const MixtureGrid& UpGrid() {
  static const auto kLogFactors = Logarithms(kRho);
  static const auto kLogWeights = Logarithms(kRhoWeights);
  static const MixtureGrid kGrid = {kRho, kLogFactors, kLogWeights};
  return kGrid;
}

const MixtureGrid& DownGrid() {
  static const auto kLogFactors = Logarithms(kSigma);
  static const auto kLogWeights = Logarithms(kSigmaWeights);
  static const MixtureGrid kGrid = {kSigma, kLogFactors, kLogWeights};
  return kGrid;
}

double LogLikelihoodRatio(const MixtureGrid& grid, size_t j, double events, double trials, double rate) {
  const double without_events = -trials * std::log1p(rate * (grid.factors[j] - 1));
  // Not k ln f for k = 0: 0 * -infinity is NaN, and 0^0 is 1 here.
  return events > 0 ? events * grid.log_factors[j] + without_events : without_events;
}

FixedRate::FixedRate(double rate) : rate_(rate) {
  LOCKSTEP_CHECK(rate > 0 && rate < 1, "a null rate is in (0, 1)");
  for (size_t j = 0; j < UpGrid().size(); ++j) up_cost_[j] = std::log1p(rate * (UpGrid().factors[j] - 1));
  for (size_t j = 0; j < DownGrid().size(); ++j)
    down_cost_[j] = std::log1p(rate * (DownGrid().factors[j] - 1));
}

void FixedRate::LogLikelihoodRatiosUp(double events, double trials, absl::Span<double> out) const {
  const MixtureGrid& grid = UpGrid();
  for (size_t j = 0; j < grid.size(); ++j) out[j] = events * grid.log_factors[j] - trials * up_cost_[j];
}

double FixedRate::LogDown(double events, double trials) const {
  const MixtureGrid& grid = DownGrid();
  std::array<double, kMaxGridSize> terms;
  for (size_t j = 0; j < grid.size(); ++j) {
    terms[j] = grid.log_weights[j] - trials * down_cost_[j];
    // Not k ln f for k = 0: 0 * -infinity is NaN, and 0^0 is 1 here.
    if (events > 0) terms[j] += events * grid.log_factors[j];
  }
  return LogSumExp(absl::MakeConstSpan(terms.data(), grid.size()));
}

absl::Status RateEvidence::Add(double events, double trials) {
  // Written so that NaN fails.
  if (!(events >= 0 && events <= trials)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rate evidence: ", events, " events in ", trials, " trials cannot be"));
  }
  if (!(trials <= static_cast<double>(kMaxCount) - trials_)) {
    return absl::OutOfRangeError(absl::StrCat("rate evidence: trials: ", trials_, " + ", trials,
                                              " is above the largest count, ", kMaxCount,
                                              "; nothing was added"));
  }
  events_ += events;
  trials_ += trials;
  return absl::OkStatus();
}

double RateEvidence::Estimate() const { return trials_ > 0 ? events_ / trials_ : 0; }

absl::StatusOr<double> RateEvidence::LogUp(double r) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("the budget", r));
  return LogMixture(UpGrid(), events_, trials_, r);
}

absl::StatusOr<double> RateEvidence::LogDown(double r) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("the budget", r));
  return LogMixture(DownGrid(), events_, trials_, r);
}

// E_up falls and E_down rises with r. E_up never rejects the highest rate, nor E_down the lowest.
absl::StatusOr<double> RateEvidence::LowerBound(double alpha) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("alpha", alpha));
  const double log_threshold = -std::log(alpha);
  const auto excess = [&](double r) { return LogMixture(UpGrid(), events_, trials_, r) - log_threshold; };
  if (!(excess(kLowestRate) >= 0)) return RateInterval().lower;
  return SignChange({kLowestRate, kHighestRate}, excess).low;
}

absl::StatusOr<double> RateEvidence::UpperBound(double alpha) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("alpha", alpha));
  const double log_threshold = -std::log(alpha);
  const auto excess = [&](double r) { return LogMixture(DownGrid(), events_, trials_, r) - log_threshold; };
  if (!(excess(kHighestRate) >= 0)) return RateInterval().upper;
  return SignChange({kLowestRate, kHighestRate}, excess).high;
}

absl::StatusOr<RateInterval> RateEvidence::Interval(double alpha) const {
  RateInterval interval;
  LOCKSTEP_ASSIGN_OR_RETURN(interval.lower, LowerBound(alpha));
  LOCKSTEP_ASSIGN_OR_RETURN(interval.upper, UpperBound(alpha));
  return interval;
}

absl::StatusOr<uint64_t> RateEvidence::CleanSampleNeeded(double r, double alpha) {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("the budget", r));
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("alpha", alpha));
  const std::optional<uint64_t> needed = FurtherCleanTrials(0, 0, r, -std::log(alpha));
  if (!needed.has_value()) {
    return absl::OutOfRangeError(absl::StrCat("a budget of ", r, " takes more than ", kMaxCount,
                                              " clean trials to certify; raise it"));
  }
  return *needed;
}

absl::StatusOr<std::optional<uint64_t>> RateEvidence::AdditionalCleanNeeded(double r,
                                                                            double log_threshold) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("the budget", r));
  if (std::isnan(log_threshold)) return absl::InvalidArgumentError("the evidence threshold is not a number");
  if (LogMixture(DownGrid(), events_, trials_, r) >= log_threshold) return 0;
  if (events_ >= r * trials_ && events_ > 0) return std::nullopt;
  return FurtherCleanTrials(events_, trials_, r, log_threshold);
}

}  // namespace lockstep::domain
