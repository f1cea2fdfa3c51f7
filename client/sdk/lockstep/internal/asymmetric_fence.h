// A pair of fences for "many readers, hardly any writer": the reader's one costs nothing, the writer's one
// makes up for it.
//
//   reader: store A; LightFence(); load B        writer: store B; HeavyFence(); load A
//
// At least one of the two sees the other's store. With kAsymmetric the light fence only stops the compiler,
// and the heavy one has the kernel run a full fence on every processor that runs a thread of this process
// (membarrier(2), private expedited; a few microseconds). Where the kernel doesn't offer that, both are full
// fences. The idea is Dice, Huang and Yang, "Asymmetric Dekker Synchronization" (2001); C++ has it as
// proposal P1202.
#pragma once

#include <atomic>
#include <cstdint>

namespace lockstep::internal {

enum class FenceKind : uint8_t { kSymmetric, kAsymmetric };

// What this process may use. Registers it with the kernel at the first call; thread-safe.
FenceKind BestFenceKind();

inline void FullFence() {
#ifdef __SANITIZE_THREAD__
  // ThreadSanitizer knows no fences. On the processors that it runs on, this is one.
  std::atomic<int> nobody_elses{0};
  nobody_elses.exchange(1, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

inline void LightFence(FenceKind kind) {
  if (kind == FenceKind::kAsymmetric) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } else {
    FullFence();
  }
}

// kAsymmetric only where BestFenceKind says so.
void HeavyFence(FenceKind kind);

}  // namespace lockstep::internal
