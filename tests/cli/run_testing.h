// Runs the whole command against a fake server.
#pragma once

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "client/cli/app.h"
#include "gtest/gtest.h"
#include "tests/cli/fake_server.h"
#include "tests/cli/samples.h"

namespace lockstep::cli {

inline constexpr char kMigrationName[] = "namespaces/demo/migrations/cities";

class RunTest : public testing::Test {
 protected:
  RunTest() {
    server_.script().migrations[kMigrationName] = CanaryMigration();
    server_.script().changed = CanaryMigration();
    environment_ = {{"LOCKSTEP_ADDRESS", server_.address()}, {"USER", "ann"}, {"HOME", "/nonexistent"}};
  }

  ExitCode Run(std::vector<const char*> words, const std::string& input = "") {
    words.insert(words.begin(), "lockstep");
    std::istringstream in(input);
    std::ostringstream out;
    std::ostringstream err;
    const Streams streams{.in = in,
                          .out = out,
                          .err = err,
                          .in_is_terminal = terminal_,
                          .out_is_terminal = terminal_,
                          .err_is_terminal = terminal_,
                          .environment = environment_};
    const ExitCode code = cli::Run(static_cast<int>(words.size()), words.data(), streams);
    out_ = out.str();
    err_ = err.str();
    return code;
  }

  FakeServer server_;
  std::map<std::string, std::string> environment_;
  bool terminal_ = false;
  std::string out_;
  std::string err_;
};

}  // namespace lockstep::cli
