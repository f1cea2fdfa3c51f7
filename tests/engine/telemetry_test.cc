#include "server/engine/telemetry.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "tests/engine/engine_fixture.h"

namespace lockstep::engine {
namespace {

using domain::ComparisonOutcome;

class TelemetryTest : public EngineTest {
 protected:
  TelemetryTest() { SetLogLevel(LogLevel::kError); }

  domain::TelemetryBatch Batch(uint64_t sequence, std::vector<domain::TelemetryDelta> deltas,
                               uint64_t session = 1) {
    return {"a", session, sequence, std::move(deltas)};
  }
  uint64_t Matches(uint64_t generation = 1) {
    return engine_->telemetry().Totals(kName, generation).comparison(ComparisonOutcome::kMatch);
  }
  // Matches in closed buckets that are evidence, by bucket start.
  std::map<int64_t, uint64_t> Evidence(uint64_t contract_revision = 1) {
    std::map<int64_t, uint64_t> buckets;
    EXPECT_TRUE(engine_->telemetry()
                    .ReadBuckets(kName, 1, contract_revision, absl::UnixEpoch(), absl::InfiniteFuture(),
                                 [&](const domain::WindowRecord& record) {
                                   buckets[absl::ToUnixSeconds(record.bucket_start) - 1700000000] =
                                       record.stats.comparison(ComparisonOutcome::kMatch);
                                 })
                    .ok());
    return buckets;
  }
};

TEST_F(TelemetryTest, BadBatches) {
  Create();
  domain::TelemetryDelta good = DeltaNow(10, 0);
  const auto with = [&](auto change) {
    domain::TelemetryDelta delta = good;
    change(delta);
    return Batch(1, {good, delta});
  };
  using Delta = domain::TelemetryDelta;
  const domain::TelemetryBatch batches[] = {
      {"", 1, 1, {}},
      {"a", 0, 1, {}},
      {"a", 1, 0, {}},
      Batch(1, std::vector<Delta>(domain::kMaxDeltasPerBatch + 1, good)),
      with([](Delta& d) { d.stats.arm(domain::Arm::kOld).errors = 1; }),
      with([](Delta& d) { d.generation = 2; }),
      with([](Delta& d) { d.contract_revision = 2; }),
      with([](Delta& d) { d.bucket_start += absl::Seconds(1); }),
      with([](Delta& d) { d.bucket_start += absl::Hours(2); }),
      with([](Delta& d) { d.samples.resize(domain::kMaxSamplesPerDelta + 1); }),
  };
  for (const domain::TelemetryBatch& batch : batches) {
    const absl::Status status = Report(batch).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
  auto unknown = Batch(1, {good, good});
  unknown.deltas[1].migration = "namespaces/a/migrations/nobody";
  EXPECT_EQ(ReasonOf(Report(unknown).status()), "MIGRATION_NOT_FOUND");
  EXPECT_EQ(Matches(), 0u) << "part of a refused batch was counted";
  EXPECT_TRUE(Report(Batch(1, {good})).ok());
  EXPECT_EQ(Matches(), 10u);
}

TEST_F(TelemetryTest, SequencesOfASession) {
  Create();
  EXPECT_EQ(ReasonOf(Report(Batch(2, {})).status()), "SEQUENCE_GAP");
  ASSERT_TRUE(Report(Batch(1, {DeltaNow(1, 0)})).ok());
  EXPECT_TRUE(Report(Batch(1, {DeltaNow(1, 0)}))->duplicate);
  const absl::Status gap = Report(Batch(3, {DeltaNow(1, 0)})).status();
  EXPECT_EQ(gap.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(GetErrorInfo(gap)->metadata.at("expected_sequence"), "2");
  EXPECT_FALSE(Report(Batch(1, {DeltaNow(1, 0)}, /*session=*/2))->duplicate);
  Restart();
  EXPECT_TRUE(Report(Batch(1, {DeltaNow(1, 0)}))->duplicate);
  EXPECT_FALSE(Report(Batch(2, {DeltaNow(1, 0)}))->duplicate);
  EXPECT_EQ(Matches(), 3u);
  // A repeat is known even if what it was about is gone.
  ASSERT_TRUE(engine_->Delete(kName, By("user:ann")).ok());
  domain::TelemetryDelta gone;
  gone.migration = kName;
  EXPECT_TRUE(Report(Batch(2, {gone}))->duplicate);
  EXPECT_EQ(Report(Batch(3, {gone})).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TelemetryTest, OldGenerationsAreStale) {
  Create();
  const domain::TelemetryDelta old = DeltaNow(5, 0);
  ASSERT_TRUE(Do(domain::CommandKind::kStart).ok());
  ASSERT_TRUE(Do(domain::CommandKind::kAbort).ok());
  const auto receipt = Report(Batch(1, {old, DeltaNow(3, 0)}));
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  EXPECT_EQ(receipt->stale_deltas, 1u);
  EXPECT_EQ(Matches(1), 0u);
  EXPECT_EQ(Matches(2), 3u);
  EXPECT_EQ(engine_->telemetry().LifetimeTotals(kName).comparison(ComparisonOutcome::kMatch), 3u);
}

TEST_F(TelemetryTest, PlacementInTime) {
  Create();
  ASSERT_TRUE(Do(domain::CommandKind::kStart).ok());
  clock_.Advance(absl::Seconds(20));  // buckets up to 10 are closed, since 15 + 5 + 2 is still to come
  const auto at = [&](int64_t seconds, uint64_t matches) {
    domain::TelemetryDelta delta = DeltaNow(matches, 0);
    delta.bucket_start = absl::FromUnixSeconds(1700000000 + seconds);
    return delta;
  };
  ASSERT_TRUE(Report(Batch(1, {at(15, 1), at(20, 10), at(0, 100), at(600, 1000)})).ok());
  EXPECT_EQ(Evidence(), (std::map<int64_t, uint64_t>{{15, 101}, {20, 1010}}));
  EXPECT_EQ(engine_->telemetry().CloseBuckets(clock_.Now()), absl::FromUnixSeconds(1700000015));
  clock_.Advance(absl::Seconds(2));
  EXPECT_EQ(engine_->telemetry().CloseBuckets(clock_.Now()), absl::FromUnixSeconds(1700000020));
  ASSERT_TRUE(Report(Batch(2, {at(15, 1)})).ok());
  EXPECT_EQ(Evidence(), (std::map<int64_t, uint64_t>{{15, 101}, {20, 1011}}));
  // Of before the evidence began: in the total, nowhere else.
  ASSERT_TRUE(Report(Batch(3, {at(-60, 1)})).ok());
  EXPECT_EQ(Evidence(), (std::map<int64_t, uint64_t>{{15, 101}, {20, 1011}}));
  EXPECT_EQ(Matches(), 1113u);
  EXPECT_EQ(engine_->telemetry().counters().void_deltas, 1u);
  EXPECT_EQ(engine_->telemetry().counters().late_deltas, 3u);
}

TEST_F(TelemetryTest, OtherContractsAreNoEvidence) {
  Create();
  ASSERT_TRUE(Report(Batch(1, {DeltaNow(1, 0)})).ok());
  const domain::TelemetryDelta former = DeltaNow(10, 0);
  MigrationUpdate update;
  update.contract.emplace().fields.push_back({.path = "name"});
  ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  ASSERT_TRUE(Report(Batch(2, {former, DeltaNow(100, 0)})).ok());
  EXPECT_EQ(Evidence(1), (std::map<int64_t, uint64_t>{{0, 1}}));
  EXPECT_EQ(Evidence(2), (std::map<int64_t, uint64_t>{{5, 100}}));
  EXPECT_EQ(Matches(), 111u);
}

TEST_F(TelemetryTest, SamplesAreKeptPerFingerprint) {
  Create();
  domain::TelemetryDelta delta = DeltaNow(0, 1);
  for (int i = 0; i < 30; ++i) {
    domain::MismatchSample sample;
    sample.time = clock_.Now() + absl::Seconds(i);
    sample.field = "name";
    sample.kind = "value";
    delta.samples.push_back(sample);
  }
  delta.samples.push_back({.time = clock_.Now() - absl::Seconds(1), .field = "rare", .kind = "missing"});
  ASSERT_TRUE(Report(Batch(1, {delta})).ok());
  Restart();
  ASSERT_TRUE(Report(Batch(2, {delta})).ok());
  auto samples = engine_->telemetry().ListSamples(kName, 0, 100);
  ASSERT_TRUE(samples.ok()) << samples.status();
  ASSERT_EQ(samples->size(), kSamplesPerFingerprint + 2);
  EXPECT_EQ(samples->front().time, clock_.Now() + absl::Seconds(29));
  EXPECT_EQ(samples->front().instance_id, "a");
  EXPECT_EQ(samples->back().field, "rare");
  samples = engine_->telemetry().ListSamples(kName, 21, 100);
  EXPECT_EQ(samples->size(), 1u);
}

TEST_F(TelemetryTest, AnUnknownOutcomeIsNotAcknowledgedAndNotDoubled) {
  Create();
  for (const auto moment :
       {store::FaultyStore::Moment::kBeforeApply, store::FaultyStore::Moment::kAfterApply}) {
    const uint64_t session = moment == store::FaultyStore::Moment::kBeforeApply ? 1 : 2;
    const uint64_t before = Matches();
    store_.FailCommit(1, moment, absl::UnknownError("sync failed"));
    EXPECT_EQ(ReasonOf(Report(Batch(1, {DeltaNow(7, 0)}, session)).status()), "STORE_FAILED");
    EXPECT_EQ(Matches(), before);
    EXPECT_EQ(ReasonOf(Report(Batch(1, {DeltaNow(7, 0)}, session)).status()), "STORE_FAILED");
    EXPECT_FALSE(engine_->health().ok());
    Restart();
    const auto repeat = Report(Batch(1, {DeltaNow(7, 0)}, session));
    ASSERT_TRUE(repeat.ok()) << repeat.status();
    EXPECT_EQ(repeat->duplicate, moment == store::FaultyStore::Moment::kAfterApply);
    EXPECT_EQ(Matches(), before + 7);
  }
}

TEST_F(TelemetryTest, AFailedCommitIsRetried) {
  Create();
  store_.FailCommit(1, store::FaultyStore::Moment::kBeforeApply, absl::ResourceExhaustedError("disk full"));
  EXPECT_EQ(Report(Batch(1, {DeltaNow(7, 0)})).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Matches(), 0u);
  EXPECT_FALSE(Report(Batch(1, {DeltaNow(7, 0)}))->duplicate);
  EXPECT_EQ(Matches(), 7u);
}

TEST_F(TelemetryTest, WhatQueuesUpSharesACommitAndIsBounded) {
  Create();
  store_.BlockCommit(1, store::FaultyStore::Moment::kBeforeApply);
  Mutex mutex;
  CondVar changed;
  int ok = 0;
  int full = 0;
  const auto send = [&](uint64_t sequence) {
    engine_->telemetry().Report(Batch(sequence, {DeltaNow(1, 0)}),
                                [&](absl::StatusOr<TelemetryReceipt> receipt) {
                                  MutexLock lock(&mutex);
                                  if (receipt.ok()) {
                                    ++ok;
                                  } else {
                                    EXPECT_EQ(ReasonOf(receipt.status()), "QUEUE_FULL");
                                    ++full;
                                  }
                                  changed.Signal();
                                });
  };
  send(1);
  store_.WaitUntilBlocked();
  const uint64_t commits = store_.commits();
  for (uint64_t sequence = 2; sequence <= 1011; ++sequence) send(sequence);
  EXPECT_EQ(engine_->telemetry().counters().queued_batches, 1000u);
  store_.Release();
  MutexLock lock(&mutex);
  while (ok < 1001) changed.Wait(&mutex);
  EXPECT_EQ(full, 10);
  EXPECT_LE(store_.commits(), commits + 5);
  EXPECT_EQ(Matches(), 1001u);
}

// After a commit that took long, the next one waits for those that were there during it: not for ever, when
// they don't come.
TEST_F(TelemetryTest, WhoeverIsExpectedAndDoesNotComeHoldsNobodyUp) {
  Create();
  store_.BlockCommit(1, store::FaultyStore::Moment::kBeforeApply);
  Mutex mutex;
  CondVar changed;
  int answered = 0;
  const auto send = [&](uint64_t session) {
    engine_->telemetry().Report(Batch(1, {DeltaNow(1, 0)}, session),
                                [&](const absl::StatusOr<TelemetryReceipt>& receipt) {
                                  EXPECT_TRUE(receipt.ok()) << receipt.status();
                                  MutexLock lock(&mutex);
                                  ++answered;
                                  changed.Signal();
                                });
  };
  send(1);
  store_.WaitUntilBlocked();
  for (uint64_t session = 2; session <= 11; ++session) send(session);
  clock_.Advance(absl::Milliseconds(8));
  store_.Release();
  {
    MutexLock lock(&mutex);
    while (answered < 11) changed.Wait(&mutex);
  }
  EXPECT_TRUE(Report(Batch(1, {DeltaNow(1, 0)}, 12)).ok());
  EXPECT_EQ(Matches(), 12u);
}

// Batches of many sessions, larger than what may wait, over a disk that stands still: each is told to come
// later, and all of them count in the end, once.
TEST_F(TelemetryTest, AFloodIsBoundedInMemoryAndLosesNothing) {
  options_.telemetry.max_queued_bytes = 1 << 20;
  Restart();
  Create();
  domain::TelemetryDelta large = DeltaNow(1, 0);
  for (uint64_t subject = 1; subject <= 100; ++subject) {
    large.stats.subjects.compared.distinct.Add(subject << 40);  // 4 KiB of registers
  }
  large.stats.subjects.compared.slots.Add(0, 1);
  large.stats.comparison(ComparisonOutcome::kMatch) = 100;
  large.stats.subjects.compared.slots.Add(1, 99);
  store_.BlockCommit(1, store::FaultyStore::Moment::kBeforeApply);
  constexpr uint64_t kSenders = 1000;
  Mutex mutex;
  CondVar changed;
  std::vector<uint64_t> refused;
  uint64_t accepted = 0, slowed_down = 0;
  const auto send = [&](uint64_t session) {
    engine_->telemetry().Report(
        Batch(1, {large}, session), [&, session](absl::StatusOr<TelemetryReceipt> got) {
          MutexLock lock(&mutex);
          if (got.ok()) {
            ++accepted;
            slowed_down += got->retry_after.has_value() ? 1 : 0;
            EXPECT_EQ(got->samples_per_fingerprint.has_value(), got->retry_after.has_value());
          } else {
            EXPECT_EQ(ReasonOf(got.status()), "QUEUE_FULL");
            EXPECT_EQ(GetErrorInfo(got.status())->metadata.count("retry_after_ms"), 1u);
            refused.push_back(session);
          }
          changed.Signal();
        });
  };
  send(1);
  store_.WaitUntilBlocked();
  for (uint64_t session = 2; session <= kSenders; ++session) send(session);
  const uint64_t queued = engine_->telemetry().counters().queued_batches;
  EXPECT_LT(queued, (uint64_t{1} << 20) / domain::DistinctSketch::kRegisters);
  EXPECT_GT(queued, 100u);
  EXPECT_EQ(engine_->telemetry().counters().refused_batches, kSenders - 1 - queued);
  store_.Release();
  while (true) {
    std::vector<uint64_t> again;
    {
      MutexLock lock(&mutex);
      while (accepted + refused.size() < kSenders) changed.Wait(&mutex);
      again.swap(refused);
    }
    if (again.empty()) break;
    for (const uint64_t session : again) send(session);
  }
  EXPECT_GE(slowed_down, 1u) << "the first one was answered while the queue was full";
  EXPECT_EQ(Matches(), kSenders * 100);
  Restart();
  EXPECT_EQ(Matches(), kSenders * 100);
}

// A bucket does not close while a commit that may add to it is under way.
TEST_F(TelemetryTest, ClosingWaitsForTheCommitUnderWay) {
  Create();
  store_.BlockCommit(1, store::FaultyStore::Moment::kBeforeApply);
  Mutex mutex;
  CondVar changed;
  bool done = false;
  engine_->telemetry().Report(Batch(1, {DeltaNow(1, 0)}), [&](absl::StatusOr<TelemetryReceipt>) {
    MutexLock lock(&mutex);
    done = true;
    changed.Signal();
  });
  store_.WaitUntilBlocked();
  clock_.Advance(absl::Seconds(30));
  EXPECT_LE(engine_->telemetry().CloseBuckets(clock_.Now()), absl::FromUnixSeconds(1700000000));
  store_.Release();
  {
    MutexLock lock(&mutex);
    while (!done) changed.Wait(&mutex);
  }
  EXPECT_EQ(engine_->telemetry().CloseBuckets(clock_.Now()), absl::FromUnixSeconds(1700000025));
  EXPECT_EQ(Evidence(), (std::map<int64_t, uint64_t>{{0, 1}}));
}

// Instances that send, repeat, skip and reorder, over a store that fails and a server that crashes: in the
// end the totals are what the instances counted.
TEST_F(TelemetryTest, ExactlyOnceUnderRandomFaults) {
  struct Sender {
    uint64_t session;
    uint64_t counted = 0;  // by the instance
    uint64_t acknowledged = 0;
    std::vector<uint64_t> batches;  // matches in each, batch i has sequence i + 1
  };
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Prng prng(seed);
    const std::string name = absl::StrCat("namespaces/seed/migrations/s", seed);
    Create(name);
    std::vector<Sender> senders(3);
    for (size_t i = 0; i < senders.size(); ++i) senders[i].session = seed * 100 + i;
    const auto send = [&](Sender& sender, uint64_t sequence) {
      domain::TelemetryDelta delta;
      delta.migration = name;
      delta.generation = 1;
      delta.epoch = 1;
      delta.contract_revision = 1;
      delta.bucket_start = BucketFloor(clock_.Now() - absl::Seconds(static_cast<int64_t>(prng.Below(20))));
      const bool exists = sequence <= sender.batches.size();
      delta.stats.comparison(ComparisonOutcome::kMatch) = exists ? sender.batches[sequence - 1] : 1;
      const auto receipt = Report({absl::StrCat("i", sender.session), sender.session, sequence, {delta}});
      if (receipt.ok() && sequence == sender.acknowledged + 1) sender.acknowledged = sequence;
      EXPECT_EQ(absl::IsOutOfRange(receipt.status()), sequence > sender.batches.size()) << receipt.status();
    };
    const auto restart_if_failed = [&] {
      if (!engine_->health().ok()) Restart();
    };
    for (int step = 0; step < 200; ++step) {
      Sender& sender = senders[prng.Below(senders.size())];
      const auto moment = prng.Below(2) == 0 ? store::FaultyStore::Moment::kBeforeApply
                                             : store::FaultyStore::Moment::kAfterApply;
      switch (prng.Below(12)) {
        case 0:
          store_.FailCommit(1, moment, absl::UnknownError("sync failed"));
          break;
        case 1:
          Restart();
          break;
        case 2:
          clock_.Advance(absl::Seconds(3));
          engine_->telemetry().CloseBuckets(clock_.Now());
          break;
        case 3:
          send(sender, sender.batches.size() + 2);  // a gap
          break;
        case 4:
          if (sender.acknowledged > 0) send(sender, 1 + prng.Below(sender.acknowledged));
          break;
        default:
          if (sender.acknowledged == sender.batches.size()) {
            sender.batches.push_back(1 + prng.Below(5));
            sender.counted += sender.batches.back();
          }
          send(sender, sender.acknowledged + 1);
      }
      restart_if_failed();
    }
    store_.FailCommit(1, store::FaultyStore::Moment::kBeforeApply,
                      absl::UnavailableError("the last of the faults"));
    uint64_t expected = 0;
    for (Sender& sender : senders) {
      expected += sender.counted;
      while (sender.acknowledged < sender.batches.size()) {
        send(sender, sender.acknowledged + 1);
        restart_if_failed();
      }
    }
    EXPECT_EQ(engine_->telemetry().Totals(name, 1).comparison(ComparisonOutcome::kMatch), expected);
    Restart();
    EXPECT_EQ(engine_->telemetry().Totals(name, 1).comparison(ComparisonOutcome::kMatch), expected);
    if (HasFailure()) break;
    // A fault that was not used up must not hit the next seed's creation.
    while (
        !registry().Create({.name = absl::StrCat(name, "-probe"), .plan = FullPlan()}, By("user:ann")).ok()) {
      Restart();
    }
  }
}

}  // namespace
}  // namespace lockstep::engine
