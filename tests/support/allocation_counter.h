// Counts this thread's heap allocations, to show that a path makes none. Linking allocation_counter.cc
// replaces the program's operator new.
//
//   const uint64_t before = ThreadAllocations();
//   ...
//   EXPECT_EQ(ThreadAllocations() - before, 0);
#pragma once

#include <cstdint>

namespace lockstep {

uint64_t ThreadAllocations();

}  // namespace lockstep
