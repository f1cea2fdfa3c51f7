// Evidence that a rate has risen, from two ways to count its events.
//
// One counts each subject once (subject_counter.h). A few broken customers are then no reason to roll back,
// but where most subjects have had an event it sees no more: neither those that fail from now on, nor, where
// each is observed many times in a bucket, half of them failing always. The other counts every event, divided
// by how they cluster, and sees that. Nine tenths of the stake are bet on the first, one tenth on the second;
// the mean of two e-processes is one, whatever their dependence. It costs the first ln(10 / 9) nats.
//
// Until a bucket counts differently the two are the same, and one is kept.
//
// Thread-compatible. Deterministic.
#pragma once

#include <optional>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/domain/change_point_evidence.h"
#include "core/domain/subject_counter.h"

namespace lockstep::domain {

class RiseEvidence {
 public:
  static constexpr double kEveryEventPart = 0.1;

  void BeginStep(absl::Time start);

  // What a bucket counts for, and ln likelihood ratios of it, one for each factor of UpGrid().
  struct Bucket {
    absl::Span<const double> deltas;
    WeightedCount count;
  };
  // `every`: null where events can be counted in one way only.
  void AddBucket(absl::Time start, const Bucket& once, const Bucket* every) {
    if (every != nullptr && !every_) every_ = once_;
    Add(start, once, once_);
    if (every_) Add(start, every != nullptr ? *every : once, *every_);
  }

  // As those of ChangePointEvidence; the likelier rise of the two.
  double LogEvidence() const {
    const double once = once_.LogEvidence();
    return every_ ? LogMean(once, every_->LogEvidence()) : once;
  }
  std::optional<ChangePointEvidence::Rise> MostLikelyRise() const;

 private:
  static void Add(absl::Time start, const Bucket& bucket, ChangePointEvidence& evidence) {
    evidence.AddBucket(start, bucket.deltas, bucket.count.events, bucket.count.trials);
  }
  static double LogMean(double once, double every);

  ChangePointEvidence once_;
  std::optional<ChangePointEvidence> every_;
};

}  // namespace lockstep::domain
