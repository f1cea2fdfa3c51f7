// A program under test as a child process, which never outlives the test.
//
//   ChildProcess server({LOCKSTEPD_PATH, "--listen", "127.0.0.1:0"}, {.output = dir.path() + "/log"});
//   server.Signal(SIGTERM);
//   EXPECT_EQ(server.Wait(), 0);
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/eventually.h"

namespace lockstep::testing {

struct ChildOptions {
  // Added to the environment of the test; an empty value removes the variable.
  std::map<std::string, std::string> environment;
  // Standard output and error go to the end of this file. Required.
  std::string output;
  // The directory that becomes a small disk of the process's own, a tmpfs that nobody else sees (the test
  // reaches it through ChildProcess::PathInside). The exit code is kCannotMount where the system does not
  // allow it. Empty = none.
  std::string small_disk;
  uint64_t small_disk_bytes = 0;
};

inline constexpr int kCannotMount = 77;

// Not thread-safe, save that Signal may be called from any thread while no Wait has returned. The thread that
// makes it must outlive it: the child dies with its maker.
class ChildProcess {
 public:
  // The first argument is the program's path. Crashes the test when the system can't start processes.
  ChildProcess(std::vector<std::string> arguments, const ChildOptions& options);
  // Kills it and waits for its end.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  bool Running();
  // The exit status, or 128 + the number of the signal that ended it; nothing when it still runs after
  // `patience`.
  std::optional<int> Wait(absl::Duration patience = kPatience);
  // SIGKILL, and waits for its end.
  void Kill();
  // `path` as the process sees it, in a form that works here while it runs.
  std::string PathInside(const std::string& path) const;
  // What it has written so far.
  std::string Output() const;

 private:
  const std::string output_;
  pid_t pid_ = -1;
  std::optional<int> status_;
};

// Runs a program to its end.
struct Finished {
  std::optional<int> exit_code;  // as ChildProcess::Wait
  std::string output;
};
Finished Run(std::vector<std::string> arguments, const ChildOptions& options);

// The whole file; empty when there is none.
std::string ReadFileOrEmpty(const std::string& path);

}  // namespace lockstep::testing
