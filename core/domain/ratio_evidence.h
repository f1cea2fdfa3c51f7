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

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/domain/rate_evidence.h"

namespace lockstep::domain {

enum class Direction : uint8_t { kUp, kDown };

class RatioEvidence {
 public:
  // `lambda` > 0 and finite; it is frozen, like the grid.
  RatioEvidence(Direction direction, double lambda);

  // A bucket in which either arm has no trials says nothing about the ratio and is skipped. InvalidArgument,
  // with nothing added, for invalid counts.
  absl::Status AddBucket(const EventCount& new_arm, const EventCount& old_arm);

  // ln E.
  double LogEvidence() const;

  Direction direction() const { return direction_; }
  double lambda() const { return lambda_; }

  bool operator==(const RatioEvidence&) const = default;

 private:
  const MixtureGrid& grid() const { return direction_ == Direction::kUp ? UpGrid() : DownGrid(); }

  Direction direction_;
  double lambda_;
  // ln w_j + l_j; as many as the grid has factors are in use.
  std::array<double, kMaxGridSize> log_terms_ = {};
};

// What the gate knows of the error rates of the two arms: the ratio in both directions, and the new arm's own
// rate.
class ErrorEvidence {
 public:
  // Rolling back needs evidence of p_N > 1.1 p_O, advancing of p_N < 2 p_O: between the two the gate has no
  // opinion, so that it need not tell apart what can't be told apart.
  static constexpr double kRollbackLambda = 1.1;
  static constexpr double kAdvanceLambda = 2.0;
  // Errors cluster by subject; one broken customer is no reason to roll back.
  static constexpr uint64_t kMinAffectedSubjects = 3;

  // As RatioEvidence::AddBucket; the new arm's own rate counts every bucket.
  absl::Status AddBucket(const EventCount& new_arm, const EventCount& old_arm);

  // ln E_up of the ratio at kRollbackLambda. Weigh it with the other metrics' evidence against 1/alpha_R.
  double LogRollback() const { return ratio_up_.LogEvidence(); }

  // Whether a rollback on this evidence would be about something: at least kMinAffectedSubjects distinct
  // subjects met an error on the new arm, and the lower bound of p_N at `alpha` is above the absolute
  // `floor`, in [0, 1).
  absl::StatusOr<bool> RollbackIsMaterial(uint64_t affected_subjects, double floor, double alpha) const;

  // ln(1/2 E_down_ratio(kAdvanceLambda) + 1/2 E_down_rate(floor)): evidence against "p_N is at least twice
  // p_O, and at least `floor`". The floor keeps low traffic from holding for ever. Advance at ln(S / alpha_A)
  // for S steps. InvalidArgument unless 0 < floor < 1.
  absl::StatusOr<double> LogAdvance(double floor) const;

  // k_N and n_N so far.
  const RateEvidence& new_rate() const { return new_rate_; }

  bool operator==(const ErrorEvidence&) const = default;

 private:
  RatioEvidence ratio_up_{Direction::kUp, kRollbackLambda};
  RatioEvidence ratio_down_{Direction::kDown, kAdvanceLambda};
  RateEvidence new_rate_;
};

}  // namespace lockstep::domain
