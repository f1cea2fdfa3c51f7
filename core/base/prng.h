// Seeded randomness: jitter, sampling, ids. The seed is an argument so that a run can be replayed;
// programs seed from SystemSeed() and log the value.
#pragma once

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

// From the operating system's entropy.
uint64_t SystemSeed();

}  // namespace lockstep
