// Keyed digests: equal values can be recognised in samples without the values leaving the service.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace lockstep::internal {

// The first 16 bytes of HMAC-SHA256(key, purpose || 0x00 || value), in lower-case hex. `purpose` keeps the
// digests of routing keys and of different fields apart.
std::string KeyedDigest(absl::string_view key, absl::string_view purpose, absl::string_view value);

// The first 8 bytes of the same, as a big-endian number.
uint64_t KeyedId(absl::string_view key, absl::string_view purpose, absl::string_view value);

// The key used when the fleet has none of its own. It protects against reading values off a screen, not
// against somebody who knows the salt and guesses low-entropy values.
std::string KeyFromSalt(uint64_t salt_seed);

}  // namespace lockstep::internal
