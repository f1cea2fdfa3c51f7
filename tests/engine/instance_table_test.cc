#include "server/engine/instance_table.h"

#include <thread>

#include "tests/engine/engine_fixture.h"

namespace lockstep::engine {
namespace {

class InstanceTableTest : public ::testing::Test {
 protected:
  InstanceTableTest() : memory_(store::NewMemoryStore()), store_(memory_.get()), clock_(absl::UnixEpoch()) {
    Reopen();
  }
  void Reopen() {
    table_ = std::make_unique<InstanceTable>(&store_, codec_.get(), &clock_);
    ASSERT_TRUE(table_->Recover().ok());
  }
  ConnectionId Enrol(std::map<std::string, uint64_t> held, uint64_t published) {
    const ConnectionId connection =
        table_->Enrol({"a", "s", "1", {"m"}, std::move(held)}, {{"m", {published, published}}});
    EXPECT_TRUE(table_->CommitEnrolment("a").ok());
    return connection;
  }

  std::unique_ptr<store::Store> memory_;
  store::FaultyStore store_;
  FakeClock clock_;
  std::unique_ptr<store::RecordCodec> codec_ = NewCodecUnderTest();
  std::unique_ptr<InstanceTable> table_;
};

TEST_F(InstanceTableTest, AnAcknowledgementIsWrittenWithThePublishThatReliesOnIt) {
  const ConnectionId connection = Enrol({}, 1);
  const uint64_t commits = store_.commits();
  ASSERT_TRUE(table_->Heartbeat("a", connection, {}).ok());
  ASSERT_TRUE(table_->Acknowledge("a", connection, {{"m", 2}}).ok());
  EXPECT_EQ(store_.commits(), commits) << "neither costs a commit";
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 2u);
  ASSERT_TRUE(table_->CommitWith("other", {}).ok());
  Reopen();
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 1u);
  ASSERT_TRUE(table_->Acknowledge("a", Enrol({{"m", 1}}, 2), {{"m", 2}}).ok());
  ASSERT_TRUE(table_->CommitWith("m", {}).ok());
  Reopen();
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 2u);
}

TEST_F(InstanceTableTest, AClaimMayOnlyLowerARecord) {
  ASSERT_TRUE(table_->Acknowledge("a", Enrol({}, 1), {{"m", 3}}).ok());
  Enrol({{"m", 5}}, 5);
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 3u);
  Enrol({}, 5);
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 3u);
  const ConnectionId connection = Enrol({{"m", 2}}, 5);
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 2u);
  ASSERT_TRUE(table_->Acknowledge("a", connection, {{"m", 5}}).ok());
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 5u);
}

TEST_F(InstanceTableTest, WhatTheClaimOfOneThatIsNotKnownIsWorth) {
  const EpochsAtEnrolment epochs{.published = 9, .claimable = 8};
  table_->Enrol({"new", "s", "1", {"m"}, {}}, {{"m", epochs}});
  EXPECT_EQ(table_->Find("m", "new")->acknowledged_epoch, 9u);
  table_->Enrol({"back", "s", "1", {"m"}, {{"m", 9}}}, {{"m", epochs}});
  EXPECT_EQ(table_->Find("m", "back")->acknowledged_epoch, 8u);
  table_->Enrol({"old", "s", "1", {"m"}, {{"m", 4}}}, {{"m", epochs}});
  EXPECT_EQ(table_->Find("m", "old")->acknowledged_epoch, 4u);
}

TEST_F(InstanceTableTest, FollowingAndPassedByAreReadTogether) {
  EXPECT_EQ(table_->OldestLiveEpochs("m").oldest(), std::nullopt);
  EnrolRequest request{"b", "s", "1", {"m"}, {}};
  request.lease_policy = domain::LeasePolicy::kFailWrites;
  table_->Enrol(request, {{"m", {4, 4}}});
  clock_.Advance(absl::Minutes(1));
  table_->ExpireLeases();
  Enrol({}, 6);
  const LiveEpochs live = table_->OldestLiveEpochs("m");
  EXPECT_EQ(live.following, 6u);
  EXPECT_EQ(live.passed_by, 4u);
  EXPECT_EQ(live.oldest(), 4u);
}

// A lease that ends while the leave is written cuts the connection; the row must not outlive that.
TEST_F(InstanceTableTest, ALeaveThatIsOvertakenByTheEndOfTheLease) {
  EnrolRequest request{"a", "s", "1", {"m"}, {}};
  request.lease_policy = domain::LeasePolicy::kFailWrites;
  const ConnectionId connection = table_->Enrol(request, {{"m", {1, 1}}});
  store_.BlockCommit(1, store::FaultyStore::Moment::kBeforeApply);
  std::thread leave([&] { EXPECT_TRUE(table_->Leave("a", connection).ok()); });
  store_.WaitUntilBlocked();
  clock_.Advance(absl::Minutes(1));
  table_->ExpireLeases();
  store_.Release();
  leave.join();
  EXPECT_EQ(table_->OldestLiveEpoch("m"), std::nullopt);
  ASSERT_TRUE(table_->Flush().ok());
  Reopen();
  EXPECT_EQ(table_->OldestLiveEpoch("m"), std::nullopt);
}

TEST_F(InstanceTableTest, FlushWritesOnceOnly) {
  const ConnectionId connection = Enrol({}, 1);
  ASSERT_TRUE(table_->Acknowledge("a", connection, {{"m", 2}, {"unknown", 9}}).ok());
  ASSERT_TRUE(table_->Acknowledge("a", connection, {{"m", 1}}).ok());  // lowers nothing
  store_.FailCommit(1, store::FaultyStore::Moment::kBeforeApply, absl::ResourceExhaustedError("disk full"));
  EXPECT_FALSE(table_->Flush().ok());
  ASSERT_TRUE(table_->Flush().ok());
  const uint64_t commits = store_.commits();
  ASSERT_TRUE(table_->Flush().ok());
  EXPECT_EQ(store_.commits(), commits);
  Reopen();
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 2u);
}

TEST_F(InstanceTableTest, AReconnectThatChangesNothingIsNotWritten) {
  Enrol({}, 1);
  const uint64_t commits = store_.commits();
  Enrol({{"m", 1}}, 1);
  EXPECT_EQ(store_.commits(), commits);
}

TEST_F(InstanceTableTest, LeavingIsDurableFirst) {
  const ConnectionId connection = Enrol({}, 1);
  store_.FailCommit(1, store::FaultyStore::Moment::kBeforeApply, absl::UnavailableError("no"));
  EXPECT_FALSE(table_->Leave("a", connection).ok());
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 1u);
  ASSERT_TRUE(table_->Leave("a", connection).ok());
  EXPECT_EQ(table_->OldestLiveEpoch("m"), std::nullopt);
  Reopen();
  EXPECT_EQ(table_->OldestLiveEpoch("m"), std::nullopt);
}

TEST_F(InstanceTableTest, DisconnectedInstancesGoOnCounting) {
  const ConnectionId first = Enrol({}, 1);
  const ConnectionId second = Enrol({{"m", 1}}, 1);
  table_->Disconnected("a", first);  // the end of a stream that was replaced
  EXPECT_EQ(table_->Counts().connected, 1u);
  ASSERT_TRUE(table_->Nack("a", second, "bad weights").ok());
  EXPECT_EQ(table_->List("m")[0].last_nack, "bad weights");
  table_->Disconnected("a", second);
  EXPECT_EQ(table_->Counts().disconnected, 1u);
  EXPECT_EQ(ReasonOf(table_->Heartbeat("a", second, {})), "NOT_ENROLLED");
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 1u);
}

TEST_F(InstanceTableTest, MigrationsComeAndGo) {
  table_->Enrol({"a", "s", "1", {"m"}, {}}, {});
  EXPECT_EQ(table_->OldestLiveEpoch("m"), std::nullopt) << "there is nothing to act on";
  table_->MigrationCreated("m", 5);
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 5u);
  table_->MigrationDeleted("m");
  table_->MigrationCreated("m", 9);
  EXPECT_EQ(table_->OldestLiveEpoch("m"), 9u);
}

}  // namespace
}  // namespace lockstep::engine
