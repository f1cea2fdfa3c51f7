#include "server/engine/snapshot_group.h"

namespace lockstep::engine {

SnapshotGroup::View SnapshotGroup::ViewOf(const std::shared_ptr<const PublishedRoutings>& all,
                                          const std::function<uint64_t()>& urgent_revision) {
  MutexLock lock(&mutex_);
  if (all_ == all || (all_ != nullptr && all_->revision > all->revision)) return newest_;
  auto mine = std::make_shared<domain::Snapshot>();
  mine->revision = all->revision;
  mine->store_epoch = all->store_epoch;
  for (const std::string& name : migrations_) {
    if (const domain::MigrationRouting* routing = all->Find(name)) mine->migrations.push_back(*routing);
  }
  all_ = all;
  newest_ = {std::move(mine), urgent_revision()};
  whole_ = {};
  deltas_.clear();
  return newest_;
}

SnapshotMessage SnapshotGroup::Whole(const std::shared_ptr<const domain::Snapshot>& next) {
  MutexLock lock(&mutex_);
  const bool shared = next == newest_.snapshot;
  if (shared && whole_.snapshot != nullptr) return whole_;
  messages_made_.fetch_add(1);
  SnapshotMessage message{next, domain::SnapshotDigest(*next), std::make_shared<const TransportForm>()};
  if (shared) whole_ = message;
  return message;
}

DeltaMessage SnapshotGroup::Since(const std::shared_ptr<const domain::Snapshot>& base,
                                  const std::shared_ptr<const domain::Snapshot>& next) {
  MutexLock lock(&mutex_);
  const bool shared = next == newest_.snapshot;
  if (shared) {
    for (const auto& [from, message] : deltas_) {
      if (from == base) return message;
    }
  }
  messages_made_.fetch_add(1);
  DeltaMessage message{std::make_shared<const domain::SnapshotDelta>(domain::DeltaBetween(*base, *next)),
                       domain::SnapshotDigest(*next), std::make_shared<const TransportForm>()};
  if (shared) {
    if (deltas_.size() == kMostDeltas) deltas_.erase(deltas_.begin());
    deltas_.emplace_back(base, message);
  }
  return message;
}

}  // namespace lockstep::engine
