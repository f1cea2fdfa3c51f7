#include "core/domain/bucketing.h"

// Keys are short: inlined, the hash of one costs a third less than through the shared library's entry point.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace lockstep::domain {
namespace {

[[gnu::noinline]] uint64_t LongKeyHash(uint64_t salt_seed, absl::string_view key) {
  return XXH3_64bits_withSeed(key.data(), key.size(), salt_seed);
}

}  // namespace

uint64_t KeyHash(uint64_t salt_seed, absl::string_view key) {
  // The same function; inlined for the lengths that most keys have, it needs no more registers than there
  // are.
  constexpr size_t kShort = 64;
  if (key.size() > kShort) return LongKeyHash(salt_seed, key);
  return XXH3_64bits_withSeed(key.data(), key.size(), salt_seed);
}

uint64_t SaltSeed(absl::string_view salt) { return XXH3_64bits(salt.data(), salt.size()); }

}  // namespace lockstep::domain
