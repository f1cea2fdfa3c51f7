// Which bucket a routing key falls into. Part of the public contract: the same key lands in the same bucket
// in every client, language and version; tests/golden/bucketing.json pins it.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace lockstep::domain {

// One bucket is 0.001 % of keys. Weights are bounds in [0, kBucketCount]: buckets below the bound are in.
inline constexpr uint32_t kBucketCount = 100000;

// Longest routing key in bytes that any door accepts.
inline constexpr size_t kMaxKeyBytes = 1024;

// The 64-bit hash behind Bucket: XXH3-64 of `key` with the seed XXH3-64(salt) (unseeded).
uint64_t KeyHash(uint64_t salt_seed, absl::string_view key);

// Seed for KeyHash, computed once per routing state.
uint64_t SaltSeed(absl::string_view salt);

// floor(hash * kBucketCount / 2^64) in 128-bit integer arithmetic: in [0, kBucketCount), monotone in `hash`.
constexpr uint32_t BucketOfHash(uint64_t hash) {
  return static_cast<uint32_t>((static_cast<unsigned __int128>(hash) * kBucketCount) >> 64);
}

inline uint32_t Bucket(absl::string_view salt, absl::string_view key) {
  return BucketOfHash(KeyHash(SaltSeed(salt), key));
}

}  // namespace lockstep::domain
