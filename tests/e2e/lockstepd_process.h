// A lockstepd process on a data directory, started, killed and started again on the same ports.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/child_process.h"

namespace lockstep::testing {

struct LockstepdOptions {
  std::string directory;   // for the port file, the output and, unless given below, the data
  std::string data_dir;    // empty = directory/data
  std::string listen;      // empty = any free port, then that one
  uint16_t http_port = 0;  // as listen
  std::vector<std::string> flags;
  // Mounts a small disk of the process's own on the data directory; see ChildOptions.
  uint64_t small_disk_bytes = 0;
};

// Not thread-safe; the ports stay valid while the process is down.
class Lockstepd {
 public:
  explicit Lockstepd(LockstepdOptions options);

  // Starts it and waits until it listens. False when it ended instead (exit_code, output) or took too long.
  // From the second start on it listens where it did at first.
  bool Start();
  // SIGKILL, as sudden as it gets.
  void Kill() { process_->Kill(); }
  // SIGTERM, and the exit code.
  std::optional<int> Stop();
  // Of a process that ended by itself, or was stopped.
  std::optional<int> exit_code() { return process_->Wait(absl::ZeroDuration()); }

  uint16_t grpc_port() const { return grpc_port_; }
  uint16_t http_port() const { return http_port_; }
  std::string address() const;  // on loopback
  const std::string& data_dir() const { return data_dir_; }
  // Everything that all of its processes have written.
  std::string Output() const { return ReadFileOrEmpty(output_path_); }
  ChildProcess& process() { return *process_; }

 private:
  bool ReadPorts();

  const LockstepdOptions options_;
  const std::string data_dir_;
  const std::string port_file_;
  const std::string output_path_;
  uint16_t grpc_port_ = 0;
  uint16_t http_port_ = 0;
  std::unique_ptr<ChildProcess> process_;
};

// Where lockstepd and the command are in this build.
inline constexpr char kLockstepdPath[] = LOCKSTEPD_PATH;
inline constexpr char kLockstepPath[] = LOCKSTEP_PATH;

}  // namespace lockstep::testing
