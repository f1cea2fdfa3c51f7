// Tells whether the process is still the one it was: fork() copies memory, but neither threads nor the right
// to act as the same instance.
#pragma once

#include <atomic>
#include <cstdint>

namespace lockstep::internal {

inline std::atomic<uint32_t> fork_generation{0};

// Counts the forks between the first process that called WatchForForks and this one.
inline uint32_t ForkGeneration() { return fork_generation.load(std::memory_order_relaxed); }

// From now on, children count. Idempotent; thread-safe.
void WatchForForks();

}  // namespace lockstep::internal
