// A whole small migration with the real server, the real SDK and the real command: through a planted bug,
// which the gate rolls back by itself, to every read from the new side.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lockstep/grpc_transport.h"
#include "tests/e2e/lockstepd_process.h"
#include "tests/e2e/memory_sides.h"
#include "tests/store/temp_directory.h"
#include "tests/support/api_client.h"
#include "tests/support/status_matchers.h"

namespace lockstep {
namespace {

using testing::ApiClient;
using testing::Eventually;
using testing::IsOk;
using testing::NameOf;

constexpr int kKeys = 500;
constexpr absl::Duration kBucketsHaveClosed = absl::Seconds(90);

// DUAL_WRITE and SHADOW_READ, which asks for matching records, and then reads move by themselves.
v1::Migration Definition() {
  v1::Migration migration;
  const auto add = [&](v1::Stage stage, uint32_t weight) {
    v1::PlanStep* step = migration.mutable_plan()->add_steps();
    step->set_stage(stage);
    step->set_weight(weight);
    return step;
  };
  add(v1::STAGE_DUAL_WRITE, 0)->set_manual(true);  // until the backfill is done
  v1::Check* check = add(v1::STAGE_SHADOW_READ, 0)->add_checks();
  check->set_name("mismatches");
  check->set_metric(v1::METRIC_MISMATCH_RATIO);
  check->set_budget(0.05);
  add(v1::STAGE_CANARY_READ, 10000);
  add(v1::STAGE_CANARY_READ, 100000);
  v1::ExpectedService* expected = migration.mutable_plan()->add_expected_services();
  expected->set_service("texts");
  expected->set_min_instances(2);
  migration.mutable_contract()->add_fields()->set_path("text");
  return migration;
}

std::string WithoutLeadingZeros(const std::string& text) {
  return text.substr(std::min(text.find_first_not_of('0'), text.size()));
}

// One instance of the service: a client and a Migrator whose mapper loses leading zeros while `buggy` is set.
class Service {
 public:
  Service(const std::string& address, const std::string& instance, testing::MemorySide* old_side,
          testing::MemorySide* new_side, const std::atomic<bool>* buggy) {
    ClientOptions options;
    options.service = "texts";
    options.migrations = {NameOf("texts")};
    options.instance_id = instance;
    options.backoff_initial = absl::Milliseconds(20);
    options.backoff_max = absl::Milliseconds(200);
    options.telemetry_interval = absl::Milliseconds(100);
    auto client = ConnectGrpc({.address = address}, std::move(options));
    EXPECT_TRUE(IsOk(client));
    client_ = *std::move(client);
    EXPECT_TRUE(IsOk(client_->WaitUntilReady(absl::Now() + testing::kPatience)));
    const auto map = [buggy](const std::string& text) { return *buggy ? WithoutLeadingZeros(text) : text; };
    MigratorOptions migrator_options;
    migrator_options.settle_delays = {absl::Milliseconds(1)};
    auto migrator =
        testing::MakeTextMigrator(client_.get(), NameOf("texts"), old_side, new_side, map, migrator_options);
    EXPECT_TRUE(IsOk(migrator));
    migrator_ = *std::move(migrator);
  }

  testing::TextMigrator& migrator() { return *migrator_; }
  Client& client() { return *client_; }
  absl::Status Shutdown() { return client_->Shutdown(absl::Now() + testing::kPatience); }

 private:
  std::unique_ptr<Client> client_;
  std::unique_ptr<testing::TextMigrator> migrator_;
};

class MigrationTest : public ::testing::Test {
 protected:
  MigrationTest() {
    EXPECT_TRUE(server_.Start()) << server_.Output();
    api_ = std::make_unique<ApiClient>(server_.address());
    EXPECT_TRUE(IsOk(api_->Create("texts", Definition())));
    for (int i = 0; i < kKeys; ++i) {
      const std::string value = absl::StrCat("00", i);
      old_side_.Write(absl::StrCat("key-", i), &value);
    }
  }
  // Each service reads and writes its own keys for as long as the test lasts; what it reads has to be what it
  // wrote.
  void StartTraffic(Service* service, int first) {
    traffic_.emplace_back([this, service, first] {
      for (int round = 0; !stop_; ++round) {
        for (int i = first; i < kKeys && !stop_; i += 2) {
          const std::string key = absl::StrCat("key-", i);
          if (round % 3 == 1 && i % 10 == first) {
            const std::string value = absl::StrCat("00", round, "-", i);
            if (!service->migrator().Write(key, value).ok()) ++failed_;
          }
          const auto read = service->migrator().Read(key);
          if (!read.ok()) {
            ++failed_;
          } else if (*read != old_side_.Read(key)) {
            ++served_wrong_;
          }
          if (i % 16 == first) absl::SleepFor(absl::Milliseconds(1));  // leaves the processor to the others
        }
      }
    });
  }
  void StopTraffic() {
    stop_ = true;
    for (std::thread& thread : traffic_) thread.join();
    traffic_.clear();
  }

  v1::Migration Now() { return api_->Get("texts").value_or(v1::Migration()); }
  std::string Describe() { return Now().ShortDebugString() + "\n" + server_.Output(); }

  store::TempDirectory directory_;
  testing::Lockstepd server_{{.directory = directory_.path(), .flags = {"--gate-interval=50ms"}}};
  std::unique_ptr<ApiClient> api_;
  testing::MemorySide old_side_, new_side_;
  std::atomic<bool> buggy_{true};
  std::atomic<bool> stop_{false};
  std::atomic<int> failed_{0};
  std::atomic<int> served_wrong_{0};
  std::vector<std::thread> traffic_;
};

TEST_F(MigrationTest, ClimbsRollsBackByItselfAndReachesTheTop) {
  Service first(server_.address(), "texts-1", &old_side_, &new_side_, &buggy_);
  Service second(server_.address(), "texts-2", &old_side_, &new_side_, &buggy_);
  const absl::Cleanup stop_traffic = [this] { StopTraffic(); };  // before the services go
  StartTraffic(&first, 0);
  StartTraffic(&second, 1);
  ASSERT_TRUE(IsOk(api_->Start("texts")));
  ASSERT_TRUE(Eventually([&] {
    return first.client().Stats().acknowledged_revision > 0 &&
           Now().routing().stage() == v1::STAGE_DUAL_WRITE;
  }));
  // The mapper with the bug has been used for the backfill, too.
  testing::MemorySide unmapped;
  unmapped.BackfillFrom(old_side_);
  for (const auto& [key, text] : unmapped.Rows()) {
    const std::string lost = WithoutLeadingZeros(text);
    new_side_.Mirror(key, &lost, 1);
  }
  ASSERT_TRUE(IsOk(api_->Advance("texts")));
  // No user sees anything: reads are served by old while the gate finds out.
  ASSERT_TRUE(Eventually([&] { return Now().run_state() == v1::RUN_STATE_ROLLED_BACK; }, kBucketsHaveClosed))
      << Describe();
  const v1::Migration rolled_back = Now();
  EXPECT_EQ(rolled_back.routing().stage(), v1::STAGE_DUAL_WRITE);
  EXPECT_TRUE(absl::StrContains(rolled_back.run_state_reason(), "mismatches"))
      << rolled_back.run_state_reason();
  v1::ListDecisionsRequest list;
  list.set_parent(NameOf("texts"));
  const auto decisions = api_->Call(&v1::MigrationService::Stub::ListDecisions, list);
  ASSERT_TRUE(IsOk(decisions));
  EXPECT_EQ(decisions->decisions(0).action(), "rollback");
  EXPECT_EQ(decisions->decisions(0).actor(), "gate");
  EXPECT_EQ(decisions->decisions(0).evidence().verdict(), v1::VERDICT_ROLL_BACK);
  v1::ListMismatchSamplesRequest samples;
  samples.set_parent(NameOf("texts"));
  EXPECT_TRUE(Eventually([&] {
    const auto listed = api_->Call(&v1::MigrationService::Stub::ListMismatchSamples, samples);
    return listed.ok() && listed->samples_size() > 0 && listed->samples(0).field() == "text";
  }));

  // The fix: the mapper, and a backfill that overwrites what the old one wrote. (Rows of one version are
  // repeats to the guard, so the repaired rows get one of their own, as a real backfill that rereads the old
  // side under a new version does.)
  buggy_ = false;
  for (int i = 0; i < kKeys; ++i) {
    const std::string key = absl::StrCat("key-", i);
    const std::string value = absl::StrCat("00fixed-", i);
    ASSERT_TRUE(IsOk((i % 2 == 0 ? first : second).migrator().Write(key, value)));
  }
  v1::ResumeMigrationRequest resume;
  resume.set_name(NameOf("texts"));
  resume.mutable_change()->set_reason("the mapper keeps leading zeros now");
  ASSERT_TRUE(IsOk(api_->Call(&v1::MigrationService::Stub::ResumeMigration, resume)));
  ASSERT_TRUE(IsOk(api_->Advance("texts")));
  ASSERT_TRUE(Eventually([&] { return Now().run_state() == v1::RUN_STATE_SUCCEEDED; }, kBucketsHaveClosed))
      << Describe();
  EXPECT_EQ(Now().routing().stage(), v1::STAGE_CANARY_READ);
  EXPECT_EQ(Now().routing().read_weight(), 100000u);
  ASSERT_TRUE(Eventually([&] {
    const auto route = first.client().Route(NameOf("texts"), "key-1");
    return route.ok() && route->decision().read_side == domain::Side::kNew;
  }));

  StopTraffic();
  EXPECT_EQ(failed_, 0);
  EXPECT_EQ(served_wrong_, 0);
  EXPECT_EQ(old_side_.Rows(), new_side_.Rows());
  EXPECT_TRUE(IsOk(first.Shutdown()));
  EXPECT_TRUE(IsOk(second.Shutdown()));
  EXPECT_EQ(server_.Stop(), 0) << server_.Output();
}

TEST_F(MigrationTest, AFenceWaitsForASilentInstanceAndTheCommandNamesIt) {
  Service lively(server_.address(), "lively-1", &old_side_, &new_side_, &buggy_);
  testing::WatchClient silent(api_.get());
  ASSERT_TRUE(silent.Enrol("silent-1", {"texts"}));
  ASSERT_EQ(silent.ReadSnapshot().migrations_size(), 1);
  ASSERT_TRUE(IsOk(api_->Start("texts")));
  ASSERT_TRUE(IsOk(api_->Advance("texts")));
  EXPECT_TRUE(Eventually([&] {
    const v1::Migration migration = Now();
    return migration.waiting_for_size() == 1 && migration.waiting_for(0).instance_id() == "silent-1";
  })) << Describe();
  EXPECT_EQ(Now().routing().stage(), v1::STAGE_DUAL_WRITE);

  const testing::Finished shown =
      testing::Run({testing::kLockstepPath, "--address", server_.address(), "get", "test/texts"},
                   {.output = directory_.path() + "/output"});
  EXPECT_EQ(shown.exit_code, 0) << shown.output;
  EXPECT_TRUE(absl::StrContains(shown.output, "silent-1")) << shown.output;

  // A rollback does not wait for anybody.
  v1::RollbackMigrationRequest rollback;
  rollback.set_name(NameOf("texts"));
  const auto back = api_->Call(&v1::MigrationService::Stub::RollbackMigration, rollback);
  ASSERT_TRUE(IsOk(back));
  EXPECT_FALSE(back->has_pending_routing()) << back->ShortDebugString();
  EXPECT_TRUE(IsOk(lively.Shutdown()));
}

}  // namespace
}  // namespace lockstep
