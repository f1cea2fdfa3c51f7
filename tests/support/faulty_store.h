// A Store whose commits fail or stand still where a test says so.
//
//   std::unique_ptr<Store> target = NewMemoryStore();
//   FaultyStore store(target.get());
//   store.FailCommit(2, FaultyStore::Moment::kAfterApply, absl::UnknownError("sync failed"));
//
// Commits are counted from 1 for the next one, in the order in which they arrive.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "core/base/mutex.h"
#include "server/store/forwarding_store.h"

namespace lockstep::store {

// Thread-safe.
class FaultyStore final : public ForwardingStore {
 public:
  enum class Moment {
    kBeforeApply,  // nothing is written
    kAfterApply,   // written, but the caller is not told
  };

  // Does not own `target`, which must outlive it.
  using ForwardingStore::ForwardingStore;

  // The `nth` commit from now returns `error`, which is not OK.
  void FailCommit(uint64_t nth, Moment moment, absl::Status error) {
    MutexLock lock(&mutex_);
    faults_[arrived_ + nth] = Fault{.moment = moment, .error = std::move(error)};
  }

  // The `nth` commit from now stands still at `moment` until Release, then goes on as usual.
  void BlockCommit(uint64_t nth, Moment moment) {
    MutexLock lock(&mutex_);
    faults_[arrived_ + nth] = Fault{.moment = moment, .error = absl::OkStatus()};
  }

  // Returns when a commit stands still.
  void WaitUntilBlocked() {
    MutexLock lock(&mutex_);
    while (blocked_ == 0) changed_.Wait(&mutex_);
  }

  // Lets every commit that stands still go on.
  void Release() {
    MutexLock lock(&mutex_);
    ++releases_;
    changed_.SignalAll();
  }

  // How many commits have arrived.
  uint64_t commits() const {
    MutexLock lock(&mutex_);
    return arrived_;
  }

  absl::StatusOr<uint64_t> Commit(WriteBatch batch, std::optional<uint64_t> expected_revision) override {
    const std::optional<Fault> fault = TakeFault();
    if (!fault) return ForwardingStore::Commit(std::move(batch), expected_revision);
    if (fault->moment == Moment::kBeforeApply) {
      if (!fault->error.ok()) return fault->error;
      StandStill();
      return ForwardingStore::Commit(std::move(batch), expected_revision);
    }
    absl::StatusOr<uint64_t> revision = ForwardingStore::Commit(std::move(batch), expected_revision);
    if (!fault->error.ok()) return fault->error;
    StandStill();
    return revision;
  }

 private:
  struct Fault {
    Moment moment;
    absl::Status error;  // OK: stand still instead
  };

  std::optional<Fault> TakeFault() {
    MutexLock lock(&mutex_);
    const auto found = faults_.find(++arrived_);
    if (found == faults_.end()) return std::nullopt;
    std::optional<Fault> fault = std::move(found->second);
    faults_.erase(found);
    return fault;
  }

  void StandStill() {
    MutexLock lock(&mutex_);
    const uint64_t releases_before = releases_;
    ++blocked_;
    changed_.SignalAll();
    while (releases_ == releases_before) changed_.Wait(&mutex_);
    --blocked_;
  }

  mutable Mutex mutex_;
  CondVar changed_;
  uint64_t arrived_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t blocked_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t releases_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Fault> faults_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::store
