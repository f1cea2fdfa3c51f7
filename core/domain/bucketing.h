// Which bucket a routing key falls into. Part of the public contract: the same key lands in the same bucket
// in every client, language and version; tests/golden/bucketing.json pins it.
#pragma once

#include <cstddef>
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

// The bucket that decides whether a key's requests are compared: BucketOfHash of the 64-bit finaliser of
// MurmurHash3 over KeyHash. It depends on the bits of the hash below the ones that make the bucket, so that
// the sample is the same share of every canary, whatever its weight. Pinned by the golden vectors as well.
constexpr uint32_t ComparisonBucketOfHash(uint64_t hash) {
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
  hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53u;
  return BucketOfHash(hash ^ (hash >> 33));
}

inline uint32_t Bucket(absl::string_view salt, absl::string_view key) {
  return BucketOfHash(KeyHash(SaltSeed(salt), key));
}

}  // namespace lockstep::domain
