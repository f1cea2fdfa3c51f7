#include "lockstep/internal/asymmetric_fence.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/check.h"

namespace lockstep::internal {
namespace {

bool Membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0) == 0; }

}  // namespace

FenceKind BestFenceKind() {
  // Old kernels and some sandboxes refuse.
  static const FenceKind kind =
      Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) ? FenceKind::kAsymmetric : FenceKind::kSymmetric;
  return kind;
}

void HeavyFence(FenceKind kind) {
  FullFence();
  if (kind == FenceKind::kSymmetric) return;
  LOCKSTEP_CHECK(Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED),
                 "membarrier(2) was granted at the start and is refused now");
}

}  // namespace lockstep::internal
