// A service of the example under load while a control plane in memory takes it along the ladder hop by hop,
// as the real one does: up to CUTOVER and back, and on to COMPLETE. Nobody's call fails, every read shows the
// authoritative row, and in the end the databases hold what was acknowledged.
#include "client/examples/cities/service.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/examples/cities/backfill.h"
#include "client/examples/cities/dataset.h"
#include "client/examples/cities/verify.h"
#include "core/domain/next_hop.h"
#include "lockstep/fake_control_plane.h"
#include "tests/client/examples/cities_testing.h"
#include "tests/client/plane_testing.h"

namespace lockstep::examples {
namespace {

using domain::RoutingState;
using domain::Stage;
using testing_support::Eventually;

constexpr char kMigration[] = "demo/cities";
constexpr uint32_t kSlice = 20000;
constexpr uint32_t kAll = domain::kBucketCount;

class ServiceTest : public testing::Test {
 protected:
  ServiceTest() {
    std::vector<City> to;
    for (int64_t id = 1; id <= 60; ++id) from_.push_back(MakeCity(id, absl::StrCat("City ", id)));
    for (int64_t id = 4; id <= 60; ++id) {  // three deletes, some updates
      to.push_back(MakeCity(0, absl::StrCat("City ", id), id % 3 == 0 ? "1.5" : "42.55623"));
    }
    for (int i = 0; i < 5; ++i) to.push_back(MakeCity(0, absl::StrCat("New ", i)));
    delta_ = Diff(from_, to);
    options_.transport = plane_;
    options_.instance_id = "cities-0";
    options_.legacy_path = dir_.File("legacy.db");
    options_.modern_path = dir_.File("modern.db");
    options_.oplog_path = dir_.File("oplog.jsonl");
    options_.acks_path = dir_.File("acks");
    options_.state_directory = dir_.File("state");
    options_.writes_per_second = 400;
    options_.reads_per_second = 400;
    options_.id_count = 60;
    EXPECT_TRUE(WriteOperationLog(options_.oplog_path, ShuffleOperations(delta_.operations, 1)).ok());
    legacy_ = *LegacyStore::Open(options_.legacy_path);
    EXPECT_TRUE(legacy_->Load(from_).ok());
    modern_ = *ModernStore::Open(options_.modern_path);
    published_.generation = 1;
    GoTo(domain::StateOfStage(Stage::kDualWrite, 0));
  }
  ~ServiceTest() override { Stop(); }

  void Start() {
    auto service = CitiesService::Create(options_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    stop_ = false;
    thread_ = std::thread([this] { ended_ = service_->Run(stop_); });
  }
  void Stop() {
    if (!thread_.joinable()) return;
    stop_ = true;
    thread_.join();
  }

  // Hop by hop, each once the service has acknowledged the last one.
  void GoTo(RoutingState goal) {
    goal.generation = 1;
    while (!published_.RoutesLike(goal)) {
      const auto hop = domain::NextHop(published_, goal, kSlice);
      ASSERT_TRUE(hop.has_value());
      published_ = *hop;
      plane_->SetState(kMigration, published_);
      if (service_ == nullptr) continue;
      ASSERT_NO_FATAL_FAILURE(AwaitAcknowledgement());
    }
    if (service_ == nullptr) return;
    ASSERT_NO_FATAL_FAILURE(AwaitWrites());
  }
  void AwaitAcknowledgement() {
    ASSERT_TRUE(Eventually([&] {
      const auto acks = plane_->Acks();
      return !acks.empty() && acks.back().revision == plane_->revision();
    })) << "no acknowledgement of "
        << published_.write_weight << " to " << published_.drain_weight;
    const auto acks = plane_->Acks();
    for (const domain::SliceCheck& check : acks.back().slice_checks) {
      EXPECT_EQ(check.differing, 0u) << check.example;
    }
  }
  // A whole round of the log at the least.
  void AwaitWrites() {
    const int64_t wanted = service_->Report().writes_acked + static_cast<int64_t>(delta_.operations.size());
    ASSERT_TRUE(Eventually([&] { return service_->Report().writes_acked >= wanted; }));
  }
  // Until CANARY_READ serves everything from new.
  void GoToCanary() {
    ASSERT_NO_FATAL_FAILURE(AwaitAcknowledgement());
    ASSERT_TRUE(Backfill(*legacy_, *modern_, {}).ok());
    GoTo(domain::StateOfStage(Stage::kShadowRead, 0));
    GoTo(domain::StateOfStage(Stage::kCanaryRead, kAll / 2));
    GoTo(domain::StateOfStage(Stage::kCanaryRead, kAll));
  }
  static RoutingState Cutover(uint32_t weight) {
    RoutingState state = domain::StateOfStage(Stage::kCutover, kAll);
    state.write_weight = state.drain_weight = weight;
    return state;
  }

  void ExpectNobodyNoticed() {
    const ServiceReport report = service_->Report();
    EXPECT_EQ(report.failed_calls(), 0) << report.ToJson();
    EXPECT_EQ(report.reads_served_wrong, 0) << report.ToJson();
    EXPECT_EQ(report.repairs_outstanding, 0) << report.ToJson();
    EXPECT_GT(report.reads_from_new, 0);
  }
  void ExpectNothingLost(WrittenTo written_to) {
    const auto acks = ReadAckLog(options_.acks_path);
    ASSERT_TRUE(acks.ok());
    const auto report = VerifyAcks(acks->acks, *legacy_, *modern_, written_to);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->lost_writes, 0) << (report->first_lost.empty() ? "" : report->first_lost[0]);
    EXPECT_TRUE(VerifyModern(*modern_, delta_.target)->Clean());
    if (written_to == WrittenTo::kNew) return;
    EXPECT_TRUE(VerifyLegacy(*legacy_, delta_.target)->Clean());
  }

  const TempDir dir_;
  const std::shared_ptr<FakeControlPlane> plane_ = std::make_shared<FakeControlPlane>();
  std::vector<City> from_;
  DatasetDelta delta_;
  ServiceOptions options_;
  std::unique_ptr<LegacyStore> legacy_;
  std::unique_ptr<ModernStore> modern_;
  RoutingState published_;
  std::unique_ptr<CitiesService> service_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
  absl::Status ended_;
};

TEST_F(ServiceTest, ToCutoverAndBackBothSidesAreEqual) {
  Start();
  ASSERT_NO_FATAL_FAILURE(GoToCanary());
  ASSERT_NO_FATAL_FAILURE(GoTo(Cutover(50000)));
  ASSERT_NO_FATAL_FAILURE(GoTo(Cutover(kAll)));
  ASSERT_NO_FATAL_FAILURE(GoTo(domain::StateOfStage(Stage::kCanaryRead, 0)));
  EXPECT_FALSE(HasFatalFailure());
  Stop();
  EXPECT_TRUE(ended_.ok()) << ended_;
  ExpectNobodyNoticed();
  ExpectNothingLost(WrittenTo::kBoth);
}

TEST_F(ServiceTest, ToCompleteTheNewSideHasEverything) {
  Start();
  ASSERT_NO_FATAL_FAILURE(GoToCanary());
  ASSERT_NO_FATAL_FAILURE(GoTo(Cutover(kAll)));
  ASSERT_NO_FATAL_FAILURE(GoTo(domain::StateOfStage(Stage::kNewOnly, kAll)));
  const int64_t last_in_old = legacy_->Stats()->latest_version;
  ASSERT_NO_FATAL_FAILURE(GoTo(domain::StateOfStage(Stage::kComplete, kAll)));
  Stop();
  EXPECT_TRUE(ended_.ok()) << ended_;
  ExpectNobodyNoticed();
  ExpectNothingLost(WrittenTo::kNew);
  EXPECT_EQ(legacy_->Stats()->latest_version, last_in_old) << "the old side gets no writes";
}

// The second process finds no control plane, and goes on from what a crash of the first one would have left.
TEST_F(ServiceTest, StartsWithoutAControlPlane) {
  Start();
  ASSERT_NO_FATAL_FAILURE(GoToCanary());
  ASSERT_NO_FATAL_FAILURE(GoTo(Cutover(50000)));
  std::filesystem::copy(options_.state_directory, dir_.File("crashed"),
                        std::filesystem::copy_options::recursive);
  Stop();
  options_.state_directory = dir_.File("crashed");
  plane_->SetReachable(false);
  service_.reset();
  Start();
  ASSERT_NO_FATAL_FAILURE(AwaitWrites());
  EXPECT_EQ(service_->Report().failed_calls(), 0);
  plane_->SetReachable(true);
  ASSERT_NO_FATAL_FAILURE(GoTo(Cutover(kAll)));
  Stop();
  EXPECT_TRUE(ended_.ok()) << ended_;
  ExpectNobodyNoticed();
  ExpectNothingLost(WrittenTo::kBoth);
}

}  // namespace
}  // namespace lockstep::examples
