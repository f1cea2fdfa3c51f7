#include "lockstep/internal/slice_checker.h"

#include <optional>
#include <utility>

#include "core/base/check.h"

namespace lockstep::internal {
namespace {

// It goes into a reason that a person reads.
constexpr size_t kMaxExampleBytes = 300;

}  // namespace

SliceChecker::SliceChecker(std::vector<std::string> migrations, Executor* executor, const Clock* clock)
    : migrations_(std::move(migrations)), executor_(executor), clock_(clock) {}

void SliceChecker::Note(uint32_t migration_index, NotedRecord record) {
  auto noted = std::make_shared<const NotedRecord>(std::move(record));
  std::shared_ptr<const NotedRecord> replaced;  // destroyed outside the lock
  MutexLock lock(&mutex_);
  if (closed_) return;
  Recent& recent = noted_[migration_index];
  const auto [found, is_new] = recent.by_identity.try_emplace(noted->identity);
  if (!is_new) {
    replaced = std::exchange(*found->second, std::move(noted));
    recent.by_age.splice(recent.by_age.end(), recent.by_age, found->second);
    return;
  }
  found->second = recent.by_age.insert(recent.by_age.end(), std::move(noted));
  if (recent.by_age.size() <= kRecentRecords) return;
  replaced = std::move(recent.by_age.front());
  recent.by_age.pop_front();
  recent.by_identity.erase(replaced->identity);
}

void SliceChecker::Start(const domain::Snapshot& snapshot) {
  std::map<uint32_t, uint64_t> started;  // migration -> epoch
  std::map<uint32_t, Slice> forgotten;   // destroyed outside the lock
  {
    MutexLock lock(&mutex_);
    if (closed_) return;
    forgotten.swap(slices_);
    const bool same_store = std::exchange(store_epoch_, snapshot.store_epoch) == snapshot.store_epoch;
    for (uint32_t index = 0; index < migrations_.size(); ++index) {
      const domain::MigrationRouting* const routing = snapshot.Find(migrations_[index]);
      if (routing == nullptr || routing->state.write_weight == routing->state.drain_weight) continue;
      const domain::RoutingState& state = routing->state;
      const auto before = forgotten.find(index);
      if (same_store && before != forgotten.end() && before->second.result.epoch == state.epoch) {
        Slice& slice = slices_.insert(forgotten.extract(before)).position->second;
        const bool is_over = clock_->SinceBoot() - slice.started_at >= kCheckFor;
        if (is_over) GiveUpLocked(slice, "not compared in the time that a hold has for it");
        continue;
      }
      Slice& slice = slices_[index];
      slice.result.migration = migrations_[index];
      slice.result.epoch = state.epoch;
      slice.started_at = clock_->SinceBoot();
      for (const auto& record : noted_[index].by_age) {
        if (record->bucket >= state.write_weight && record->bucket < state.drain_weight) {
          slice.waiting.push_back(record);
        }
      }
      started.emplace(index, state.epoch);
    }
  }
  for (const auto& [index, epoch] : started) {
    for (size_t i = 0; i < kParallelChecks; ++i) StartNext(index, epoch);
  }
}

void SliceChecker::StartNext(uint32_t migration_index, uint64_t epoch) {
  std::shared_ptr<const NotedRecord> record;
  {
    MutexLock lock(&mutex_);
    Slice* const slice = FindLocked(migration_index, epoch);
    if (slice == nullptr || slice->waiting.empty()) return;
    record = std::move(slice->waiting.front());
    slice->waiting.pop_front();
    ++slice->running;
  }
  SubmitPass(migration_index, epoch, std::move(record), 0, absl::ZeroDuration());
}

void SliceChecker::SubmitPass(uint32_t migration_index, uint64_t epoch,
                              std::shared_ptr<const NotedRecord> record, size_t pass, absl::Duration delay) {
  executor_->Submit(delay,
                    [checker = weak_from_this(), migration_index, epoch, record = std::move(record), pass] {
                      if (const std::shared_ptr<SliceChecker> alive = checker.lock()) {
                        alive->RunPass(migration_index, epoch, record, pass);
                      }
                    });
}

void SliceChecker::RunPass(uint32_t migration_index, uint64_t epoch,
                           std::shared_ptr<const NotedRecord> record, size_t pass) {
  const bool repairs = pass == record->settle_delays.size();
  {
    MutexLock lock(&mutex_);
    Slice* const slice = FindLocked(migration_index, epoch);
    if (slice == nullptr || slice->gave_up) return;
    if (repairs) ++slice->repairing;
  }
  const RecordCheckResult result = record->check(repairs);
  bool again = false;
  {
    MutexLock lock(&mutex_);
    Slice* const slice = FindLocked(migration_index, epoch);
    if (slice == nullptr || (slice->gave_up && !repairs)) return;
    if (repairs) --slice->repairing;
    const bool may_change =
        result.outcome == RecordCheck::kDiffers ||
        (result.outcome == RecordCheck::kUnchecked && clock_->SinceBoot() - slice->started_at < kRetryFor);
    again = may_change && !repairs;
    if (!again) CountLocked(*slice, result);
  }
  if (!again) return StartNext(migration_index, epoch);
  const absl::Duration delay = record->settle_delays[pass];
  SubmitPass(migration_index, epoch, std::move(record), pass + 1, delay);
}

void SliceChecker::CountLocked(Slice& slice, const RecordCheckResult& result) {
  LOCKSTEP_CHECK(slice.running > 0, "a check ends once");
  --slice.running;
  domain::SliceCheck& total = slice.result;
  if (result.outcome != RecordCheck::kUnchecked) {
    ++total.checked;
    slice.unchecked_in_a_row = 0;
  }
  switch (result.outcome) {
    case RecordCheck::kEqual:
      return;
    case RecordCheck::kRepaired:
      ++total.repaired;
      return;
    case RecordCheck::kDiffers:
      if (total.differing++ == 0) total.example = result.why.substr(0, kMaxExampleBytes);
      return;
    case RecordCheck::kUnchecked:
      if (total.unchecked++ + total.differing == 0) total.example = result.why.substr(0, kMaxExampleBytes);
      if (++slice.unchecked_in_a_row < kUncheckedInARow) return;
      total.unchecked += static_cast<uint32_t>(slice.waiting.size());
      slice.waiting.clear();
      return;
  }
}

void SliceChecker::GiveUpLocked(Slice& slice, absl::string_view why) {
  // A write that came after the slice has moved could undo a newer one.
  const size_t left = slice.waiting.size() + slice.running - slice.repairing;
  if (left == 0) return;
  domain::SliceCheck& total = slice.result;
  if (total.unchecked + total.differing == 0) total.example = std::string(why);
  total.unchecked += static_cast<uint32_t>(left);
  slice.waiting.clear();
  slice.running = slice.repairing;
  slice.gave_up = true;
}

SliceChecker::Slice* SliceChecker::FindLocked(uint32_t migration_index, uint64_t epoch) {
  const auto found = slices_.find(migration_index);
  return found == slices_.end() || found->second.result.epoch != epoch ? nullptr : &found->second;
}

bool SliceChecker::Busy() const {
  MutexLock lock(&mutex_);
  for (const auto& [index, slice] : slices_) {
    if (slice.running > 0 || !slice.waiting.empty()) return true;
  }
  return false;
}

std::vector<domain::SliceCheck> SliceChecker::Results() const {
  std::vector<domain::SliceCheck> results;
  MutexLock lock(&mutex_);
  for (const auto& [index, slice] : slices_) {
    if (slice.running == 0 && slice.waiting.empty()) results.push_back(slice.result);
  }
  return results;
}

void SliceChecker::Close() {
  std::map<uint32_t, Recent> noted;  // destroyed outside the lock
  std::map<uint32_t, Slice> slices;
  MutexLock lock(&mutex_);
  closed_ = true;
  noted.swap(noted_);
  slices.swap(slices_);
}

}  // namespace lockstep::internal
