#include "core/domain/rate_evidence.h"

#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
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

double LogMixture(const MixtureGrid& grid, const EventCount& count, double r) {
  return LogMixture(grid, static_cast<double>(count.events), static_cast<double>(count.trials), r);
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

// Where `holds`, which is true on one side of some rate and false on the other, changes between `low` and
// `high`: bisection in ln r, since bounds lie anywhere between 1e-16 and 1. Both ends keep the side they
// began on.
template <typename Predicate>
Bracket Bisect(double low, double high, const Predicate& holds) {
  const bool holds_at_low = holds(low);
  while (true) {
    // The arithmetic mean finishes the last bits, where the geometric one rounds to an end of the bracket.
    double middle = std::sqrt(low) * std::sqrt(high);
    if (!(middle > low && middle < high)) middle = low + (high - low) / 2;
    if (!(middle > low && middle < high)) return {low, high};
    (holds(middle) == holds_at_low ? low : high) = middle;
  }
}

// The least number of further trials without an event that brings ln E_down(r) to `log_threshold`: ln E_down
// grows with every such trial. Nothing if that takes the trials above kMaxCount.
std::optional<uint64_t> FurtherCleanTrials(const EventCount& count, double r, double log_threshold) {
  const auto reached_after = [&](uint64_t further) {
    return LogMixture(DownGrid(), static_cast<double>(count.events),
                      static_cast<double>(count.trials + further), r) >= log_threshold;
  };
  if (reached_after(0)) return 0;
  const uint64_t most = kMaxCount - count.trials;
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

absl::Status RateEvidence::Add(uint64_t events, uint64_t trials) {
  LOCKSTEP_RETURN_IF_ERROR(ValidateEventCount("rate evidence", {events, trials}));
  LOCKSTEP_RETURN_IF_ERROR(CheckSum("rate evidence: trials", count_.trials, trials));
  count_.events += events;
  count_.trials += trials;
  return absl::OkStatus();
}

double RateEvidence::Estimate() const {
  if (count_.trials == 0) return 0;
  return static_cast<double>(count_.events) / static_cast<double>(count_.trials);
}

absl::StatusOr<double> RateEvidence::LogUp(double r) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("the budget", r));
  return LogMixture(UpGrid(), count_, r);
}

absl::StatusOr<double> RateEvidence::LogDown(double r) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("the budget", r));
  return LogMixture(DownGrid(), count_, r);
}

absl::StatusOr<RateInterval> RateEvidence::Interval(double alpha) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("alpha", alpha));
  const double log_threshold = -std::log(alpha);
  const auto rejected_as_too_low = [&](double r) { return LogMixture(UpGrid(), count_, r) >= log_threshold; };
  const auto rejected_as_too_high = [&](double r) {
    return LogMixture(DownGrid(), count_, r) >= log_threshold;
  };
  RateInterval interval;
  // E_up falls and E_down rises with r. E_up never rejects the highest rate, nor E_down the lowest.
  if (rejected_as_too_low(kLowestRate))
    interval.lower = Bisect(kLowestRate, kHighestRate, rejected_as_too_low).low;
  if (rejected_as_too_high(kHighestRate)) {
    interval.upper = Bisect(kLowestRate, kHighestRate, rejected_as_too_high).high;
  }
  return interval;
}

absl::StatusOr<uint64_t> RateEvidence::CleanSampleNeeded(double r, double alpha) {
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("the budget", r));
  LOCKSTEP_RETURN_IF_ERROR(CheckInsideUnit("alpha", alpha));
  const std::optional<uint64_t> needed = FurtherCleanTrials({}, r, -std::log(alpha));
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
  if (LogMixture(DownGrid(), count_, r) >= log_threshold) return 0;
  if (static_cast<double>(count_.events) >= r * static_cast<double>(count_.trials) && count_.events > 0) {
    return std::nullopt;
  }
  return FurtherCleanTrials(count_, r, log_threshold);
}

absl::StatusOr<double> LogPairedUp(uint64_t new_only, uint64_t old_only, double lambda) {
  if (!(lambda > 0 && std::isfinite(lambda))) {
    return absl::InvalidArgumentError(absl::StrCat("lambda is ", lambda, "; it must be above 0 and finite"));
  }
  RateEvidence discordant;
  LOCKSTEP_RETURN_IF_ERROR(CheckSum("paired errors", new_only, old_only));
  LOCKSTEP_RETURN_IF_ERROR(discordant.Add(new_only, new_only + old_only));
  return discordant.LogUp(lambda / (1 + lambda));
}

}  // namespace lockstep::domain
