#include "client/sdk/src/session.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/internal/backoff.h"
#include "tests/client/session_fixture.h"

namespace lockstep::internal {
namespace {

using domain::Stage;
using testing_support::kFullName;
using testing_support::kMigration;

TEST_F(SessionTest, FirstSnapshotIsAcknowledged) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  EXPECT_FALSE(session_->ready());
  Run();
  EXPECT_TRUE(session_->ready());
  ASSERT_EQ(plane_->Enrolments().size(), 1u);
  EXPECT_TRUE(plane_->Enrolments()[0].held.empty());
  ASSERT_EQ(plane_->Acks().size(), 1u);
  EXPECT_EQ(plane_->Acks()[0].revision, plane_->revision());
  EXPECT_EQ(plane_->Acks()[0].held, (HeldEpochs{{kFullName, plane_->EpochOf(kMigration)}}));
}

TEST_F(SessionTest, AcknowledgesOnlyAfterOlderPinsHaveEnded) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  const size_t before = plane_->Acks().size();
  SnapshotPin first = ring_.PinCurrent();
  plane_->SetStage(kMigration, Stage::kShadowRead);
  Run();
  SnapshotPin second = ring_.PinCurrent();
  plane_->SetStage(kMigration, Stage::kCanaryRead, 1000);
  Run();
  EXPECT_EQ(ring_.current()->revision, plane_->revision()) << "the new one is in force at once";
  EXPECT_EQ(plane_->Acks().size(), before);
  first.Release();
  Run();
  ASSERT_EQ(plane_->Acks().size(), before + 1);
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), plane_->EpochOf(kMigration) - 1)
      << "the one in between is still pinned";
  second.Release();
  Run();
  ASSERT_EQ(plane_->Acks().size(), before + 2);
  EXPECT_EQ(plane_->Acks().back().revision, plane_->revision());
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), plane_->EpochOf(kMigration));
}

TEST_F(SessionTest, RepairsHoldTheirEpoch) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  const uint64_t old_epoch = plane_->EpochOf(kMigration);
  RepairOutcome outcome = RepairOutcome::kRetry;
  ASSERT_TRUE(repairs_->Add({.attribution = {.generation = 1, .epoch = old_epoch},
                             .store_epoch = plane_->store_epoch(),
                             .backoff_initial = absl::Milliseconds(50),
                             .backoff_max = absl::Seconds(1),
                             .attempt = [&] { return outcome; }}));
  plane_->SetStage(kMigration, Stage::kShadowRead);
  Run();
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), old_epoch);
  executor_.RunAll(5);
  Run();
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), old_epoch);
  outcome = RepairOutcome::kDone;
  executor_.RunAll();
  Run();
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), plane_->EpochOf(kMigration));
  EXPECT_EQ(repairs_->outstanding(), 0u);
}

TEST_F(SessionTest, InvalidSnapshotsAreRefusedAndDisplaceNothing) {
  plane_->SetStage(kMigration, Stage::kCanaryRead, 1000);
  plane_->SetStage(kMigration, Stage::kCanaryRead, 2000);
  Run();
  const domain::Snapshot good = *ring_.current();
  domain::Snapshot broken = good;
  ++broken.revision;
  broken.migrations[0].state.stage = Stage::kDualWrite;  // with a read weight
  domain::Snapshot older_revision = good;
  --older_revision.revision;
  domain::Snapshot older_epoch = good;
  ++older_epoch.revision;
  --older_epoch.migrations[0].state.epoch;
  domain::Snapshot nameless = good;
  ++nameless.revision;
  nameless.migrations.push_back(nameless.migrations[0]);
  const std::vector<std::pair<domain::Snapshot, const char*>> cases = {
      {broken, "read_weight"}, {older_revision, "revision"}, {older_epoch, "epoch"}, {nameless, "orders"}};
  for (const auto& [snapshot, word] : cases) {
    SCOPED_TRACE(word);
    const size_t nacks = plane_->Nacks().size();
    plane_->PublishRaw(snapshot);
    Run();
    ASSERT_EQ(plane_->Nacks().size(), nacks + 1);
    EXPECT_EQ(plane_->Nacks().back().revision, snapshot.revision);
    EXPECT_THAT(plane_->Nacks().back().reason, ::testing::HasSubstr(word));
    EXPECT_EQ(ring_.current()->revision, good.revision);
    EXPECT_EQ(ring_.current()->migrations[0].state.read_weight, 2000u);
  }
  plane_->PublishUndecodable(absl::InvalidArgumentError("stage: unknown value 99"));
  Run();
  EXPECT_THAT(plane_->Nacks().back().reason, ::testing::HasSubstr("99"));
  EXPECT_EQ(session_->Stats().snapshots_rejected, 5u);
  plane_->SetStage(kMigration, Stage::kCanaryRead, 3000);
  Run();
  EXPECT_EQ(ring_.current()->migrations[0].state.read_weight, 3000u) << "a good one is taken again";
}

TEST_F(SessionTest, KeepsServingAndReconnects) {
  plane_->SetStage(kMigration, Stage::kCanaryRead, 1000);
  Run();
  plane_->SetReachable(false);
  Run();
  EXPECT_FALSE(session_->Stats().connected);
  EXPECT_NE(ring_.current(), nullptr);
  EXPECT_TRUE(absl::IsUnavailable(session_->last_error()));
  Advance(absl::Seconds(12));
  EXPECT_FALSE(session_->stale());
  Advance(absl::Seconds(4));
  EXPECT_TRUE(session_->stale());
  EXPECT_NE(ring_.current(), nullptr) << "stale, but serving";
  plane_->SetReachable(true);
  plane_->SetStage(kMigration, Stage::kShadowRead);
  Advance(absl::Seconds(10));
  EXPECT_FALSE(session_->stale());
  EXPECT_EQ(ring_.current()->revision, plane_->revision());
  EXPECT_EQ(plane_->Enrolments().back().held.at(kFullName), 1u) << "what it still acted on when it came back";
  EXPECT_EQ(plane_->Acks().back().revision, plane_->revision());
}

TEST_F(SessionTest, RepeatedSnapshotAfterReconnectIsAcknowledgedAgain) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  const size_t acks = plane_->Acks().size();
  plane_->Disconnect();
  Run();
  Advance(absl::Seconds(1));
  EXPECT_EQ(plane_->Enrolments().size(), 2u);
  EXPECT_EQ(plane_->Acks().size(), acks + 1);
  EXPECT_EQ(session_->Stats().snapshots_rejected, 0u);
}

TEST_F(SessionTest, LeaseIsCountedFromTheSendOfTheHeartbeat) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  Advance(absl::Seconds(5));
  EXPECT_EQ(plane_->Heartbeats(), 1u);
  plane_->SetAnswersHeartbeats(false);
  Advance(absl::Seconds(15));
  EXPECT_FALSE(session_->stale());
  Advance(absl::Seconds(1));
  EXPECT_TRUE(session_->stale()) << "the stream is open, but nobody answers";
  plane_->SetAnswersHeartbeats(true);
  Advance(absl::Seconds(5));
  Run();
  EXPECT_TRUE(session_->Stats().connected);
}

struct KeepAliveCase {
  Stage stage;
  uint64_t batches;  // in a minute without traffic, from the first second on
};

TEST_F(SessionTest, SaysThatItIsThereWhileTheMigrationMirrorsOrCompares) {
  const std::vector<KeepAliveCase> cases = {
      {Stage::kOff, 0},     {Stage::kDualWrite, 5}, {Stage::kShadowRead, 4}, {Stage::kCanaryRead, 4},
      {Stage::kCutover, 4}, {Stage::kNewOnly, 0},   {Stage::kComplete, 0},
  };
  uint64_t sent = 0;
  for (const KeepAliveCase& c : cases) {
    SCOPED_TRACE(domain::StageName(c.stage));
    plane_->SetStage(kMigration, c.stage);
    for (int second = 0; second <= 60; ++second)
      Advance(second == 0 ? absl::ZeroDuration() : absl::Seconds(1));
    sent += c.batches;
    EXPECT_EQ(session_->Stats().batches_acknowledged, sent);
  }
  EXPECT_TRUE(plane_->Deltas().empty());
  EXPECT_EQ(plane_->DuplicateReports(), 0u);
}

TEST_F(SessionTest, NothingButTrafficIsSentWhileItIsThere) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  EXPECT_EQ(session_->Stats().batches_acknowledged, 1u);
  for (int second = 0; second < 60; ++second) {
    telemetry_.RecordAuthoritativeWrite({.generation = 1, .epoch = 1}, true);
    Advance(absl::Seconds(1));
  }
  EXPECT_EQ(session_->Stats().batches_acknowledged, 61u);
  plane_->SetReachable(false);
  plane_->Disconnect();
  for (int second = 0; second < 60; ++second) Advance(absl::Seconds(1));
  EXPECT_EQ(session_->Stats().batches_acknowledged, 61u);
  EXPECT_EQ(session_->Stats().operations_unreported, 0u) << "a disconnected instance makes none";
}

TEST_F(SessionTest, DrainDelaysTheReconnect) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  plane_->SendDrain(absl::Seconds(20));
  Run();
  plane_->Disconnect();
  Run();
  Advance(absl::Milliseconds(9900));
  EXPECT_EQ(plane_->Enrolments().size(), 1u) << "not before half the time";
  Advance(absl::Milliseconds(20200));
  EXPECT_EQ(plane_->Enrolments().size(), 2u) << "by one and a half times";
}

TEST_F(SessionTest, ARenewalIsAtOnceAndNobodyNoticesIt) {
  for (const domain::LeasePolicy policy :
       {domain::LeasePolicy::kKeepServing, domain::LeasePolicy::kFailWrites}) {
    session_ = std::make_unique<Session>(Options(policy), Parts(), 1);
    plane_->SetStage(kMigration, Stage::kDualWrite);
    Run();
    Advance(absl::Seconds(9));
    const size_t enrolments = plane_->Enrolments().size();
    const uint32_t term = session_->lease().term();
    const absl::Duration end = session_->lease().end();
    Advance(absl::Seconds(2));
    plane_->SendDrain(absl::ZeroDuration());
    Run();
    ASSERT_EQ(plane_->Enrolments().size(), enrolments + 1) << "at once, and once";
    EXPECT_EQ(plane_->Enrolments().back().held.at(kFullName), plane_->EpochOf(kMigration));
    EXPECT_TRUE(session_->Stats().connected);
    EXPECT_EQ(session_->Stats().reconnects, 0u);
    EXPECT_EQ(session_->lease().term(), term) << "what was routed may still be written";
    EXPECT_GT(session_->lease().end(), end);
    EXPECT_TRUE(plane_->Left().empty());
    // And it goes on over the new one.
    plane_->SetStage(kMigration, Stage::kShadowRead);
    Run();
    EXPECT_EQ(plane_->Acks().back().revision, plane_->revision());
    for (int i = 0; i < 10; ++i) Advance(absl::Seconds(5));
    EXPECT_EQ(session_->lease().term(), term);
    EXPECT_EQ(plane_->Enrolments().size(), enrolments + 1);
  }
}

TEST_F(SessionTest, WithoutAnAnswerARenewalIsAnyOtherReconnect) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  plane_->SendDrain(absl::ZeroDuration());
  plane_->SetReachable(false);
  Run();
  EXPECT_FALSE(session_->Stats().connected);
  plane_->SetReachable(true);
  Advance(absl::Seconds(1));
  EXPECT_TRUE(session_->Stats().connected);
}

TEST_F(SessionTest, BacksOffWhileUnreachable) {
  plane_->SetReachable(false);
  Run();
  // The first attempts follow within 100 ms, later ones are on average 5 s apart.
  size_t last = 0;
  for (int minute = 0; minute < 5; ++minute) {
    for (int i = 0; i < 600; ++i) Advance(absl::Milliseconds(100));
    const size_t attempts = plane_->Enrolments().size() - last;
    EXPECT_GE(attempts, 5u);
    EXPECT_LE(attempts, 40u);
    last = plane_->Enrolments().size();
  }
}

TEST(BackoffTest, BoundDoublesUpToTheMaximum) {
  const absl::Duration initial = absl::Milliseconds(100);
  const absl::Duration max = absl::Seconds(1);
  const std::vector<int> expected_ms = {100, 200, 400, 800, 1000, 1000};
  for (int attempt = 0; attempt < static_cast<int>(expected_ms.size()); ++attempt) {
    EXPECT_EQ(BackoffBound(initial, max, attempt), absl::Milliseconds(expected_ms[attempt]));
  }
  EXPECT_EQ(BackoffBound(initial, max, 1'000'000), max);
}

TEST(BackoffTest, JitterFillsTheWholeRangeAndIsReplayable) {
  const uint64_t seed = 7;
  Prng prng(seed);
  Prng again(seed);
  double lowest = 1;
  double highest = 0;
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration wait = FullJitter(absl::Seconds(1), absl::Seconds(60), 3, prng);
    EXPECT_EQ(wait, FullJitter(absl::Seconds(1), absl::Seconds(60), 3, again));
    const double share = absl::FDivDuration(wait, absl::Seconds(8));
    lowest = std::min(lowest, share);
    highest = std::max(highest, share);
  }
  EXPECT_GE(lowest, 0);
  EXPECT_LT(lowest, 0.05);
  EXPECT_LT(highest, 1);
  EXPECT_GT(highest, 0.95);
}

}  // namespace
}  // namespace lockstep::internal
