// Whole files, with errors that name them. Thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep::examples {

// The status for errno `error_number`: "PATH: doing: No such file or directory".
absl::Status FileError(int error_number, absl::string_view path, absl::string_view doing);

absl::StatusOr<std::string> ReadFile(const std::string& path);

// Writes beside `path` and renames over it.
absl::Status WriteFile(const std::string& path, absl::string_view content);

}  // namespace lockstep::examples
