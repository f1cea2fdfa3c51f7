// The control plane dies while a slice is held: only the writes of that slice wait for it, and are refused
// when their time is up, with nothing written. Reads and all other writes go on.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lockstep/grpc_transport.h"
#include "tests/e2e/fleet.h"
#include "tests/e2e/lockstepd_process.h"
#include "tests/e2e/memory_sides.h"
#include "tests/store/temp_directory.h"
#include "tests/support/api_client.h"
#include "tests/support/status_matchers.h"

namespace lockstep {
namespace {

using testing::AdvanceTo;
using testing::ApiClient;
using testing::Eventually;
using testing::IsOk;
using testing::NameOf;

constexpr char kMigration[] = "held";
constexpr int kKeys = 100;
constexpr absl::Duration kHoldWait = absl::Milliseconds(300);

std::string KeyOf(int i) { return absl::StrCat("key-", i); }

class HoldOutageTest : public ::testing::Test {
 protected:
  HoldOutageTest() {
    EXPECT_TRUE(server_.Start()) << server_.Output();
    api_ = std::make_unique<ApiClient>(server_.address());
    v1::Migration migration = testing::FleetMigration();
    // The hold outlasts the test, were the control plane there to give it up.
    migration.mutable_plan()->mutable_cutover()->mutable_max_hold()->set_seconds(300);
    EXPECT_TRUE(IsOk(api_->Create(kMigration, migration)));
    client_ = Connect("writer-1");
    other_ = Connect("other-1");
    MigratorOptions options;
    options.max_hold_wait = kHoldWait;
    auto migrator = testing::MakeTextMigrator(
        client_.get(), NameOf(kMigration), &old_side_, &new_side_,
        [](const std::string& text) { return text; }, std::move(options));
    EXPECT_TRUE(IsOk(migrator));
    migrator_ = *std::move(migrator);
  }

  std::unique_ptr<Client> Connect(const std::string& instance) {
    ClientOptions options;
    options.service = "held";
    options.migrations = {NameOf(kMigration)};
    options.instance_id = instance;
    options.backoff_initial = absl::Milliseconds(20);
    options.backoff_max = absl::Milliseconds(200);
    auto client = ConnectGrpc({.address = server_.address()}, std::move(options));
    EXPECT_TRUE(IsOk(client));
    EXPECT_TRUE(IsOk((*client)->WaitUntilReady(absl::Now() + testing::kPatience)));
    return *std::move(client);
  }
  // By what the writer goes by now.
  bool IsHeld(int i) const {
    const auto route = client_->Route(NameOf(kMigration), KeyOf(i));
    return route.ok() && route->decision().write_mode == domain::WriteMode::kHeld;
  }
  std::vector<int> HeldKeys() const {
    std::vector<int> held;
    for (int i = 0; i < kKeys; ++i) {
      if (IsHeld(i)) held.push_back(i);
    }
    return held;
  }
  void WriteAll(const std::string& text) {
    for (int i = 0; i < kKeys; ++i) {
      ASSERT_TRUE(IsOk(migrator_->Write(KeyOf(i), text))) << KeyOf(i);
    }
  }
  // A slice is held and stays so, because an operation of the other instance has not ended.
  void HoldASlice() {
    auto route = other_->Route(NameOf(kMigration), KeyOf(0));
    ASSERT_TRUE(IsOk(route));
    slow_operation_.emplace(*std::move(route));
    ASSERT_TRUE(IsOk(api_->Advance(kMigration)));
    ASSERT_TRUE(Eventually([&] { return !HeldKeys().empty(); }));
    ASSERT_LT(HeldKeys().size(), static_cast<size_t>(kKeys));
  }

  store::TempDirectory directory_;
  testing::Lockstepd server_{{.directory = directory_.path(), .flags = {"--gate-interval=50ms"}}};
  std::unique_ptr<ApiClient> api_;
  testing::MemorySide old_side_, new_side_;
  std::unique_ptr<Client> client_, other_;
  std::unique_ptr<testing::TextMigrator> migrator_;
  std::optional<RouteHandle> slow_operation_;  // before its client goes
};

TEST_F(HoldOutageTest, OnlyWritesOfTheHeldSliceAreRefusedWhileTheControlPlaneIsAway) {
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_CANARY_READ));
  WriteAll("before");
  ASSERT_NO_FATAL_FAILURE(HoldASlice());
  const std::vector<int> held = HeldKeys();

  server_.Kill();
  ASSERT_TRUE(Eventually([&] { return !client_->Stats().connected; }));
  for (int i = 0; i < kKeys; ++i) {
    const bool is_held = IsHeld(i);
    // A held write takes its time, so not all of them.
    if (!is_held || i == held.front() || i == held.back()) {
      const absl::Status written = migrator_->Write(KeyOf(i), "meanwhile").status();
      if (is_held) {
        EXPECT_TRUE(absl::IsUnavailable(written)) << written;
        EXPECT_TRUE(absl::StrContains(written.message(), "nothing was written, retry")) << written;
      } else {
        EXPECT_TRUE(IsOk(written));
      }
    }
    const auto read = migrator_->Read(KeyOf(i));
    ASSERT_TRUE(IsOk(read)) << KeyOf(i);
    EXPECT_EQ(*read, is_held ? "before" : "meanwhile") << KeyOf(i);
    for (const testing::MemorySide* side : {&old_side_, &new_side_}) {
      EXPECT_EQ(side->Rows()[KeyOf(i)], is_held ? "before" : "meanwhile") << KeyOf(i);
    }
  }
  EXPECT_EQ(HeldKeys(), held) << "nobody but the control plane ends a hold";

  slow_operation_.reset();
  ASSERT_TRUE(server_.Start()) << server_.Output();
  api_ = std::make_unique<ApiClient>(server_.address());
  EXPECT_TRUE(Eventually([&] { return HeldKeys().empty(); }));
  EXPECT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_CUTOVER));
  WriteAll("after");
  EXPECT_EQ(old_side_.Rows(), new_side_.Rows());
  for (Client* client : {client_.get(), other_.get()}) {
    EXPECT_TRUE(IsOk(client->Shutdown(absl::Now() + testing::kPatience)));
  }
  EXPECT_EQ(server_.Stop(), 0) << server_.Output();
}

}  // namespace
}  // namespace lockstep
