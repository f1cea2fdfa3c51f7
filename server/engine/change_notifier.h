// Wakes listeners when a named thing changed: one flag per listener, never a queue. A slow listener is woken
// once for any number of changes, and then reads the newest state.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/mutex.h"

namespace lockstep::engine {

class ChangeNotifier;
struct WakeSlot;

// One listener. Destroying it ends the subscription: when the destructor returns, `wake` is not running and
// will not be called again. So destroy it neither inside `wake` nor while holding a lock that `wake` takes.
// Thread-safe.
class Listener {
 public:
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Whether something changed since the last call (at first: true).
  bool TakeChanged();

 private:
  friend class ChangeNotifier;
  Listener(ChangeNotifier* notifier, uint64_t id, std::shared_ptr<WakeSlot> slot);

  ChangeNotifier* const notifier_;
  const uint64_t id_;
  const std::shared_ptr<WakeSlot> slot_;
};

// Listeners to be woken, collected under a lock and woken after it is released.
class WakeList {
 public:
  WakeList() = default;
  // Calls the `wake` of each. Call it with no lock held.
  void WakeAll();
  void Append(WakeList other);

 private:
  friend class ChangeNotifier;
  std::vector<std::shared_ptr<WakeSlot>> slots_;
};

// Thread-safe. Must outlive its listeners.
class ChangeNotifier {
 public:
  ChangeNotifier() = default;
  ChangeNotifier(const ChangeNotifier&) = delete;
  ChangeNotifier& operator=(const ChangeNotifier&) = delete;
  ~ChangeNotifier();

  // `wake` runs on the thread that made the change, must not block and must not change anything in the
  // engine; it may read. It is called once between two calls of TakeChanged, and not for the state at
  // subscription.
  std::unique_ptr<Listener> Listen(const std::vector<std::string>& names, std::function<void()> wake);

  // Marks the listeners of `name` as changed, from now on visible to TakeChanged, and returns those to wake.
  WakeList Changed(absl::string_view name);

 private:
  friend class Listener;
  void Remove(uint64_t id);

  Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<std::string, std::map<uint64_t, std::shared_ptr<WakeSlot>>> by_name_
      ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::vector<std::string>> names_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::engine
