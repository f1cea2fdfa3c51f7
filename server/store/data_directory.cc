#include "server/store/data_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace lockstep::store {
namespace {

// Enough for a process id and a newline.
constexpr size_t kMaxLockFileBytes = 32;

absl::Status InUse(const std::string& path, const PosixFile& lock) {
  const absl::StatusOr<std::string> holder = lock.ReadAt(0, kMaxLockFileBytes);
  const std::string pid = holder.ok() ? std::string(absl::StripAsciiWhitespace(*holder)) : "";
  return absl::FailedPreconditionError(
      absl::StrCat("data directory ", path, " is in use by ",
                   pid.empty() ? "another process" : absl::StrCat("process ", pid),
                   "; stop that one, or give this server a data directory of its own"));
}

// Each new entry is synced in its parent: a directory that a crash forgets takes its contents with it.
absl::Status CreateDirectories(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return absl::OkStatus();
  LOCKSTEP_RETURN_IF_ERROR(CreateDirectories(path.parent_path()));
  std::filesystem::create_directory(path, error);
  if (error) return ErrnoStatus(error.value(), "create directory", path.string());
  return SyncDirectory(path.parent_path().string());
}

}  // namespace

absl::StatusOr<DataDirectory> DataDirectory::Acquire(const std::string& path) {
  if (path.empty()) return absl::InvalidArgumentError("the path of the data directory is empty");
  std::error_code error;
  std::filesystem::path absolute = std::filesystem::absolute(path, error).lexically_normal();
  if (error) return ErrnoStatus(error.value(), "find the current directory for", path);
  if (!absolute.has_filename()) absolute = absolute.parent_path();  // "data/" is "data"
  LOCKSTEP_RETURN_IF_ERROR(CreateDirectories(absolute));

  LOCKSTEP_ASSIGN_OR_RETURN(PosixFile lock, PosixFile::Open((absolute / "lock").string(), O_RDWR | O_CREAT));
  if (::flock(lock.fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return InUse(absolute.string(), lock);
    return ErrnoStatus(errno, "lock", lock.path());
  }
  // Only a hint for people: neither truncation nor the write is worth failing for on a full disk.
  if (::ftruncate(lock.fd(), 0) == 0) lock.WriteAt(0, absl::StrCat(::getpid(), "\n")).IgnoreError();
  return DataDirectory(absolute.string(), std::move(lock));
}

}  // namespace lockstep::store
