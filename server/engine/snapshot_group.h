// What is sent to the streams that asked for the same migrations. It is the same for all of them, so it is
// made once: the snapshot of a revision, what has changed since another one, and the bytes of either.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "core/domain/snapshot.h"
#include "server/engine/published_routings.h"

namespace lockstep::engine {

// Room beside a shared message for what its transport makes of it, so that it is made once however many
// instances are sent the message. Thread-safe.
class TransportForm {
 public:
  // What `make` returned at the first call; every call is for the same type.
  template <typename Form, typename Make>
  const Form& GetOrMake(Make&& make) const {
    std::call_once(once_, [&] { form_ = std::make_shared<const Form>(std::forward<Make>(make)()); });
    return *static_cast<const Form*>(form_.get());
  }

 private:
  mutable std::once_flag once_;
  mutable std::shared_ptr<const void> form_;
};

// Replaces whatever an instance has.
struct SnapshotMessage {
  std::shared_ptr<const domain::Snapshot> snapshot;
  uint64_t digest = 0;
  std::shared_ptr<const TransportForm> form;
};
// Changes what it has.
struct DeltaMessage {
  std::shared_ptr<const domain::SnapshotDelta> delta;
  uint64_t digest = 0;  // of the snapshot that results
  std::shared_ptr<const TransportForm> form;
};

// Thread-safe. Lock order: a group's lock before the hub's.
class SnapshotGroup {
 public:
  // `migrations`: full names, existing or not; sorted, each once.
  explicit SnapshotGroup(std::vector<std::string> migrations) : migrations_(std::move(migrations)) {}

  const std::vector<std::string>& migrations() const { return migrations_; }

  // The group's part of one published snapshot.
  struct View {
    std::shared_ptr<const domain::Snapshot> snapshot;
    uint64_t urgent_revision = 0;  // of the newest urgent change in it; 0 = none
  };
  // Of `all`, or of a newer one that it was asked for before. `urgent_revision` is called if it is not known
  // yet.
  View ViewOf(const std::shared_ptr<const PublishedRoutings>& all,
              const std::function<uint64_t()>& urgent_revision);

  // Messages to whoever has nothing, and to whoever has `base`. Both snapshots were returned by ViewOf.
  // Shared by all who ask while `next` is the newest.
  SnapshotMessage Whole(const std::shared_ptr<const domain::Snapshot>& next);
  DeltaMessage Since(const std::shared_ptr<const domain::Snapshot>& base,
                     const std::shared_ptr<const domain::Snapshot>& next);

  // Messages made so far, which is what grows when they are not shared.
  uint64_t messages_made() const { return messages_made_.load(); }

 private:
  // Deltas to the newest snapshot that are kept. Streams that follow have the one before; more than a few
  // only when they lag.
  static constexpr size_t kMostDeltas = 16;

  const std::vector<std::string> migrations_;
  std::atomic<uint64_t> messages_made_{0};

  Mutex mutex_;
  std::shared_ptr<const PublishedRoutings> all_ ABSL_GUARDED_BY(mutex_);  // what newest_ is a part of
  View newest_ ABSL_GUARDED_BY(mutex_);
  SnapshotMessage whole_ ABSL_GUARDED_BY(mutex_);  // of newest_; without a snapshot: not made yet
  // To newest_, by what they change; the oldest first.
  std::vector<std::pair<std::shared_ptr<const domain::Snapshot>, DeltaMessage>> deltas_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::engine
