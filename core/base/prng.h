// Seeded randomness: jitter, sampling, ids. The seed is an argument so that a run can be replayed;
// programs seed from SystemSeed() and log the value.
#pragma once

#include <atomic>
#include <cstdint>
#include <random>
#include <string>

namespace lockstep {

// Not thread-safe.
class Prng {
 public:
  explicit Prng(uint64_t seed) : engine_(seed) {}
  uint64_t Next() { return engine_(); }
  // Uniform in [0, bound); `bound` > 0.
  uint64_t Below(uint64_t bound) { return std::uniform_int_distribution<uint64_t>(0, bound - 1)(engine_); }
  // Uniform in [0, 1).
  double Unit() { return std::uniform_real_distribution<double>(0.0, 1.0)(engine_); }
  // A version 4 UUID in its usual form.
  std::string Uuid();

 private:
  std::mt19937_64 engine_;
};

// For draws on many threads. Thread-safe and without a lock: SplitMix64 (Steele, Lea, Flood, "Fast splittable
// pseudorandom number generators", 2014), whose state only counts.
class SharedPrng {
 public:
  explicit SharedPrng(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_.fetch_add(kGamma, std::memory_order_relaxed) + kGamma;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // Uniform in [0, 1).
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

 private:
  static constexpr uint64_t kGamma = 0x9e3779b97f4a7c15u;
  std::atomic<uint64_t> state_;
};

// From the operating system's entropy.
uint64_t SystemSeed();

}  // namespace lockstep
