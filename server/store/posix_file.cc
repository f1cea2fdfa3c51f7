#include "server/store/posix_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace lockstep::store {

absl::Status ErrnoStatus(int error, absl::string_view operation, absl::string_view path) {
  const std::string message =
      absl::StrCat(operation, " ", path, ": ", std::generic_category().message(error));
  if (error == ENOENT) return absl::NotFoundError(message);
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(absl::StrCat(message, "; free space on that disk"));
  }
  return absl::UnavailableError(message);
}

absl::StatusOr<PosixFile> PosixFile::Open(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus(errno, "open", path);
  return PosixFile(path, fd);
}

PosixFile::~PosixFile() {
  if (fd_ >= 0) ::close(fd_);
}

absl::StatusOr<std::string> PosixFile::ReadAt(uint64_t offset, size_t size) const {
  std::string bytes(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::pread(fd_, bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "read", path_);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

absl::Status PosixFile::WriteAt(uint64_t offset, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "write", path_);
    offset += static_cast<uint64_t>(n);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status PosixFile::SyncData() {
  if (::fdatasync(fd_) != 0) return ErrnoStatus(errno, "fdatasync", path_);
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents) {
  const std::string temporary = path + ".tmp";
  {
    LOCKSTEP_ASSIGN_OR_RETURN(PosixFile file, PosixFile::Open(temporary, O_WRONLY | O_CREAT | O_TRUNC));
    LOCKSTEP_RETURN_IF_ERROR(file.WriteAt(0, contents));
    LOCKSTEP_RETURN_IF_ERROR(file.SyncData());
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) return ErrnoStatus(errno, "rename to", path);
  return SyncDirectory(std::filesystem::path(path).parent_path().string());
}

absl::Status SyncDirectory(const std::string& path) {
  LOCKSTEP_ASSIGN_OR_RETURN(PosixFile directory, PosixFile::Open(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(directory.fd()) != 0) return ErrnoStatus(errno, "fsync", path);
  return absl::OkStatus();
}

}  // namespace lockstep::store
