// Evidence is a function of what was reported, of the decisions and of the clock: not of who reported first,
// of restarts, or of when it is looked at.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "core/domain/rehearsal.h"
#include "tests/engine/gate_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using domain::RunState;

class GateEvidenceTest : public GateTest {
 protected:
  static domain::Contract CityContract() {
    domain::Contract contract;
    contract.fields = {{.path = "city"}, {.path = "name"}, {.path = "note", .ignore = true}};
    return contract;
  }
  void CreateRich(const std::string& name = kName) {
    MigrationDefinition definition;
    definition.name = name;
    definition.salt = "salt";
    definition.plan = RichPlan();
    definition.contract = CityContract();
    const auto view = registry().Create(definition, By("user:ann"));
    ASSERT_TRUE(view.ok()) << view.status();
    ASSERT_TRUE(Do(CommandKind::kStart, By("user:ann"), false, 0, name).ok());
  }
  // One second of rich traffic as one batch.
  void RichSecond(int i, bool broken = false, const std::string& name = kName) {
    clock_.Advance(absl::Seconds(1));
    const auto receipt = Report({"a", 1, ++sequence_, {RichDelta(name, i, broken)}});
    ASSERT_TRUE(receipt.ok()) << receipt.status();
    const absl::Status ticked = engine_->Tick();
    ASSERT_TRUE(ticked.ok()) << ticked;
  }
  GateExplanation Explain(std::optional<absl::Time> time = std::nullopt, const std::string& name = kName) {
    auto explanation = engine_->gate().Explain(name, time);
    EXPECT_TRUE(explanation.ok()) << explanation.status();
    return explanation.ok() ? *std::move(explanation) : GateExplanation();
  }
  std::vector<domain::EvidenceLine> Export(size_t limit, const std::string& name = kName) {
    std::vector<domain::EvidenceLine> all;
    const auto reader = engine_->gate().Export(name);
    EXPECT_TRUE(reader.ok()) << reader.status();
    while (reader.ok()) {
      auto lines = (*reader)->Next(limit);
      EXPECT_TRUE(lines.ok()) << lines.status();
      if (!lines.ok() || lines->empty()) break;
      all.insert(all.end(), lines->begin(), lines->end());
    }
    return all;
  }
  void StandsAt(int step) { EXPECT_EQ(Now().migration->step, step) << Now().migration->run_state_reason; }
};

// With and without restarts, crashes included: the same verdicts, bit for bit.
TEST_F(GateEvidenceTest, ARestartGoesOnWithTheSameEvidence) {
  const auto run = [&](const std::string& name, int restart_every) {
    std::vector<std::string> seconds;
    const absl::Time origin = clock_.Now();
    CreateRich(name);
    for (int i = 1; i <= 250 && !HasFatalFailure(); ++i) {
      RichSecond(i, false, name);
      const MigrationView view = Now(name);
      seconds.push_back(absl::StrCat(view.migration->step, " ",
                                     domain::RunStateName(view.migration->run_state), " ",
                                     view.gate == nullptr ? "-" : Numbers(view.gate->result(), origin)));
      if (restart_every > 0 && i % restart_every == 0) Restart();
    }
    return seconds;
  };
  // Both start at the same phase of a bucket.
  const std::vector<std::string> without = run("namespaces/a/migrations/without", 0);
  const std::vector<std::string> with = run("namespaces/a/migrations/with", 7);
  ASSERT_EQ(without.size(), with.size());
  for (size_t i = 0; i < with.size(); ++i) ASSERT_EQ(without[i], with[i]) << "second " << i + 1;
  EXPECT_THAT(with.back(), ::testing::StartsWith("3 ")) << "it went through every step";
}

// Instances report in any order, in parts, twice, and some a little late: the same evidence, bit for bit.
TEST_F(GateEvidenceTest, TheOrderOfReportsDoesNotMatter) {
  const uint64_t seed = 20'251'101;
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng prng(seed);
  const std::string orderly = "namespaces/a/migrations/orderly";
  const std::string messy = "namespaces/a/migrations/messy";
  CreateRich(orderly);
  CreateRich(messy);
  struct Waiting {
    domain::TelemetryDelta delta;
    int second = 0;  // when it arrives
  };
  std::vector<Waiting> waiting;
  std::map<std::string, uint64_t> sequences;
  std::vector<domain::TelemetryBatch> sent;
  for (int i = 1; i <= 240 && !HasFatalFailure(); ++i) {
    clock_.Advance(absl::Seconds(1));
    ASSERT_TRUE(Report({"tidy", 1, static_cast<uint64_t>(i), {RichDelta(orderly, i)}}).ok());
    domain::TelemetryDelta whole = RichDelta(messy, i);
    // Parts that add up to the whole: its writes and repairs apart from its reads.
    domain::TelemetryDelta part = whole;
    part.stats = domain::WindowStats();
    std::swap(part.stats.writes, whole.stats.writes);
    std::swap(part.stats.repairs, whole.stats.repairs);
    for (domain::TelemetryDelta* delta : {&whole, &part}) {
      // Buckets are open for 2 s after their end.
      const int second = i + static_cast<int>(prng.Below(2));
      waiting.push_back({std::move(*delta), second});
    }
    for (size_t k = waiting.size(); k > 1; --k) std::swap(waiting[k - 1], waiting[prng.Below(k)]);
    for (Waiting& one : waiting) {
      if (one.second > i) continue;
      const std::string instance = absl::StrCat("i-", prng.Below(3));
      sent.push_back({instance, 1, ++sequences[instance], {std::move(one.delta)}});
      ASSERT_TRUE(Report(sent.back()).ok());
    }
    waiting.erase(
        std::remove_if(waiting.begin(), waiting.end(), [&](const Waiting& w) { return w.second <= i; }),
        waiting.end());
    const auto repeat = Report(sent[prng.Below(sent.size())]);
    ASSERT_TRUE(repeat.ok());
    EXPECT_TRUE(repeat->duplicate);
    ASSERT_TRUE(engine_->Tick().ok());
    const MigrationView tidy = Now(orderly), untidy = Now(messy);
    ASSERT_EQ(tidy.migration->step, untidy.migration->step) << "second " << i;
    ASSERT_EQ(tidy.gate == nullptr, untidy.gate == nullptr);
    if (tidy.gate == nullptr) continue;
    ASSERT_EQ(Numbers(tidy.gate->result()), Numbers(untidy.gate->result())) << "second " << i;
  }
  EXPECT_EQ(Now(messy).migration->step, 3);
}

// Nothing is lost and nothing counted twice, whenever it arrives and whatever the instance's clock says.
TEST_F(GateEvidenceTest, LateAndSkewedCountsAreEvidenceOnce) {
  domain::MigrationPlan plan = FullPlan();
  plan.steps[1].min_bake = absl::Hours(1);
  Create(kName, plan);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(1, 0);
  Seconds(10, 0, 0);
  uint64_t reported = 0;
  const auto report = [&](const std::string& instance, absl::Duration skew) {
    domain::TelemetryDelta delta = DeltaNow(7, 0);
    delta.bucket_start = BucketFloor(clock_.Now() + skew);
    reported += 7;
    const auto receipt = Report({instance, 1, ++sequence_, {delta}});
    ASSERT_TRUE(receipt.ok()) << receipt.status();
  };
  for (int i = 0; i < 60; ++i) {
    clock_.Advance(absl::Seconds(1));
    report("a", absl::ZeroDuration());
    report("a", absl::Minutes(30));  // the clock is ahead
    report("a", -absl::Seconds(9));  // just late
    if (i == 30) Restart();
    ASSERT_TRUE(engine_->Tick().ok());
    ASSERT_LE(Explain().result.checks[0].total, reported);
  }
  Seconds(10, 0, 0);
  EXPECT_EQ(Gate().checks[0].total, reported);
  EXPECT_EQ(Explain().result.checks[0].total, reported);
  // From before the evidence began: in the totals only.
  report("a", -absl::Hours(2));
  Seconds(10, 0, 0);
  EXPECT_EQ(Gate().checks[0].total, reported - 7);
  EXPECT_EQ(engine_->telemetry().Totals(kName, 1).compared(), reported);
}

TEST_F(GateEvidenceTest, ExplainNowIsWhatTheTickSays) {
  CreateRich();
  for (int i = 1; i <= 200 && !HasFatalFailure(); ++i) {
    RichSecond(i);
    const MigrationView view = Now();
    if (view.gate == nullptr || view.gate->time != clock_.Now()) continue;
    const GateExplanation explanation = Explain();
    ASSERT_EQ(Numbers(explanation.result), Numbers(view.gate->result())) << "second " << i;
    ASSERT_EQ(Words(explanation.result), Words(view.gate->result())) << "second " << i;
    EXPECT_EQ(explanation.step, view.migration->step);
    EXPECT_EQ(explanation.time, clock_.Now());
    EXPECT_EQ(explanation.last_decision->number, view.migration->decision_count);
  }
  StandsAt(3);
}

// A life with edits, a rollback, a late success and an escalation; afterwards every decision is explained
// from what is stored, as it was.
TEST_F(GateEvidenceTest, ExplainAtTheTimeOfADecisionIsItsEvidence) {
  CreateRich();
  Enrol("a");
  int i = 0;
  const auto seconds = [&](int count, bool broken = false) {
    for (int k = 0; k < count && !HasFatalFailure(); ++k) {
      RichSecond(++i, broken);
      AckAll();
    }
  };
  seconds(120);
  StandsAt(3);
  MigrationUpdate update;
  update.plan = RichPlan();
  update.plan->steps[3].checks[0].budget = 0.04;
  ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  seconds(40);
  update = MigrationUpdate();
  update.contract = CityContract();
  update.contract->fields.push_back({.path = "zip"});
  ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  seconds(20);
  ASSERT_TRUE(Do(CommandKind::kSetWeight, By("user:ann"), false, 20'000).ok());
  seconds(15);
  for (int k = 0; k < 300 && Now().migration->run_state != RunState::kRolledBack; ++k) seconds(1, true);
  ASSERT_EQ(Now().migration->run_state, RunState::kRolledBack);
  seconds(10);
  update = MigrationUpdate();
  update.plan = RichPlan();
  update.plan->steps[1].checks[0].budget = 0.002;  // too little to be certified here
  update.plan->steps[1].deadline = absl::Seconds(25);
  ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  seconds(60);
  ASSERT_EQ(Now().migration->run_state, RunState::kPaused) << "the deadline";
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  seconds(60);

  std::vector<std::string> explained;
  for (const bool restarted : {false, true}) {
    if (restarted) Restart();
    for (const domain::DecisionRecord& decision : Decisions()) {
      if (decision.actor != "gate") continue;
      SCOPED_TRACE(absl::StrCat("decision ", decision.number, ": ", decision.action));
      const GateExplanation explanation = Explain(decision.time);
      ASSERT_TRUE(decision.evidence.has_value());
      EXPECT_EQ(Numbers(explanation.result), Numbers(*decision.evidence));
      EXPECT_EQ(Words(explanation.result), Words(*decision.evidence));
      ASSERT_TRUE(explanation.last_decision.has_value());
      EXPECT_EQ(explanation.last_decision->number, decision.number);
      EXPECT_EQ(explanation.time, decision.time);
      explained.push_back(decision.action);
    }
  }
  EXPECT_GE(explained.size(), 10u);
  EXPECT_THAT(explained, ::testing::IsSupersetOf({"advance", "rollback", "escalate"}));
}

TEST_F(GateEvidenceTest, ExplainSaysWhenThereIsNothingToExplain) {
  const auto code = [&](const std::string& name, std::optional<absl::Time> time = std::nullopt) {
    const absl::Status status = engine_->gate().Explain(name, time).status();
    return absl::StrCat(absl::StatusCodeToString(status.code()), " ", ReasonOf(status));
  };
  EXPECT_EQ(code("namespaces/a/migrations/none"), "NOT_FOUND MIGRATION_NOT_FOUND");
  Create();
  EXPECT_EQ(code(kName), "FAILED_PRECONDITION EVIDENCE_NONE");
  EXPECT_EQ(engine_->gate().Export(kName).status().code(), absl::StatusCode::kFailedPrecondition);
  clock_.Advance(absl::Seconds(7));
  const absl::Time started = clock_.Now();
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  EXPECT_EQ(code(kName), "OK ");
  EXPECT_EQ(code(kName, started), "FAILED_PRECONDITION EVIDENCE_NONE")
      << "before the decision of that moment";
  EXPECT_EQ(code(kName, started - absl::Hours(1)), "FAILED_PRECONDITION EVIDENCE_NONE");
  clock_.Advance(absl::Seconds(7));
  EXPECT_EQ(code(kName, started + absl::Seconds(1)), "OK ");
  EXPECT_EQ(Explain(started + absl::Seconds(3)).step, 0);
  EXPECT_EQ(code(kName, clock_.Now() + absl::Seconds(1)), "INVALID_ARGUMENT INVALID_ARGUMENT");
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  EXPECT_EQ(code(kName), "FAILED_PRECONDITION EVIDENCE_NONE");
  EXPECT_EQ(code(kName, clock_.Now()), "OK ") << "before the rollback of that moment";
}

TEST_F(GateEvidenceTest, ADeletedMigrationLeavesNoDefinitions) {
  Create();
  MigrationUpdate update;
  update.plan = FullPlan();
  update.plan->alpha_advance = 0.02;
  ASSERT_TRUE(registry().Update(kName, update, By("user:ann")).ok());
  const auto rows = [&] {
    size_t count = 0;
    EXPECT_TRUE(memory_
                    ->Scan(store::Table::kDefinitions, "", "", store::kNoLimit,
                           [&](auto, auto) {
                             ++count;
                             return true;
                           })
                    .ok());
    return count;
  };
  EXPECT_EQ(rows(), 2u);
  ASSERT_TRUE(engine_->Delete(kName, By("user:ann")).ok());
  EXPECT_EQ(rows(), 0u);
}

// What is exported, judged again by the same code, gives the same numbers; whatever the size of the pieces.
TEST_F(GateEvidenceTest, AnExportReplays) {
  CreateRich();
  int i = 0;
  while (Now().migration->step < 3 && i < 300 && !HasFatalFailure()) RichSecond(++i);
  for (int k = 0; k < 12; ++k) RichSecond(++i);
  clock_.Advance(absl::Minutes(5));  // idle: no buckets
  for (int k = 0; k < 15; ++k) RichSecond(++i);
  const GateExplanation now = Explain();

  const std::vector<domain::EvidenceLine> lines = Export(3);
  ASSERT_GT(lines.size(), 12u);
  EXPECT_EQ(Export(1).size(), lines.size());
  EXPECT_EQ(Export(1000).size(), lines.size());
  const auto& header = std::get<domain::EvidenceHeader>(lines[0]);
  EXPECT_EQ(header.migration, kName);
  EXPECT_EQ(header.plan, RichPlan());
  EXPECT_EQ(header.epoch.declared_fields, 2u) << "one of the three is never compared";
  domain::GateEvidence evidence(std::make_shared<const domain::MigrationPlan>(header.plan), header.epoch,
                                std::get<domain::EvidenceStep>(lines[1]).step);
  domain::Rehearsal rehearsal;
  std::optional<domain::RehearsedBucket> judged;
  for (size_t at = 0; at < lines.size(); ++at) {
    const auto result = rehearsal.Add(lines[at], at + 1);
    ASSERT_TRUE(result.ok()) << result.status();
    if (*result) judged = *result;
    if (const auto* step = std::get_if<domain::EvidenceStep>(&lines[at]); step != nullptr && at > 1) {
      evidence.BeginStep(step->step, step->start);
    }
    if (const auto* bucket = std::get_if<domain::EvidenceBucket>(&lines[at])) {
      ASSERT_TRUE(evidence.AddBucket(bucket->start, bucket->stats).ok());
    }
  }
  domain::EvaluationContext context;
  context.now = now.time;
  context.step_age = now.time - Now().migration->step_started_at;
  context.configured_share = 0.5;
  EXPECT_EQ(Numbers(evidence.Evaluate(context)), Numbers(now.result));
  ASSERT_TRUE(judged.has_value());
  EXPECT_EQ(judged->step, now.step);
  ASSERT_EQ(judged->result.checks.size(), now.result.checks.size());
  for (size_t at = 0; at < now.result.checks.size(); ++at) {
    EXPECT_EQ(judged->result.checks[at].log_evidence_rollback, now.result.checks[at].log_evidence_rollback);
    EXPECT_EQ(judged->result.checks[at].log_evidence_advance, now.result.checks[at].log_evidence_advance);
  }
}

TEST_F(GateEvidenceTest, AnExportOfADeletedMigrationIsNotTakenForTheWhole) {
  CreateRich();
  for (int i = 1; i < 20; ++i) RichSecond(i);
  const auto reader = engine_->gate().Export(kName);
  ASSERT_TRUE(reader.ok());
  ASSERT_TRUE((*reader)->Next(1).ok());
  ASSERT_TRUE(Do(CommandKind::kAbort).ok());
  ASSERT_TRUE(engine_->Delete(kName, By("user:ann")).ok());
  EXPECT_EQ((*reader)->Next(1000).status().code(), absl::StatusCode::kAborted);
}

}  // namespace
}  // namespace lockstep::engine
