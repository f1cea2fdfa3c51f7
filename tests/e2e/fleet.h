// Service processes of a fleet (fleet_service.cc) and what tests ask the control plane about them.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/api_client.h"
#include "tests/support/child_process.h"

namespace lockstep::testing {

// One write and the read that followed it, as fleet_service says.
struct FleetOperation {
  absl::Time start;
  std::string write;  // "OK" or a code
  uint64_t epoch = 0;
  std::string side;
  std::string read;
  std::string message;

  bool ok() const { return write == "OK" && read == "OK"; }
};

struct FleetServiceOptions {
  std::string address;
  std::string migration;  // full name
  std::string instance;
  std::string directory;  // its own, below an existing one
  absl::Duration lease = absl::Seconds(2);
  bool keep_state = false;
  bool fail_writes = false;
  std::vector<std::string> wrapper;  // a command that runs the one that follows, as the same process
};

// Not thread-safe.
class FleetService {
 public:
  // Starts it.
  explicit FleetService(FleetServiceOptions options);

  // SIGKILL.
  void Kill() { process_->Kill(); }
  // Starts the next process of the instance; operations are counted anew.
  void Restart();
  // SIGSTOP, and waits until it has stopped.
  void Stop();
  // Stops it where its next authoritative write has begun.
  void StopInWrite();
  void Continue() { process_->Signal(SIGCONT); }
  // SIGTERM; its exit code.
  std::optional<int> End();

  // All of the present process so far. Valid until the next call.
  const std::vector<FleetOperation>& Operations();
  // Waits until its newest operation is OK, which is its first one at the earliest.
  bool Serves();
  // Waits for `count` operations that begin from now on.
  bool DoesMore(size_t count);
  // The first operation that is not OK after one that is: until then there may be no snapshot yet.
  std::optional<FleetOperation> FirstFailure();

  pid_t pid() const { return process_->pid(); }
  const std::string& instance() const { return options_.instance; }
  const std::string& directory() const { return options_.directory; }
  std::string Output() const { return ReadFileOrEmpty(output_); }

 private:
  void AwaitStop();

  const FleetServiceOptions options_;
  std::string output_;
  int processes_ = 0;
  std::unique_ptr<ChildProcess> process_;
  std::vector<FleetOperation> operations_;
  size_t parsed_ = 0;  // bytes of the output
};

// Every step left by hand: DUAL_WRITE, SHADOW_READ, CANARY_READ and CUTOVER at 100 %, in two slices.
v1::Migration FleetMigration();

// As the control plane sees it; one without an id when it doesn't.
v1::Instance FindInstance(ApiClient* api, const std::string& id, const std::string& instance);

// Advances until `stage` is published at the step's own weight.
::testing::AssertionResult AdvanceTo(ApiClient* api, const std::string& id, v1::Stage stage);

}  // namespace lockstep::testing
