// Exactly-once totals: whatever is lost or repeated on the way, the control plane ends with what was counted.
#include "lockstep/telemetry.h"

#include <atomic>
#include <latch>
#include <thread>

#include "client/sdk/src/reporter.h"
#include "core/base/error_info.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/internal/digest.h"
#include "lockstep/internal/thread_slot.h"
#include "tests/client/sdk_testing.h"

namespace lockstep {
namespace {

using domain::Arm;
using domain::ComparisonOutcome;
using domain::Stage;
using internal::Reporter;
using testing_support::Eventually;
using testing_support::kFullName;
using testing_support::kMigration;

constexpr char kOther[] = "namespaces/shop/migrations/other";

domain::TelemetryDelta DeltaOf(const std::string& migration, uint64_t epoch, int bucket, uint64_t reads) {
  domain::TelemetryDelta delta{
      .migration = migration, .generation = 1, .epoch = epoch, .contract_revision = 1};
  delta.bucket_start = absl::FromUnixSeconds(1'700'000'000) + bucket * domain::kTelemetryBucket;
  delta.stats.arm(Arm::kOld).requests = reads;
  return delta;
}

uint64_t ReadsIn(const domain::TelemetryBatch& batch) {
  uint64_t reads = 0;
  for (const domain::TelemetryDelta& delta : batch.deltas) reads += delta.stats.arm(Arm::kOld).requests;
  return reads;
}

TEST(ReporterTest, RepeatsABatchUntilItIsAcknowledged) {
  Reporter reporter({.instance_id = "i-1"}, 1);
  EXPECT_TRUE(reporter.idle());
  reporter.Add({DeltaOf(kFullName, 1, 0, 3)});
  const domain::TelemetryBatch first = *reporter.NextToSend(absl::Seconds(1));
  EXPECT_EQ(first.sequence, 1u);
  EXPECT_NE(first.session, 0u);
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(1)), nullptr) << "one at a time";
  reporter.Add({DeltaOf(kFullName, 1, 0, 4)});
  reporter.OnReply(absl::UnavailableError("lost"), absl::Seconds(1));
  const domain::TelemetryBatch* again = reporter.NextToSend(absl::Seconds(20));
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->sequence, 1u);
  EXPECT_EQ(ReadsIn(*again), 3u) << "unchanged under the same number";
  reporter.OnReply(ReportReply{.duplicate = true}, absl::Seconds(20));
  const domain::TelemetryBatch* second = reporter.NextToSend(absl::Seconds(20));
  EXPECT_EQ(second->sequence, 2u);
  EXPECT_EQ(ReadsIn(*second), 4u);
  EXPECT_EQ(reporter.samples_per_fingerprint(), std::nullopt);
  reporter.OnReply(ReportReply{.retry_after = absl::Seconds(5), .samples_per_fingerprint = 1},
                   absl::Seconds(20));
  EXPECT_TRUE(reporter.idle());
  EXPECT_EQ(reporter.samples_per_fingerprint(), 1u);
  reporter.Add({DeltaOf(kFullName, 1, 1, 1)});
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(24)), nullptr) << "asked to slow down";
  EXPECT_NE(reporter.NextToSend(absl::Seconds(25)), nullptr);
}

TEST(ReporterTest, WaitsAsLongAsAnOverloadedServerAsks) {
  Reporter reporter({.instance_id = "i-1"}, 1);
  reporter.Add({DeltaOf(kFullName, 1, 0, 3)});
  ASSERT_NE(reporter.NextToSend(absl::Seconds(1)), nullptr);
  reporter.OnReply(
      WithErrorInfo(absl::ResourceExhaustedError("full"), {.reason = "QUEUE_FULL",
                                                           .metadata = {{"retry_after_ms", "4000"}},
                                                           .field_violations = {},
                                                           .precondition_violations = {}}),
      absl::Seconds(1));
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(4.9)), nullptr);
  EXPECT_GE(*reporter.due(), absl::Seconds(5));
  EXPECT_LE(*reporter.due(), absl::Seconds(5) + absl::Minutes(1));
  EXPECT_EQ(reporter.samples_per_fingerprint(), 0u);
  ASSERT_NE(reporter.NextToSend(absl::Minutes(2)), nullptr);
  reporter.OnReply(ReportReply(), absl::Minutes(2));
  EXPECT_EQ(reporter.samples_per_fingerprint(), std::nullopt) << "there is room again";
}

TEST(ReporterTest, BacklogLosesResolutionBeforeItLosesCounts) {
  Reporter reporter({.instance_id = "i-1", .max_pending_deltas = 16}, 1);
  for (int bucket = 0; bucket < 1000; ++bucket) reporter.Add({DeltaOf(kFullName, 1, bucket, 1)});
  EXPECT_EQ(reporter.operations_waiting(), 1000u);
  EXPECT_EQ(reporter.operations_dropped(), 0u);
  const domain::TelemetryBatch* const batch = reporter.NextToSend(absl::Seconds(1));
  EXPECT_EQ(batch->deltas.size(), 16u);
  EXPECT_EQ(ReadsIn(*batch), 1000u);
}

TEST(ReporterTest, WhatMustBeDroppedIsReported) {
  Reporter reporter({.instance_id = "i-1", .max_pending_deltas = 16}, 1);
  // Every delta of an epoch of its own: nothing can be merged.
  for (int i = 0; i < 100; ++i) reporter.Add({DeltaOf(kFullName, i + 1, i, 2)});
  EXPECT_EQ(reporter.operations_dropped(), 168u);
  const domain::TelemetryBatch* const batch = reporter.NextToSend(absl::Seconds(1));
  EXPECT_EQ(ReadsIn(*batch), 32u);
  uint64_t dropped = 0;
  for (const domain::TelemetryDelta& delta : batch->deltas) {
    dropped += delta.stats.dropped.telemetry_dropped;
    EXPECT_TRUE(delta.stats.Validate().ok());
  }
  EXPECT_EQ(dropped, 168u);
}

TEST(ReporterTest, ARefusedDeltaDoesNotHoldUpTheRest) {
  Reporter reporter({.instance_id = "i-1"}, 1);
  std::vector<domain::TelemetryDelta> deltas;
  for (int i = 0; i < 9; ++i) deltas.push_back(DeltaOf(i == 5 ? kOther : kFullName, 1, i, 1));
  reporter.Add(std::move(deltas));
  uint64_t counted = 0;
  uint64_t last_sequence = 0;
  for (int round = 0; round < 50 && !reporter.idle(); ++round) {
    const domain::TelemetryBatch* const batch = reporter.NextToSend(absl::Seconds(round));
    ASSERT_NE(batch, nullptr);
    EXPECT_EQ(batch->sequence, last_sequence + 1) << "a refused batch uses up no number";
    const bool refused = std::any_of(batch->deltas.begin(), batch->deltas.end(),
                                     [](const auto& delta) { return delta.migration == kOther; });
    if (refused) {
      reporter.OnReply(absl::NotFoundError("deleted"), absl::Seconds(round));
      continue;
    }
    counted += ReadsIn(*batch);
    last_sequence = batch->sequence;
    reporter.OnReply(ReportReply{}, absl::Seconds(round));
  }
  EXPECT_TRUE(reporter.idle());
  EXPECT_EQ(counted, 8u);
  EXPECT_EQ(reporter.operations_dropped(), 1u);
}

TEST(ReporterTest, AServerThatForgotTheSessionGetsANewOne) {
  Reporter reporter({.instance_id = "i-1"}, 1);
  reporter.Add({DeltaOf(kFullName, 1, 0, 1)});
  const uint64_t session = reporter.NextToSend(absl::Seconds(1))->session;
  reporter.OnReply(ReportReply{}, absl::Seconds(1));
  reporter.Add({DeltaOf(kFullName, 1, 1, 1)});
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(2))->sequence, 2u);
  reporter.OnReply(absl::OutOfRangeError("expected 1"), absl::Seconds(2));
  const domain::TelemetryBatch* const again = reporter.NextToSend(absl::Seconds(30));
  EXPECT_NE(again->session, session);
  EXPECT_EQ(again->sequence, 1u);
}

TEST(ReporterTest, EmptyBatchesAreNumberedLikeOthers) {
  Reporter reporter({.instance_id = "i-1"}, 1);
  reporter.KeepAlive(absl::Seconds(1));
  EXPECT_TRUE(reporter.idle()) << "nothing is lost without it";
  EXPECT_TRUE(reporter.due().has_value());
  const domain::TelemetryBatch empty = *reporter.NextToSend(absl::Seconds(1));
  EXPECT_TRUE(empty.deltas.empty());
  EXPECT_EQ(empty.sequence, 1u);
  // It may have been counted, so its number can't be given to what has come meanwhile.
  reporter.Add({DeltaOf(kFullName, 1, 0, 3)});
  reporter.OnReply(absl::UnavailableError("lost"), absl::Seconds(1));
  const domain::TelemetryBatch* again = reporter.NextToSend(absl::Seconds(20));
  EXPECT_EQ(again->sequence, 1u);
  EXPECT_TRUE(again->deltas.empty());
  reporter.OnReply(ReportReply{.duplicate = true}, absl::Seconds(20));
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(20))->sequence, 2u);
  reporter.KeepAlive(absl::Seconds(20));
  reporter.OnReply(ReportReply{}, absl::Seconds(20));
  reporter.KeepAlive(absl::Seconds(34));
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(34)), nullptr) << "not so soon after another one";
  reporter.KeepAlive(absl::Seconds(35));
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(35))->sequence, 3u);
  reporter.OnReply(absl::OutOfRangeError("expected 1"), absl::Seconds(35));
  const domain::TelemetryBatch* const restarted = reporter.NextToSend(absl::Seconds(60));
  EXPECT_EQ(restarted->sequence, 1u);
  EXPECT_NE(restarted->session, empty.session);
  reporter.OnReply(absl::InvalidArgumentError("never empty"), absl::Seconds(60));
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(61)), nullptr) << "given up";
  reporter.Add({DeltaOf(kFullName, 1, 0, 3)});
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(61))->sequence, 1u) << "a refused batch uses up no number";
}

// A refused delta must not vanish silently, whatever it counts.
TEST(ReporterTest, EverythingThatIsCountedOnceIsAnOperation) {
  const std::vector<std::function<void(domain::WindowStats&)>> cases = {
      [](auto& stats) { stats.arm(Arm::kNew).requests = 2; },
      [](auto& stats) { stats.writes.authoritative_failed = 2; },
      [](auto& stats) { stats.writes.mirror_shed = 2; },
      [](auto& stats) { stats.comparison(ComparisonOutcome::kLagged) = 2; },
      [](auto& stats) { stats.repairs = {.queued = 1, .done = 1}; },
      [](auto& stats) { stats.backfill = {.rows_to_copy = 1, .rows_copied = 1}; },
      [](auto& stats) { stats.dropped.comparisons_shed = 2; },
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(i);
    domain::TelemetryDelta delta = DeltaOf(kFullName, 1, 0, 0);
    cases[i](delta.stats);
    Reporter reporter({.instance_id = "i-1"}, 1);
    reporter.Add({delta});
    ASSERT_NE(reporter.NextToSend(absl::Seconds(1)), nullptr);
    reporter.OnReply(absl::InvalidArgumentError("never"), absl::Seconds(1));
    EXPECT_EQ(reporter.operations_dropped(), 2u);
    const domain::TelemetryBatch* const batch = reporter.NextToSend(absl::Seconds(1));
    ASSERT_NE(batch, nullptr);
    EXPECT_EQ(batch->deltas[0].stats.dropped.telemetry_dropped, 2u);
  }
}

TEST(ReporterTest, BatchesAreBounded) {
  Reporter reporter({.instance_id = "i-1", .max_pending_deltas = 5000}, 1);
  std::vector<domain::TelemetryDelta> deltas;
  for (int i = 0; i < 3000; ++i) deltas.push_back(DeltaOf(kFullName, 1, i, 1));
  reporter.Add(std::move(deltas));
  uint64_t reads = 0;
  int batches = 0;
  while (!reporter.idle()) {
    const domain::TelemetryBatch* const batch = reporter.NextToSend(absl::Seconds(1));
    EXPECT_LE(batch->deltas.size(), domain::kMaxDeltasPerBatch);
    reads += ReadsIn(*batch);
    ++batches;
    reporter.OnReply(ReportReply{}, absl::Seconds(1));
  }
  EXPECT_EQ(reads, 3000u);
  EXPECT_GE(batches, 3);
}

TEST(DigestTest, IsKeyedAndSeparatedByPurpose) {
  using internal::KeyedDigest;
  EXPECT_EQ(KeyedDigest("k", "field a", "v").size(), 32u);
  EXPECT_EQ(KeyedDigest("k", "field a", "v"), KeyedDigest("k", "field a", "v"));
  EXPECT_NE(KeyedDigest("k", "field a", "v"), KeyedDigest("K", "field a", "v"));
  EXPECT_NE(KeyedDigest("k", "field a", "v"), KeyedDigest("k", "field b", "v"));
  EXPECT_NE(KeyedDigest("k", "field a", "v"), KeyedDigest("k", "field a", "w"));
  EXPECT_NE(internal::KeyFromSalt(1), internal::KeyFromSalt(2));
}

TEST(DigestTest, IdsAreTheFirstBytesOfTheDigest) {
  for (const char* value :
       {"", "ann", "a longer value than fits into one block of the hash, twice over, at least"}) {
    const std::string digest = internal::KeyedDigest("k", "subject", value);
    EXPECT_EQ(absl::StrCat(absl::Hex(internal::KeyedId("k", "subject", value), absl::kZeroPad16)),
              digest.substr(0, 16));
  }
}

constexpr Attribution kTo = {.migration_index = 0, .generation = 1, .epoch = 2, .contract_revision = 3};
constexpr uint64_t kSalt = 0x5eed;

TEST(RecorderTest, ReadsAreCountedBySubject) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  TelemetryRecorder recorder({.migrations = {kFullName}, .digest_key = "fleet"}, &clock);
  recorder.RecordRead(kTo, Arm::kOld, true, absl::Milliseconds(1), {"ann", kSalt});
  recorder.RecordRead(kTo, Arm::kOld, true, absl::Milliseconds(1), {"ann", kSalt});
  recorder.RecordRead(kTo, Arm::kNew, true, absl::Milliseconds(1), {"bob", kSalt});
  recorder.RecordRead(kTo, Arm::kNew, false, absl::Milliseconds(1), {"eve", kSalt});
  recorder.RecordRead(kTo, Arm::kNew, false, absl::Milliseconds(1), {"eve", kSalt});
  recorder.RecordRead(kTo, Arm::kNew, false, absl::Milliseconds(1));
  const domain::WindowStats stats = recorder.Totals(0);
  EXPECT_TRUE(stats.Validate().ok()) << stats.Validate();
  const auto& [old_reads, new_reads] = stats.subjects.reads;
  EXPECT_EQ(stats.arm(Arm::kNew).requests, 4u);
  EXPECT_EQ(stats.arm(Arm::kNew).errors, 3u);
  EXPECT_EQ(old_reads.slots.total(), 2u);
  EXPECT_EQ(new_reads.slots.total(), 3u) << "one without a subject";
  EXPECT_EQ(old_reads.distinct.hit_registers(), 1u);
  EXPECT_EQ(new_reads.distinct.hit_registers(), 2u);
  const uint64_t eve = domain::SubjectHash(kSalt, "eve");
  EXPECT_EQ(new_reads.slots[domain::SlotCounts::SlotOf(eve)], 2u);
  const auto& [old_errors, new_errors] = stats.subjects.errors;
  EXPECT_TRUE(old_errors.affected().empty());
  EXPECT_THAT(new_errors.affected(),
              ::testing::ElementsAre(::testing::Pair(internal::KeyedId("fleet", "subject", "eve"), 2u)));
  EXPECT_EQ(new_errors.slots.total(), 2u);
}

struct OutcomeCase {
  ComparisonOutcome outcome;
  bool compared;
  bool mismatched;
};

TEST(RecorderTest, ComparisonsAreCountedBySubject) {
  const std::vector<OutcomeCase> cases = {
      {ComparisonOutcome::kMatch, true, false},       {ComparisonOutcome::kMismatch, true, true},
      {ComparisonOutcome::kMissingInNew, true, true}, {ComparisonOutcome::kMissingInOld, true, true},
      {ComparisonOutcome::kErrorInOld, false, false}, {ComparisonOutcome::kErrorInNew, false, false},
      {ComparisonOutcome::kTimeout, false, false},    {ComparisonOutcome::kRaced, false, false},
      {ComparisonOutcome::kLagged, true, false},      {ComparisonOutcome::kIgnored, true, false},
  };
  ASSERT_EQ(cases.size(), domain::kComparisonOutcomeCount);
  for (const OutcomeCase& c : cases) {
    for (const char* failed : {"neither", "old", "new"}) {
      for (const char* subject : {"", "ann"}) {
        SCOPED_TRACE(
            absl::StrCat(domain::InfoOf(c.outcome).name, ", failed: ", failed, ", subject: ", subject));
        FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
        TelemetryRecorder recorder({.migrations = {kFullName}}, &clock);
        const ComparisonRecord record = {.outcome = c.outcome,
                                         .only_old_failed = failed == std::string("old"),
                                         .only_new_failed = failed == std::string("new"),
                                         .routing_key = "k",
                                         .subject = subject};
        recorder.RecordComparison(kTo, kSalt, record);
        const domain::WindowStats stats = recorder.Totals(0);
        EXPECT_TRUE(stats.Validate().ok()) << stats.Validate();
        EXPECT_EQ(stats.compared(), 1u);
        const uint64_t known = record.subject.empty() ? 0 : 1;
        EXPECT_EQ(stats.subjects.compared.slots.total(), c.compared ? known : 0);
        EXPECT_EQ(stats.subjects.mismatched.identified(), c.mismatched ? known : 0);
        EXPECT_EQ(stats.subjects.old_failed_only.identified(), record.only_old_failed ? known : 0);
        EXPECT_EQ(stats.subjects.new_failed_only.identified(), record.only_new_failed ? known : 0);
      }
    }
  }
}

TEST(RecorderTest, InstancesAgreeOnWhoIsAffected) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  const auto ids_of = [&](const std::string& digest_key, uint64_t salt_seed) {
    TelemetryRecorder recorder({.migrations = {kFullName}, .digest_key = digest_key}, &clock);
    recorder.RecordRead(kTo, Arm::kNew, false, absl::Milliseconds(1), {"eve", salt_seed});
    return recorder.Totals(0).subjects.errors[1].affected().begin()->first;
  };
  EXPECT_EQ(ids_of("fleet", 1), ids_of("fleet", 2)) << "a key of its own does not depend on the migration";
  EXPECT_NE(ids_of("fleet", 1), ids_of("other", 1));
  EXPECT_EQ(ids_of("", 1), ids_of("", 1));
  EXPECT_NE(ids_of("", 1), ids_of("", 2));
}

// The keys of a small canary are those with the lowest hashes; they must not look like few to the sketch.
TEST(RecorderTest, DistinctSubjectsOfACanaryAreCountedRight) {
  for (const uint64_t salt_seed : {uint64_t{0}, uint64_t{1}, kSalt, ~uint64_t{0}}) {
    for (const uint32_t weight : {uint32_t{100}, uint32_t{1000}, domain::kBucketCount}) {
      SCOPED_TRACE(absl::StrCat("salt seed ", salt_seed, ", weight ", weight));
      FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
      TelemetryRecorder recorder({.migrations = {kFullName}}, &clock);
      uint64_t subjects = 0;
      for (int i = 0; subjects < 3000; ++i) {
        const std::string key = absl::StrCat(i);
        if (domain::BucketOfHash(domain::KeyHash(salt_seed, key)) >= weight) continue;
        ++subjects;
        recorder.RecordRead(kTo, Arm::kNew, true, absl::Milliseconds(1), {key, salt_seed});
      }
      EXPECT_NEAR(recorder.Totals(0).subjects.reads[1].distinct.Estimate(), 3000, 3000 * 0.05);
    }
  }
}

struct TimedCase {
  absl::Duration from_old;
  absl::Duration from_new;
  uint64_t slower;
  uint64_t not_slower;
};

TEST(RecorderTest, TimedPairs) {
  const absl::Duration never = absl::InfiniteDuration();
  const std::vector<TimedCase> cases = {
      {absl::Microseconds(1000), absl::Microseconds(1101), 1, 0},
      {absl::Microseconds(1000), absl::Microseconds(1100), 0, 0},  // a tie
      {absl::Microseconds(1000), absl::Microseconds(1099), 0, 1},
      {absl::Microseconds(1000), absl::ZeroDuration(), 0, 1},
      {absl::ZeroDuration(), absl::ZeroDuration(), 0, 0},
      {absl::ZeroDuration(), absl::Nanoseconds(1), 1, 0},
      {absl::Seconds(1), never, 1, 0},
      {never, absl::Seconds(1), 0, 1},
      {never, never, 0, 0},
  };
  for (const TimedCase& c : cases) {
    SCOPED_TRACE(absl::StrCat(absl::FormatDuration(c.from_old), " ", absl::FormatDuration(c.from_new)));
    FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
    TelemetryRecorder recorder({.migrations = {kFullName}}, &clock);
    recorder.RecordComparison(kTo, kSalt, {.timed = TimedPair{c.from_old, c.from_new}});
    EXPECT_EQ(recorder.Totals(0).paired_latency,
              (domain::PairedLatency{.slower = c.slower, .not_slower = c.not_slower}));
    EXPECT_TRUE(recorder.Totals(0).Validate().ok());
  }
}

TEST(RecorderTest, SamplesAreLimitedAsTheServerAsks) {
  struct Case {
    std::optional<uint32_t> limit;
    size_t samples;
  };
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  TelemetryRecorder recorder({.migrations = {kFullName}, .samples_per_fingerprint = 3}, &clock);
  for (const Case& c : {Case{std::nullopt, 3}, Case{0, 0}, Case{1, 1}, Case{9, 3}, Case{std::nullopt, 3}}) {
    SCOPED_TRACE(c.samples);
    recorder.LimitSamples(c.limit);
    for (int i = 0; i < 5; ++i) {
      recorder.RecordComparison(kTo, kSalt,
                                {.outcome = ComparisonOutcome::kMissingInNew, .routing_key = "k"});
    }
    const std::vector<domain::TelemetryDelta> deltas = recorder.Collect();
    ASSERT_EQ(deltas.size(), 1u);
    EXPECT_EQ(deltas[0].samples.size(), c.samples);
    EXPECT_EQ(deltas[0].stats.dropped.samples_dropped, 5 - c.samples);
    EXPECT_EQ(deltas[0].stats.comparison(ComparisonOutcome::kMissingInNew), 5u);
  }
}

TEST(RecorderTest, RepairsAndBackfillBelongToTheirAttribution) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  TelemetryRecorder recorder({.migrations = {kFullName, kOther}}, &clock);
  const Attribution later = {.migration_index = 1, .generation = 4, .epoch = 9, .contract_revision = 1};
  recorder.RecordRepairQueued(kTo);
  recorder.RecordBackfill(later, 100, 0);
  clock.Advance(absl::Seconds(5));
  recorder.RecordRepairDone(kTo);
  recorder.RecordBackfill(later, 0, 60);
  recorder.RecordBackfill(later, 0, 0);
  EXPECT_EQ(recorder.Totals(0).repairs, (domain::RepairStats{.queued = 1, .done = 1}));
  EXPECT_EQ(recorder.Totals(1).backfill, (domain::BackfillStats{.rows_to_copy = 100, .rows_copied = 60}));
  const std::vector<domain::TelemetryDelta> deltas = recorder.Collect();
  ASSERT_EQ(deltas.size(), 4u);
  EXPECT_EQ(deltas[3].migration, kOther);
  EXPECT_EQ(deltas[3].generation, 4u);
  EXPECT_EQ(deltas[3].epoch, 9u);
  for (const domain::TelemetryDelta& delta : deltas) EXPECT_TRUE(delta.stats.Validate().ok());
}

TEST(RecorderTest, BucketsAreMultiplesOfFiveSecondsOfEventTime) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'004));
  TelemetryRecorder recorder({.migrations = {kFullName}}, &clock);
  const Attribution to{.migration_index = 0, .generation = 1, .epoch = 2, .contract_revision = 3};
  recorder.RecordAuthoritativeWrite(to, true);
  clock.Advance(absl::Seconds(1));
  recorder.RecordAuthoritativeWrite(to, false);
  recorder.RecordMirrorWrite(to, MirrorResult::kShed);
  recorder.RecordComparisonShed(to);
  const std::vector<domain::TelemetryDelta> deltas = recorder.Collect();
  ASSERT_EQ(deltas.size(), 2u);
  EXPECT_EQ(deltas[0].bucket_start, absl::FromUnixSeconds(1'700'000'000));
  EXPECT_EQ(deltas[0].stats.writes.authoritative_ok, 1u);
  EXPECT_EQ(deltas[1].bucket_start, absl::FromUnixSeconds(1'700'000'005));
  EXPECT_EQ(deltas[1].stats.writes.authoritative_failed, 1u);
  EXPECT_EQ(deltas[1].stats.writes.mirror_shed, 1u);
  EXPECT_EQ(deltas[1].stats.dropped.comparisons_shed, 1u);
  EXPECT_EQ(deltas[1].epoch, 2u);
  EXPECT_EQ(deltas[1].contract_revision, 3u);
  EXPECT_TRUE(recorder.Collect().empty());
}

TEST(RecorderTest, WhereNobodyCollectsResolutionIsLostAndNoCount) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  TelemetryRecorder recorder({.migrations = {kFullName}}, &clock);
  constexpr uint64_t kReads = 3000;
  for (uint64_t i = 0; i < kReads; ++i) {
    recorder.RecordRead(kTo, Arm::kOld, true, absl::Milliseconds(1));
    clock.Advance(absl::Seconds(5));
  }
  const std::vector<domain::TelemetryDelta> deltas = recorder.Collect();
  EXPECT_EQ(deltas.size(), 1024u);
  EXPECT_EQ(ReadsIn({.deltas = deltas}), kReads);
}

TEST(RecorderTest, LookingAtTotalsTakesNothingOut) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  TelemetryRecorder recorder({.migrations = {kFullName}}, &clock);
  for (uint64_t i = 1; i <= 5; ++i) {
    recorder.RecordRead(kTo, Arm::kOld, true, absl::Milliseconds(1));
    EXPECT_EQ(recorder.Totals(0).arm(Arm::kOld).requests, i);
  }
  const std::vector<domain::TelemetryDelta> deltas = recorder.Collect();
  ASSERT_EQ(deltas.size(), 1u) << "of one bucket";
  EXPECT_EQ(deltas[0].stats, recorder.Totals(0));
  EXPECT_TRUE(recorder.Collect().empty());
}

// More threads than have a shard of their own, all of them alive until the last one has recorded.
TEST(RecorderTest, AnyNumberOfThreadsMayRecord) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  TelemetryRecorder recorder({.migrations = {kFullName}}, &clock);
  constexpr uint64_t kThreads = internal::kThreadSlots + 10;
  std::latch recorded(kThreads);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      recorder.RecordRead(kTo, Arm::kOld, true, absl::Milliseconds(1), {"ann", kSalt});
      recorded.arrive_and_wait();
      recorder.RecordRead(kTo, Arm::kOld, true, absl::Milliseconds(1), {"ann", kSalt});
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(recorder.Totals(0).arm(Arm::kOld).requests, 2 * kThreads);
  EXPECT_EQ(ReadsIn({.deltas = recorder.Collect()}), 2 * kThreads);
}

class RecorderFencesTest : public ::testing::TestWithParam<internal::FenceKind> {};

// What belongs together stays together, however often somebody collects in between.
TEST_P(RecorderFencesTest, CollectingWhileThreadsRecord) {
  if (GetParam() == internal::FenceKind::kAsymmetric && internal::BestFenceKind() != GetParam()) {
    GTEST_SKIP() << "this kernel offers no membarrier(2)";
  }
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  TelemetryRecorder recorder({.migrations = {kFullName}}, &clock, GetParam());
  constexpr uint64_t kThreads = 3;
  constexpr uint64_t kReads = 20000;
  std::atomic<uint64_t> running{kThreads};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const Attribution to{.migration_index = 0, .generation = 1, .epoch = 1 + t % 2, .contract_revision = 1};
      for (uint64_t i = 0; i < kReads; ++i) {
        recorder.RecordRead(to, Arm::kOld, i % 100 != 0, absl::Microseconds(i), {"ann", kSalt});
      }
      running.fetch_sub(1);
    });
  }
  domain::WindowStats collected;
  while (true) {
    const bool last = running.load() == 0;
    for (const domain::TelemetryDelta& delta : recorder.Collect()) {
      EXPECT_TRUE(delta.stats.Validate().ok()) << delta.stats.Validate();
      EXPECT_EQ(delta.stats.arm(Arm::kOld).latency.count(), delta.stats.arm(Arm::kOld).requests);
      ASSERT_TRUE(collected.Merge(delta.stats).ok());
    }
    EXPECT_GE(recorder.Totals(0).arm(Arm::kOld).requests, collected.arm(Arm::kOld).requests);
    if (last) break;
  }
  for (std::thread& thread : threads) thread.join();
  for (const domain::TelemetryDelta& delta : recorder.Collect())
    ASSERT_TRUE(collected.Merge(delta.stats).ok());
  EXPECT_EQ(collected.arm(Arm::kOld).requests, kThreads * kReads);
  EXPECT_EQ(collected.arm(Arm::kOld).errors, kThreads * kReads / 100);
  EXPECT_EQ(collected, recorder.Totals(0));
}

INSTANTIATE_TEST_SUITE_P(All, RecorderFencesTest,
                         ::testing::Values(internal::FenceKind::kSymmetric,
                                           internal::FenceKind::kAsymmetric));

// Threads count through a real client while reports and replies get lost, streams break and stages change.
TEST(ExactlyOnceTest, TotalsAreEqualThroughFaults) {
  uint64_t duplicates = 0;
  for (const uint64_t seed : {1, 2, 3, 4}) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    auto plane = std::make_shared<FakeControlPlane>();
    plane->SetStage(kMigration, Stage::kShadowRead);
    plane->SetReportFaults(seed, 0.3, 0.5);
    ClientOptions options = {
        .transport = plane, .service = "orders", .migrations = {kMigration}, .seed = seed};
    options.telemetry_interval = absl::Milliseconds(5);
    options.backoff_initial = absl::Milliseconds(1);
    options.backoff_max = absl::Milliseconds(5);
    const std::unique_ptr<Client> client = *Client::Create(std::move(options));
    ASSERT_TRUE(client->WaitUntilReady(absl::Now() + absl::Seconds(20)).ok());
    const MigrationHandle handle = *client->Resolve(kMigration);
    constexpr int kThreads = 3;
    constexpr uint64_t kOperations = 4000;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        Prng prng(seed * 100 + t);
        for (uint64_t i = 0; i < kOperations; ++i) {
          const RouteHandle route = *client->Route(handle, absl::StrCat(i));
          const std::string subject = absl::StrCat(prng.Below(500));
          client->telemetry().RecordRead(route.attribution(), prng.Below(2) == 0 ? Arm::kOld : Arm::kNew,
                                         prng.Below(10) != 0, absl::Microseconds(prng.Below(5000)),
                                         route.SubjectNamed(subject));
          const std::vector<FieldDifference> differences = {{.path = "total", .declared = true}};
          const auto outcome = static_cast<ComparisonOutcome>(prng.Below(domain::kComparisonOutcomeCount));
          client->telemetry().RecordComparison(
              route.attribution(), 1,
              {.outcome = outcome,
               .differences = &differences,
               .routing_key = "k",
               .subject = subject,
               .timed = TimedPair{absl::Microseconds(prng.Below(9)), absl::Microseconds(prng.Below(9))}});
          client->telemetry().RecordRepairQueued(route.attribution());
          if (prng.Below(2) == 0) client->telemetry().RecordRepairDone(route.attribution());
          client->telemetry().RecordBackfill(*client->PresentAttribution(handle), 2, prng.Below(3));
          if (t == 0 && i % 500 == 0) plane->SetStage(kMigration, Stage::kCanaryRead, 10 + i);
          if (t == 1 && i % 700 == 0) plane->Disconnect();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    const domain::WindowStats counted = client->telemetry().Totals(handle.index());
    EXPECT_EQ(counted.compared(), kThreads * kOperations);
    ASSERT_TRUE(client->Shutdown(absl::Now() + absl::Seconds(20)).ok());
    domain::WindowStats held = plane->Totals(kMigration);
    // Samples beyond a delta's bound are counted where deltas are merged.
    held.dropped.samples_dropped = counted.dropped.samples_dropped;
    EXPECT_EQ(held, counted);
    EXPECT_TRUE(held.Validate().ok());
    duplicates += plane->DuplicateReports();
  }
  EXPECT_GT(duplicates, 0u) << "the faults were exercised";
}

}  // namespace
}  // namespace lockstep
