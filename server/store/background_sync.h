// A sync that its caller doesn't wait for: it runs on a thread of its own, as soon as there is a CPU to
// spare, while the caller goes on.
//
//   BackgroundSync sync([&file] { return file.SyncData(); });
//   ...
//   LOCKSTEP_RETURN_IF_ERROR(sync.Wait());   // what was written before is durable
//   file.WriteAt(0, bytes);
//   sync.Start();
#pragma once

#include <functional>
#include <thread>

#include "absl/status/status.h"
#include "core/base/mutex.h"

namespace lockstep::store {

// Thread-safe.
class BackgroundSync {
 public:
  // `sync` runs on one thread at a time, after what was done before Start and before what is done after Wait.
  explicit BackgroundSync(std::function<absl::Status()> sync);
  BackgroundSync(const BackgroundSync&) = delete;
  BackgroundSync& operator=(const BackgroundSync&) = delete;
  // Waits for a sync that was started.
  ~BackgroundSync();

  // Starts a sync and returns. The one before must be done: Wait first.
  void Start();
  // Returns what the last sync returned, once it is done; OK when there was none. A sync whose thread has not
  // come to it yet runs in the caller.
  absl::Status Wait();

 private:
  enum class State { kStarted, kRunning, kDone };

  void Run() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Loop();

  const std::function<absl::Status()> sync_;

  Mutex mutex_;
  CondVar started_;
  CondVar done_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kDone;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status result_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;  // last: uses all of the above
};

}  // namespace lockstep::store
