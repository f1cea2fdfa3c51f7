#include "server/engine/evidence_timeline.h"

#include <gtest/gtest.h>

namespace lockstep::engine {
namespace {

using domain::RunState;

struct Row {
  const char* what;
  const char* action;
  RunState run_state;
  int step;
  uint64_t before_epoch;
  uint64_t after_epoch;
  bool breached;
  size_t segments;  // expected afterwards
  bool reset;       // whether the id changes
  uint32_t restarts;
  uint64_t generation = 1;
};

TEST(EvidenceTimeline, FollowsTheRecords) {
  const Row rows[] = {
      {"create", "create", RunState::kDraft, -1, 0, 1, false, 0, false, 0},
      {"start", "start", RunState::kRunning, 0, 1, 2, false, 1, true, 0},
      {"pending", "advance", RunState::kRunning, 1, 2, 0, false, 1, false, 0},
      {"published", "publish", RunState::kRunning, 1, 2, 3, false, 2, false, 0},
      {"pause", "pause", RunState::kPaused, 1, 3, 3, false, 2, false, 0},
      {"resume", "resume", RunState::kRunning, 1, 3, 3, false, 2, false, 0},
      {"pins", "update", RunState::kRunning, 1, 3, 4, false, 2, false, 0},
      {"contract", "update_contract", RunState::kRunning, 1, 4, 5, false, 1, true, 1},
      {"weight", "set-weight", RunState::kPaused, 1, 5, 6, false, 2, false, 1},
      {"resume after a breach", "resume", RunState::kRunning, 1, 6, 6, true, 1, true, 2},
      {"plan", "update_plan", RunState::kRunning, 1, 6, 6, false, 1, true, 3},
      {"too old", "renew_evidence", RunState::kRunning, 1, 6, 6, false, 1, true, 4},
      {"rollback", "rollback", RunState::kRolledBack, 0, 6, 7, true, 0, true, 4},
      {"resume after it", "resume", RunState::kRunning, 0, 7, 7, false, 1, true, 5},
      {"abort", "abort", RunState::kDraft, -1, 7, 8, false, 0, true, 5},
      {"start again", "start", RunState::kRunning, 0, 8, 9, false, 1, true, 0, 2},
      {"plan again", "update_plan", RunState::kRunning, 0, 9, 9, false, 1, true, 1, 2},
  };
  EvidenceTimeline timeline;
  absl::Time now = absl::FromUnixSeconds(1001);
  for (const Row& row : rows) {
    domain::DecisionRecord record;
    record.time = now;
    record.action = row.action;
    record.run_state = row.run_state;
    record.step = row.step;
    record.before.epoch = row.before_epoch;
    record.after = domain::StateOfStage(row.step < 0 ? domain::Stage::kOff : domain::Stage::kDualWrite, 0);
    record.after.epoch = row.after_epoch;
    record.after.generation = row.generation;
    if (row.breached) record.evidence.emplace().verdict = domain::Verdict::kRollBack;
    const uint64_t id = timeline.id();
    // Kept and read again it goes on as if it had not been.
    auto kept = EvidenceTimeline::FromRow(timeline.ToRow("some-uid", 7));
    ASSERT_TRUE(kept.ok()) << kept.status();
    EXPECT_EQ(kept->uid, "some-uid");
    EXPECT_EQ(kept->decisions, 7u);
    kept->timeline.Add(record);
    timeline.Add(record);
    EXPECT_EQ(kept->timeline.ToRow("u", 8), timeline.ToRow("u", 8)) << row.what;
    EXPECT_EQ(kept->timeline.segments(), timeline.segments()) << row.what;
    EXPECT_EQ(timeline.segments().size(), row.segments) << row.what;
    EXPECT_EQ(timeline.id() != id, row.reset) << row.what;
    EXPECT_EQ(timeline.restarts(), row.restarts) << row.what;
    if (row.reset && row.segments > 0) {
      EXPECT_EQ(timeline.first_epoch(), row.after_epoch) << row.what;
      EXPECT_EQ(timeline.begin(), BucketCeil(now)) << row.what;
    }
    now += absl::Seconds(7);
  }
}

TEST(EvidenceTimeline, RefusesRowsThatCannotBe) {
  for (const char* const row : {"", "uid", "uid 1 1 1 1", "uid x 1 1 1 1", "uid 1 1 1 ? 1", "uid 1 1 1 - 1 2",
                                "uid 1 1 1 - 1 2@", "uid 1 1 1 - 1  2@5"}) {
    EXPECT_TRUE(absl::IsDataLoss(EvidenceTimeline::FromRow(row).status())) << row;
  }
}

TEST(Buckets, FloorAndCeil) {
  const auto at = [](int64_t seconds) { return absl::FromUnixSeconds(seconds); };
  EXPECT_EQ(BucketFloor(at(10)), at(10));
  EXPECT_EQ(BucketCeil(at(10)), at(10));
  EXPECT_EQ(BucketFloor(at(14)), at(10));
  EXPECT_EQ(BucketCeil(at(11)), at(15));
  EXPECT_EQ(BucketFloor(at(-1)), at(-5));
}

}  // namespace
}  // namespace lockstep::engine
