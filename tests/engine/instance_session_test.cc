// The stream's protocol: flow control, deltas, rejections, heartbeats, drain.
#include "server/engine/instance_session.h"

#include <gmock/gmock.h>

#include "tests/engine/engine_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;

class InstanceSessionTest : public EngineTest {
 protected:
  InstanceSessionTest() {
    Create();
    Enrol("a");
  }
  InstanceSession& session() { return *streams_.at("a").session; }
  // "snapshot", "delta", "heartbeat 7", "drain"; empty = nothing to send.
  std::string Next() {
    const std::optional<InstanceMessage> message = session().Next();
    if (!message) return "";
    if (const auto* snapshot = std::get_if<SnapshotMessage>(&*message)) {
      last_revision_ = snapshot->snapshot->revision;
      return "snapshot";
    }
    if (const auto* delta = std::get_if<DeltaMessage>(&*message)) {
      last_revision_ = delta->delta->revision;
      return "delta";
    }
    if (const auto* heartbeat = std::get_if<HeartbeatMessage>(&*message)) {
      return absl::StrCat("heartbeat ", heartbeat->revision);
    }
    return std::get<DrainMessage>(*message).reconnect_after > absl::ZeroDuration() ? "drain" : "renew";
  }
  void Accept() { ASSERT_TRUE(session().OnAccept(last_revision_).ok()); }
  // A change of the routing that is not urgent.
  void Change() {
    MigrationUpdate update;
    update.pins = domain::Pins{{{absl::StrCat("key-", ++changes_), domain::Side::kNew}}, {}};
    ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  }

  uint64_t last_revision_ = 0;
  int changes_ = 0;
};

TEST_F(InstanceSessionTest, OneMessageIsOnItsWayAtATime) {
  EXPECT_EQ(Next(), "snapshot");
  EXPECT_EQ(Next(), "");
  Change();
  Change();
  EXPECT_EQ(Next(), "") << "the first has not been answered";
  Accept();
  EXPECT_EQ(Next(), "delta");
  EXPECT_EQ(Next(), "");
  Accept();
  EXPECT_EQ(Next(), "") << "the two changes came as one";
}

TEST_F(InstanceSessionTest, ARollbackGoesAheadOfWhatIsOnItsWay) {
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  AckAll();
  EXPECT_EQ(Next(), "snapshot");
  const uint64_t overtaken = last_revision_;
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  EXPECT_EQ(Next(), "snapshot") << "in full: what the instance has by then is not known";
  ASSERT_TRUE(session().OnAccept(overtaken).ok());
  Change();
  EXPECT_EQ(Next(), "") << "the rollback has not been answered";
  Accept();
  EXPECT_EQ(Next(), "delta");
}

TEST_F(InstanceSessionTest, ARejectedDeltaIsFollowedByTheSnapshot) {
  EXPECT_EQ(Next(), "snapshot");
  Accept();
  Change();
  EXPECT_EQ(Next(), "delta");
  ASSERT_TRUE(session().OnNack(last_revision_, "the digest differs").ok());
  EXPECT_EQ(engine_->instances().List(kName)[0].last_nack, "the digest differs");
  EXPECT_EQ(Next(), "snapshot");
  // Rejected as a whole it would be rejected again: not before the next heartbeat.
  ASSERT_TRUE(session().OnNack(last_revision_, "no").ok());
  EXPECT_EQ(Next(), "");
  ASSERT_TRUE(session().OnHeartbeat(0, {}).ok());
  EXPECT_EQ(Next(), "snapshot");
  EXPECT_EQ(Next(), absl::StrCat("heartbeat ", last_revision_));
  Accept();
  EXPECT_EQ(engine_->instances().List(kName)[0].last_nack, "");
}

TEST_F(InstanceSessionTest, ARejectionOfWhatWasOvertakenIsOnlyNoted) {
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  AckAll();
  EXPECT_EQ(Next(), "snapshot");
  Accept();
  Change();
  EXPECT_EQ(Next(), "delta");
  const uint64_t overtaken = last_revision_;
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  EXPECT_EQ(Next(), "snapshot");
  ASSERT_TRUE(session().OnNack(overtaken, "the digest differs").ok());
  EXPECT_EQ(engine_->instances().List(kName)[0].last_nack, "the digest differs");
  EXPECT_EQ(Next(), "") << "the rollback is on its way";
  Change();
  EXPECT_EQ(Next(), "") << "and has not been answered";
  Accept();
  EXPECT_EQ(Next(), "delta") << "its accept counts";
}

TEST_F(InstanceSessionTest, WhoNeverGotTheLastOneIsSentItAnew) {
  EXPECT_EQ(Next(), "snapshot");
  Accept();
  Change();
  EXPECT_EQ(Next(), "delta");
  Change();
  // Heartbeats have announced the second change; the first never came.
  ASSERT_TRUE(session().OnNack(engine_->hub().Latest()->revision, "it never came").ok());
  EXPECT_EQ(Next(), "snapshot");
}

TEST_F(InstanceSessionTest, ARenewalIsSaidOnceAndTheStreamGoesOn) {
  EXPECT_EQ(Next(), "snapshot");
  session().Renew();
  ASSERT_TRUE(session().OnHeartbeat(0, {}).ok());
  EXPECT_EQ(Next(), absl::StrCat("heartbeat ", last_revision_));
  EXPECT_EQ(Next(), "renew");
  EXPECT_FALSE(session().drained());
  EXPECT_EQ(Next(), "");
  Accept();
  Change();
  EXPECT_EQ(Next(), "delta");
  EXPECT_FALSE(session().settled()) << "that is not answered";
  Accept();
  EXPECT_TRUE(session().settled());
  session().Drain(absl::Seconds(1));
  EXPECT_EQ(Next(), "drain");
}

TEST_F(InstanceSessionTest, WhoMissedSomethingAsksForIt) {
  EXPECT_EQ(Next(), "snapshot");
  Accept();
  ASSERT_TRUE(session().OnNack(0, "revision 9 was announced and never came").ok());
  EXPECT_EQ(Next(), "snapshot");
}

TEST_F(InstanceSessionTest, HeartbeatsNameTheNewestRevision) {
  ASSERT_TRUE(session().OnHeartbeat(0, {}).ok());
  ASSERT_TRUE(session().OnHeartbeat(0, {}).ok());
  EXPECT_EQ(Next(), "snapshot");
  Change();
  const std::string heartbeat = Next();
  EXPECT_EQ(heartbeat, absl::StrCat("heartbeat ", engine_->hub().Latest()->revision))
      << "though it is not sent yet";
  EXPECT_EQ(Next(), heartbeat);
  EXPECT_EQ(Next(), "");
}

TEST_F(InstanceSessionTest, DrainIsTheLastThingSaid) {
  EXPECT_EQ(Next(), "snapshot");
  session().Drain(absl::Seconds(1));
  EXPECT_FALSE(session().drained());
  EXPECT_EQ(Next(), "drain");
  EXPECT_TRUE(session().drained());
  Accept();
  Change();
  EXPECT_EQ(Next(), "");
}

TEST_F(InstanceSessionTest, ItsEndDisconnects) {
  streams_.at("a").session.reset();
  EXPECT_FALSE(engine_->instances().List(kName)[0].connected);
  EXPECT_EQ(engine_->instances().List(kName)[0].lease, LeaseState::kDisconnected);
}

}  // namespace
}  // namespace lockstep::engine
