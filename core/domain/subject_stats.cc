#include "core/domain/subject_stats.h"

#include <iterator>
#include <numeric>

#include "core/base/check.h"
#include "core/domain/bucketing.h"

namespace lockstep::domain {

uint64_t SubjectHash(uint64_t salt_seed, absl::string_view subject) { return KeyHash(~salt_seed, subject); }

void SlotCounts::Add(size_t slot, uint64_t count) {
  LOCKSTEP_CHECK(slot < kSlots, "no such slot");
  if (count == 0) return;
  if (counts_.empty()) counts_.resize(kSlots);
  counts_[slot] += count;
}

void SlotCounts::Merge(const SlotCounts& other) {
  if (other.empty()) return;
  if (counts_.empty()) counts_.resize(kSlots);
  for (size_t i = 0; i < kSlots; ++i) counts_[i] += other.counts_[i];
}

uint64_t SlotCounts::total() const { return std::accumulate(counts_.begin(), counts_.end(), uint64_t{0}); }

void SubjectTrials::Record(uint64_t subject_hash) {
  distinct.Add(subject_hash);
  slots.Add(SlotCounts::SlotOf(subject_hash), 1);
}

void SubjectTrials::Merge(const SubjectTrials& other) {
  distinct.Merge(other.distinct);
  slots.Merge(other.slots);
}

void SubjectEvents::Record(uint64_t subject_hash, uint64_t affected_id) {
  slots.Add(SlotCounts::SlotOf(subject_hash), 1);
  AddAffected(affected_id, 1);
}

// An id that is among the lowest kMaxAffected of the whole is among them in every part, so no part ever drops
// it, and its count is complete.
void SubjectEvents::AddAffected(uint64_t affected_id, uint64_t events) {
  if (events == 0) return;
  if (affected_.size() == kMaxAffected && affected_id > affected_.rbegin()->first) return;
  affected_[affected_id] += events;
  if (affected_.size() > kMaxAffected) affected_.erase(std::prev(affected_.end()));
}

void SubjectEvents::Merge(const SubjectEvents& other) {
  slots.Merge(other.slots);
  for (const auto& [id, events] : other.affected_) AddAffected(id, events);
}

uint64_t SubjectEvents::identified() const {
  uint64_t sum = 0;
  for (const auto& [id, events] : affected_) sum += events;
  return sum;
}

}  // namespace lockstep::domain
