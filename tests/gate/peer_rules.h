// Rules by which other systems decide whether to roll back, re-implemented plainly from their public
// documentation, to be run on the same traffic as the gate. They see what they would see in a metrics system:
// requests and errors of either arm.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/domain/window_stats.h"

namespace lockstep::bar {

// Requests and errors of either arm in some stretch of time.
struct ErrorCounts {
  double old_requests = 0, old_errors = 0, new_requests = 0, new_errors = 0;

  void Add(const domain::WindowStats& bucket);
};

class PeerRule {
 public:
  virtual ~PeerRule() = default;
  virtual std::string name() const = 0;
  // A bucket of 5 s. Returns whether the rule rolls back now; not asked again after that.
  virtual bool RollsBack(const domain::WindowStats& bucket) = 0;
};

// The test that dashboards and home-made gates use: two error proportions, pooled z-test, one-sided at 1 %,
// on all data so far, looked at every 30 s. Nothing corrects for looking more than once.
class ZTest final : public PeerRule {
 public:
  std::string name() const override { return "z-test every 30 s"; }
  bool RollsBack(const domain::WindowStats& bucket) override;

 private:
  ErrorCounts counts_;
  int buckets_ = 0;
};

// Kayenta's NetflixACAJudge (https://spinnaker.io/docs/guides/user/canary/judge/): the time series of a
// metric, here the error rate of each minute, of canary and baseline are compared by a Mann-Whitney U test
// with 98 % confidence; "High" fails a metric marked critical when the lower confidence bound of the shift
// is above 0.25 times the estimated one (MannWhitneyClassifier with tolerance 0.25 and confLevel 0.98).
// Judged every 30 minutes over all points so far, as its guide to canary configurations suggests intervals.
class MannWhitney final : public PeerRule {
 public:
  std::string name() const override { return "Mann-Whitney (Kayenta)"; }
  bool RollsBack(const domain::WindowStats& bucket) override;

 private:
  ErrorCounts minute_;
  int buckets_ = 0;
  std::vector<double> old_points_;
  std::vector<double> new_points_;
};

// Whether the canary's points are "High" by that rule.
bool IsHigh(const std::vector<double>& baseline, const std::vector<double>& canary);

// Flagger (https://docs.flagger.app/usage/how-it-works): request-success-rate of the canary over 1 m at least
// 99 %, checked every minute; the fifth failed check rolls back (interval 1m, threshold 5, min 99, as in its
// examples). Minutes without canary requests don't count.
class FailedChecks final : public PeerRule {
 public:
  std::string name() const override { return "5 minutes below 99 % (Flagger)"; }
  bool RollsBack(const domain::WindowStats& bucket) override;

 private:
  static constexpr double kHighestErrorRate = 0.01;
  static constexpr int kThreshold = 5;
  ErrorCounts minute_;
  int buckets_ = 0;
  int failures_ = 0;
};

// Argo Rollouts (https://argoproj.github.io/argo-rollouts/features/analysis/): a measurement every 5 minutes
// fails by failureCondition; more failures than failureLimit (3) abort. The condition here is the usual one
// that is fixed in advance, three times what the baseline was in the first 5 minutes.
class FailureLimit final : public PeerRule {
 public:
  std::string name() const override { return "4 windows above 3x the first baseline (Argo Rollouts)"; }
  bool RollsBack(const domain::WindowStats& bucket) override;

 private:
  static constexpr int kFailureLimit = 3;
  ErrorCounts window_;
  int buckets_ = 0;
  int failures_ = 0;
  double baseline_rate_ = -1;  // not known yet
};

std::vector<std::unique_ptr<PeerRule>> AllPeerRules();

}  // namespace lockstep::bar
