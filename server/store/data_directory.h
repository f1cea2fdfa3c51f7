// The directory that belongs to one running server:
//
//   lock    held (flock) by the process that uses the directory; contains its process id
//   mark    the high-water mark, see mark_file.h
//   db/     the RocksDB database
//
// A backup or a restore takes the whole directory.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/store/posix_file.h"

namespace lockstep::store {

// Owns the lock: destroying it lets others in. Move-only.
class DataDirectory {
 public:
  // Creates the directory and its parents when missing. FAILED_PRECONDITION: another process (or another
  // store in this one) uses it. Else as posix_file.h.
  static absl::StatusOr<DataDirectory> Acquire(const std::string& path);

  const std::string& path() const { return path_; }
  std::string mark_path() const { return path_ + "/mark"; }
  std::string database_path() const { return path_ + "/db"; }

 private:
  DataDirectory(std::string path, PosixFile lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  PosixFile lock_;
};

}  // namespace lockstep::store
