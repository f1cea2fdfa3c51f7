#include "core/domain/metric_evidence.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "core/domain/log_math.h"
#include "core/domain/value_of.h"

namespace lockstep::domain {
namespace {

// With fewer, a rate well within its bound often looks like one above it.
constexpr double kLeastEventsToJudge = 5;

// Fewer say too little about how they cluster.
constexpr double kLeastEventsForDispersion = 64;

constexpr double kNoEvidence = -std::numeric_limits<double>::infinity();

SubjectCounter::Counted AllOf(const EventCount& count) {
  const WeightedCount all = {static_cast<double>(count.events), static_cast<double>(count.trials)};
  return {all, all};
}

WeightedCount Divided(const WeightedCount& count, double dispersion) {
  return {count.events / dispersion, count.trials / dispersion};
}
SubjectCounter::Counted Divided(const SubjectCounter::Counted& counted, double dispersion) {
  return {Divided(counted.count, dispersion), Divided(counted.rise, dispersion)};
}

}  // namespace

MetricEvidence::MetricEvidence(const Check& check) : null_(check), row_(&RowOf(check.metric)), check_(check) {
  LOCKSTEP_CHECK(row().family != MetricFamily::kLevel, "a level has no null");
  if (is_ratio()) ratio_up_.emplace();
  if (null_.bound > 0) {
    rate_.emplace(null_.bound);
    rate_up_.emplace();
  }
}

void MetricEvidence::ResetScope(absl::Time start) {
  scope_start_ = start;
  new_arm_.StartAnew();
  old_arm_.StartAnew();
  if (is_ratio()) ratio_down_.emplace(row().advance_lambda);
  ratio_down_every_.reset();
  every_new_events_ = every_old_events_ = 0;
}

void MetricEvidence::BeginStep(absl::Time start, bool tested) {
  if (!row().carries_over || scope_start_ == absl::InfinitePast()) ResetScope(start);
  trend_.BeginStep(start);
  if (!tested) return;
  if (ratio_up_) ratio_up_->BeginStep(start);
  if (rate_up_) rate_up_->BeginStep(start);
}

// Made where it is returned to, as copies of what was just written are slow.
MetricEvidence::Observations MetricEvidence::Observe(const WindowStats& bucket,
                                                     const LatencyEdges& edges) const {
  if (row().observe != nullptr) {
    return {.new_arm = row().observe(bucket, check_),
            .old_arm = is_ratio() ? row().observe_baseline(bucket, check_) : Observation()};
  }
  const auto slow = edges.Count(null_.quantile, bucket);
  if (!slow) return {.any = false};
  return {.new_arm = {.count = slow->new_arm}, .old_arm = {.count = slow->old_arm}};
}

absl::Status MetricEvidence::CheckBucket(const WindowStats& bucket, const LatencyEdges& edges) const {
  const Observations observed = Observe(bucket, edges);
  if (!observed.any) return absl::OkStatus();
  LOCKSTEP_RETURN_IF_ERROR(ValidateEventCount(row().name, observed.new_arm.count));
  LOCKSTEP_RETURN_IF_ERROR(ValidateEventCount(row().name, observed.old_arm.count));
  LOCKSTEP_RETURN_IF_ERROR(CheckSum(row().name, new_arm_.reported().trials, observed.new_arm.count.trials));
  return CheckSum(row().name, old_arm_.reported().trials, observed.old_arm.count.trials);
}

void MetricEvidence::AddBucket(absl::Time start, const WindowStats& bucket, const LatencyEdges& edges) {
  const Observations observed = Observe(bucket, edges);
  if (!observed.any) return;
  if (!is_ratio() && trend_.WantsReference(start)) trend_.TakeReference(new_arm_.Distinct(), null_.bound);
  // Both arms by the same number, or the ratio would change.
  dispersion_ = std::max(new_arm_.Dispersion(), old_arm_.Dispersion());
  // What is bet on which count is decided before the bucket is seen.
  const bool knows_dispersion =
      new_arm_.events_in_slots() + old_arm_.events_in_slots() >= kLeastEventsForDispersion;
  const bool used_up = new_arm_.UsedUp() || old_arm_.UsedUp();
  const SubjectCounter::BucketCounts new_arm = new_arm_.Add(observed.new_arm, dispersion_);
  SubjectCounter::BucketCounts old_arm;
  if (is_ratio()) old_arm = old_arm_.Add(observed.old_arm, dispersion_);
  new_arm_.Settle();  // of the old arm only sums are read
  const Counts once = {new_arm.once, old_arm.once};
  if (new_arm.every) {
    AddInBothWays(start, once, new_arm, observed.old_arm.count, knows_dispersion, used_up);
  } else {
    AddCounts(start, once, once, nullptr, nullptr);
  }
  if (!is_ratio()) trend_.AddBucket(new_arm.once.rise.events, new_arm.once.rise.trials);
}

void MetricEvidence::AddInBothWays(absl::Time start, const Counts& once,
                                   const SubjectCounter::BucketCounts& new_arm, const EventCount& old_arm,
                                   bool knows_dispersion, bool used_up) {
  const SubjectCounter::Counted old_all = AllOf(old_arm);
  const SubjectCounter::Counted new_cut_down = {
      .count = {new_arm.every_cut_down, new_arm.every->count.trials}};
  const SubjectCounter::Counted new_divided = Divided(*new_arm.every, dispersion_);
  const SubjectCounter::Counted old_divided = Divided(old_all, dispersion_);
  const SubjectCounter::Counted none;
  const Counts for_advance = {new_cut_down, old_all};
  const Counts divided = {new_divided, old_divided};
  const Counts nothing = {none, none};
  // Subjects that count once keep the ratio only while few of them have counted.
  const Counts& instead = knows_dispersion ? divided : nothing;
  AddCounts(start, once, used_up ? instead : once, knows_dispersion ? &divided : nullptr, &for_advance);
}

void MetricEvidence::AddCounts(absl::Time start, const Counts& once, const Counts& ratio,
                               const Counts* divided, const Counts* for_advance) {
  if (ratio_up_) {
    AddRise(start, ratio, divided, *ratio_up_, [this](const Counts& counts, absl::Span<double> out) {
      // Trials only weigh the arms here: all of them, however many are events.
      const WeightedCount new_counts = {counts.new_arm.rise.events, counts.new_arm.count.trials};
      LogLikelihoodRatios(UpGrid(), row().rollback_lambda, new_counts, counts.old_arm.count, out);
    });
    AddRatioDown(ratio, for_advance);
  }
  if (rate_up_) {
    AddRise(start, once, divided, *rate_up_, [this](const Counts& counts, absl::Span<double> out) {
      rate_->LogLikelihoodRatiosUp(counts.new_arm.rise.events, counts.new_arm.rise.trials, out);
    });
  }
}

template <typename LogRatios>
void MetricEvidence::AddRise(absl::Time start, const Counts& once, const Counts* every,
                             RiseEvidence& evidence, const LogRatios& log_ratios) {
  std::array<double, kMaxGridSize> once_deltas, every_deltas;
  const auto bucket = [&](const Counts& counts, std::array<double, kMaxGridSize>& deltas) {
    log_ratios(counts, absl::MakeSpan(deltas));
    return RiseEvidence::Bucket{absl::MakeConstSpan(deltas.data(), UpGrid().size()), counts.new_arm.rise};
  };
  if (every == nullptr) return evidence.AddBucket(start, bucket(once, once_deltas), nullptr);
  const RiseEvidence::Bucket every_bucket = bucket(*every, every_deltas);
  evidence.AddBucket(start, bucket(once, once_deltas), &every_bucket);
}

// For an advance it is old's events that may not be too many.
void MetricEvidence::AddRatioDown(const Counts& once, const Counts* every) {
  const auto add = [](const Counts& counts, RatioEvidence& evidence) {
    evidence.AddBucket(counts.new_arm.count, {counts.old_arm.rise.events, counts.old_arm.count.trials});
  };
  if (every != nullptr && !ratio_down_every_) ratio_down_every_ = ratio_down_;
  add(once, *ratio_down_);
  if (!ratio_down_every_) return;
  const Counts& all = every != nullptr ? *every : once;
  add(all, *ratio_down_every_);
  every_new_events_ += all.new_arm.count.events;
  every_old_events_ += all.old_arm.rise.events;
}

double MetricEvidence::LogRollback() const {
  if (row().takes_floor && new_arm_.affected() < kMinAffectedSubjects) return kNoEvidence;
  if (!ratio_up_) return rate_up_->LogEvidence();
  if (!rate_up_) return ratio_up_->LogEvidence();
  return std::min(ratio_up_->LogEvidence(), rate_up_->LogEvidence());
}

// The smaller of two ways to count: each subject once, which a broken customer of old's doesn't fool, and
// every event, which isn't fooled where most subjects have had one on either side, however often they fail on
// new.
double MetricEvidence::LogRatioDown() const {
  const double once = ratio_down_ ? ratio_down_->LogEvidence() : 0;
  return ratio_down_every_ ? std::min(once, ratio_down_every_->LogEvidence()) : once;
}

double MetricEvidence::LogAdvance() const {
  double log_rate = kNoEvidence;
  if (rate_) {
    const RateEvidence distinct = new_arm_.Distinct();
    log_rate = rate_->LogDown(distinct.events(), distinct.trials());
  }
  if (!is_ratio()) return log_rate;
  const double log_ratio = LogRatioDown();
  if (!rate_) return log_ratio;
  return LogAddExp(log_ratio, log_rate) - std::log(2.0);
}

std::optional<uint64_t> MetricEvidence::NeededMore(double log_threshold) const {
  return NeededMore(new_arm_.Distinct(), null_.bound, row(), log_threshold);
}

std::optional<uint64_t> MetricEvidence::NeededMore(const RateEvidence& distinct, double bound,
                                                   const MetricRow& row, double log_threshold) {
  if (!(bound > 0)) return std::nullopt;
  // Of a mixture the rate has half the stake, so alone it has to show twice as much.
  const double mixed = row.family == MetricFamily::kRatio ? std::log(2.0) : 0;
  return ValueOf(distinct.AdditionalCleanNeeded(bound, log_threshold + mixed));
}

bool MetricEvidence::WillNotResolve() const {
  const RateEvidence distinct = new_arm_.Distinct();
  if (new_arm_.affected() < kLeastEventsToJudge) return false;
  if (rate_) {
    // What an observation adds to E_down on average, for the best factor.
    const double rate = distinct.Estimate();
    for (size_t j = 0; j < DownGrid().size(); ++j) {
      if (LogLikelihoodRatio(DownGrid(), j, rate, 1, null_.bound) > 0) return false;
    }
    if (!is_ratio()) return true;
  }
  const EventCount& new_arm = new_arm_.reported();
  const EventCount& old_arm = old_arm_.reported();
  const double events = new_arm_.affected() + old_arm_.affected();
  if (new_arm.trials == 0 || old_arm.trials == 0 || events == 0) return rate_.has_value();
  const double null_share = NullShare(row().advance_lambda, static_cast<double>(new_arm.trials),
                                      static_cast<double>(old_arm.trials));
  const auto falls = [&](double new_events, double old_events) {
    // Of every event there may be none yet: it has been counted since buckets name subjects.
    if (new_events + old_events == 0) return false;
    return RatioEvidence::DriftPerEvent(new_events / (new_events + old_events), null_share) <= 0;
  };
  return falls(new_arm_.affected(), old_arm_.affected()) ||
         (ratio_down_every_ && falls(every_new_events_, every_old_events_));
}

std::optional<ChangePointEvidence::Rise> MetricEvidence::MostLikelyRise() const {
  return ratio_up_ ? ratio_up_->MostLikelyRise() : rate_up_->MostLikelyRise();
}

}  // namespace lockstep::domain
