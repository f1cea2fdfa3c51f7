// The few file operations that the mark file and the data directory need, with errors a person can act on.
//
// Errors: NOT_FOUND (no such file), RESOURCE_EXHAUSTED (disk or quota full), UNAVAILABLE (anything else);
// each names the operation, the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep::store {

// An open file, closed by its destructor and on exec. Move-only. Reads and writes at different offsets may
// run in different threads.
class PosixFile {
 public:
  // `flags` as for open(2); a file that O_CREAT makes is readable and writable by its owner only.
  static absl::StatusOr<PosixFile> Open(const std::string& path, int flags);
  PosixFile(PosixFile&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  PosixFile& operator=(PosixFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~PosixFile();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }

  // Fewer bytes than asked for at the end of the file.
  absl::StatusOr<std::string> ReadAt(uint64_t offset, size_t size) const;
  absl::Status WriteAt(uint64_t offset, absl::string_view bytes);
  // Data, and the metadata needed to read it back.
  absl::Status SyncData();

 private:
  PosixFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_;
};

// Creates or replaces `path` so that after a crash it has either its old or its new contents.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents);

// Makes the creation, renaming and removal of entries durable.
absl::Status SyncDirectory(const std::string& path);

absl::Status ErrnoStatus(int error, absl::string_view operation, absl::string_view path);

}  // namespace lockstep::store
