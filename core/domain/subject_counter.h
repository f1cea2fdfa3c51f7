// From observations as reported to counts that evidence may rest on, although events cluster by subject (one
// broken customer, many failing requests).
//
// - A subject with an event counts once in the counter's scope, however many events it has. That says little
//   once most subjects have had one, so every event is counted as well, for a second test beside the first.
// - What is certified is the number of distinct subjects observed, from a sketch, less three of its standard
//   errors, and never more than there were observations with a subject.
// - Events and trials whose subject is not known are divided by phi = max(1, 1.35 times the Pearson
//   dispersion of the events over 64 slots of subjects), as estimated from the buckets before: under
//   clustering a sum of n of them tells as much as n / phi independent ones (Wedderburn's quasi-likelihood,
//   1974; 1.35 covers the error of an estimate from 64 slots). For what is certified, events are divided only
//   if their trials are: half the events in all of the trials would be half the rate.
//
// Thread-compatible. Deterministic. Memory: at most 65,536 subjects and one sketch.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

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

  // So many slots, those with the most events, are cut down to the next one.
  static constexpr size_t kSlotsCutDown = 2;

  // From the buckets added so far; at least 1.
  double Dispersion() const;
  // Of the buckets added so far, what Dispersion() rests on.
  double events_in_slots() const { return slot_event_sum_; }

  // Whether so many of the subjects observed, at least 3 and a tenth, have had their event that those still
  // to come say less of the arm's rate than of how much traffic it has had.
  bool UsedUp() const { return used_up_; }

  // What a bucket counts for, by one way of counting.
  struct Counted {
    WeightedCount count;
    // For evidence that a rate has risen: fewer events, and those that don't count are no trials either. Both
    // only make such evidence smaller than that of all events in all trials.
    WeightedCount rise;
  };

  struct BucketCounts {
    // Subjects with their first event, in all trials; what has no subject divided. For a rise the events
    // without a subject count for no more than the subjects that their slots show (by linear counting): a
    // first burst finds no past from which to know the dispersion.
    Counted once;
    // Every event, not divided. For a rise one or two subjects may not outweigh the others: of the slots with
    // the most events two are cut down to the third, but to no less than an event each. Nothing where the
    // bucket doesn't say over which slots its events spread.
    std::optional<Counted> every;
    // The events of `every`, cut down in the same way, though less so where fewer than 16 slots are observed:
    // for evidence that a rate is low, which fewer events support.
    double every_cut_down = 0;
  };

  // Adds a bucket and returns what it counts for. The caller has validated it, and compares only counts made
  // with the same dispersion.
  BucketCounts Add(const Observation& observation, double dispersion);

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
  void SeeWhetherUsedUp();
  // Of distinct_.
  double Estimate() const { return settled_ ? estimate_ : distinct_.Estimate(); }

  EventCount reported_;
  WeightedCount unknown_;  // those without a subject, divided
  // The same events, those divided that may be of trials that are.
  double unknown_events_at_most_ = 0;
  absl::flat_hash_set<uint64_t> affected_;
  DistinctSketch distinct_;
  uint64_t known_trials_ = 0;  // those that distinct_ is of
  bool settled_ = true;        // estimate_ is that of distinct_
  double estimate_ = 0;
  bool used_up_ = false;
  double slot_event_sum_ = 0;
  std::array<double, SlotCounts::kSlots> slot_events_ = {};
  std::array<double, SlotCounts::kSlots> slot_trials_ = {};
};

}  // namespace lockstep::domain
