// A rate that rises while it is still within its budget: reason to hold and look, never to roll back.
//
// One hour into a step the rate so far is frozen as a reference, r_ref = 1.5 times its upper confidence bound
// at alpha = 0.005. From then on, for each factor of the grid, an e-SR (Shiryaev-Roberts) statistic against
// r_ref:
//
//   S_j <- (S_j + 1) e^{delta_j},     alarm while  sum_j w_j S_j >= T / 0.005
//
// Under the null sum_j w_j S_j - t is a supermartingale, so it passes that level within T buckets (a day)
// with probability at most 0.005 (Doob's inequality for the submartingale it is bounded by). No reference is
// taken where it would be at or above the budget: the check itself watches there.
//
// Thread-compatible. Deterministic.
#pragma once

#include <array>

#include "absl/time/time.h"
#include "core/domain/rate_evidence.h"

namespace lockstep::domain {

class TrendAlarm {
 public:
  static constexpr double kAlpha = 0.005;
  static constexpr double kMargin = 1.5;
  static constexpr absl::Duration kReferencePeriod = absl::Hours(1);

  // A step begins: no reference yet.
  void BeginStep(absl::Time start);

  // Whether the reference is to be taken now, before the bucket that starts at `start` is added.
  bool WantsReference(absl::Time start) const {
    return !reference_taken_ && start - start_ >= kReferencePeriod;
  }
  // From what the step has counted so far.
  void TakeReference(const RateEvidence& so_far, double budget);

  void AddBucket(double events, double trials);

  bool raised() const;
  // 0 while there is none.
  double reference_rate() const { return null_ ? null_->rate() : 0; }

 private:
  absl::Time start_ = absl::InfinitePast();
  bool reference_taken_ = false;
  std::optional<FixedRate> null_;
  std::array<double, kMaxGridSize> log_s_ = {};
};

}  // namespace lockstep::domain
