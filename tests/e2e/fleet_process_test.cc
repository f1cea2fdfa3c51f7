// Service processes that are paused, killed or gone while a migration wants to move: whom the control plane
// waits for, what it publishes meanwhile, and what the process does when it is back.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
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
using testing::Fails;
using testing::FleetOperation;
using testing::FleetService;
using testing::IsOk;
using testing::NameOf;

constexpr char kMigration[] = "fleet";
// Each of them asks the server, which looks for what it may publish every 50 ms besides.
constexpr int kLooksWhileWaiting = 100;

class FleetProcessTest : public ::testing::Test {
 protected:
  FleetProcessTest() {
    EXPECT_TRUE(server_.Start()) << server_.Output();
    api_ = std::make_unique<ApiClient>(server_.address());
    EXPECT_TRUE(IsOk(api_->Create(kMigration, testing::FleetMigration())));
  }

  std::unique_ptr<FleetService> NewService(const std::string& instance, bool fail_writes) {
    return std::make_unique<FleetService>(testing::FleetServiceOptions{
        .address = server_.address(),
        .migration = NameOf(kMigration),
        .instance = instance,
        .directory = absl::StrCat(directory_.path(), "/", instance),
        .fail_writes = fail_writes,
    });
  }
  v1::Migration Now() { return api_->Get(kMigration).value_or(v1::Migration()); }
  v1::Instance Find(const FleetService& service) {
    return testing::FindInstance(api_.get(), kMigration, service.instance());
  }
  bool LeaseExpires(const FleetService& service) {
    return Eventually([&] { return Find(service).lease() == v1::LEASE_STATE_EXPIRED; });
  }
  // Waits until the migration says that it waits for this instance alone.
  bool WaitsFor(const FleetService& service) {
    return Eventually([&] {
      const v1::Migration now = Now();
      return now.waiting_for_size() == 1 && now.waiting_for(0).instance_id() == service.instance();
    });
  }
  // Until the service acts on what is published and nothing older.
  bool Follows(const FleetService& service) {
    return Eventually([&] { return Find(service).acknowledged_epoch() == Now().routing().epoch(); });
  }
  void ExpectNothingPublished() {
    const v1::Migration before = Now();
    for (int i = 0; i < kLooksWhileWaiting; ++i) {
      const v1::Migration now = Now();
      ASSERT_EQ(now.routing().ShortDebugString(), before.routing().ShortDebugString());
      ASSERT_TRUE(now.has_pending_routing());
    }
  }
  static void ExpectEqualSides(const FleetService& service) {
    const testing::MemorySide old_side(service.directory() + "/old-side");
    const testing::MemorySide new_side(service.directory() + "/new-side");
    EXPECT_FALSE(old_side.Rows().empty());
    EXPECT_EQ(old_side.Rows(), new_side.Rows());
  }
  static std::string Describe(const std::optional<FleetOperation>& operation) {
    if (!operation) return "none";
    return absl::StrCat(operation->write, " at epoch ", operation->epoch, ", read ", operation->read, ", ",
                        operation->message);
  }
  static void ExpectNoFailure(FleetService& service) {
    const auto failure = service.FirstFailure();
    EXPECT_FALSE(failure) << Describe(failure);
  }

  store::TempDirectory directory_;
  testing::Lockstepd server_{{.directory = directory_.path(), .flags = {"--gate-interval=50ms"}}};
  std::unique_ptr<ApiClient> api_;
};

TEST_F(FleetProcessTest, WriteAuthorityDoesNotMoveWhileAnInstanceIsPaused) {
  ASSERT_TRUE(IsOk(api_->Start(kMigration)));
  const auto service = NewService("paused-1", /*fail_writes=*/false);
  ASSERT_TRUE(service->Serves()) << service->Output();
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_CANARY_READ));
  ASSERT_TRUE(Follows(*service));
  ASSERT_TRUE(service->DoesMore(5));
  service->Stop();
  ASSERT_TRUE(LeaseExpires(*service)) << Find(*service).ShortDebugString();

  ASSERT_TRUE(IsOk(api_->Advance(kMigration)));
  ASSERT_TRUE(WaitsFor(*service)) << Now().ShortDebugString();
  const v1::FenceWait wait = Now().waiting_for(0);
  EXPECT_EQ(wait.service(), "fleet");
  EXPECT_TRUE(absl::StrContains(wait.reason(), "lease")) << wait.reason();
  EXPECT_TRUE(absl::StrContains(wait.unblock(), "evict")) << wait.unblock();
  EXPECT_EQ(Now().routing().stage(), v1::STAGE_CANARY_READ);
  ExpectNothingPublished();

  service->Continue();
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_CUTOVER)) << Now().ShortDebugString();
  EXPECT_EQ(Now().routing().write_weight(), 100000u);
  EXPECT_TRUE(Eventually([&] { return service->Operations().back().side == "new"; }));
  EXPECT_TRUE(service->DoesMore(5));
  EXPECT_EQ(service->End(), 0) << service->Output();
  ExpectNoFailure(*service);  // the one that the pause fell into included
  ExpectEqualSides(*service);
}

TEST_F(FleetProcessTest, AKilledInstanceIsWaitedForUntilItIsEvicted) {
  const auto service = NewService("killed-1", /*fail_writes=*/false);
  ASSERT_TRUE(service->Serves()) << service->Output();
  const uint64_t off_epoch = Now().routing().epoch();
  service->Kill();

  ASSERT_TRUE(IsOk(api_->Start(kMigration)));
  EXPECT_EQ(Now().routing().stage(), v1::STAGE_DUAL_WRITE) << "may stand beside OFF";
  ASSERT_TRUE(IsOk(api_->Advance(kMigration)));  // to SHADOW_READ, which may not
  ASSERT_TRUE(WaitsFor(*service)) << Now().ShortDebugString();
  EXPECT_EQ(Now().waiting_for(0).epoch(), off_epoch);
  ASSERT_TRUE(LeaseExpires(*service));
  EXPECT_FALSE(Find(*service).connected());
  EXPECT_EQ(Now().routing().stage(), v1::STAGE_DUAL_WRITE);
  ExpectNothingPublished();

  v1::EvictInstanceRequest evict;
  evict.set_name(NameOf(kMigration));
  evict.set_instance_id(service->instance());
  EXPECT_TRUE(Fails(api_->Call(&v1::MigrationService::Stub::EvictInstance, evict),
                    absl::StatusCode::kInvalidArgument, "REASON_REQUIRED"));
  evict.mutable_change()->set_reason("the process was killed by hand");
  const auto evicted = api_->Call(&v1::MigrationService::Stub::EvictInstance, evict);
  ASSERT_TRUE(IsOk(evicted));
  EXPECT_GT(evicted->risks_size(), 0);
  EXPECT_EQ(evicted->instance().lease(), v1::LEASE_STATE_EXPIRED);
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_SHADOW_READ)) << Now().ShortDebugString();
  v1::ListDecisionsRequest list;
  list.set_parent(NameOf(kMigration));
  const auto decisions = api_->Call(&v1::MigrationService::Stub::ListDecisions, list);
  ASSERT_TRUE(IsOk(decisions));
  int evictions = 0;
  for (const v1::DecisionRecord& decision : decisions->decisions()) {
    if (decision.action() != "evict") continue;
    ++evictions;
    EXPECT_TRUE(absl::StrContains(decision.reason(), service->instance())) << decision.reason();
    EXPECT_TRUE(absl::StrContains(decision.reason(), "killed by hand")) << decision.reason();
  }
  EXPECT_EQ(evictions, 1);

  // Its next process is an instance like any other.
  service->Restart();
  ASSERT_TRUE(Follows(*service)) << service->Output();
  ASSERT_TRUE(service->Serves() && service->DoesMore(3)) << service->Output();
  EXPECT_EQ(service->Operations().back().epoch, Now().routing().epoch());
  EXPECT_EQ(service->End(), 0) << service->Output();
}

TEST_F(FleetProcessTest, TheEndOfALeaseIsEnoughForAnInstanceThatFailsWrites) {
  const auto strict = NewService("strict-1", /*fail_writes=*/true);
  const auto lively = NewService("lively-1", /*fail_writes=*/false);
  ASSERT_TRUE(strict->Serves()) << strict->Output();
  ASSERT_TRUE(lively->Serves()) << lively->Output();
  ASSERT_TRUE(Follows(*strict));

  // The worst moment: a write to old alone has been admitted, and has not happened.
  strict->StopInWrite();
  const size_t before_pause = strict->Operations().size();
  // Beside these stages nobody may write old alone; that the instance doesn't is known from its lease.
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_SHADOW_READ)) << Now().ShortDebugString();
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_CANARY_READ)) << Now().ShortDebugString();
  const v1::Instance passed = Find(*strict);
  EXPECT_EQ(passed.lease(), v1::LEASE_STATE_EXPIRED);
  EXPECT_EQ(passed.lease_policy(), v1::LEASE_POLICY_FAIL_WRITES);
  const uint64_t present_epoch = Now().routing().epoch();
  EXPECT_LT(passed.acknowledged_epoch(), present_epoch);
  ASSERT_TRUE(Follows(*lively));
  // Write authority doesn't move past anybody who does not follow.
  ASSERT_TRUE(IsOk(api_->Advance(kMigration)));
  ASSERT_TRUE(WaitsFor(*strict)) << Now().ShortDebugString();
  EXPECT_EQ(Now().routing().stage(), v1::STAGE_CANARY_READ);

  const absl::Time continued = absl::Now();
  strict->Continue();
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_CUTOVER)) << Now().ShortDebugString();
  const uint64_t moved_epoch = Now().routing().epoch();
  for (FleetService* service : {strict.get(), lively.get()}) {
    ASSERT_TRUE(Eventually([&] { return service->Operations().back().epoch == moved_epoch; }))
        << service->Output();
    EXPECT_EQ(service->Operations().back().side, "new");
  }
  const std::vector<FleetOperation>& operations = strict->Operations();
  EXPECT_NE(operations[before_pause].write, "OK") << "written under a lease that is over";
  int refused = 0;
  for (const FleetOperation& operation : operations) {
    if (operation.start < continued) continue;
    if (operation.write == "OK") {
      EXPECT_GE(operation.epoch, present_epoch);
    } else {
      ++refused;
      EXPECT_EQ(operation.write, "UNAVAILABLE") << operation.message;
      EXPECT_TRUE(absl::StrContains(operation.message, "FAIL_WRITES")) << operation.message;
    }
    EXPECT_EQ(operation.read, "OK");
  }
  std::printf("the paused write ended with %s (%s); %d writes were refused before the lease was won again\n",
              operations[before_pause].write.c_str(), operations[before_pause].message.c_str(), refused);
  EXPECT_EQ(strict->End(), 0) << strict->Output();
  EXPECT_EQ(lively->End(), 0) << lively->Output();
  ExpectNoFailure(*lively);
}

}  // namespace
}  // namespace lockstep
