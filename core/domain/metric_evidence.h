// The evidence on one null of a plan: a metric of the families kRate and kRatio, with its field or quantile
// and its bound.
//
// Against "acceptable" (for a rollback), one process over the whole evidence epoch (change_point_evidence.h).
// Where a floor is part of the null, "new is at most lambda times as bad as old, or below the floor", both
// parts have to be rejected: the smaller of two e-values is one for the union of their nulls. Against "not
// acceptable" (for an advance), from the start of the step, or of the epoch where evidence carries over: 1/2
// E_down of the ratio + 1/2 E_down of the rate against the floor, either of which would do.
//
// Where buckets say whom events concern, they are counted in two ways: each subject once, and every event
// (subject_counter.h). A rollback takes a mean of both (rise_evidence.h), an advance the smaller one.
//
// Thread-compatible. Deterministic.
#pragma once

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "core/domain/alpha_spending.h"
#include "core/domain/latency_edges.h"
#include "core/domain/plan.h"
#include "core/domain/ratio_evidence.h"
#include "core/domain/rise_evidence.h"
#include "core/domain/subject_counter.h"
#include "core/domain/trend_alarm.h"

namespace lockstep::domain {

class MetricEvidence {
 public:
  // Errors cluster by subject; one or two broken customers are no reason to roll back.
  static constexpr double kMinAffectedSubjects = 3;

  // `check` is of a valid plan, and not a level.
  explicit MetricEvidence(const Check& check);

  const NullHypothesis& null() const { return null_; }
  const MetricRow& row() const { return *row_; }

  // A step begins; `tested`: it has a check of this null.
  void BeginStep(absl::Time start, bool tested);

  // OutOfRange if the counts of this bucket would take a sum above kMaxCount.
  absl::Status CheckBucket(const WindowStats& bucket, const LatencyEdges& edges) const;
  // Adds a bucket that passed Validate() and CheckBucket().
  void AddBucket(absl::Time start, const WindowStats& bucket, const LatencyEdges& edges);

  // ln E. -infinity while a rollback would be about too few subjects.
  double LogRollback() const;
  double LogAdvance() const;

  // Of the scope that LogAdvance() rests on.
  absl::Time scope_start() const { return scope_start_; }
  const SubjectCounter& counted() const { return new_arm_; }
  const SubjectCounter& counted_baseline() const { return old_arm_; }
  double dispersion() const { return dispersion_; }

  // Further clean observations, or distinct subjects, until LogAdvance() reaches `log_threshold`; nothing if
  // the observations so far don't lead there or, for a ratio without a floor, if their number depends on what
  // the old arm does.
  std::optional<uint64_t> NeededMore(double log_threshold) const;
  // The same from what it follows from: counted().Distinct(), and the null's bound and metric.
  static std::optional<uint64_t> NeededMore(const RateEvidence& distinct, double bound, const MetricRow& row,
                                            double log_threshold);
  // More of the same never certifies it. False while there is too little to say so.
  bool WillNotResolve() const;

  std::optional<ChangePointEvidence::Rise> MostLikelyRise() const;
  bool rising() const { return trend_.raised(); }

 private:
  struct Observations {
    Observation new_arm;  // or the rate
    Observation old_arm;
    bool any = true;  // false: the bucket says nothing
  };
  Observations Observe(const WindowStats& bucket, const LatencyEdges& edges) const;
  bool is_ratio() const { return row().family == MetricFamily::kRatio; }
  void ResetScope(absl::Time start);
  // What a bucket counts for on both arms, by one way of counting.
  struct Counts {
    const SubjectCounter::Counted& new_arm;
    const SubjectCounter::Counted& old_arm;
  };
  // A bucket that can be counted in two ways.
  void AddInBothWays(absl::Time start, const Counts& once, const SubjectCounter::BucketCounts& new_arm,
                     const EventCount& old_arm, bool knows_dispersion, bool used_up);
  // `ratio` is what the ratio goes by in the place of `once`; `divided` is bet on as well, and `for_advance`
  // counts every event for an advance: both null where there is one way to count.
  void AddCounts(absl::Time start, const Counts& once, const Counts& ratio, const Counts* divided,
                 const Counts* for_advance);
  template <typename LogRatios>
  static void AddRise(absl::Time start, const Counts& once, const Counts* every, RiseEvidence& evidence,
                      const LogRatios& log_ratios);
  void AddRatioDown(const Counts& once, const Counts* every);
  double LogRatioDown() const;

  NullHypothesis null_;
  const MetricRow* row_;  // of the metric table, which stays
  Check check_;           // what to observe
  std::optional<FixedRate> rate_;
  std::optional<RiseEvidence> ratio_up_;
  std::optional<RiseEvidence> rate_up_;
  // Since scope_start_. Both arms count subjects once from the same moment on: if old had counted its chronic
  // failures before new began, the same failures would look new on new.
  absl::Time scope_start_ = absl::InfinitePast();
  SubjectCounter new_arm_;  // or the rate
  SubjectCounter old_arm_;
  std::optional<RatioEvidence> ratio_down_;        // each subject once
  std::optional<RatioEvidence> ratio_down_every_;  // every event; nothing while that would be the same
  double every_new_events_ = 0, every_old_events_ = 0;
  TrendAlarm trend_;
  double dispersion_ = 1;
};

}  // namespace lockstep::domain
