// What the process's exit code says. Part of the command's interface: scripts depend on it.
#pragma once

#include "absl/status/status.h"

namespace lockstep::cli {

enum class ExitCode : int {
  kOk = 0,
  kError = 1,
  kUsage = 2,         // the command line, the environment or the context file is wrong; nothing was sent
  kHolds = 3,         // the gate, or a fence, does not let it pass yet; the same call may pass later
  kRolledBack = 4,    // what was waited for will not come: the migration went back
  kConflict = 5,      // stale etag: somebody else changed it
  kUnavailable = 6,   // no server, or no answer in time
  kDenied = 7,        // not allowed, or not known who you are
  kInterrupted = 130  // SIGINT
};

// For the answer to a call. `status` may be OK.
ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace lockstep::cli
