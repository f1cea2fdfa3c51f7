// A copy of this program as a server in a process of its own, so that its CPU time can be told from the
// client's.
//
// The child inherits nothing but pipes: it prints one line when it is ready, may then be asked things, a line
// for a line, and ends when its standard input does, so that it can't outlive the benchmark, however that
// dies.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lockstep::bench {

// Thread-compatible.
class ChildProcess {
 public:
  // Starts /proc/self/exe with `arguments` and waits for its first line of output. UNAVAILABLE when it ends
  // before.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const std::vector<std::string>& arguments);
  // Closes the child's standard input and waits for its end.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // What the child printed, without the newline.
  const std::string& first_line() const { return first_line_; }
  // Says `line` to a child that is in AnnounceAndAnswer, and waits for its answer. UNAVAILABLE when it has
  // ended; INTERNAL with what it says when it answers with an error.
  absl::StatusOr<std::string> Ask(const std::string& line);
  // User and system time of all its threads so far, to the nanosecond.
  absl::Duration CpuTime() const;

 private:
  ChildProcess(pid_t pid, int input, int output) : pid_(pid), input_(input), output_(output) {}
  absl::StatusOr<std::string> ReadLine();

  const pid_t pid_;
  const int input_;   // the child's standard input, our end
  const int output_;  // the child's standard output, our end
  clockid_t cpu_clock_ = 0;
  std::string first_line_;
};

// In the child: prints `line` and returns when standard input ends.
void AnnounceAndWait(const std::string& line);
// The same, and answers each line of input with a line.
using Answer = std::function<absl::StatusOr<std::string>(const std::string&)>;
void AnnounceAndAnswer(const std::string& line, const Answer& answer);

// CPU time of this process so far.
absl::Duration OwnCpuTime();
// Memory of this process that is resident at the moment, in KiB.
double ResidentKibibytes();
// The machine's monotonic clock, which is the same in every process.
int64_t MonotonicNanoseconds();

// Restricts the calling process, with all threads that it starts from now on, to `cores`; empty: changes
// nothing.
absl::Status PinToCores(const std::vector<int>& cores);

}  // namespace lockstep::bench
