// Whom observations concern. Events cluster by subject: one broken customer makes many failing requests. So
// the gate counts an affected subject once, and certifies by distinct subjects; docs/gate.md says why. A
// subject is the routing key, unless the service names another (a tenant, say).
//
// Two names for a subject travel, neither of which leads back to it:
//   hash: SubjectHash; only what a sketch and a slot keep of it
//   id:   a keyed digest, the same on all instances; sent for affected subjects only, and they are few
//
// Merging is adding: associative and commutative, bit for bit. Thread-compatible.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/domain/distinct_sketch.h"

namespace lockstep::domain {

// XXH3-64 of the subject, seeded with the complement of the routing state's salt seed. Not the hash that
// decides a key's bucket: the keys of a canary of 1 % agree in the first bits of that one, and a sketch would
// find next to nobody among them.
uint64_t SubjectHash(uint64_t salt_seed, absl::string_view subject);

// Counts by the last 6 bits of the subject's hash, from which the dispersion is estimated. Empty or kSlots
// long.
class SlotCounts {
 public:
  static constexpr size_t kSlots = 64;

  static size_t SlotOf(uint64_t subject_hash) { return subject_hash % kSlots; }

  // `slot` < kSlots. The caller keeps sums within kMaxCount (log_math.h), here and in Merge.
  void Add(size_t slot, uint64_t count);
  void Merge(const SlotCounts& other);
  uint64_t operator[](size_t slot) const { return counts_.empty() ? 0 : counts_[slot]; }
  uint64_t total() const;  // of valid counts; wraps around for others
  bool empty() const { return counts_.empty(); }

  bool operator==(const SlotCounts&) const = default;

 private:
  std::vector<uint64_t> counts_;  // empty exactly when all are 0
};

// Observations whose subject is known.
struct SubjectTrials {
  DistinctSketch distinct;
  SlotCounts slots;

  // One observation, or one more of the same subject.
  void Record(uint64_t subject_hash);
  void Merge(const SubjectTrials& other);
  bool operator==(const SubjectTrials&) const = default;
};

// Bad observations whose subject is known.
class SubjectEvents {
 public:
  // Beyond so many the lowest ids are kept: that choice gives the same result in whatever order windows are
  // merged. The events of the others count as events without a subject.
  static constexpr size_t kMaxAffected = 256;

  void Record(uint64_t subject_hash, uint64_t affected_id);
  // `events` of one subject, 0 of which leave no trace; for what comes off the wire. The caller keeps sums
  // within kMaxCount.
  void AddAffected(uint64_t affected_id, uint64_t events);
  void Merge(const SubjectEvents& other);

  // Id -> events.
  const std::map<uint64_t, uint64_t>& affected() const { return affected_; }
  // Events of the subjects in affected().
  uint64_t identified() const;

  bool operator==(const SubjectEvents&) const = default;

  SlotCounts slots;

 private:
  std::map<uint64_t, uint64_t> affected_;
};

}  // namespace lockstep::domain
