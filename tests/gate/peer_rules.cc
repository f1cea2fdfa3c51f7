#include "tests/gate/peer_rules.h"

#include <algorithm>
#include <cmath>

namespace lockstep::bar {
namespace {

constexpr double kOnePercentNormal = 2.3263478740408408;  // the normal quantile at 99 %
constexpr int kBucketsPerMinute = 12;

double RateOf(double events, double trials) { return trials > 0 ? events / trials : 0; }

}  // namespace

void ErrorCounts::Add(const domain::WindowStats& bucket) {
  old_requests += static_cast<double>(bucket.arm(domain::Arm::kOld).requests);
  old_errors += static_cast<double>(bucket.arm(domain::Arm::kOld).errors);
  new_requests += static_cast<double>(bucket.arm(domain::Arm::kNew).requests);
  new_errors += static_cast<double>(bucket.arm(domain::Arm::kNew).errors);
}

bool ZTest::RollsBack(const domain::WindowStats& bucket) {
  counts_.Add(bucket);
  if (++buckets_ % (kBucketsPerMinute / 2) != 0) return false;
  const double n = counts_.new_requests, o = counts_.old_requests;
  if (n == 0 || o == 0) return false;
  const double pooled = (counts_.new_errors + counts_.old_errors) / (n + o);
  const double variance = pooled * (1 - pooled) * (1 / n + 1 / o);
  if (variance <= 0) return false;
  return (counts_.new_errors / n - counts_.old_errors / o) / std::sqrt(variance) > kOnePercentNormal;
}

bool IsHigh(const std::vector<double>& baseline, const std::vector<double>& canary) {
  // R's wilcox.test(canary, baseline, conf.int = TRUE, conf.level = 0.98), which Kayenta follows: estimate
  // and confidence interval of the shift are order statistics of all pairwise differences (Hodges and
  // Lehmann, 1963), in the normal approximation.
  const auto m = static_cast<double>(canary.size()), n = static_cast<double>(baseline.size());
  if (canary.empty() || baseline.empty()) return false;
  std::vector<double> differences;
  differences.reserve(canary.size() * baseline.size());
  for (const double c : canary) {
    for (const double b : baseline) differences.push_back(c - b);
  }
  const double rank = m * n / 2 - kOnePercentNormal * std::sqrt(m * n * (m + n + 1) / 12);
  if (rank < 1) return false;  // too few points for this confidence
  const auto low = differences.begin() + static_cast<std::ptrdiff_t>(rank) - 1;
  std::nth_element(differences.begin(), low, differences.end());
  const double lower = *low;
  const auto middle = differences.begin() + static_cast<std::ptrdiff_t>(differences.size() / 2);
  std::nth_element(differences.begin(), middle, differences.end());
  constexpr double kTolerance = 0.25;
  return lower > kTolerance * std::abs(*middle);
}

bool MannWhitney::RollsBack(const domain::WindowStats& bucket) {
  minute_.Add(bucket);
  if (++buckets_ % kBucketsPerMinute != 0) return false;
  old_points_.push_back(RateOf(minute_.old_errors, minute_.old_requests));
  new_points_.push_back(RateOf(minute_.new_errors, minute_.new_requests));
  minute_ = {};
  return buckets_ % (30 * kBucketsPerMinute) == 0 && IsHigh(old_points_, new_points_);
}

bool FailedChecks::RollsBack(const domain::WindowStats& bucket) {
  minute_.Add(bucket);
  if (++buckets_ % kBucketsPerMinute != 0) return false;
  if (RateOf(minute_.new_errors, minute_.new_requests) > kHighestErrorRate) ++failures_;
  minute_ = {};
  return failures_ >= kThreshold;
}

bool FailureLimit::RollsBack(const domain::WindowStats& bucket) {
  window_.Add(bucket);
  if (++buckets_ % (5 * kBucketsPerMinute) != 0) return false;
  if (baseline_rate_ < 0) {
    baseline_rate_ = RateOf(window_.old_errors, window_.old_requests);
  } else if (RateOf(window_.new_errors, window_.new_requests) > 3 * baseline_rate_) {
    ++failures_;
  }
  window_ = {};
  return failures_ > kFailureLimit;
}

std::vector<std::unique_ptr<PeerRule>> AllPeerRules() {
  std::vector<std::unique_ptr<PeerRule>> rules;
  rules.push_back(std::make_unique<ZTest>());
  rules.push_back(std::make_unique<MannWhitney>());
  rules.push_back(std::make_unique<FailedChecks>());
  rules.push_back(std::make_unique<FailureLimit>());
  return rules;
}

}  // namespace lockstep::bar
