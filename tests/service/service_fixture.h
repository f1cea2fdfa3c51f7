// A server in memory and a client of its API, for each test.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/support/api_client.h"
#include "tests/support/eventually.h"
#include "tests/support/in_process_server.h"
#include "tests/support/status_matchers.h"

namespace lockstep::service {

using testing::ApiClient;
using testing::BadFields;
using testing::Eventually;
using testing::Fails;
using testing::IsOk;
using testing::NameOf;
using testing::ReasonOf;
using testing::RequestId;
using testing::SampleBatch;
using testing::SampleMigration;
using testing::WatchClient;

class ServiceTest : public ::testing::Test {
 protected:
  explicit ServiceTest(const app::Config& config = testing::QuietConfig())
      : server_(testing::StartServer(config)), api_(testing::AddressOf(*server_)) {}

  // A migration at OFF.
  void CreateSample(const std::string& id) { ASSERT_TRUE(IsOk(api_.Create(id, SampleMigration()))); }
  // A migration at `step` of the sample plan, 0 being DUAL_WRITE.
  void CreateSampleAt(const std::string& id, int step) {
    CreateSample(id);
    ASSERT_TRUE(IsOk(api_.Start(id)));
    for (int i = 0; i < step; ++i) ASSERT_TRUE(IsOk(api_.Advance(id)));
  }

  std::unique_ptr<app::Server> server_;
  ApiClient api_;
};

}  // namespace lockstep::service
