// From observations as reported to counts that evidence may rest on, although events cluster by subject (one
// broken customer, many failing requests).
//
// - A subject with an event counts once in the counter's scope, however many events it has.
// - What is certified is the number of distinct subjects observed, from a sketch, less three of its standard
//   errors, and never more than there were observations with a subject.
// - Events and trials whose subject is not known are divided by phi = max(1, 1.35 times the Pearson
//   dispersion of the events over 64 slots of subjects), as estimated from the buckets before: under
//   clustering a sum of n of them tells as much as n / phi independent ones (Wedderburn's quasi-likelihood,
//   1974; 1.35 covers the error of an estimate from 64 slots).
//
// Thread-compatible. Deterministic. Memory: at most 65,536 subjects and one sketch.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "core/domain/metric.h"
#include "core/domain/rate_evidence.h"

namespace lockstep::domain {

// Counts that need not be whole.
struct WeightedCount {
  double events = 0;
  double trials = 0;

  bool operator==(const WeightedCount&) const = default;
};

class SubjectCounter {
 public:
  static constexpr size_t kMaxSubjects = 65536;
  static constexpr double kDispersionMargin = 1.35;

  // From the buckets added so far; at least 1.
  double Dispersion() const;

  struct Counted {
    WeightedCount count;
    // The events, where those of the bucket without a subject count for no more than the subjects that their
    // slots show (by linear counting). A first burst finds no past from which to know the dispersion; for
    // evidence of a rise, which fewer events only make smaller.
    double spread_events = 0;
  };

  // Adds a bucket and returns what it counts for: subjects with their first event, in all trials; those
  // without a subject divided by `dispersion`. The caller has validated it, and compares only counts made
  // with the same dispersion.
  Counted Add(const Observation& observation, double dispersion);

  // Reckons the sketch up, so that Distinct() and distinct_subjects() are cheap until the next Add().
  void Settle();

  // A new scope: forgets everything but how events cluster.
  void StartAnew();

  // As reported, summed up.
  const EventCount& reported() const { return reported_; }
  // What certifies: distinct subjects with an event of distinct subjects observed, and what has no subject,
  // divided.
  RateEvidence Distinct() const;

  uint64_t affected_subjects() const { return affected_.size(); }
  // Subjects with an event, and the events without a subject, divided.
  double affected() const { return static_cast<double>(affected_.size()) + unknown_.events; }
  // 0 if reports name none.
  double distinct_subjects() const { return std::min(Estimate(), static_cast<double>(known_trials_)); }

 private:
  // Of distinct_.
  double Estimate() const { return settled_ ? estimate_ : distinct_.Estimate(); }

  EventCount reported_;
  WeightedCount unknown_;  // those without a subject, divided
  absl::flat_hash_set<uint64_t> affected_;
  DistinctSketch distinct_;
  uint64_t known_trials_ = 0;  // those that distinct_ is of
  bool settled_ = true;        // estimate_ is that of distinct_
  double estimate_ = 0;
  bool events_in_slots_ = false;
  std::array<double, SlotCounts::kSlots> slot_events_ = {};
  std::array<double, SlotCounts::kSlots> slot_trials_ = {};
};

}  // namespace lockstep::domain
