// The two servers that fanout_load compares: the real routing service, and the least that a gRPC server can
// do to send the same bytes to many streams.
//
// Both print their port and answer, a line for a line:
//   ready N   once N subscribers have acknowledged what is published; the memory that they take, in KiB
//   push      publishes, and waits until every subscriber has acknowledged; a Push
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep::bench {

struct Push {
  uint64_t epoch = 0;     // how subscribers tell it from others
  int64_t start_ns = 0;   // when the publish was called, by MonotonicNanoseconds
  double settled_us = 0;  // until the last acknowledgement
  double cpu_us = 0;      // of the server, in all
  uint64_t encoded = 0;   // times that the message was serialised
  double memory_kib = 0;  // resident after the push, less what was before there were subscribers

  std::string ToLine() const;
  static absl::StatusOr<Push> FromLine(const std::string& line);
};

// RoutingService (and TelemetryService) on the engine, over a store in memory. A push is a drill: the same
// routing under a new epoch, ahead of everything, as a rollback would be. Before each the engine's tick has
// run, as lockstepd's does every second. `pinned_keys` are part of the routing, 40 bytes each in the message.
absl::Status ServeFanout(int pinned_keys);
// Answers Watch with callbacks: hands the bytes of a message like the real ones to every stream by reference,
// reads what subscribers answer, looks at nothing and counts it.
absl::Status ServeBareFanout(int pinned_keys);

}  // namespace lockstep::bench
