// Domain -> proto -> domain -> proto, for everything that has both directions. Seeds are fixed; a failure
// prints its seed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/wire/migration.h"
#include "core/wire/records.h"
#include "core/wire/routing.h"
#include "core/wire/telemetry.h"
#include "core/wire/window_stats.h"
#include "tests/wire/random_values.h"

namespace lockstep::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using Presence = RandomValues::Presence;

constexpr uint64_t kSeeds = 200;
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

// `convert` and `back` are each other's inverse; `unset` is what the message leaves out although the value
// has everything.
template <typename Make, typename Convert, typename Back>
void ExpectRoundTrip(Make make, Convert convert, Back back, const std::vector<std::string>& unset = {}) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    for (const Presence presence : {Presence::kEverything, Presence::kSometimes}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed);
      RandomValues random(seed, presence);
      const auto message = convert(make(random));
      if (presence == Presence::kEverything) {
        ASSERT_THAT(UnsetFields(message), ElementsAreArray(unset));
      }
      const auto value = back(message);
      ASSERT_TRUE(value.ok()) << value.status();
      ASSERT_EQ(Difference(message, convert(*value)), "");
    }
  }
}

#define LOCKSTEP_MAKE(what) [](RandomValues& random) { return random.what(); }

TEST(RoundTripTest, MigrationRecord) {
  ExpectRoundTrip(LOCKSTEP_MAKE(Migration), [](const domain::Migration& m) { return ToRecord(m); },
                  &MigrationFromRecord, {"migration.etag", "migration.gate", "migration.waiting_for"});
}

TEST(RoundTripTest, DecisionRecord) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(DecisionRecord), [](const domain::DecisionRecord& r) { return ToProto(r); },
      &DecisionRecordFromProto);
}

TEST(RoundTripTest, AuditEntry) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(AuditEntry), [](const domain::AuditEntry& e) { return ToRecord(e); },
      &AuditEntryFromRecord);
}

TEST(RoundTripTest, Enrolment) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(Enrolment), [](const domain::Enrolment& e) { return ToRecord(e); }, &EnrolmentFromRecord);
}

TEST(RoundTripTest, TelemetryCursor) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(TelemetryCursor), [](const domain::TelemetryCursor& c) { return ToRecord(c); },
      &TelemetryCursorFromRecord);
}

TEST(RoundTripTest, WindowRecord) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(WindowRecord), [](const domain::WindowRecord& w) { return ToRecord(w); },
      &WindowFromRecord);
}

TEST(RoundTripTest, MismatchSample) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(MismatchSample), [](const domain::MismatchSample& s) { return ToProto(s); },
      &SampleFromRecord);
}

TEST(RoundTripTest, Snapshot) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(Snapshot), [](const domain::Snapshot& s) { return ToProto(s); }, &SnapshotFromProto);
}

TEST(RoundTripTest, Enrol) { ExpectRoundTrip(LOCKSTEP_MAKE(Enrolment), &EnrolToProto, &EnrolFromProto); }

TEST(RoundTripTest, Ack) {
  ExpectRoundTrip(
      [](RandomValues& random) {
        return Ack{1 + random.prng().Next() / 2, random.Enrolment().acknowledged_epochs};
      },
      [](const Ack& ack) { return ToProto(ack); }, &AckFromProto);
}

TEST(RoundTripTest, TelemetryBatch) {
  ExpectRoundTrip(
      [](RandomValues& random) { return random.TelemetryBatch(kNow); },
      [](const domain::TelemetryBatch& batch) { return ToProto(batch); },
      [](const v1::ReportComparisonsRequest& request) { return TelemetryBatchFromProto(request, kNow); });
}

TEST(RoundTripTest, Decision) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomValues random(seed, Presence::kSometimes);
    const domain::Decision decision = random.Decision();
    const auto back = DecisionFromProto(ToProto(decision), decision.epoch);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, decision);
  }
}

TEST(RoundTripTest, WindowStatsAreEqualNotOnlyTheirMessages) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomValues random(seed, Presence::kSometimes);
    const domain::WindowStats stats = random.WindowStats();
    Violations violations;
    EXPECT_EQ(ReadWindowStats(ToProto(stats), FieldPath(), violations), stats);
    EXPECT_TRUE(violations.empty());
  }
}

// What the API shows has every field; the engine gives gate and waits.
TEST(RoundTripTest, MigrationViewShowsEveryField) {
  RandomValues random(1, Presence::kEverything);
  const domain::GateResult gate = random.GateResult();
  v1::FenceWait wait;
  wait.set_instance_id("instance-1");
  wait.set_service("orders");
  wait.set_epoch(3);
  wait.set_reason("incompatible");
  const v1::Migration message =
      ToProto(random.Migration(), {.gate = &gate, .gate_time = kNow, .waiting_for = {wait}});
  EXPECT_THAT(UnsetFields(message), ElementsAre());
}

TEST(RoundTripTest, DefinitionIsReadBackFromTheResource) {
  domain::Migration migration;
  migration.plan.steps.push_back({.stage = domain::Stage::kDualWrite});
  migration.contract.fields.push_back({.path = "city"});
  migration.labels = {{"team", "orders"}};
  migration.owners = {"ann@host"};
  migration.description = "Orders";
  migration.salt = "s";
  migration.pins.keys = {{"a", domain::Side::kOld}, {"b", domain::Side::kNew}};
  const auto back = MigrationFromProto(ToProto(migration));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(Difference(ToRecord(migration), ToRecord(*back)), "");
}

}  // namespace
}  // namespace lockstep::wire
