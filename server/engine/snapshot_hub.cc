#include "server/engine/snapshot_hub.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"

namespace lockstep::engine {

Subscription::Subscription(const SnapshotHub* hub, std::vector<std::string> migrations)
    : hub_(hub), migrations_(std::move(migrations)) {}

std::shared_ptr<const domain::Snapshot> Subscription::TakeLatest() {
  // The flag is taken before the state is read: a change in between only leads to reading once more.
  if (!listener_->TakeChanged()) return nullptr;
  const std::shared_ptr<const domain::Snapshot> all = hub_->Latest();
  auto mine = std::make_shared<domain::Snapshot>();
  mine->revision = all->revision;
  for (const std::string& name : migrations_) {
    if (const domain::MigrationRouting* routing = all->Find(name)) mine->migrations.push_back(*routing);
  }
  return mine;
}

std::unique_ptr<Subscription> SnapshotHub::Subscribe(std::vector<std::string> migrations,
                                                     std::function<void()> wake) {
  std::sort(migrations.begin(), migrations.end());
  migrations.erase(std::unique(migrations.begin(), migrations.end()), migrations.end());
  auto subscription = std::unique_ptr<Subscription>(new Subscription(this, std::move(migrations)));
  subscription->listener_ = notifier_.Listen(subscription->migrations_, std::move(wake));
  return subscription;
}

WakeList SnapshotHub::Publish(std::shared_ptr<const domain::Snapshot> snapshot, absl::string_view changed) {
  {
    MutexLock lock(&mutex_);
    LOCKSTEP_CHECK(snapshot->revision >= latest_->revision, "snapshots are published in commit order");
    latest_ = std::move(snapshot);
  }
  return notifier_.Changed(changed);
}

std::shared_ptr<const domain::Snapshot> SnapshotHub::Latest() const {
  MutexLock lock(&mutex_);
  return latest_;
}

}  // namespace lockstep::engine
