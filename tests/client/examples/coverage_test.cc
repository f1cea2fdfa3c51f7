#include "client/examples/cities/coverage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lockstep/fake_control_plane.h"
#include "tests/client/sdk_testing.h"

namespace lockstep::examples {
namespace {

using domain::BackfillStats;
using domain::Stage;

constexpr char kMigration[] = "demo/cities";

class CoverageTest : public ::testing::Test {
 protected:
  CoverageTest() { plane_->SetStage(kMigration, Stage::kDualWrite); }

  std::unique_ptr<CoverageReport> Begin() {
    auto report = CoverageReport::Begin({.transport = plane_});
    EXPECT_TRUE(report.ok()) << report.status();
    return *std::move(report);
  }
  BackfillStats Reported() const { return plane_->Totals(kMigration).backfill; }
  static BackfillStats Rows(uint64_t to_copy, uint64_t copied) {
    return {.rows_to_copy = to_copy, .rows_copied = copied};
  }

  std::shared_ptr<FakeControlPlane> plane_ = std::make_shared<FakeControlPlane>();
};

TEST_F(CoverageTest, ReportsAndLeaves) {
  const std::unique_ptr<CoverageReport> report = Begin();
  ASSERT_EQ(plane_->Enrolments().size(), 1u);
  EXPECT_EQ(plane_->Enrolments()[0].service, "cities-backfill");
  report->TakeOn(25);
  report->Progress({.rows_read = 10, .rows_applied = 8, .rows_newer = 2});
  report->Progress({.rows_read = 20, .rows_applied = 15, .rows_newer = 4, .rows_refused = 1});
  report->Progress({.rows_read = 25, .rows_applied = 20, .rows_newer = 4, .rows_refused = 1});
  EXPECT_TRUE(report->Finish().ok());
  EXPECT_EQ(Reported(), Rows(25, 24)) << "what the mapper refused is not covered";
  EXPECT_THAT(plane_->Left(), ::testing::ElementsAre("cities-backfill"));
  for (const domain::TelemetryDelta& delta : plane_->Deltas()) {
    EXPECT_EQ(delta.generation, 1u);
    EXPECT_EQ(delta.epoch, plane_->EpochOf(kMigration));
  }
}

TEST_F(CoverageTest, RowsThatComeMeanwhileCount) {
  const std::unique_ptr<CoverageReport> report = Begin();
  report->TakeOn(25);
  report->Progress({.rows_read = 24, .rows_applied = 24});
  report->Progress({.rows_read = 27, .rows_applied = 27});
  EXPECT_TRUE(report->Finish().ok());
  EXPECT_EQ(Reported(), Rows(27, 27));
}

TEST_F(CoverageTest, ARunThatGoesOnTakesNothingOn) {
  const std::unique_ptr<CoverageReport> first = Begin();
  first->TakeOn(25);
  first->Progress({.rows_read = 10, .rows_applied = 10});
  EXPECT_TRUE(first->Finish().ok());
  const std::unique_ptr<CoverageReport> second = Begin();
  second->Progress({.rows_read = 15, .rows_applied = 15});
  EXPECT_TRUE(second->Finish().ok());
  EXPECT_EQ(Reported(), Rows(25, 25));
}

TEST_F(CoverageTest, AnotherGenerationIsNoticed) {
  const std::unique_ptr<CoverageReport> report = Begin();
  report->TakeOn(25);
  domain::RoutingState state = domain::StateOfStage(Stage::kDualWrite, 0);
  state.generation = 2;
  plane_->SetState(kMigration, state);
  ASSERT_TRUE(testing_support::Eventually(
      [&] { return !plane_->Acks().empty() && plane_->Acks().back().revision == plane_->revision(); }));
  report->Progress({.rows_read = 25, .rows_applied = 25});
  const absl::Status finished = report->Finish();
  EXPECT_TRUE(absl::IsFailedPrecondition(finished)) << finished;
  EXPECT_EQ(Reported(), Rows(25, 0));
  EXPECT_THAT(plane_->Left(), ::testing::ElementsAre("cities-backfill"));
}

TEST_F(CoverageTest, AnUnknownMigrationIsAnError) {
  EXPECT_TRUE(absl::IsFailedPrecondition(
      CoverageReport::Begin({.transport = plane_, .migration = "demo/other"}).status()));
}

}  // namespace
}  // namespace lockstep::examples
