#include "tests/bench/child_process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

extern char** environ;

namespace lockstep::bench {
namespace {

constexpr char kError[] = "error: ";

absl::Duration ReadClock(clockid_t clock) {
  timespec now{};
  if (clock_gettime(clock, &now) != 0) return absl::ZeroDuration();
  return absl::DurationFromTimespec(now);
}

// Our ends are close-on-exec: a child that held another one's input open would keep it alive.
absl::Status OpenPipe(int ends[2]) {
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(const std::vector<std::string>& arguments) {
  int input[2];
  int output[2];
  LOCKSTEP_RETURN_IF_ERROR(OpenPipe(input));
  LOCKSTEP_RETURN_IF_ERROR(OpenPipe(output));

  std::vector<std::string> owned = {"/proc/self/exe"};
  owned.insert(owned.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : owned) argv.push_back(argument.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(input[0]);
  close(output[1]);
  if (error != 0) {
    close(input[1]);
    close(output[0]);
    return absl::ErrnoToStatus(error, "can't start a copy of this program");
  }

  std::unique_ptr<ChildProcess> child(new ChildProcess(pid, input[1], output[0]));
  LOCKSTEP_ASSIGN_OR_RETURN(child->first_line_, child->ReadLine());
  if (clock_getcpuclockid(pid, &child->cpu_clock_) != 0)
    return absl::UnavailableError("no CPU clock of the child");
  return child;
}

absl::StatusOr<std::string> ChildProcess::ReadLine() {
  std::string line;
  char c = 0;
  ssize_t got = 0;
  while ((got = read(output_, &c, 1)) == 1 || (got < 0 && errno == EINTR)) {
    if (got < 0) continue;
    if (c == '\n') return line;
    line += c;
  }
  return absl::UnavailableError(absl::StrCat("a process of the benchmark has ended: ", line));
}

absl::StatusOr<std::string> ChildProcess::Ask(const std::string& line) {
  const std::string said = absl::StrCat(line, "\n");
  if (write(input_, said.data(), said.size()) != static_cast<ssize_t>(said.size()))
    return absl::UnavailableError("a process of the benchmark has ended");
  LOCKSTEP_ASSIGN_OR_RETURN(std::string answer, ReadLine());
  if (absl::StartsWith(answer, kError)) return absl::InternalError(answer);
  return answer;
}

ChildProcess::~ChildProcess() {
  close(input_);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  close(output_);
}

absl::Duration ChildProcess::CpuTime() const { return ReadClock(cpu_clock_); }

void AnnounceAndWait(const std::string& line) {
  AnnounceAndAnswer(line, [](const std::string&) { return std::string(); });
}

void AnnounceAndAnswer(const std::string& line, const Answer& answer) {
  const auto say = [](const std::string& text) {
    printf("%s\n", text.c_str());
    fflush(stdout);
  };
  say(line);
  for (std::string asked; std::getline(std::cin, asked);) {
    const absl::StatusOr<std::string> answered = answer(asked);
    say(answered.ok() ? *answered : absl::StrCat(kError, answered.status().ToString()));
  }
}

absl::Duration OwnCpuTime() { return ReadClock(CLOCK_PROCESS_CPUTIME_ID); }

double ResidentKibibytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (absl::StartsWith(line, "VmRSS:")) return std::stod(line.substr(6));
  }
  return 0;
}

int64_t MonotonicNanoseconds() { return absl::ToInt64Nanoseconds(ReadClock(CLOCK_MONOTONIC)); }

absl::Status PinToCores(const std::vector<int>& cores) {
  if (cores.empty()) return absl::OkStatus();
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) {
    if (core < 0 || core >= CPU_SETSIZE)
      return absl::InvalidArgumentError(absl::StrCat("no such core: ", core));
    CPU_SET(core, &set);
  }
  if (sched_setaffinity(0, sizeof(set), &set) != 0)
    return absl::ErrnoToStatus(errno, "can't pin to the cores given");
  return absl::OkStatus();
}

}  // namespace lockstep::bench
