// Hands the published routing states to streams: immutable snapshots, one newest-wins slot per stream.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "core/domain/snapshot.h"
#include "server/engine/change_notifier.h"
#include "server/engine/published_routings.h"
#include "server/engine/snapshot_group.h"

namespace lockstep::engine {

class SnapshotHub;

// What a stream has to send.
struct TakenSnapshot {
  std::shared_ptr<const domain::Snapshot> snapshot;  // null: nothing changed
  // Something in it goes ahead of whatever is on its way to the instance: a rollback, a drill, the end of a
  // hold.
  bool urgent = false;
};

// One stream's slot. Thread-safe. The rules for `wake` and for destruction are those of Listener.
class Subscription {
 public:
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  // The newest snapshot of the migrations asked for, sorted by name; nothing when nothing changed since the
  // last call. The first call returns the state at subscription or a newer one. Migrations that do not exist
  // are absent. Streams that asked for the same migrations get the same object.
  TakenSnapshot TakeLatest();

  // Whom it shares messages with.
  SnapshotGroup& group() { return *group_; }

 private:
  friend class SnapshotHub;
  Subscription(SnapshotHub* hub, std::shared_ptr<SnapshotGroup> group)
      : hub_(hub), group_(std::move(group)) {}

  SnapshotHub* const hub_;
  const std::shared_ptr<SnapshotGroup> group_;
  std::unique_ptr<Listener> listener_;
  std::atomic<uint64_t> taken_revision_{0};
};

// Thread-safe. Must outlive its subscriptions. Lock order: the registry's lock and a group's before the
// hub's.
class SnapshotHub {
 public:
  SnapshotHub() = default;

  // Subscribes to `migrations` (full names), existing or not yet; `wake` tells that TakeLatest has something
  // new.
  std::unique_ptr<Subscription> Subscribe(std::vector<std::string> migrations, std::function<void()> wake);

  // Replaces the state of every migration by `snapshot`, whose revision is not lower than the one before, and
  // marks the streams that asked for `changed`, urgently or not. Called by the registry, in commit order;
  // wake the result with no lock held.
  WakeList Publish(std::shared_ptr<const PublishedRoutings> snapshot, absl::string_view changed, bool urgent);

  // Everything that is published; never null.
  std::shared_ptr<const PublishedRoutings> Latest() const;

  // Sets of migrations that streams ask for at the moment.
  size_t groups() const;

 private:
  friend class Subscription;
  std::shared_ptr<SnapshotGroup> Join(std::vector<std::string> migrations);
  void Leave(const SnapshotGroup& group);
  // Of the newest urgent change of any of `migrations`; 0 = none.
  uint64_t UrgentRevision(const std::vector<std::string>& migrations) const;

  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, uint64_t> urgent_revisions_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const PublishedRoutings> latest_ ABSL_GUARDED_BY(mutex_) =
      std::make_shared<const PublishedRoutings>();
  struct Members {
    std::shared_ptr<SnapshotGroup> group;
    size_t subscriptions = 0;
  };
  std::map<std::vector<std::string>, Members> groups_ ABSL_GUARDED_BY(mutex_);  // by their migrations
  ChangeNotifier notifier_;
};

}  // namespace lockstep::engine
