// Unsigned 64-bit numbers as 8 bytes, most significant first, so that byte order is numeric order.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace lockstep::store {

inline constexpr size_t kBigEndian64Bytes = 8;

inline void AppendBigEndian64(std::string* out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

// `bytes` has at least 8 bytes; the first 8 are read.
inline uint64_t ReadBigEndian64(absl::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kBigEndian64Bytes; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

}  // namespace lockstep::store
