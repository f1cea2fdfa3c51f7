// Reconnecting herds: who is admitted, who is told when to come back, and streams that have become old.
// Eviction and drill through the API.
#include <gmock/gmock.h>

#include "server/service/admission.h"
#include "tests/service/service_fixture.h"

namespace lockstep::service {
namespace {

using Code = absl::StatusCode;

TEST(AdmissionTest, AdmitsAsManyAsThereAreInASecondAndThenAtThatRate) {
  Admission admission(10);
  const absl::Duration start = absl::Seconds(100);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(admission.TurnAway(start), std::nullopt) << i;
  EXPECT_TRUE(admission.TurnAway(start).has_value());
  EXPECT_EQ(admission.TurnAway(start + absl::Milliseconds(101)), std::nullopt);
  EXPECT_TRUE(admission.TurnAway(start + absl::Milliseconds(101)).has_value());
}

// If each comes back when it was told to, all of them are admitted then, at the rate.
TEST(AdmissionTest, AHerdThatComesBackAsToldIsSpread) {
  Admission admission(100);
  const absl::Duration start = absl::Seconds(5);
  std::vector<absl::Duration> due;
  int admitted = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::optional<absl::Duration> delay = admission.TurnAway(start);
    if (!delay.has_value()) {
      ++admitted;
      continue;
    }
    if (!due.empty()) {
      EXPECT_GT(start + *delay, due.back()) << "each a little later than the last";
    }
    due.push_back(start + *delay);
  }
  EXPECT_EQ(admitted, 100);
  EXPECT_EQ(due.size(), 900u);
  int turned_away_again = 0;
  for (const absl::Duration at : due) turned_away_again += admission.TurnAway(at).has_value() ? 1 : 0;
  EXPECT_EQ(turned_away_again, 0);
  EXPECT_LE(due.back(), start + absl::Seconds(10));
}

TEST(AdmissionTest, NobodyIsSentAwayForLong) {
  Admission admission(1);
  for (int i = 0; i < 1000; ++i) {
    const std::optional<absl::Duration> delay = admission.TurnAway(absl::ZeroDuration());
    EXPECT_LE(delay.value_or(absl::ZeroDuration()), Admission::kMaxDelay);
  }
}

app::Config ConfigOf(int enrolments_per_second, absl::Duration max_stream_age) {
  app::Config config = testing::QuietConfig();
  config.max_enrolments_per_second = enrolments_per_second;
  config.max_stream_age = max_stream_age;
  return config;
}

class HerdTest : public ServiceTest {
 protected:
  HerdTest() : ServiceTest(ConfigOf(1, absl::Hours(1))) {}
};

TEST_F(HerdTest, WhoIsTurnedAwayIsToldWhenToComeBack) {
  CreateSample("orders");
  WatchClient first(&api_);
  ASSERT_TRUE(first.Enrol("i-1", {"orders"}));
  EXPECT_EQ(first.ReadSnapshot().migrations_size(), 1);
  WatchClient second(&api_);
  ASSERT_TRUE(second.Enrol("i-2", {"orders"}));
  v1::WatchResponse response;
  ASSERT_TRUE(second.Read(&response));
  ASSERT_TRUE(response.has_drain());
  EXPECT_GT(response.drain().reconnect_after().seconds(), 0);
  EXPECT_EQ(second.Finish().code(), Code::kUnavailable);
}

// Streams grow old soon, but not so soon that a busy machine takes them past the time in which they should be
// replaced before it has read that they should.
class OldStreamTest : public ServiceTest {
 protected:
  static constexpr absl::Duration kAge = absl::Milliseconds(500);
  OldStreamTest() : ServiceTest(ConfigOf(1000, kAge)) {}
};

// The age is one of real time: a heartbeat that comes within it is only answered.
v1::Drain HeartbeatsUntilDrain(WatchClient* watch) {
  v1::WatchRequest heartbeat;
  heartbeat.mutable_heartbeat();
  v1::WatchResponse response;
  do {
    absl::SleepFor(absl::Milliseconds(1));
    watch->Send(heartbeat);
    if (!watch->Read(&response)) break;
  } while (!response.has_drain());
  EXPECT_TRUE(response.has_drain());
  return response.drain();
}

bool AtOnce(const v1::Drain& drain) {
  return drain.reconnect_after().seconds() == 0 && drain.reconnect_after().nanos() == 0;
}

TEST_F(OldStreamTest, IsServedUntilItIsReplaced) {
  CreateSample("orders");
  WatchClient old(&api_);
  ASSERT_TRUE(old.Enrol("i-1", {"orders"}));
  EXPECT_EQ(old.ReadSnapshot().migrations_size(), 1);
  EXPECT_TRUE(AtOnce(HeartbeatsUntilDrain(&old)));
  ASSERT_TRUE(IsOk(api_.Start("orders")));
  EXPECT_EQ(old.ReadSnapshot().migrations(0).state().stage(), v1::STAGE_DUAL_WRITE);

  WatchClient replacement(&api_);
  ASSERT_TRUE(replacement.Enrol("i-1", {"orders"}));
  EXPECT_EQ(replacement.ReadSnapshot().migrations_size(), 1);
  v1::WatchRequest heartbeat;
  heartbeat.mutable_heartbeat();
  old.Send(heartbeat);
  EXPECT_TRUE(Fails(old.Finish(), Code::kNotFound, "NOT_ENROLLED"));
  v1::ListInstancesRequest list;
  list.set_parent(NameOf("orders"));
  const auto listed = api_.Call(&v1::MigrationService::Stub::ListInstances, list);
  ASSERT_TRUE(IsOk(listed));
  EXPECT_TRUE(listed->instances(0).connected());
}

TEST_F(OldStreamTest, IsNotServedForEver) {
  CreateSample("orders");
  WatchClient watch(&api_);
  ASSERT_TRUE(watch.Enrol("i-1", {"orders"}));
  EXPECT_EQ(watch.ReadSnapshot().migrations_size(), 1);
  EXPECT_TRUE(AtOnce(HeartbeatsUntilDrain(&watch)));
  EXPECT_FALSE(AtOnce(HeartbeatsUntilDrain(&watch)));
  EXPECT_EQ(watch.Finish().code(), Code::kUnavailable);
}

TEST_F(OldStreamTest, IsNotReplacedWhileItsMigrationMoves) {
  CreateSample("orders");
  WatchClient watch(&api_);
  ASSERT_TRUE(watch.Enrol("i-1", {"orders"}));
  EXPECT_EQ(watch.ReadSnapshot().migrations_size(), 1);
  ASSERT_TRUE(IsOk(api_.Start("orders")));
  ASSERT_TRUE(IsOk(api_.Advance("orders")));  // waits for i-1, which is at OFF
  const v1::Snapshot snapshot = watch.ReadSnapshot();
  absl::SleepFor(1.5 * kAge);
  v1::WatchRequest heartbeat;
  heartbeat.mutable_heartbeat();
  watch.Send(heartbeat);
  watch.Send(heartbeat);
  v1::WatchResponse response;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(watch.Read(&response));
    EXPECT_TRUE(response.has_heartbeat()) << response.ShortDebugString();
  }
  watch.Acknowledge(snapshot);
  EXPECT_EQ(watch.ReadSnapshot().migrations(0).state().stage(), v1::STAGE_SHADOW_READ);
  EXPECT_TRUE(AtOnce(HeartbeatsUntilDrain(&watch)));
}

class SilentStreamTest : public ServiceTest {
 protected:
  SilentStreamTest() : ServiceTest(ImpatientConfig()) {}
  static app::Config ImpatientConfig() {
    app::Config config = testing::QuietConfig();
    config.enrol_timeout = absl::Milliseconds(20);
    return config;
  }
};

TEST_F(SilentStreamTest, EndsWhenItNeverEnrols) {
  WatchClient silent(&api_);
  v1::WatchResponse response;
  EXPECT_FALSE(silent.Read(&response));
  EXPECT_EQ(silent.Finish().code(), Code::kDeadlineExceeded);
}

using InstanceApiTest = ServiceTest;

TEST_F(InstanceApiTest, EvictionNamesWhatIsRiskedAndNeedsAReason) {
  using Stub = v1::MigrationService::Stub;
  CreateSample("orders");
  WatchClient watch(&api_);
  ASSERT_TRUE(watch.Enrol("i-1", {"orders"}));
  ASSERT_EQ(watch.ReadSnapshot().migrations_size(), 1);
  ASSERT_TRUE(IsOk(api_.Start("orders")));
  ASSERT_TRUE(IsOk(api_.Advance("orders")));  // waits for i-1, which is at OFF

  v1::EvictInstanceRequest request;
  request.set_name(NameOf("orders"));
  EXPECT_THAT(BadFields(api_.Call(&Stub::EvictInstance, request).status()),
              ::testing::ElementsAre("instance_id"));
  request.set_instance_id("i-1");
  EXPECT_TRUE(Fails(api_.Call(&Stub::EvictInstance, request), Code::kInvalidArgument, "REASON_REQUIRED"));
  request.mutable_change()->set_reason("scrapped");
  request.set_instance_id("i-9");
  EXPECT_TRUE(
      Fails(api_.Call(&Stub::EvictInstance, request), Code::kNotFound, "INSTANCE_NOT_FOUND", {"i-9"}));
  request.set_instance_id("i-1");
  request.mutable_change()->set_validate_only(true);
  const auto asked = api_.Call(&Stub::EvictInstance, request);
  ASSERT_TRUE(IsOk(asked));
  EXPECT_EQ(asked->risks_size(), 3) << "its epoch, the plan, and that it is connected";
  EXPECT_EQ(asked->instance().instance_id(), "i-1");
  EXPECT_TRUE(api_.Get("orders")->has_pending_routing());
  request.mutable_change()->set_validate_only(false);
  const auto evicted = api_.Call(&Stub::EvictInstance, request);
  ASSERT_TRUE(IsOk(evicted));
  EXPECT_EQ(evicted->migration().routing().stage(), v1::STAGE_SHADOW_READ);
  // It was there: what it says over its stream counts for nothing any more, and it is told to enrol again.
  v1::WatchRequest heartbeat;
  heartbeat.mutable_heartbeat();
  watch.Send(heartbeat);
  EXPECT_TRUE(Fails(watch.Finish(), Code::kNotFound, "NOT_ENROLLED"));
}

TEST_F(InstanceApiTest, ADrillShowsHowLongEachInstanceTook) {
  using Stub = v1::MigrationService::Stub;
  CreateSample("orders");
  WatchClient watch(&api_);
  ASSERT_TRUE(watch.Enrol("i-1", {"orders"}));
  const uint64_t before = watch.ReadSnapshot().migrations(0).state().epoch();
  v1::DrillRollbackRequest request;
  request.set_name(NameOf("orders"));
  const auto drilled = api_.Call(&Stub::DrillRollback, request);
  ASSERT_TRUE(IsOk(drilled));
  EXPECT_EQ(drilled->enrolled_instances(), 1u);
  EXPECT_EQ(drilled->migration().routing().epoch(), before + 1);
  EXPECT_EQ(watch.ReadSnapshot().migrations(0).state().epoch(), before + 1);
  v1::ListInstancesRequest list;
  list.set_parent(NameOf("orders"));
  EXPECT_TRUE(Eventually([&] {
    const auto listed = api_.Call(&Stub::ListInstances, list);
    return listed.ok() && listed->instances(0).accepted_epoch() == before + 1 &&
           listed->instances(0).has_accept_delay();
  }));
  const auto listed = api_.Call(&Stub::ListInstances, list);
  EXPECT_EQ(listed->instances(0).lease(), v1::LEASE_STATE_LIVE);
  EXPECT_EQ(listed->instances(0).lease_policy(), v1::LEASE_POLICY_KEEP_SERVING);
}

}  // namespace
}  // namespace lockstep::service
