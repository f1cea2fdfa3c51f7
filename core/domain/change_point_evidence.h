// Evidence that a rate is above its null now, whenever it rose: what a rollback rests on.
//
// A gambler starts with 1. She bets 1/2 on "it is bad from the first step on" and keeps 1/2 for rises that
// begin later, in 1,440 equal parts: one is placed every minute, and 120 at once when a later step begins
// that tests the null, for as long as there are any. What is placed at a moment bets, on every factor of the
// grid (rate_evidence.h), on a rise that begins then:
//
//   place m:    l_j <- ln(e^{l_j} + m w_j)          before a bucket's increment
//   a bucket:   l_j <- l_j + delta_j                delta_j: ln of factor j's likelihood ratio
//   E         = sum_j e^{l_j} + what is not placed yet
//
// All of it is decided before the bucket is seen, so E is a mixture of test martingales and of the constant
// 1, hence an e-process: while the null holds in every bucket, it ever reaches 1/alpha with probability at
// most alpha, over all steps together (Ville's inequality). It is a mixture e-detector that is paid for in
// advance (Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change detection",
// 2023).
//
// Also keeps, for each factor, the stretch with the most evidence of a rise (Page's CUSUM, 1954), to say
// since when.
//
// Thread-compatible. Deterministic.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/domain/rate_evidence.h"

namespace lockstep::domain {

class ChangePointEvidence {
 public:
  static constexpr double kFirstStepMass = 0.5;
  static constexpr int64_t kParts = 1440;  // of what is kept; one a minute
  static constexpr int64_t kPartsPerStep = 120;

  // A stretch at whose start the rate most likely rose, and what was counted in it.
  struct Rise {
    absl::Time since = absl::InfinitePast();
    double log_evidence = 0;  // of the stretch alone, for its most likely factor
    double events = 0;
    double trials = 0;
  };

  ChangePointEvidence();

  // A step that tests the null begins: the first one starts the process.
  void BeginStep(absl::Time start);

  // A bucket that starts at `start` with ln likelihood ratios `deltas`, one for each factor of UpGrid().
  // `events` and `trials` are what it counted. Before the first step nothing is added.
  void AddBucket(absl::Time start, absl::Span<const double> deltas, double events, double trials);

  // ln E; 0 before the first step.
  double LogEvidence() const;

  // Nothing unless some stretch makes the null e^2 times less likely.
  std::optional<Rise> MostLikelyRise() const;

 private:
  struct Stretch {
    absl::Time since = absl::InfinitePast();
    double log_evidence = 0;
    double events_before = 0;  // events_ and trials_ when it began
    double trials_before = 0;
  };

  void Place(int64_t parts);
  void PlaceMass(double mass);

  int64_t parts_left_ = kParts;
  bool started_ = false;
  absl::Time started_at_ = absl::InfinitePast();
  int64_t minutes_passed_ = 0;
  absl::Time next_minute_ = absl::InfiniteFuture();  // when one more of these has passed
  std::array<double, kMaxGridSize> log_terms_;       // l_j; as many as the grid has factors
  std::array<Stretch, kMaxGridSize> stretches_;
  // Of all buckets: stretches are differences, so that a bucket adds to two sums and not to those of each.
  double events_ = 0;
  double trials_ = 0;
};

}  // namespace lockstep::domain
