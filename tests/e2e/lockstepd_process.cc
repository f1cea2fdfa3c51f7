#include "tests/e2e/lockstepd_process.h"

#include <signal.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace lockstep::testing {

Lockstepd::Lockstepd(LockstepdOptions options)
    : options_(std::move(options)),
      data_dir_(options_.data_dir.empty() ? options_.directory + "/data" : options_.data_dir),
      port_file_(options_.directory + "/ports"),
      output_path_(options_.directory + "/lockstepd.log"),
      http_port_(options_.http_port) {}

bool Lockstepd::Start() {
  std::filesystem::remove(port_file_);
  std::vector<std::string> arguments = {kLockstepdPath,
                                        "--data-dir=" + data_dir_,
                                        "--port-file=" + port_file_,
                                        "--drain-timeout=5s",
                                        options_.listen.empty()
                                            ? absl::StrCat("--listen=127.0.0.1:", grpc_port_)
                                            : "--listen=" + options_.listen,
                                        absl::StrCat("--http-port=", http_port_)};
  arguments.insert(arguments.end(), options_.flags.begin(), options_.flags.end());
  ChildOptions child;
  child.output = output_path_;
  if (options_.small_disk_bytes > 0) {
    std::filesystem::create_directories(data_dir_);
    child.small_disk = data_dir_;
    child.small_disk_bytes = options_.small_disk_bytes;
  }
  process_.reset();
  process_ = std::make_unique<ChildProcess>(std::move(arguments), child);
  bool listening = false;
  Eventually([&] { return (listening = ReadPorts()) || !process_->Running(); });
  return listening;
}

std::optional<int> Lockstepd::Stop() {
  process_->Signal(SIGTERM);
  return process_->Wait();
}

std::string Lockstepd::address() const { return absl::StrCat("127.0.0.1:", grpc_port_); }

bool Lockstepd::ReadPorts() {
  std::ifstream file(port_file_);
  std::string grpc, http;
  return static_cast<bool>(file >> grpc >> grpc_port_ >> http >> http_port_);
}

}  // namespace lockstep::testing
