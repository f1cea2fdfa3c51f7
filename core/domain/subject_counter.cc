#include "core/domain/subject_counter.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "core/base/check.h"

namespace lockstep::domain {
namespace {

// How many subjects' events fill so many slots; infinite where slots say nothing, because there are none or
// all are full.
double SubjectsShown(const SlotCounts& slots) {
  if (slots.empty()) return std::numeric_limits<double>::infinity();
  constexpr double kSlots = SlotCounts::kSlots;
  double empty = 0;
  for (size_t i = 0; i < SlotCounts::kSlots; ++i) empty += slots[i] == 0 ? 1 : 0;
  if (empty == 0) return std::numeric_limits<double>::infinity();
  return -kSlots * std::log(empty / kSlots);
}

// The sum of all slots, where the `cut_down` highest count for no more than the one after them, or than 1: in
// many small buckets each event may be alone in its slot.
double CutDownSum(const SlotCounts& slots, size_t cut_down) {
  std::array<uint64_t, SlotCounts::kSlots> counts;
  for (size_t i = 0; i < counts.size(); ++i) counts[i] = slots[i];
  const auto most = counts.begin() + static_cast<std::ptrdiff_t>(cut_down);
  std::nth_element(counts.begin(), most, counts.end(), std::greater<>());
  for (auto count = counts.begin(); count != most; ++count) {
    *count = std::min(*count, std::max(*most, uint64_t{1}));
  }
  return static_cast<double>(std::accumulate(counts.begin(), counts.end(), uint64_t{0}));
}

void CountEvery(const Observation& observation, SubjectCounter::BucketCounts* counts) {
  const SlotCounts& trial_slots = observation.trials->slots;
  const SlotCounts& slots = observation.events->slots;
  // Where only clean trials have a slot, those of events may be all there are.
  if (observation.count.events > 0 ? slots.empty() : trial_slots.empty()) return;
  const auto trials = static_cast<double>(observation.count.trials);
  const auto events = static_cast<double>(observation.count.events);
  const double without_slot = static_cast<double>(observation.count.events - slots.total());
  const double rise_events = CutDownSum(slots, SubjectCounter::kSlotsCutDown);
  counts->every = {{events, trials}, {rise_events, trials - events + rise_events}};
  size_t observed = 0;
  for (size_t i = 0; i < SlotCounts::kSlots; ++i) observed += trial_slots[i] > 0 || slots[i] > 0 ? 1 : 0;
  counts->every_cut_down =
      without_slot + CutDownSum(slots, std::min(SubjectCounter::kSlotsCutDown, observed / 8));
}

}  // namespace

double SubjectCounter::Dispersion() const {
  const double events = slot_event_sum_;
  if (events == 0) return 1;
  const double trials = std::accumulate(slot_trials_.begin(), slot_trials_.end(), 0.0);
  if (trials == 0) return 1;
  double statistic = 0;
  int slots = 0;
  for (size_t i = 0; i < slot_events_.size(); ++i) {
    if (slot_trials_[i] == 0) continue;
    const double expected = events * slot_trials_[i] / trials;
    statistic += (slot_events_[i] - expected) * (slot_events_[i] - expected) / expected;
    ++slots;
  }
  if (slots < 2) return 1;
  return std::max(1.0, kDispersionMargin * statistic / (slots - 1));
}

SubjectCounter::BucketCounts SubjectCounter::Add(const Observation& observation, double dispersion) {
  reported_.events += observation.count.events;
  reported_.trials += observation.count.trials;
  uint64_t known_trials = 0;
  if (observation.trials != nullptr) {
    // Slots alone tell how events cluster, but not how many subjects there are.
    if (!observation.slots_only && !observation.trials->distinct.empty()) {
      distinct_.Merge(observation.trials->distinct);
      settled_ = false;
      known_trials = std::min(observation.trials->slots.total(), observation.count.trials);
      known_trials_ += known_trials;
    }
    for (size_t i = 0; i < SlotCounts::kSlots && !observation.trials->slots.empty(); ++i) {
      slot_trials_[i] += static_cast<double>(observation.trials->slots[i]);
    }
  }
  uint64_t known_events = 0;
  uint64_t first_events = 0;
  if (observation.events != nullptr) {
    if (!observation.slots_only) {
      for (const auto& [subject, events] : observation.events->affected()) {
        known_events += events;
        if (affected_.size() < kMaxSubjects ? affected_.insert(subject).second
                                            : !affected_.contains(subject)) {
          ++first_events;
        }
      }
    }
    for (size_t i = 0; i < SlotCounts::kSlots && !observation.events->slots.empty(); ++i) {
      slot_events_[i] += static_cast<double>(observation.events->slots[i]);
      slot_event_sum_ += static_cast<double>(observation.events->slots[i]);
    }
  }
  LOCKSTEP_CHECK(known_events <= observation.count.events, "the window was not validated");
  WeightedCount unknown = {static_cast<double>(observation.count.events - known_events),
                           static_cast<double>(observation.count.trials - known_trials)};
  if (dispersion != 1) unknown = {unknown.events / dispersion, unknown.trials / dispersion};
  unknown_.events += unknown.events;
  unknown_.trials += unknown.trials;
  // What the events weigh as trials at least, and those without a name as events at most, where it is not
  // known which of the trials they are of.
  double event_trials = unknown.events;
  double unknown_at_most = unknown.events;
  if (known_trials > 0 || known_events > 0) {
    const uint64_t unnamed = observation.count.events - known_events;
    const uint64_t undivided = std::min(unnamed, known_trials);
    unknown_at_most = static_cast<double>(undivided) + static_cast<double>(unnamed - undivided) / dispersion;
    const uint64_t divided = std::min(observation.count.events, observation.count.trials - known_trials);
    event_trials =
        static_cast<double>(divided) / dispersion + static_cast<double>(observation.count.events - divided);
  }
  unknown_events_at_most_ += unknown_at_most;
  const double trials = static_cast<double>(known_trials) + unknown.trials;
  const double events = std::min(static_cast<double>(first_events) + unknown.events, trials);
  double rise_events = events;
  if (unknown.events > 0 && observation.events != nullptr) {
    const double spread = SubjectsShown(observation.events->slots) / dispersion;
    rise_events = std::min(events, static_cast<double>(first_events) + spread);
  }
  SeeWhetherUsedUp();
  BucketCounts counts;
  counts.once.count = {events, trials};
  counts.once.rise = {rise_events, trials - std::max(0.0, event_trials - rise_events)};
  if (!observation.slots_only && observation.trials != nullptr && observation.events != nullptr) {
    CountEvery(observation, &counts);
  }
  return counts;
}

// The estimate of before, which can only be too small, is brought up to date where it matters.
void SubjectCounter::SeeWhetherUsedUp() {
  constexpr double kShare = 0.1;
  constexpr size_t kLeast = 3;
  const auto used_up = [&] { return static_cast<double>(affected_.size()) >= kShare * estimate_; };
  used_up_ = affected_.size() >= kLeast && used_up();
  if (!used_up_) return;
  Settle();
  used_up_ = used_up();
}

void SubjectCounter::Settle() {
  if (settled_) return;
  estimate_ = distinct_.Estimate();
  settled_ = true;
}

void SubjectCounter::StartAnew() {
  reported_ = EventCount();
  unknown_ = WeightedCount();
  unknown_events_at_most_ = 0;
  affected_.clear();
  distinct_ = DistinctSketch();
  known_trials_ = 0;
  estimate_ = 0;
  settled_ = true;
  used_up_ = false;
}

RateEvidence SubjectCounter::Distinct() const {
  const double known = std::min(DistinctSketch::LowerBound(Estimate()), static_cast<double>(known_trials_));
  const double trials = known + unknown_.trials;
  RateEvidence evidence;
  const double events = static_cast<double>(affected_.size()) + unknown_events_at_most_;
  LOCKSTEP_CHECK(evidence.Add(std::min(events, trials), trials).ok(), "sums of validated counts");
  return evidence;
}

}  // namespace lockstep::domain
