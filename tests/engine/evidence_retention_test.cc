// How long evidence is kept: under a constant load the database stops growing, totals stay exact, and what is
// no longer there is never taken for the whole.
#include "server/engine/evidence_retention.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "tests/engine/gate_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using domain::ComparisonOutcome;

constexpr int kBucketsPerHour = 720;
constexpr uint64_t kMatches = 3;

class EvidenceRetentionTest : public GateTest {
 protected:
  EvidenceRetentionTest() { KeepFor(absl::Hours(1)); }

  void KeepFor(absl::Duration keep) {
    options_.evidence.keep = keep;
    Restart();
  }
  // At SHADOW_READ, to be left by hand, with a check on mismatches.
  void CreateWatched() {
    domain::MigrationPlan plan;
    plan.steps = {StepOf(domain::Stage::kDualWrite),
                  StepOf(domain::Stage::kShadowRead, 0, {MismatchCheck()})};
    for (domain::PlanStep& step : plan.steps) step.manual = true;
    Create(kName, plan);
    ASSERT_TRUE(Do(CommandKind::kStart).ok());
    ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  }
  // One bucket after the other, each with something in it.
  void Buckets(int count) {
    for (int i = 0; i < count && !HasFatalFailure(); ++i) {
      clock_.Advance(domain::kTelemetryBucket);
      ASSERT_TRUE(Report({"a", 1, ++sequence_, {DeltaNow(kMatches, 0)}}).ok());
      const absl::Status ticked = engine_->Tick();
      ASSERT_TRUE(ticked.ok()) << ticked;
    }
  }
  size_t Rows() {
    size_t rows = 0;
    EXPECT_TRUE(memory_
                    ->Scan(store::Table::kWindows, "", "", store::kNoLimit,
                           [&](absl::string_view, absl::string_view) { return ++rows > 0; })
                    .ok());
    return rows;
  }
  uint64_t Total() { return engine_->telemetry().Totals(kName, 1).comparison(ComparisonOutcome::kMatch); }
  absl::StatusOr<GateExplanation> Explain(std::optional<absl::Time> time = std::nullopt) {
    return engine_->gate().Explain(kName, time);
  }
};

TEST_F(EvidenceRetentionTest, UnderConstantLoadTheDatabaseStopsGrowing) {
  CreateWatched();
  Buckets(kBucketsPerHour);
  EXPECT_GE(Rows(), static_cast<size_t>(kBucketsPerHour));
  for (int half_hour = 1; half_hour <= 6; ++half_hour) {
    Buckets(kBucketsPerHour / 2);
    // An hour, what gathers until the next removal, the total, and the bucket that is open.
    EXPECT_LE(Rows(), static_cast<size_t>(kBucketsPerHour) + 12 + 3) << half_hour;
    EXPECT_GE(Rows(), static_cast<size_t>(kBucketsPerHour)) << "more was removed than may be";
    EXPECT_EQ(Total(), sequence_ * kMatches);
  }
  Restart();
  EXPECT_EQ(Total(), sequence_ * kMatches);
  EXPECT_EQ(engine_->telemetry().LifetimeTotals(kName).comparison(ComparisonOutcome::kMatch),
            sequence_ * kMatches);
}

TEST_F(EvidenceRetentionTest, OldEvidenceBeginsAnewAndSaysSo) {
  CreateWatched();
  const auto before = Decisions().size();
  Buckets(kBucketsPerHour - 1);
  EXPECT_EQ(Decisions().size(), before);
  EXPECT_EQ(Explain()->result.evidence_restarts, 0u);
  Buckets(3);
  ASSERT_EQ(Decisions().size(), before + 1);
  const domain::DecisionRecord renewal = Decisions().front();
  EXPECT_EQ(renewal.action, kActionRenewEvidence);
  EXPECT_EQ(renewal.actor, kGatePrincipal);
  EXPECT_EQ(renewal.before.epoch, renewal.after.epoch) << "routing stays as it is";
  EXPECT_EQ(renewal.step, 1);
  EXPECT_EQ(Now().migration->run_state, domain::RunState::kRunning);

  Buckets(kBucketsPerHour / 2);
  const GateExplanation lived = *Explain();
  EXPECT_EQ(lived.result.evidence_restarts, 1u);
  EXPECT_LT(lived.result.checks[0].total, static_cast<uint64_t>(kBucketsPerHour) * kMatches);
  EXPECT_EQ(Numbers(Gate()), Numbers(lived.result));
  // A restart holds the same evidence.
  Restart();
  EXPECT_EQ(Numbers(Explain()->result), Numbers(lived.result));
  EXPECT_EQ(Words(Explain()->result), Words(lived.result));
}

TEST_F(EvidenceRetentionTest, WhatIsOlderThanIsKeptIsSaid) {
  CreateWatched();
  Buckets(60);
  const absl::Time early = clock_.Now();
  ASSERT_TRUE(Explain(early).ok());
  Buckets(2 * kBucketsPerHour);
  const absl::Status expired = Explain(early).status();
  EXPECT_EQ(expired.code(), absl::StatusCode::kFailedPrecondition) << expired;
  EXPECT_EQ(ReasonOf(expired), "EVIDENCE_EXPIRED");
  EXPECT_EQ(GetErrorInfo(expired)->metadata.at("kept_since"),
            absl::FormatTime(absl::RFC3339_sec, engine_->retention().kept_since(), absl::UTCTimeZone()));
  // Within the hour, but of evidence that began before.
  EXPECT_EQ(ReasonOf(Explain(clock_.Now() - absl::Minutes(59)).status()), "EVIDENCE_EXPIRED");
  EXPECT_TRUE(Explain().ok());
  EXPECT_TRUE(Explain(clock_.Now() - absl::Seconds(1)).ok());
  // What is gone does not come back with a longer retention.
  KeepFor(absl::Hours(24));
  EXPECT_EQ(ReasonOf(Explain(early).status()), "EVIDENCE_EXPIRED");
  EXPECT_TRUE(Explain().ok());
  EXPECT_EQ(Decisions().front().action, kActionRenewEvidence);
}

TEST_F(EvidenceRetentionTest, AnExportThatIsOvertakenIsNotTakenForTheWhole) {
  CreateWatched();
  Buckets(kBucketsPerHour - 10);
  const auto reader = engine_->gate().Export(kName);
  ASSERT_TRUE(reader.ok()) << reader.status();
  ASSERT_TRUE((*reader)->Next(1).ok());
  Buckets(kBucketsPerHour);
  EXPECT_EQ(ReasonOf((*reader)->Next(1).status()), "EVIDENCE_EXPIRED");
  // The present evidence is all there.
  const auto present = engine_->gate().Export(kName);
  ASSERT_TRUE(present.ok()) << present.status();
  const auto lines = (*present)->Next(1);
  ASSERT_TRUE(lines.ok()) << lines.status();
  EXPECT_EQ(std::get<domain::EvidenceHeader>(lines->front()).epoch.restarts, 1u);
}

TEST_F(EvidenceRetentionTest, EvidenceThatEndedGoesWithTimeAndNothingElseDoes) {
  CreateWatched();
  Buckets(100);
  ASSERT_TRUE(Do(CommandKind::kAbort).ok());
  Buckets(kBucketsPerHour - 120);  // of a migration at OFF: a generation later
  EXPECT_GE(Rows(), static_cast<size_t>(kBucketsPerHour) - 20);
  Buckets(kBucketsPerHour * 2);
  EXPECT_LE(Rows(), static_cast<size_t>(kBucketsPerHour) + 12 + 4);
  EXPECT_EQ(Total(), 100 * kMatches);
  EXPECT_EQ(engine_->telemetry().LifetimeTotals(kName).comparison(ComparisonOutcome::kMatch),
            sequence_ * kMatches);
  for (const domain::DecisionRecord& decision : Decisions()) EXPECT_NE(decision.action, kActionRenewEvidence);
}

// A shorter retention than before: a lot to remove, a commit for each tick, over a disk that fails.
TEST_F(EvidenceRetentionTest, RemovalGoesOnAfterFaultsAndRestarts) {
  KeepFor(absl::Hours(24));
  CreateWatched();
  Buckets(kBucketsPerHour * 4);
  const size_t all = Rows();
  const uint64_t total = Total();
  KeepFor(absl::Hours(1));
  store_.FailCommit(3, store::FaultyStore::Moment::kBeforeApply, absl::ResourceExhaustedError("disk full"));
  EXPECT_FALSE(engine_->Tick().ok());  // the first one lets the evidence begin anew
  EXPECT_EQ(Rows(), all);
  EXPECT_EQ(ReasonOf(Explain(clock_.Now() - absl::Hours(2)).status()), "EVIDENCE_EXPIRED");
  clock_.Advance(absl::Minutes(1));
  ASSERT_TRUE(engine_->Tick().ok());
  EXPECT_EQ(Rows(), all - 1000);
  Restart();
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(engine_->Tick().ok());
  EXPECT_EQ(Rows(), all - 2000);
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(engine_->Tick().ok());
  EXPECT_LE(Rows(), static_cast<size_t>(kBucketsPerHour) + 3);
  EXPECT_EQ(Total(), total);
  Restart();
  EXPECT_EQ(Total(), total);
  EXPECT_EQ(ReasonOf(Explain(clock_.Now() - absl::Hours(2)).status()), "EVIDENCE_EXPIRED");
}

}  // namespace
}  // namespace lockstep::engine
