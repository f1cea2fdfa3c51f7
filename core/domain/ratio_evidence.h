// Evidence on the new arm's rate p_N against lambda times the old arm's, p_O, under any allocation of traffic
// and any drift of the baseline, as long as both arms drift together within a bucket.
//
// Per bucket of event time, with counts summed over all instances first: theta = lambda n_N / (lambda n_N +
// n_O), K = k_N + k_O, and for each factor f_j of the grid (rho for up, sigma for down; rate_evidence.h)
//
//   l_j += k_N ln f_j - K ln(1 + theta (f_j - 1)),     E = sum_j w_j e^{l_j}.
//
// Given K events, theta is the share of them that the new arm has when p_N = lambda p_O. Since that holds
// bucket by bucket, p_O may move freely between buckets. E_up is an e-process for "p_N <= lambda p_O in every
// bucket", E_down for "p_N >= lambda p_O in every bucket": whichever is true, its E ever reaches 1/alpha with
// probability at most alpha (Ville's inequality; Howard, Ramdas, McAuliffe, Sekhon, 2018, 2021).
//
// Thread-compatible. Deterministic: the same buckets in the same order give the same bits.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include "absl/types/span.h"
#include "core/domain/rate_evidence.h"
#include "core/domain/subject_counter.h"

namespace lockstep::domain {

// The share of a bucket's events that the new arm has when p_N = lambda p_O. Below 1, to which it would round
// where the old arm has next to nothing: a share of 1 makes an event of the old arm impossible.
inline double NullShare(double lambda, double new_trials, double old_trials) {
  return std::min(lambda * new_trials / (lambda * new_trials + old_trials),
                  1 - std::numeric_limits<double>::epsilon() / 2);
}

// ln of each factor's likelihood ratio for one bucket, in the order of `grid`; `out` has kMaxGridSize places.
// A bucket in which either arm has no trials, or both have no events, says nothing about the ratio: all 0.
// Counts need not be whole.
void LogLikelihoodRatios(const MixtureGrid& grid, double lambda, const WeightedCount& new_arm,
                         const WeightedCount& old_arm, absl::Span<double> out);

// E_down, accumulated from a moment on.
class RatioEvidence {
 public:
  // `lambda` > 0 and finite; it is frozen, like the grid.
  explicit RatioEvidence(double lambda);

  void AddBucket(const WeightedCount& new_arm, const WeightedCount& old_arm);

  // ln E_down.
  double LogEvidence() const;

  // What an event of the observations so far adds to it on average, for the best factor: above 0 where more
  // of the same lead to a certificate. `share` is the new arm's share of the events, `null_share` what it
  // would be at the null.
  static double DriftPerEvent(double share, double null_share);

 private:
  double lambda_;
  std::array<double, kMaxGridSize> log_terms_ = {};  // ln v_j + l_j; as many as the grid has factors
};

}  // namespace lockstep::domain
