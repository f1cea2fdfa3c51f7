// A process full of instances for fanout_load.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace lockstep::bench {

struct SubscribeOptions {
  std::string address;
  int first = 0;  // number of the first one; they are named by it
  int subscribers = 0;
  std::string output;  // file
};

// Opens the streams, each over a connection of its own, says so when each has been sent its first state, and
// accepts and acknowledges whatever comes until standard input ends. Then writes when what came, a line
// "epoch nanoseconds bytes" for each, by MonotonicNanoseconds, and ends the process.
absl::Status Subscribe(const SubscribeOptions& options);

}  // namespace lockstep::bench
