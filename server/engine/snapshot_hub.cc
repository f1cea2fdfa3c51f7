#include "server/engine/snapshot_hub.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"

namespace lockstep::engine {

Subscription::Subscription(const SnapshotHub* hub, std::vector<std::string> migrations)
    : hub_(hub), migrations_(std::move(migrations)) {}

TakenSnapshot Subscription::TakeLatest() {
  // The flag is taken before the state is read: a change in between only leads to reading once more.
  if (!listener_->TakeChanged()) return {};
  const std::shared_ptr<const PublishedRoutings> all = hub_->Latest();
  auto mine = std::make_shared<domain::Snapshot>();
  mine->revision = all->revision;
  mine->store_epoch = all->store_epoch;
  for (const std::string& name : migrations_) {
    if (const domain::MigrationRouting* routing = all->Find(name)) mine->migrations.push_back(*routing);
  }
  const uint64_t before = taken_revision_.exchange(all->revision);
  return {std::move(mine), hub_->UrgentRevision(migrations_) > before};
}

std::unique_ptr<Subscription> SnapshotHub::Subscribe(std::vector<std::string> migrations,
                                                     std::function<void()> wake) {
  std::sort(migrations.begin(), migrations.end());
  migrations.erase(std::unique(migrations.begin(), migrations.end()), migrations.end());
  auto subscription = std::unique_ptr<Subscription>(new Subscription(this, std::move(migrations)));
  subscription->listener_ = notifier_.Listen(subscription->migrations_, std::move(wake));
  return subscription;
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
