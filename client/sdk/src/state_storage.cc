#include "lockstep/state_storage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"

namespace lockstep {
namespace {

constexpr char kLockFile[] = "lock";
constexpr size_t kReadBytes = 64 << 10;

absl::Status DiskError(absl::string_view doing, absl::string_view path) {
  const int error = errno;
  return absl::ErrnoToStatus(error, absl::StrCat("can't ", doing, " ", path));
}

// A file descriptor that is closed at the end of its life.
class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

File OpenFile(const std::string& path, int flags) {
  int fd = -1;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC, 0600);
  } while (fd < 0 && errno == EINTR);
  return File(fd);
}

absl::Status WriteAll(const File& file, absl::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = write(file.fd(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return DiskError("write", path);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status Sync(const File& file, const std::string& path) {
  return fsync(file.fd()) == 0 ? absl::OkStatus() : DiskError("sync", path);
}

// Which directories this process has open. A record lock (fcntl) goes with the process, so that a fork()ed
// child does not keep it, but it does not keep the process from itself.
class OpenDirectories {
 public:
  using Id = std::pair<dev_t, ino_t>;

  bool Add(Id id) {
    MutexLock lock(&mutex_);
    return ids_.insert(id).second;
  }
  void Remove(Id id) {
    MutexLock lock(&mutex_);
    ids_.erase(id);
  }
  static OpenDirectories* Get() {
    static OpenDirectories* const directories = new OpenDirectories;
    return directories;
  }

 private:
  Mutex mutex_;
  std::set<Id> ids_ ABSL_GUARDED_BY(mutex_);
};

class PosixStateStorage final : public StateStorage {
 public:
  PosixStateStorage(std::string path, OpenDirectories::Id id) : path_(std::move(path)), id_(id) {}
  ~PosixStateStorage() override { OpenDirectories::Get()->Remove(id_); }

  // What a crash left aside is overwritten by the next Replace.
  absl::Status Lock() {
    const std::string path = PathOf(kLockFile);
    lock_ = OpenFile(path, O_RDWR | O_CREAT);
    if (!lock_.is_open()) return DiskError("open", path);
    struct flock whole = {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    if (fcntl(lock_.fd(), F_SETLK, &whole) == 0) return absl::OkStatus();
    if (errno != EACCES && errno != EAGAIN) return DiskError("lock", path);
    return absl::FailedPreconditionError(absl::StrCat("another process uses the state directory ", path_,
                                                      "; give every instance a directory of its own"));
  }

  absl::StatusOr<std::optional<std::string>> Read(absl::string_view name) override {
    const std::string path = PathOf(name);
    const File file = OpenFile(path, O_RDONLY);
    if (!file.is_open()) {
      if (errno == ENOENT) return std::optional<std::string>();
      return DiskError("open", path);
    }
    std::string contents;
    std::string buffer(kReadBytes, '\0');
    while (true) {
      const ssize_t count = read(file.fd(), buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return DiskError("read", path);
      if (count == 0) return std::optional<std::string>(std::move(contents));
      contents.append(buffer, 0, static_cast<size_t>(count));
    }
  }

  absl::Status Replace(absl::string_view name, absl::string_view contents) override {
    MutexLock lock(&mutex_);
    const std::string path = PathOf(name);
    const std::string aside = absl::StrCat(path, ".new");
    {
      const File file = OpenFile(aside, O_WRONLY | O_CREAT | O_TRUNC);
      if (!file.is_open()) return DiskError("open", aside);
      LOCKSTEP_RETURN_IF_ERROR(WriteAll(file, contents, aside));
      LOCKSTEP_RETURN_IF_ERROR(Sync(file, aside));
    }
    appended_.erase(std::string(name));
    if (rename(aside.c_str(), path.c_str()) != 0) return DiskError("replace", path);
    return SyncDirectory();
  }

  absl::Status Append(absl::string_view name, absl::string_view bytes, bool sync) override {
    MutexLock lock(&mutex_);
    const std::string path = PathOf(name);
    File& file = appended_[std::string(name)];
    if (!file.is_open()) {
      file = OpenFile(path, O_WRONLY | O_CREAT | O_APPEND);
      if (!file.is_open()) return DiskError("open", path);
      LOCKSTEP_RETURN_IF_ERROR(SyncDirectory());
    }
    const off_t before = lseek(file.fd(), 0, SEEK_END);
    if (before < 0) return DiskError("find the end of", path);
    if (absl::Status written = WriteAll(file, bytes, path); !written.ok()) {
      // A full disk may have taken a part, which must not end up between this and the next append.
      if (ftruncate(file.fd(), before) != 0) return DiskError("take back a part written to", path);
      return written;
    }
    return sync ? Sync(file, path) : absl::OkStatus();
  }

 private:
  std::string PathOf(absl::string_view name) const { return absl::StrCat(path_, "/", name); }
  // So that names survive the machine, too.
  absl::Status SyncDirectory() const {
    const File directory = OpenFile(path_, O_RDONLY | O_DIRECTORY);
    if (!directory.is_open()) return DiskError("open", path_);
    return Sync(directory, path_);
  }

  const std::string path_;
  const OpenDirectories::Id id_;
  File lock_;  // set once, before anything else
  Mutex mutex_;
  std::map<std::string, File> appended_ ABSL_GUARDED_BY(mutex_);  // kept open between appends
};

absl::Status SyncParent(absl::string_view directory) {
  while (directory.size() > 1 && absl::EndsWith(directory, "/")) directory.remove_suffix(1);
  const size_t slash = directory.rfind('/');
  const std::string parent(slash == absl::string_view::npos ? "." : directory.substr(0, slash + 1));
  const File file = OpenFile(parent, O_RDONLY | O_DIRECTORY);
  if (!file.is_open()) return DiskError("open", parent);
  return Sync(file, parent);
}

}  // namespace

absl::StatusOr<std::unique_ptr<StateStorage>> OpenStateDirectory(absl::string_view path) {
  std::string directory(path);
  if (mkdir(directory.c_str(), 0700) == 0) {
    // So that the directory itself survives the machine, as what is in it does.
    LOCKSTEP_RETURN_IF_ERROR(SyncParent(directory));
  } else if (errno != EEXIST) {
    return DiskError("make the state directory", path);
  }
  struct stat info = {};
  if (stat(directory.c_str(), &info) != 0) return DiskError("look at the state directory", path);
  if (!S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a directory"));
  }
  const OpenDirectories::Id id{info.st_dev, info.st_ino};
  if (!OpenDirectories::Get()->Add(id)) {
    return absl::FailedPreconditionError(
        absl::StrCat("another client of this process uses the state directory ", path,
                     "; give every instance a directory of its own"));
  }
  auto storage = std::make_unique<PosixStateStorage>(std::move(directory), id);
  LOCKSTEP_RETURN_IF_ERROR(storage->Lock());
  return std::unique_ptr<StateStorage>(std::move(storage));
}

}  // namespace lockstep
