#include "server/engine/change_notifier.h"

#include <iterator>
#include <utility>

#include "core/base/check.h"

namespace lockstep::engine {

struct WakeSlot {
  explicit WakeSlot(std::function<void()> w) : wake(std::move(w)) {}

  const std::function<void()> wake;
  Mutex mutex;
  CondVar idle;
  bool changed ABSL_GUARDED_BY(mutex) = true;
  bool closed ABSL_GUARDED_BY(mutex) = false;
  int waking ABSL_GUARDED_BY(mutex) = 0;
};

Listener::Listener(ChangeNotifier* notifier, uint64_t id, std::shared_ptr<WakeSlot> slot)
    : notifier_(notifier), id_(id), slot_(std::move(slot)) {}

Listener::~Listener() {
  notifier_->Remove(id_);
  MutexLock lock(&slot_->mutex);
  slot_->closed = true;
  while (slot_->waking > 0) slot_->idle.Wait(&slot_->mutex);
}

bool Listener::TakeChanged() {
  MutexLock lock(&slot_->mutex);
  return std::exchange(slot_->changed, false);
}

void WakeList::WakeAll() {
  for (const std::shared_ptr<WakeSlot>& slot : std::exchange(slots_, {})) {
    {
      MutexLock lock(&slot->mutex);
      if (slot->closed) continue;
      ++slot->waking;
    }
    // Unlocked, so that `wake` may call TakeChanged.
    slot->wake();
    MutexLock lock(&slot->mutex);
    if (--slot->waking == 0) slot->idle.SignalAll();
  }
}

void WakeList::Append(WakeList other) {
  slots_.insert(slots_.end(), std::make_move_iterator(other.slots_.begin()),
                std::make_move_iterator(other.slots_.end()));
}

ChangeNotifier::~ChangeNotifier() {
  MutexLock lock(&mutex_);
  LOCKSTEP_CHECK(names_.empty(), "a notifier outlives its listeners");
}

std::unique_ptr<Listener> ChangeNotifier::Listen(const std::vector<std::string>& names,
                                                 std::function<void()> wake) {
  auto slot = std::make_shared<WakeSlot>(std::move(wake));
  MutexLock lock(&mutex_);
  const uint64_t id = next_id_++;
  for (const std::string& name : names) by_name_[name].emplace(id, slot);
  names_.emplace(id, names);
  return std::unique_ptr<Listener>(new Listener(this, id, std::move(slot)));
}

WakeList ChangeNotifier::Changed(absl::string_view name) {
  WakeList list;
  MutexLock lock(&mutex_);
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return list;
  for (const auto& [id, slot] : found->second) {
    MutexLock slot_lock(&slot->mutex);
    // Already told, and not read since: once is enough.
    if (std::exchange(slot->changed, true)) continue;
    list.slots_.push_back(slot);
  }
  return list;
}

void ChangeNotifier::Remove(uint64_t id) {
  MutexLock lock(&mutex_);
  const auto names = names_.find(id);
  for (const std::string& name : names->second) {
    const auto listeners = by_name_.find(name);
    if (listeners == by_name_.end()) continue;  // listed twice
    listeners->second.erase(id);
    if (listeners->second.empty()) by_name_.erase(listeners);
  }
  names_.erase(names);
}

}  // namespace lockstep::engine
