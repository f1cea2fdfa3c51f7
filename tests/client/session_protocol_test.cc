// What the session and the control plane say to each other about states: accepts, acknowledgements, deltas,
// digests, slices, other stores.
#include "core/domain/next_hop.h"
#include "gmock/gmock.h"
#include "tests/client/session_fixture.h"

namespace lockstep::internal {
namespace {

using domain::Stage;
using ::testing::HasSubstr;

domain::RoutingState Holding(uint32_t write_weight, uint32_t drain_weight) {
  domain::RoutingState state = domain::StateOfStage(Stage::kCutover, 0);
  state.write_weight = write_weight;
  state.drain_weight = drain_weight;
  state.salt_seed = domain::SaltSeed(kFullName);
  return state;
}

class SessionProtocolTest : public SessionTest {
 protected:
  uint64_t LastAccept() const { return plane_->Accepts().empty() ? 0 : plane_->Accepts().back().revision; }
  uint64_t LastAck() const { return plane_->Acks().empty() ? 0 : plane_->Acks().back().revision; }
};

TEST_F(SessionProtocolTest, AcceptsAtOnceAndAcknowledgesWhenDrained) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  EXPECT_EQ(plane_->Accepts().size(), 1u);
  SnapshotPin operation = ring_.PinCurrent();
  plane_->SetStage(kMigration, Stage::kShadowRead);
  Run();
  EXPECT_EQ(LastAccept(), plane_->revision());
  EXPECT_EQ(LastAck(), plane_->revision() - 1);
  operation.Release();
  Run();
  EXPECT_EQ(LastAck(), plane_->revision());
  EXPECT_EQ(plane_->Accepts().size(), 2u) << "one for each";
  EXPECT_EQ(session_->Stats().accepted_revision, plane_->revision());
}

TEST_F(SessionProtocolTest, AcceptsWhenASlotIsFree) {
  std::vector<SnapshotPin> pins;
  for (uint32_t i = 0; i < SnapshotRing::kSlots; ++i) {
    plane_->SetStage(kMigration, Stage::kCanaryRead, 1 + i);
    Run();
    pins.push_back(ring_.PinCurrent());
  }
  EXPECT_EQ(plane_->Accepts().size(), SnapshotRing::kSlots);
  plane_->SetStage(kMigration, Stage::kCanaryRead, 1000);
  plane_->SetStage(kMigration, Stage::kCanaryRead, 2000);
  Run();
  EXPECT_EQ(plane_->Accepts().size(), SnapshotRing::kSlots);
  pins.pop_back();
  pins.erase(pins.begin());
  Run();
  EXPECT_EQ(LastAccept(), plane_->revision()) << "of two that waited only the newest";
  EXPECT_EQ(plane_->Accepts().size(), SnapshotRing::kSlots + 1);
}

TEST_F(SessionProtocolTest, DeltasGiveWhatTheSnapshotWouldHave) {
  plane_->SetSendsDeltas(true);
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  EXPECT_EQ(plane_->DeltasSent(), 0u);
  for (uint32_t weight = 1000; weight <= 5000; weight += 1000) {
    plane_->SetStage(kMigration, Stage::kCanaryRead, weight);
    if (weight == 3000) continue;  // two at once
    Run();
    EXPECT_EQ(ring_.current()->migrations[0].state.read_weight, weight);
    EXPECT_EQ(LastAck(), plane_->revision());
  }
  EXPECT_EQ(plane_->DeltasSent(), 5u);
  plane_->RemoveMigration(kMigration);
  Run();
  EXPECT_TRUE(ring_.current()->migrations.empty());
  EXPECT_TRUE(plane_->Nacks().empty());
  EXPECT_EQ(LastAck(), plane_->revision());
}

TEST_F(SessionProtocolTest, DeltasApplyToWhatWaits) {
  plane_->SetSendsDeltas(true);
  std::vector<SnapshotPin> pins;
  for (uint32_t i = 0; i < SnapshotRing::kSlots; ++i) {
    plane_->SetStage(kMigration, Stage::kCanaryRead, 1 + i);
    Run();
    pins.push_back(ring_.PinCurrent());
  }
  plane_->SetStage(kMigration, Stage::kCanaryRead, 1000);
  Run();
  plane_->SetStage(kMigration, Stage::kCanaryRead, 2000);
  Run();
  pins.clear();
  Run();
  EXPECT_EQ(ring_.current()->migrations[0].state.read_weight, 2000u);
  EXPECT_TRUE(plane_->Nacks().empty());
}

TEST_F(SessionProtocolTest, MoreDeltasThanAServerSendsCostASnapshot) {
  plane_->SetSendsDeltas(true);
  plane_->SetStage(kMigration, Stage::kCanaryRead, 1);
  Run();
  for (uint32_t i = 0; i < 2 * Mailbox::kMaxDeltas; ++i) {
    plane_->SetStage(kMigration, Stage::kCanaryRead, 100 + i);
  }
  for (int i = 0; i < 20; ++i) Advance(absl::Seconds(1));
  EXPECT_EQ(ring_.current()->revision, plane_->revision());
}

TEST_F(SessionProtocolTest, AWrongDigestIsRefusedAndTheSnapshotComes) {
  uint64_t nacks = 0;
  for (const bool as_delta : {true, false}) {
    SCOPED_TRACE(as_delta);
    plane_->SetSendsDeltas(as_delta);
    plane_->SetStage(kMigration, Stage::kCanaryRead, 1000);
    Run();
    plane_->SpoilNextDigest();
    plane_->SetStage(kMigration, Stage::kCanaryRead, 2000);
    session_->RunOnce();
    ASSERT_EQ(plane_->Nacks().size(), ++nacks);
    EXPECT_EQ(plane_->Nacks().back().revision, plane_->revision());
    EXPECT_THAT(plane_->Nacks().back().reason, HasSubstr("digest"));
    EXPECT_EQ(ring_.current()->migrations[0].state.read_weight, 1000u) << "the last good one stays in force";
    Run();
    EXPECT_EQ(ring_.current()->migrations[0].state.read_weight, 2000u);
    EXPECT_EQ(LastAck(), plane_->revision());
    EXPECT_EQ(plane_->Nacks().size(), nacks);
  }
}

TEST_F(SessionProtocolTest, ADeltaToSomethingElseIsRefused) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  SnapshotRing ring({kFullName});
  SnapshotIntake intake(&ring);
  const absl::Status without_base = intake.Take(domain::SnapshotDelta{.base_revision = 1, .revision = 2}, 5);
  EXPECT_TRUE(absl::IsFailedPrecondition(without_base)) << without_base;
  const domain::Snapshot snapshot = *ring_.current();
  ASSERT_TRUE(intake.Take(snapshot, domain::SnapshotDigest(snapshot)).ok());
  const absl::Status other_base =
      intake.Take(domain::SnapshotDelta{.base_revision = snapshot.revision + 1, .revision = 9}, 5);
  EXPECT_TRUE(absl::IsFailedPrecondition(other_base)) << other_base;
}

TEST_F(SessionProtocolTest, AnAnnouncedRevisionThatNeverComesIsAskedFor) {
  for (const bool as_delta : {false, true}) {
    SCOPED_TRACE(as_delta);
    plane_->SetSendsDeltas(as_delta);
    plane_->SetStage(kMigration, Stage::kDualWrite);
    Run();
    const size_t nacks = plane_->Nacks().size();
    plane_->LoseNextChange();
    plane_->SetStage(kMigration, Stage::kShadowRead);
    const uint64_t lost = plane_->revision();
    absl::Duration waited = absl::ZeroDuration();
    while (plane_->Nacks().size() == nacks && waited < absl::Minutes(1)) {
      Advance(absl::Seconds(1));
      waited += absl::Seconds(1);
    }
    ASSERT_EQ(plane_->Nacks().size(), nacks + 1);
    EXPECT_EQ(plane_->Nacks().back().revision, lost);
    EXPECT_THAT(plane_->Nacks().back().reason, HasSubstr("never came"));
    EXPECT_GT(waited, absl::Seconds(10)) << "two heartbeats after it was announced";
    EXPECT_LE(waited, absl::Seconds(17));
    EXPECT_EQ(ring_.current()->revision, lost);
    EXPECT_EQ(LastAck(), lost);
  }
}

TEST_F(SessionProtocolTest, OlderNumbersOfTheSameStoreAreRefused) {
  for (int i = 0; i < 3; ++i) plane_->SetStage(kMigration, Stage::kCanaryRead, 1000);
  Run();
  const uint64_t before = ring_.current()->revision;
  plane_->RestoreBackup(plane_->store_epoch());
  Run();
  Advance(absl::Seconds(1));
  ASSERT_FALSE(plane_->Nacks().empty());
  EXPECT_THAT(plane_->Nacks().back().reason, HasSubstr("the server's data is older"));
  EXPECT_EQ(ring_.current()->revision, before);
  EXPECT_EQ(plane_->Nacks().size(), 1u) << "once for each message";
}

TEST_F(SessionProtocolTest, AnotherStoreCountsAnew) {
  for (int i = 0; i < 3; ++i) plane_->SetStage(kMigration, Stage::kCanaryRead, 1000);
  Run();
  const uint64_t old_store = plane_->store_epoch();
  SnapshotPin operation = ring_.PinCurrent();
  plane_->RestoreBackup(99);
  Run();
  Advance(absl::Seconds(1));
  EXPECT_EQ(plane_->Enrolments().back().store_epoch, old_store) << "what it acts on is of the old store";
  EXPECT_EQ(plane_->Enrolments().back().held.at(kFullName), 3u);
  EXPECT_TRUE(plane_->Nacks().empty());
  EXPECT_EQ(ring_.current()->revision, 1u);
  EXPECT_EQ(LastAccept(), 1u);
  EXPECT_NE(LastAck(), 1u) << "an operation of the old store still runs";
  plane_->Disconnect();
  Run();
  Advance(absl::Seconds(1));
  EXPECT_EQ(plane_->Enrolments().back().store_epoch, 99u);
  EXPECT_EQ(plane_->Enrolments().back().held.at(kFullName), 0u) << "it goes with nothing";
  operation.Release();
  Run();
  EXPECT_EQ(LastAck(), 1u);
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), 1u);
}

TEST_F(SessionProtocolTest, OpenMirrorsOfAnotherStoreHoldEverything) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  RepairOutcome outcome = RepairOutcome::kRetry;
  ASSERT_TRUE(repairs_->Add({.attribution = {.generation = 1, .epoch = 1},
                             .store_epoch = plane_->store_epoch(),
                             .backoff_initial = absl::Milliseconds(50),
                             .backoff_max = absl::Seconds(1),
                             .attempt = [&] { return outcome; }}));
  plane_->RestoreBackup(99);
  Run();
  Advance(absl::Seconds(1));
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), 0u);
  outcome = RepairOutcome::kDone;
  executor_.RunAll();
  Run();
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), 1u);
}

TEST_F(SessionProtocolTest, HeldWritesGoOnWhenTheNextStateIsInForce) {
  plane_->SetState(kMigration, Holding(0, 1000));
  Run();
  int resumed = 0;
  held_writes_->Park(
      1, [] { return uint64_t{1}; }, absl::InfiniteFuture(),
      [&](bool expired) {
        EXPECT_FALSE(expired);
        EXPECT_EQ(ring_.PinCurrent().slot()->Of(0).routing->state.write_weight, 1000u);
        ++resumed;
      });
  Advance(absl::Seconds(5));
  EXPECT_EQ(resumed, 0);
  EXPECT_EQ(plane_->Statuses().back().held_writes, 1u);
  plane_->SetState(kMigration, Holding(1000, 1000));
  session_->RunOnce();
  executor_.RunDue();
  EXPECT_EQ(resumed, 1);
}

// The order of a cut-over: what is open of older epochs first, then the comparison, then the acknowledgement.
TEST_F(SessionProtocolTest, ASliceIsCheckedWhenNothingOlderIsOpenAndThenAcknowledged) {
  plane_->SetStage(kMigration, Stage::kCanaryRead, domain::kBucketCount);
  Run();
  int checks = 0;
  for (const uint32_t bucket : {0u, 999u, 1000u}) {
    slice_checker_->Note(0, {.bucket = bucket, .identity = absl::StrCat(bucket), .check = [&](bool) {
                               ++checks;
                               return RecordCheckResult{RecordCheck::kEqual, ""};
                             }});
  }
  RepairOutcome outcome = RepairOutcome::kRetry;
  ASSERT_TRUE(repairs_->Add({.attribution = {.generation = 1, .epoch = 1},
                             .store_epoch = plane_->store_epoch(),
                             .backoff_initial = absl::Milliseconds(50),
                             .backoff_max = absl::Seconds(1),
                             .attempt = [&] { return outcome; }}));
  SnapshotPin operation = ring_.PinCurrent();
  plane_->SetState(kMigration, Holding(0, 1000));
  Run();
  executor_.RunDue();
  EXPECT_EQ(LastAck(), 1u);
  EXPECT_EQ(checks, 0) << "an operation may still write";
  operation.Release();
  Run();
  executor_.RunDue();
  EXPECT_EQ(checks, 0) << "a mirror is open";
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), 1u);
  EXPECT_TRUE(plane_->Acks().back().slice_checks.empty());
  outcome = RepairOutcome::kDone;
  executor_.RunAll();
  Run();
  EXPECT_TRUE(slice_checker_->Busy());
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), 1u);
  executor_.RunAll();
  Run();
  EXPECT_EQ(checks, 2) << "those of the slice";
  EXPECT_EQ(plane_->Acks().back().held.at(kFullName), 2u);
  ASSERT_EQ(plane_->Acks().back().slice_checks.size(), 1u);
  EXPECT_EQ(plane_->Acks().back().slice_checks[0],
            (domain::SliceCheck{.migration = kFullName, .epoch = 2, .checked = 2}));
  const size_t acks = plane_->Acks().size();
  Advance(absl::Seconds(3));
  EXPECT_EQ(plane_->Acks().size(), acks) << "said once";
}

TEST_F(SessionProtocolTest, HeartbeatsSayWhatHoldsOlderEpochs) {
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  SnapshotPin first = ring_.PinCurrent();
  SnapshotPin second = ring_.PinCurrent();
  Advance(absl::Seconds(5));
  EXPECT_EQ(plane_->Statuses().back(), domain::InstanceStatus())
      << "operations of the present epoch hold nothing";
  plane_->SetStage(kMigration, Stage::kShadowRead);
  Run();
  ASSERT_TRUE(repairs_->Add({.attribution = {.generation = 1, .epoch = 2},
                             .store_epoch = plane_->store_epoch(),
                             .backoff_initial = absl::Milliseconds(50),
                             .backoff_max = absl::Seconds(1),
                             .attempt = [] { return RepairOutcome::kRetry; }}));
  Advance(absl::Seconds(5));
  EXPECT_EQ(plane_->Statuses().back(),
            (domain::InstanceStatus{.operations = 2, .oldest_operation = absl::Seconds(5), .repairs = 1}));
}

TEST_F(SessionProtocolTest, TheEnrolmentSaysWhatTheLeaseIs) {
  session_ = std::make_unique<Session>(Options(domain::LeasePolicy::kFailWrites), Parts(), 1);
  Run();
  EXPECT_EQ(plane_->Enrolments().back().lease_ttl, absl::Seconds(15));
  EXPECT_EQ(plane_->Enrolments().back().lease_policy, domain::LeasePolicy::kFailWrites);
}

// Others may have gone on once the lease was over, so a heartbeat that is answered late changes nothing.
TEST_F(SessionProtocolTest, ALostLeaseIsWonByANewEnrolmentOnly) {
  session_ = std::make_unique<Session>(Options(domain::LeasePolicy::kFailWrites), Parts(), 1);
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  const auto lost = [&] { return session_->lease().lost(clock_.SinceBoot()); };
  EXPECT_FALSE(lost());
  clock_.Advance(absl::Seconds(14));
  EXPECT_FALSE(lost());
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(lost()) << "at 95 % of its time, without the session having run";
  plane_->SetReachable(false);
  Run();
  EXPECT_TRUE(session_->stale());
  Advance(absl::Minutes(1));
  EXPECT_TRUE(lost());
  plane_->SetReachable(true);
  plane_->SetStage(kMigration, Stage::kShadowRead);
  for (int i = 0; i < 20 && lost(); ++i) Advance(absl::Seconds(1));
  EXPECT_FALSE(lost());
  EXPECT_EQ(session_->lease().term(), 2u);
  EXPECT_EQ(ring_.current()->revision, plane_->revision());
}

TEST_F(SessionProtocolTest, APauseBeyondTheLeaseEndsTheStreamEvenIfItIsStillOpen) {
  session_ = std::make_unique<Session>(Options(domain::LeasePolicy::kFailWrites), Parts(), 1);
  plane_->SetStage(kMigration, Stage::kDualWrite);
  Run();
  const size_t enrolments = plane_->Enrolments().size();
  Advance(absl::Seconds(5));
  clock_.Advance(absl::Minutes(1));
  session_->RunOnce();
  EXPECT_FALSE(session_->Stats().connected);
  EXPECT_TRUE(session_->lease().lost(clock_.SinceBoot()));
  Advance(absl::Seconds(1));
  EXPECT_EQ(plane_->Enrolments().size(), enrolments + 1);
  EXPECT_FALSE(session_->lease().lost(clock_.SinceBoot()));
  EXPECT_TRUE(session_->Stats().connected);
}

}  // namespace
}  // namespace lockstep::internal
