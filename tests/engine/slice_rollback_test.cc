// The way back from CUTOVER, with a new side that is sick.
#include <gmock/gmock.h>

#include "tests/engine/fleet_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using domain::Stage;
using ::testing::HasSubstr;

class SliceRollbackTest : public FleetTest {
 protected:
  // Acknowledges the published epoch and says what was found in the slice that it holds.
  void AckWith(uint32_t differing, uint32_t unchecked) {
    domain::SliceCheck check;
    check.migration = kName;
    check.epoch = Published().epoch;
    check.checked = 10;
    check.differing = differing;
    check.unchecked = unchecked;
    check.example = differing > 0 ? "total differs" : "new: UNAVAILABLE";
    const absl::Status status = streams_.at("a").session->OnAck(0, {{kName, check.epoch}}, {check});
    ASSERT_TRUE(status.ok()) << status;
  }
  domain::DecisionRecord Newest() {
    const auto records = registry().ListDecisions(kName, 0, 1);
    EXPECT_TRUE(records.ok()) << records.status();
    return records->front();
  }
  void BeAtCutover() {
    Create(kName, PlanToComplete());
    Enrol("a");
    WalkTo(Stage::kCutover);
    ASSERT_EQ(Where(), "CUTOVER 8000/8000");
  }
  absl::Status RollBack(bool accept_differences, std::string reason) {
    domain::Command command;
    command.kind = CommandKind::kRollback;
    command.accept_differences = accept_differences;
    command.reason = std::move(reason);
    return registry().Execute(kName, command, By("user:ann")).status();
  }
};

TEST_F(SliceRollbackTest, WhatCouldNotBeComparedStopsTheWayUpOnly) {
  BeAtCutover();
  Advance();
  ASSERT_EQ(Where(), "CUTOVER 8000/13000 pending");
  AckWith(0, 3);
  EXPECT_EQ(Where(), "CUTOVER 8000/8000");
  EXPECT_EQ(Now().migration->run_state, domain::RunState::kPaused);
  EXPECT_THAT(Now().migration->run_state_reason, HasSubstr("3 could not be compared"));
  AckAll();

  ASSERT_TRUE(RollBack(false, "").ok());
  ASSERT_EQ(Where(), "CUTOVER 3000/8000 pending");
  AckWith(0, 4);
  EXPECT_EQ(Where(), "CUTOVER 3000/3000 pending");
  EXPECT_THAT(Newest().reason, HasSubstr("0 differ and 4 could not be compared, as 'a' found"));
  AckAll();
  ASSERT_EQ(Where(), "CUTOVER 0/3000 pending");
  AckWith(0, 0);
  EXPECT_EQ(Where(), "CANARY_READ");
  EXPECT_EQ(Now().migration->run_state, domain::RunState::kRolledBack);
}

TEST_F(SliceRollbackTest, WhatDiffersStopsTheWayBackUntilItIsAccepted) {
  BeAtCutover();
  ASSERT_TRUE(RollBack(false, "").ok());
  ASSERT_EQ(Where(), "CUTOVER 3000/8000 pending");
  AckWith(2, 1);
  EXPECT_EQ(Where(), "CUTOVER 8000/8000") << "new keeps the authority";
  const domain::Migration& stopped = *Now().migration;
  EXPECT_EQ(stopped.run_state, domain::RunState::kPaused);
  EXPECT_EQ(stopped.differing_records, 2u);
  for (const char* part : {"2 differ for good", "1 could not be compared", "way back is stopped",
                           "roll back again", "accept_differences"}) {
    EXPECT_THAT(stopped.run_state_reason, HasSubstr(part));
  }

  EXPECT_EQ(ReasonOf(RollBack(true, " ")), "REASON_REQUIRED");
  ASSERT_TRUE(RollBack(true, "old is right").ok());
  EXPECT_THAT(Now().migration->run_state_reason, HasSubstr("2 records are known to"));
  EXPECT_THAT(Now().migration->run_state_reason, HasSubstr("old is right"));
  AckAll();  // a release, then a hold
  ASSERT_EQ(Where(), "CUTOVER 3000/8000 pending");
  Restart();  // the word is kept
  Enrol("a", {{kName, Published().epoch}});
  Tick(absl::Seconds(6));  // remote decisions of before the restart have ended
  AckWith(2, 0);
  EXPECT_EQ(Where(), "CUTOVER 3000/3000 pending");
  EXPECT_THAT(Newest().reason, HasSubstr("2 differ and 0 could not be compared"));
  EXPECT_EQ(Now().migration->differing_records, 0u);
  Settle();
  EXPECT_EQ(Where(), "CANARY_READ");

  // It was of that rollback.
  EXPECT_FALSE(Now().migration->pending);
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  EXPECT_FALSE(Now().migration->accept_differences);
}

}  // namespace
}  // namespace lockstep::engine
