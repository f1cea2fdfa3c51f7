#include "tests/bench/sync_counter.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace lockstep::bench {
namespace {

std::atomic<SyncCounts*> counting_in{nullptr};

// What `descriptor` is by its name, asked anew each time: a sync takes a hundred times as long.
void CountSync(int descriptor) {
  SyncCounts* const counts = counting_in.load(std::memory_order_acquire);
  if (counts == nullptr) return;
  char target[4096];
  const ssize_t length = readlink(absl::StrCat("/proc/self/fd/", descriptor).c_str(), target, sizeof(target));
  const absl::string_view path(target, length > 0 ? static_cast<size_t>(length) : 0);
  if (absl::EndsWith(path, ".log")) {
    ++counts->log;
  } else if (absl::EndsWith(path, "/mark")) {
    ++counts->mark;
  } else {
    ++counts->other;
  }
}

}  // namespace

absl::StatusOr<SyncCounts*> MapSyncCounts(const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  void* memory = MAP_FAILED;
  if (ftruncate(file, sizeof(SyncCounts)) == 0) {
    memory = mmap(nullptr, sizeof(SyncCounts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  const int error = errno;
  close(file);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(error, absl::StrCat("map ", path));
  return static_cast<SyncCounts*>(memory);
}

void CountSyncsIn(SyncCounts* counts) { counting_in.store(counts, std::memory_order_release); }

}  // namespace lockstep::bench

extern "C" int fsync(int descriptor) {
  lockstep::bench::CountSync(descriptor);
  return static_cast<int>(syscall(SYS_fsync, descriptor));
}

extern "C" int fdatasync(int descriptor) {
  lockstep::bench::CountSync(descriptor);
  return static_cast<int>(syscall(SYS_fdatasync, descriptor));
}
