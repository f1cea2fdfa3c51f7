// CHECK for our own bugs: prints where and what, then aborts. Faults of others (input, network, disk)
// are an absl::Status instead; see docs/architecture.md, "Bug or fault".
#pragma once

#include <cstdio>
#include <cstdlib>

#define LOCKSTEP_CHECK(condition, message)                                                            \
  do {                                                                                                \
    if (!(condition)) {                                                                               \
      std::fprintf(stderr, "%s:%d: check failed: %s: %s\n", __FILE__, __LINE__, #condition, message); \
      std::abort();                                                                                   \
    }                                                                                                 \
  } while (false)
