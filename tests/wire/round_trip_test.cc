// Domain -> proto -> domain -> proto, for everything that has both directions. Seeds are fixed; a failure
// prints its seed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "core/wire/migration.h"
#include "core/wire/records.h"
#include "core/wire/routing.h"
#include "core/wire/telemetry.h"
#include "core/wire/timestamps.h"
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
                  &MigrationFromRecord,
                  {"migration.deadline_time", "migration.etag", "migration.gate", "migration.reversible",
                   "migration.waiting_for", "migration.waiting_for_count"});
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

// Small sketches travel in the other form.
std::vector<std::string> DenseRegistersOf(absl::string_view stats) {
  return {absl::StrCat(stats, ".compared_subjects.dense_registers"),
          absl::StrCat(stats, ".new_reads_subjects.dense_registers"),
          absl::StrCat(stats, ".old_reads_subjects.dense_registers")};
}

TEST(RoundTripTest, WindowRecord) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(WindowRecord), [](const domain::WindowRecord& w) { return ToRecord(w); },
      &WindowFromRecord, DenseRegistersOf("stats"));
}

TEST(RoundTripTest, SketchIsSparseWhileThatIsShorter) {
  // One register each.
  const auto sketch = [](uint64_t registers) {
    domain::WindowStats stats;
    stats.arm(domain::Arm::kNew).requests = registers;
    for (uint64_t i = 0; i < registers; ++i) {
      stats.subjects.reads[1].Record((i << (64 - domain::DistinctSketch::kIndexBits)) | 1);
    }
    return stats;
  };
  const struct {
    uint64_t registers;
    bool sparse;
  } cases[] = {{1, true}, {1023, true}, {1024, false}, {4096, false}};
  for (const auto& test : cases) {
    SCOPED_TRACE(test.registers);
    const domain::WindowStats stats = sketch(test.registers);
    const v1::WindowStats message = ToProto(stats);
    EXPECT_EQ(message.new_reads_subjects().sparse_registers_size(),
              test.sparse ? static_cast<int>(test.registers) : 0);
    EXPECT_EQ(message.new_reads_subjects().dense_registers().size(),
              test.sparse ? 0 : domain::DistinctSketch::kRegisters);
    Violations violations;
    EXPECT_EQ(ReadWindowStats(message, FieldPath(), violations), stats);
    EXPECT_TRUE(violations.empty());
  }
}

TEST(RoundTripTest, MismatchSample) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(MismatchSample), [](const domain::MismatchSample& s) { return ToProto(s); },
      &SampleFromRecord);
}

// The digest of the whole is beside the value.
TEST(RoundTripTest, Snapshot) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(Snapshot),
      [](const domain::Snapshot& s) { return ToProto(s, domain::SnapshotDigest(s)); }, &SnapshotFromProto);
}

TEST(RoundTripTest, SnapshotDelta) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(SnapshotDelta), [](const domain::SnapshotDelta& d) { return ToProto(d, 17); },
      &SnapshotDeltaFromProto);
}

// What an SDK computes from what it received is what the server sent.
TEST(RoundTripTest, DigestsSurvive) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomValues random(seed, Presence::kSometimes);
    const domain::Snapshot snapshot = random.Snapshot();
    const v1::Snapshot message = ToProto(snapshot, domain::SnapshotDigest(snapshot));
    const absl::StatusOr<domain::Snapshot> back = SnapshotFromProto(message);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(domain::SnapshotDigest(*back), message.digest());
    for (size_t i = 0; i < back->migrations.size(); ++i) {
      EXPECT_EQ(back->migrations[i].digest, domain::RoutingDigest(snapshot.migrations[i]));
    }
  }
}

TEST(RoundTripTest, Enrol) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(Enrolment), [](const domain::Enrolment& e) { return EnrolToProto(e, 23); },
      &EnrolFromProto);
}

TEST(RoundTripTest, Ack) {
  ExpectRoundTrip(
      [](RandomValues& random) {
        return Ack{1 + random.prng().Next() / 2, random.Enrolment().acknowledged_epochs,
                   random.SliceChecks()};
      },
      [](const Ack& ack) { return ToProto(ack); }, &AckFromProto);
}

TEST(RoundTripTest, InstanceStatus) {
  ExpectRoundTrip(
      LOCKSTEP_MAKE(InstanceStatus), [](const domain::InstanceStatus& s) { return ToProto(s); },
      &InstanceStatusFromProto);
}

TEST(RoundTripTest, TelemetryBatch) {
  ExpectRoundTrip(
      [](RandomValues& random) { return random.TelemetryBatch(kNow); },
      [](const domain::TelemetryBatch& batch) { return ToProto(batch); },
      [](const v1::ReportComparisonsRequest& request) { return TelemetryBatchFromProto(request, kNow); },
      DenseRegistersOf("deltas[].stats"));
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
    ASSERT_TRUE(stats.Validate().ok()) << stats.Validate();
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
  *wait.mutable_since() = ToProto(kNow);
  wait.set_pinned_by("3 operations, oldest 12 s");
  wait.set_unblock("they end");
  domain::Migration migration = random.Migration();
  migration.published.stage = domain::Stage::kCutover;  // whence there is a way back
  const v1::Migration message =
      ToProto(migration, {.gate = &gate, .gate_time = kNow, .waiting_for = {wait}, .waiting_for_count = 120});
  EXPECT_THAT(UnsetFields(message), ElementsAre("deadline_time")) << "none runs while a state is pending";
}

TEST(RoundTripTest, ReversibleAsFarAsThereIsAWayBack) {
  for (const domain::Stage stage : domain::kAllStages) {
    domain::Migration migration;
    migration.published = domain::StateOfStage(stage, 0);
    const bool reversible = stage >= domain::Stage::kDualWrite && stage <= domain::Stage::kCutover;
    EXPECT_EQ(ToProto(migration).reversible(), reversible) << domain::StageName(stage);
  }
}

// What was written before there were leases.
TEST(RoundTripTest, EnrolmentsWithoutALeaseHaveTheUsualOne) {
  storage::v1::EnrolmentRecord record = ToRecord(domain::Enrolment{.instance_id = "i"});
  record.clear_lease_ttl();
  record.clear_lease_policy();
  const auto back = EnrolmentFromRecord(record);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->lease_ttl, domain::kDefaultLeaseTtl);
  EXPECT_EQ(back->lease_policy, domain::LeasePolicy::kKeepServing);
}

TEST(RoundTripTest, DeadlineIsShownWhileItRuns) {
  domain::Migration migration;
  migration.run_state = domain::RunState::kRunning;
  migration.plan.steps.push_back({.stage = domain::Stage::kDualWrite, .deadline = absl::Hours(2)});
  migration.step = 0;
  migration.deadline_from = kNow;
  EXPECT_EQ(ToProto(migration).deadline_time().seconds(), absl::ToUnixSeconds(kNow) + 7200);
  migration.run_state = domain::RunState::kPaused;
  EXPECT_FALSE(ToProto(migration).has_deadline_time());
  migration.run_state = domain::RunState::kRunning;
  migration.plan.steps[0].deadline = absl::ZeroDuration();
  EXPECT_FALSE(ToProto(migration).has_deadline_time());
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
