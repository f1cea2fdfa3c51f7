#include "core/base/prng.h"

#include "absl/strings/str_format.h"

namespace lockstep {

std::string Prng::Uuid() {
  const uint64_t high = (Next() & ~0xf000ull) | 0x4000ull;
  const uint64_t low = (Next() & 0x3fffffffffffffffull) | 0x8000000000000000ull;
  return absl::StrFormat("%08x-%04x-%04x-%04x-%012x", high >> 32, (high >> 16) & 0xffff, high & 0xffff,
                         low >> 48, low & 0xffffffffffffull);
}

uint64_t SystemSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace lockstep
