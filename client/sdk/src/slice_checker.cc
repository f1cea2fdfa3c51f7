#include "lockstep/internal/slice_checker.h"

#include <optional>
#include <utility>

#include "core/base/check.h"

namespace lockstep::internal {
namespace {

// It goes into a reason that a person reads.
constexpr size_t kMaxExampleBytes = 300;

}  // namespace

SliceChecker::SliceChecker(std::vector<std::string> migrations, Executor* executor)
    : migrations_(std::move(migrations)), executor_(executor) {}

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
        slices_.insert(forgotten.extract(before));
        continue;
      }
      Slice& slice = slices_[index];
      slice.result.migration = migrations_[index];
      slice.result.epoch = state.epoch;
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
  {
    MutexLock lock(&mutex_);
    if (FindLocked(migration_index, epoch) == nullptr) return;
  }
  const bool is_last = pass == record->settle_delays.size();
  RecordCheckResult result = record->check(/*repair=*/is_last);
  if (result.outcome == RecordCheck::kDiffers && !is_last) {
    const absl::Duration delay = record->settle_delays[pass];
    return SubmitPass(migration_index, epoch, std::move(record), pass + 1, delay);
  }
  {
    MutexLock lock(&mutex_);
    Slice* const slice = FindLocked(migration_index, epoch);
    if (slice == nullptr) return;
    LOCKSTEP_CHECK(slice->running > 0, "a check ends once");
    --slice->running;
    domain::SliceCheck& total = slice->result;
    ++total.checked;
    switch (result.outcome) {
      case RecordCheck::kEqual:
        break;
      case RecordCheck::kRepaired:
        ++total.repaired;
        break;
      case RecordCheck::kDiffers:
        if (total.differing++ == 0) total.example = result.why.substr(0, kMaxExampleBytes);
        break;
    }
  }
  StartNext(migration_index, epoch);
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
  for (const auto& [index, slice] : slices_) results.push_back(slice.result);
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
