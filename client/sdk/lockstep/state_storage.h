// The seam between the SDK and the disk: where an instance keeps what has to survive a restart.
//
// OpenStateDirectory is the usual one; MemoryStateStorage (state_storage_memory.h, part of
// lockstep_client_testing) is one for tests that loses what a crash would lose. Names are short file names;
// contents are opaque bytes that their owners check with checksums of their own.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// Thread-safe. Errors are those of the disk, and say what was being done to which file.
class StateStorage {
 public:
  virtual ~StateStorage() = default;
  // Nothing: there is no such file.
  virtual absl::StatusOr<std::optional<std::string>> Read(absl::string_view name) = 0;
  // Atomic and durable when it returns: after a crash the file has the old contents or the new ones.
  virtual absl::Status Replace(absl::string_view name, absl::string_view contents) = 0;
  // Adds to the end; a file that is not there begins empty. It survives the process from now on; with `sync`
  // it survives the machine, too. After a crash the end may be missing or torn.
  virtual absl::Status Append(absl::string_view name, absl::string_view bytes, bool sync) = 0;
};

// `path` is created if it isn't there (its parent must be), with mode 0700, and locked for as long as the
// storage lives: FAILED_PRECONDITION if another process has it, naming the directory.
absl::StatusOr<std::unique_ptr<StateStorage>> OpenStateDirectory(absl::string_view path);

}  // namespace lockstep
