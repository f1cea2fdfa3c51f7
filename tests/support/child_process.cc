#include "tests/support/child_process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace lockstep::testing {
namespace {

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> EnvironmentWith(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    if (changes.count(text.substr(0, text.find('='))) == 0) environment.push_back(text);
  }
  for (const auto& [name, value] : changes) {
    if (!value.empty()) environment.push_back(name + "=" + value);
  }
  return environment;
}

// Only system calls: between fork and exec.
bool MountSmallDisk(const char* path, const char* mount_options, const char* uid_map) {
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    const int map = ::open("/proc/self/uid_map", O_WRONLY);
    const auto length = static_cast<ssize_t>(std::strlen(uid_map));
    const bool mapped = map >= 0 && ::write(map, uid_map, static_cast<size_t>(length)) == length;
    if (map >= 0) ::close(map);
    if (!mapped) return false;
  }
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", path, "tmpfs", 0, mount_options) == 0;
}

int CodeOf(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

}  // namespace

ChildProcess::ChildProcess(std::vector<std::string> arguments, const ChildOptions& options)
    : output_(options.output) {
  // Everything that allocates happens before the fork: the test has other threads.
  const std::vector<char*> argv = Pointers(arguments);
  std::vector<std::string> environment = EnvironmentWith(options.environment);
  const std::vector<char*> envp = Pointers(environment);
  const std::string mount_options = absl::StrCat("size=", options.small_disk_bytes);
  const std::string uid_map = absl::StrCat("0 ", ::getuid(), " 1");
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  LOCKSTEP_CHECK(pid_ >= 0, "no process can be started");
  if (pid_ > 0) return;

  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // should the test itself be killed
  if (::getppid() != parent) ::_exit(127);
  const int file = ::open(output_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (file < 0 || ::dup2(file, STDOUT_FILENO) < 0 || ::dup2(file, STDERR_FILENO) < 0) ::_exit(127);
  if (!options.small_disk.empty() &&
      !MountSmallDisk(options.small_disk.c_str(), mount_options.c_str(), uid_map.c_str())) {
    ::_exit(kCannotMount);
  }
  ::execve(argv[0], argv.data(), envp.data());
  ::_exit(127);
}

ChildProcess::~ChildProcess() { Kill(); }

void ChildProcess::Signal(int signal) const {
  if (!status_) ::kill(pid_, signal);
}

bool ChildProcess::Running() { return !Wait(absl::ZeroDuration()).has_value(); }

std::optional<int> ChildProcess::Wait(absl::Duration patience) {
  Eventually(
      [this] {
        int wait_status = 0;
        if (!status_ && ::waitpid(pid_, &wait_status, WNOHANG) == pid_) status_ = CodeOf(wait_status);
        return status_.has_value();
      },
      patience);
  return status_;
}

void ChildProcess::Kill() {
  if (status_) return;
  ::kill(pid_, SIGKILL);
  int wait_status = 0;
  ::waitpid(pid_, &wait_status, 0);
  status_ = CodeOf(wait_status);
}

std::string ChildProcess::PathInside(const std::string& path) const {
  return absl::StrCat("/proc/", pid_, "/root", path);
}

std::string ChildProcess::Output() const { return ReadFileOrEmpty(output_); }

Finished Run(std::vector<std::string> arguments, const ChildOptions& options) {
  const size_t before = ReadFileOrEmpty(options.output).size();
  ChildProcess process(std::move(arguments), options);
  Finished finished;
  finished.exit_code = process.Wait();
  finished.output = process.Output().substr(before);
  return finished;
}

std::string ReadFileOrEmpty(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace lockstep::testing
