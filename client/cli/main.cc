// The `lockstep` command: hands the process's streams and environment to cli::Run.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <iostream>
#include <map>
#include <string>

#include "client/cli/app.h"

extern char** environ;

namespace {

std::map<std::string, std::string> ReadEnvironment() {
  std::map<std::string, std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) environment[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return environment;
}

// Every write to stdout is flushed at once, so nothing is lost here.
void ExitInterrupted(int) { _exit(static_cast<int>(lockstep::cli::ExitCode::kInterrupted)); }

}  // namespace

int main(int argc, char** argv) {
  signal(SIGINT, ExitInterrupted);
  // What gRPC has to say about a failed call comes back as its status; its own lines would only be noise.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const lockstep::cli::Streams streams{.in = std::cin,
                                       .out = std::cout,
                                       .err = std::cerr,
                                       .in_is_terminal = isatty(STDIN_FILENO) == 1,
                                       .out_is_terminal = isatty(STDOUT_FILENO) == 1,
                                       .err_is_terminal = isatty(STDERR_FILENO) == 1,
                                       .environment = ReadEnvironment()};
  return static_cast<int>(lockstep::cli::Run(argc, argv, streams));
}
