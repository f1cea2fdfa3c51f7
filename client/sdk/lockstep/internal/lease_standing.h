// What a decision has to know of the lease, in one word that is read at once.
#pragma once

#include <cstdint>

namespace lockstep::internal {

class LeaseStanding {
 public:
  LeaseStanding() = default;
  LeaseStanding(uint32_t term, bool stale) : word_(uint64_t{term} << 1 | (stale ? 1 : 0)) {}

  uint32_t term() const { return static_cast<uint32_t>(word_ >> 1); }  // Lease::term
  bool stale() const { return (word_ & 1) != 0; }                      // the lease is over

 private:
  uint64_t word_ = 0;
};

}  // namespace lockstep::internal
