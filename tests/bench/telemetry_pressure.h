// Telemetry at full load, from a process of its own: what other measurements can be taken under.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace lockstep::bench {

// Reports batches of 2 KB about the benchmark's migration to `address`, in a closed loop of a few instances,
// each with one batch in flight. Answers, a line for a line:
//   start   once the load is on; "ok"
//   stop    once it is over; batches per second
absl::Status PressTelemetry(const std::string& address);

}  // namespace lockstep::bench
