// Which of a few shards the calling thread uses, so that threads rarely share a cache line.
#pragma once

#include <atomic>
#include <cstdint>

namespace lockstep::internal {

inline constexpr uint32_t kThreadShards = 16;

inline std::atomic<uint32_t> next_thread_shard{0};

// In [0, kThreadShards), the same for the life of the thread; threads are dealt out round robin.
inline uint32_t ThreadShard() {
  thread_local const uint32_t shard =
      next_thread_shard.fetch_add(1, std::memory_order_relaxed) % kThreadShards;
  return shard;
}

}  // namespace lockstep::internal
