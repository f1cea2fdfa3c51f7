// A session on a fake clock, without threads: every RunOnce is the test's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/sdk/src/session.h"
#include "gtest/gtest.h"
#include "lockstep/manual_executor.h"
#include "tests/client/plane_testing.h"

namespace lockstep::internal {

using testing_support::kFullName;
using testing_support::kMigration;

class SessionTest : public ::testing::Test {
 protected:
  static SessionOptions Options(domain::LeasePolicy policy = domain::LeasePolicy::kKeepServing) {
    return {.enrolment = {.instance_id = "i-1",
                          .service = "orders",
                          .version = "1.0",
                          .migrations = {kFullName},
                          .lease_ttl = absl::Seconds(15),
                          .lease_policy = policy},
            .heartbeat_interval = absl::Seconds(5),
            .backoff_initial = absl::Milliseconds(100),
            .backoff_max = absl::Seconds(10),
            .telemetry_interval = absl::Seconds(1),
            .reporter = {.instance_id = "i-1"}};
  }
  SessionParts Parts(StateStorage* storage = nullptr) {
    return {.transport = plane_.get(),
            .ring = &ring_,
            .telemetry = &telemetry_,
            .repairs = repairs_.get(),
            .held_writes = held_writes_.get(),
            .slice_checker = slice_checker_.get(),
            .state_storage = storage,
            .clock = &clock_};
  }

  // Runs until nothing is due at this instant any more.
  void Run() {
    for (int i = 0; i < 10; ++i) session_->RunOnce();
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    Run();
  }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  ManualExecutor executor_{&clock_};
  std::shared_ptr<FakeControlPlane> plane_ = std::make_shared<FakeControlPlane>();
  SnapshotRing ring_{{kFullName}};
  TelemetryRecorder telemetry_{{.migrations = {kFullName}, .instance_id = "i-1"}, &clock_};
  std::shared_ptr<RepairQueue> repairs_ =
      std::make_shared<RepairQueue>(10, &executor_, &clock_, &telemetry_, 1);
  std::shared_ptr<HeldWrites> held_writes_ = std::make_shared<HeldWrites>(&executor_, &clock_);
  std::shared_ptr<SliceChecker> slice_checker_ =
      std::make_shared<SliceChecker>(std::vector<std::string>{kFullName}, &executor_, &clock_);
  std::unique_ptr<Session> session_ = std::make_unique<Session>(Options(), Parts(), 1);
};

}  // namespace lockstep::internal
