#include "client/sdk/src/lease.h"

#include "gtest/gtest.h"

namespace lockstep::internal {
namespace {

using domain::LeasePolicy;

constexpr absl::Duration kTtl = absl::Seconds(20);

// `seconds` since boot.
absl::Duration At(double seconds) { return absl::Seconds(1000 + seconds); }

TEST(LeaseTest, CountedFromTheSendOfWhatWasAnswered) {
  Lease lease(kTtl, LeasePolicy::kKeepServing);
  EXPECT_TRUE(lease.Over(At(0)));
  EXPECT_FALSE(lease.ever_won());
  lease.Opened(At(0));
  lease.Won(At(3));
  EXPECT_EQ(lease.end(), At(20)) << "from the enrolment, not from its answer";
  lease.Sent(At(5));
  lease.Sent(At(10));
  lease.Answered(At(12));
  EXPECT_EQ(lease.end(), At(25)) << "the oldest one was answered";
  lease.Answered(At(13));
  EXPECT_EQ(lease.end(), At(30));
  lease.Answered(At(14));
  EXPECT_EQ(lease.end(), At(30)) << "an answer to nothing";
  EXPECT_FALSE(lease.Over(At(30)));
  EXPECT_TRUE(lease.Over(At(30.001)));
  EXPECT_FALSE(lease.lost(At(100))) << "nothing is refused";
}

TEST(LeaseTest, KeepServingIsRevivedByALateAnswer) {
  Lease lease(kTtl, LeasePolicy::kKeepServing);
  lease.Opened(At(0));
  lease.Won(At(0));
  lease.Sent(At(5));
  EXPECT_TRUE(lease.Over(At(24)));
  lease.Answered(At(24));
  EXPECT_FALSE(lease.Over(At(24)));
  EXPECT_EQ(lease.term(), 1u);
}

TEST(LeaseTest, FailWritesEndsEarlyAndIsNotRevived) {
  Lease lease(kTtl, LeasePolicy::kFailWrites);
  lease.Opened(At(0));
  lease.Won(At(1));
  EXPECT_EQ(lease.end(), At(19)) << "95 % of the time that the control plane counts";
  EXPECT_EQ(lease.term(), 1u);
  lease.Sent(At(5));
  lease.Answered(At(18));
  EXPECT_EQ(lease.end(), At(24));
  lease.Sent(At(20));
  EXPECT_TRUE(lease.lost(At(25)));
  lease.Answered(At(25));
  EXPECT_TRUE(lease.lost(At(25))) << "others may have gone on at 24";
  lease.Opened(At(26));
  EXPECT_TRUE(lease.lost(At(27)));
  lease.Won(At(27));
  EXPECT_FALSE(lease.lost(At(27)));
  EXPECT_EQ(lease.end(), At(45));
  EXPECT_EQ(lease.term(), 2u);
}

TEST(LeaseTest, AReconnectWithinTheLeaseGoesOnWithTheTerm) {
  Lease lease(kTtl, LeasePolicy::kFailWrites);
  lease.Opened(At(0));
  lease.Won(At(0));
  lease.Opened(At(10));
  lease.Won(At(11));
  EXPECT_EQ(lease.term(), 1u);
  EXPECT_EQ(lease.end(), At(29));
  lease.Won(At(15));
  EXPECT_EQ(lease.end(), At(29)) << "further snapshots on the stream renew nothing";
}

TEST(LeaseTest, AnEnrolmentThatIsAnsweredTooLateWinsNothing) {
  Lease lease(kTtl, LeasePolicy::kFailWrites);
  lease.Opened(At(0));
  lease.Won(At(19.5));
  EXPECT_TRUE(lease.lost(At(19.5)));
  EXPECT_EQ(lease.term(), 0u);
  lease.Sent(At(19));
  lease.Answered(At(19.6));
  EXPECT_TRUE(lease.lost(At(19.6)));
}

TEST(LeaseTest, HeartbeatsBeforeTheFirstStateRenewNothing) {
  for (const LeasePolicy policy : {LeasePolicy::kKeepServing, LeasePolicy::kFailWrites}) {
    Lease lease(kTtl, policy);
    lease.Opened(At(0));
    lease.Sent(At(1));
    lease.Answered(At(2));
    EXPECT_TRUE(lease.Over(At(2)));
  }
}

TEST(LeaseTest, AnswersOfAnEarlierStreamAreForgotten) {
  Lease lease(kTtl, LeasePolicy::kKeepServing);
  lease.Opened(At(0));
  lease.Won(At(0));
  lease.Sent(At(1));
  lease.Opened(At(10));
  lease.Won(At(10));
  lease.Answered(At(11));
  EXPECT_EQ(lease.end(), At(30));
  for (size_t i = 0; i < Lease::kMaxUnanswered; ++i) {
    EXPECT_TRUE(lease.may_send());
    lease.Sent(At(12));
  }
  EXPECT_FALSE(lease.may_send());
}

}  // namespace
}  // namespace lockstep::internal
