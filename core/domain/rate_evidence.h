// Evidence on a rate against a budget r: k events (mismatches, say) in n trials, looked at as often as one
// likes.
//
//   E_up(r)   = sum_j w_j exp(k ln rho_j   - n ln(1 + r (rho_j - 1)))        that the rate is above r
//   E_down(r) = sum_j v_j exp(k ln sigma_j - n ln(1 - r (1 - sigma_j)))      that the rate is below r
//
// Each factor is a test martingale (sub-Bernoulli: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform Chernoff
// bounds via nonnegative supermartingales", 2020, and "Time-uniform, nonparametric, nonasymptotic confidence
// sequences", 2021; arXiv 2018), so the mixtures are e-processes: while the running mean of the conditional
// rates is on the other side of r, the probability that E ever reaches 1/alpha is at most alpha (Ville's
// inequality). That holds for any dependence between trials, and however often and for whatever reason one
// looks or stops.
//
//   RateEvidence mismatches;
//   LOCKSTEP_RETURN_IF_ERROR(mismatches.Add(0, 6000));
//   mismatches.LogDown(1e-3).value() >= std::log(1 / 0.01);   // certified: below 0.1 %, at alpha = 0.01
//
// With k = the durations above x, and r = 1 - q, the same evidence bounds a quantile (Howard and Ramdas,
// "Sequential estimation of quantiles with applications to A/B testing and best-arm identification", 2019,
// 2022).
//
// Thread-compatible. All logarithms are natural.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace lockstep::domain {

// k events in n trials. Valid: events <= trials <= kMaxCount (log_math.h).
struct EventCount {
  uint64_t events = 0;
  uint64_t trials = 0;

  bool operator==(const EventCount&) const = default;
};

// InvalidArgument unless `count` is valid; `what` names it in the message.
absl::Status ValidateEventCount(absl::string_view what, const EventCount& count);

// The alternatives a mixture bets on: "the rate is `factor` times the null's", each with a weight. rho and w
// above for the direction up, sigma and v for down. They are frozen: changing one invalidates the evidence
// gathered so far.
struct MixtureGrid {
  absl::Span<const double> factors;
  absl::Span<const double> log_factors;  // -infinity for the factor 0
  absl::Span<const double> log_weights;

  size_t size() const { return factors.size(); }
};

inline constexpr size_t kMaxGridSize = 10;

const MixtureGrid& UpGrid();    // rho = 1.2 to 1000, equal weights
const MixtureGrid& DownGrid();  // sigma = 0 (weight 1/2) to 0.8

// ln of grid factor j's likelihood ratio for `events` of `trials` at the null rate: k ln f - n ln(1 + r (f -
// 1)), where 0 ln 0 = 0. `rate` in [0, 1).
double LogLikelihoodRatio(const MixtureGrid& grid, size_t j, double events, double trials, double rate);

// A two-sided confidence sequence. Each bound fails with probability at most alpha over all time.
struct RateInterval {
  double lower = 0;
  double upper = 1;

  bool operator==(const RateInterval&) const = default;
};

// A null rate r with what its mixtures need of it, computed once: E(k, n) then takes one exponential for each
// factor.
class FixedRate {
 public:
  // 0 < rate < 1.
  explicit FixedRate(double rate);
  double rate() const { return rate_; }

  // ln of each factor's likelihood ratio for `events` of `trials`, in the order of UpGrid(); `out` has
  // kMaxGridSize places.
  void LogLikelihoodRatiosUp(double events, double trials, absl::Span<double> out) const;
  // ln E_down of all counts so far.
  double LogDown(double events, double trials) const;

 private:
  double rate_;
  std::array<double, kMaxGridSize> up_cost_ = {};    // ln(1 + r (rho_j - 1))
  std::array<double, kMaxGridSize> down_cost_ = {};  // ln(1 - r (1 - sigma_j))
};

// The counts of one rate. They need not be whole: observations that cluster count for less than one each
// (subject_counter.h). Whole counts up to kMaxCount add up exactly, in any order.
class RateEvidence {
 public:
  // InvalidArgument for negative counts, NaN, or more events than trials, OutOfRange above kMaxCount; nothing
  // is added then.
  absl::Status Add(double events, double trials);

  double events() const { return events_; }
  double trials() const { return trials_; }
  // events / trials, 0 without trials.
  double Estimate() const;

  // ln E_up(r) and ln E_down(r). InvalidArgument unless 0 < r < 1: a budget of 0 can't be certified.
  absl::StatusOr<double> LogUp(double r) const;
  absl::StatusOr<double> LogDown(double r) const;

  // lower = sup {r: E_up(r) >= 1/alpha}, upper = inf {r: E_down(r) >= 1/alpha}, to the precision of a double
  // and rounded outwards; [0, 1] without trials. Contains Estimate(). InvalidArgument unless 0 < alpha < 1.
  absl::StatusOr<RateInterval> Interval(double alpha) const;
  // Either end of Interval(alpha) alone, at half the cost.
  absl::StatusOr<double> LowerBound(double alpha) const;
  absl::StatusOr<double> UpperBound(double alpha) const;

  // How many trials without an event make ln E_down(r) reach ln(1/alpha), from nothing: about 5.06/r at alpha
  // 0.01. For a plan of S steps ask at alpha/S. OutOfRange if that is above kMaxCount.
  static absl::StatusOr<uint64_t> CleanSampleNeeded(double r, double alpha);

  // How many further trials, all without an event, make ln E_down(r) reach `log_threshold`; 0 if it has.
  // Nothing (never) if the rate observed so far is at or above r: trials like those seen do not lead there,
  // however many.
  absl::StatusOr<std::optional<uint64_t>> AdditionalCleanNeeded(double r, double log_threshold) const;

  bool operator==(const RateEvidence&) const = default;

 private:
  double events_ = 0;
  double trials_ = 0;
};

}  // namespace lockstep::domain
