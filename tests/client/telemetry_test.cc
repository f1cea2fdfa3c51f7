// Exactly-once totals: whatever is lost or repeated on the way, the control plane ends with what was counted.
#include "lockstep/telemetry.h"

#include <thread>

#include "client/sdk/src/reporter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/internal/digest.h"
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
  reporter.OnReply(ReportReply{.retry_after = absl::Seconds(5)}, absl::Seconds(20));
  EXPECT_TRUE(reporter.idle());
  reporter.Add({DeltaOf(kFullName, 1, 1, 1)});
  EXPECT_EQ(reporter.NextToSend(absl::Seconds(24)), nullptr) << "asked to slow down";
  EXPECT_NE(reporter.NextToSend(absl::Seconds(25)), nullptr);
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
          client->telemetry().RecordRead(route.attribution(), prng.Below(2) == 0 ? Arm::kOld : Arm::kNew,
                                         prng.Below(10) != 0, absl::Microseconds(prng.Below(5000)));
          const std::vector<FieldDifference> differences = {{.path = "total", .declared = true}};
          const auto outcome = static_cast<ComparisonOutcome>(prng.Below(domain::kComparisonOutcomeCount));
          client->telemetry().RecordComparison(
              route.attribution(), 1, {.outcome = outcome, .differences = &differences, .routing_key = "k"});
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
