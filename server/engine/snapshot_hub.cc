#include "server/engine/snapshot_hub.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"

namespace lockstep::engine {

Subscription::~Subscription() { hub_->Leave(*group_); }

TakenSnapshot Subscription::TakeLatest() {
  // The flag is taken before the state is read: a change in between only leads to reading once more.
  if (!listener_->TakeChanged()) return {};
  SnapshotGroup::View view =
      group_->ViewOf(hub_->Latest(), [this] { return hub_->UrgentRevision(group_->migrations()); });
  const uint64_t before = taken_revision_.exchange(view.snapshot->revision);
  return {std::move(view.snapshot), view.urgent_revision > before};
}

std::unique_ptr<Subscription> SnapshotHub::Subscribe(std::vector<std::string> migrations,
                                                     std::function<void()> wake) {
  std::sort(migrations.begin(), migrations.end());
  migrations.erase(std::unique(migrations.begin(), migrations.end()), migrations.end());
  auto subscription = std::unique_ptr<Subscription>(new Subscription(this, Join(std::move(migrations))));
  subscription->listener_ = notifier_.Listen(subscription->group_->migrations(), std::move(wake));
  return subscription;
}

std::shared_ptr<SnapshotGroup> SnapshotHub::Join(std::vector<std::string> migrations) {
  MutexLock lock(&mutex_);
  Members& members = groups_[migrations];
  if (members.group == nullptr) members.group = std::make_shared<SnapshotGroup>(std::move(migrations));
  ++members.subscriptions;
  return members.group;
}

void SnapshotHub::Leave(const SnapshotGroup& group) {
  MutexLock lock(&mutex_);
  const auto members = groups_.find(group.migrations());
  if (--members->second.subscriptions == 0) groups_.erase(members);
}

size_t SnapshotHub::groups() const {
  MutexLock lock(&mutex_);
  return groups_.size();
}

WakeList SnapshotHub::Publish(std::shared_ptr<const PublishedRoutings> snapshot, absl::string_view changed,
                              bool urgent) {
  {
    MutexLock lock(&mutex_);
    LOCKSTEP_CHECK(snapshot->revision >= latest_->revision, "snapshots are published in commit order");
    if (urgent) urgent_revisions_[changed] = snapshot->revision;
    latest_ = std::move(snapshot);
  }
  return notifier_.Changed(changed);
}

uint64_t SnapshotHub::UrgentRevision(const std::vector<std::string>& migrations) const {
  MutexLock lock(&mutex_);
  uint64_t newest = 0;
  if (urgent_revisions_.empty()) return newest;
  for (const std::string& migration : migrations) {
    const auto urgent = urgent_revisions_.find(migration);
    if (urgent != urgent_revisions_.end()) newest = std::max(newest, urgent->second);
  }
  return newest;
}

std::shared_ptr<const PublishedRoutings> SnapshotHub::Latest() const {
  MutexLock lock(&mutex_);
  return latest_;
}

}  // namespace lockstep::engine
