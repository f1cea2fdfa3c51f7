// Stands in for fdatasync(2) of this program, whatever library calls it, so that a test can watch, hold and
// fail syncs.
#pragma once

#include <functional>
#include <string>

namespace lockstep::store {

// While it lives, each sync is a call of `hook`, which gets the path of the file and the real sync, and whose
// result and errno the caller gets; several may run at the same time. One hook at a time; it outlives the
// syncs that it is called for.
class SyncHook {
 public:
  using Hook = std::function<int(const std::string& path, const std::function<int()>& sync)>;
  explicit SyncHook(Hook hook);
  SyncHook(const SyncHook&) = delete;
  SyncHook& operator=(const SyncHook&) = delete;
  ~SyncHook();

 private:
  const Hook hook_;
};

}  // namespace lockstep::store
