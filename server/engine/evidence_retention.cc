#include "server/engine/evidence_retention.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"
#include "server/engine/telemetry_keys.h"

namespace lockstep::engine {
namespace {

// Row of the table meta: buckets before may be gone, in seconds since the Unix epoch, decimal.
constexpr char kKeptSinceKey[] = "evidence_kept_since";
// A commit for each bucket would cost the disk a sync every 5 s for each of them.
constexpr absl::Duration kRemoveEvery = absl::Minutes(1);
constexpr size_t kRemovalsPerCommit = 1000;

uint64_t BucketSeconds(absl::Time time) {
  return static_cast<uint64_t>(std::max<int64_t>(kTotalBucketSeconds + 1, absl::ToUnixSeconds(time)));
}

}  // namespace

EvidenceRetention::EvidenceRetention(store::Store* store, const Clock* clock, Registry* registry,
                                     Options options)
    : store_(store), clock_(clock), registry_(registry), options_(options) {}

absl::Status EvidenceRetention::Recover() {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> row,
                            store_->Get(store::Table::kMeta, store::MetaKey(kKeptSinceKey)));
  if (!row) return absl::OkStatus();
  int64_t seconds = 0;
  if (!absl::SimpleAtoi(*row, &seconds)) {
    return absl::DataLossError("the record of how far back evidence is kept is damaged");
  }
  MutexLock lock(&view_mutex_);
  kept_since_ = absl::FromUnixSeconds(seconds);
  return absl::OkStatus();
}

absl::Status EvidenceRetention::Tick() {
  MutexLock lock(&mutex_);
  const absl::Time horizon = BucketFloor(clock_->Now() - options_.keep);
  absl::Status first = RenewOldEvidence(horizon);
  const absl::Duration now = clock_->SinceBoot();
  if (now < next_removal_) return first;
  bool more = false;
  const absl::Status removed = RemoveBuckets(horizon, &more);
  if (!more) next_removal_ = now + kRemoveEvery;
  first.Update(removed);
  return first;
}

absl::Status EvidenceRetention::RenewOldEvidence(absl::Time horizon) {
  absl::Status first;
  for (const GateSubject& subject : registry_->GateSubjects()) {
    if (subject.timeline.begin() >= horizon) continue;
    first.Update(
        registry_->RenewEvidence(subject.migration->name, horizon,
                                 absl::StrCat("the evidence was older than buckets are kept, ",
                                              absl::FormatDuration(options_.keep), ": it begins anew")));
  }
  return first;
}

absl::Status EvidenceRetention::RemoveBuckets(absl::Time horizon, bool* more) {
  store::WriteBatch batch;
  std::map<GenerationKey, absl::Time> removed;
  for (const GateSubject& subject : registry_->GateSubjects()) {
    const std::string& name = subject.migration->name;
    const uint64_t present = subject.migration->published.generation;
    for (uint64_t generation = 1; generation <= present && !*more; ++generation) {
      const absl::Time end = generation == present ? std::min(horizon, subject.timeline.begin()) : horizon;
      const auto done = removed_before_.find({name, generation});
      const absl::Time begin = done == removed_before_.end() ? absl::UnixEpoch() : done->second;
      removed[{name, generation}] = std::max(begin, end);
      if (begin >= end) continue;
      const store::KeyRange range =
          store::WindowsBetween(name, generation, BucketSeconds(begin), BucketSeconds(end));
      const size_t room = kRemovalsPerCommit - batch.operations().size();
      LOCKSTEP_RETURN_IF_ERROR(store_->Scan(store::Table::kWindows, range.start, range.end, room,
                                            [&](absl::string_view key, absl::string_view) {
                                              batch.Delete(store::Table::kWindows, std::string(key));
                                              return true;
                                            }));
      *more = batch.operations().size() == kRemovalsPerCommit;
      if (*more) removed.erase({name, generation});
    }
  }
  if (!batch.empty()) {
    {
      // First, so that whoever finds a bucket missing finds this too. It may turn out too high, never too
      // low.
      MutexLock lock(&view_mutex_);
      kept_since_ = std::max(kept_since_, horizon);
    }
    batch.Put(store::Table::kMeta, store::MetaKey(kKeptSinceKey),
              absl::StrCat(absl::ToUnixSeconds(kept_since())));
    LOCKSTEP_RETURN_IF_ERROR(store_->Commit(std::move(batch), std::nullopt).status());
  }
  // What is not in it is gone, or was not reached: it begins from nothing.
  if (*more) removed.insert(removed_before_.begin(), removed_before_.end());
  removed_before_ = std::move(removed);
  return absl::OkStatus();
}

absl::Status EvidenceRetention::CheckKept(const GateSubject& subject) const {
  const absl::Time kept = kept_since();
  const absl::Time begin = subject.timeline.begin();
  if (begin >= kept) return absl::OkStatus();
  const std::string& name = subject.migration->name;
  const absl::StatusOr<GateSubject> present = registry_->FindGateSubject(name);
  // Present evidence is kept whole.
  if (present.ok() && present->migration->uid == subject.migration->uid &&
      present->timeline.begin() == begin) {
    return absl::OkStatus();
  }
  const auto text = [](absl::Time time) {
    return absl::FormatTime(absl::RFC3339_sec, time, absl::UTCTimeZone());
  };
  const std::string why = absl::StrCat(
      "this evidence of ", name, " began at ", text(begin), ", and evidence of the past is kept since ",
      text(kept), " only. What each decision rested on is in its record: lockstep migration history ", name,
      " -o json. The server's --evidence-retention says how long evidence is kept");
  return WithErrorInfo(absl::FailedPreconditionError(why),
                       {.reason = "EVIDENCE_EXPIRED",
                        .metadata = {{"migration", name}, {"kept_since", text(kept)}},
                        .field_violations = {},
                        .precondition_violations = {{"EVIDENCE_EXPIRED", name, why}}});
}

absl::Time EvidenceRetention::kept_since() const {
  MutexLock lock(&view_mutex_);
  return kept_since_;
}

}  // namespace lockstep::engine
