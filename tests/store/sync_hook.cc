#include "tests/store/sync_hook.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace lockstep::store {
namespace {

std::atomic<const SyncHook::Hook*> the_hook{nullptr};

int Sync(int descriptor) {
  const auto sync = [descriptor] { return static_cast<int>(syscall(SYS_fdatasync, descriptor)); };
  const SyncHook::Hook* const hook = the_hook.load(std::memory_order_acquire);
  if (hook == nullptr) return sync();
  std::error_code error;
  return (*hook)(std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", descriptor), error).string(),
                 sync);
}

}  // namespace

SyncHook::SyncHook(Hook hook) : hook_(std::move(hook)) {
  LOCKSTEP_CHECK(the_hook.exchange(&hook_) == nullptr, "one hook at a time");
}
SyncHook::~SyncHook() { the_hook.store(nullptr); }

}  // namespace lockstep::store

extern "C" int fdatasync(int descriptor) { return lockstep::store::Sync(descriptor); }
