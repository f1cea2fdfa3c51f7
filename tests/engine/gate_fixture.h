// What tests of the gate loop share: seconds of traffic of every sort, and ways to compare what the gate
// says.
#pragma once

#include <string>

#include "absl/base/casts.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/domain/bucketing.h"
#include "tests/engine/engine_fixture.h"

namespace lockstep::engine {

// A plan with every metric that counts events, and levels. `share` of alpha is large, so that short tests
// decide.
inline domain::MigrationPlan RichPlan() {
  const auto check = [](const char* name, domain::Metric metric) {
    domain::Check c;
    c.name = name;
    c.metric = metric;
    return c;
  };
  domain::Check mismatches = check("mismatches", domain::Metric::kMismatchRatio);
  mismatches.budget = 0.05;
  domain::Check city = check("city", domain::Metric::kMismatchRatio);
  city.budget = 0.05;
  city.field = "city";
  city.advisory = true;
  domain::Check errors = check("errors", domain::Metric::kErrorRatio);
  errors.floor = 0.05;
  domain::Check latency = check("latency", domain::Metric::kLatency);
  latency.quantile = 0.95;
  latency.advisory = true;
  domain::Check mirror = check("mirror", domain::Metric::kMirrorFailureRatio);
  mirror.budget = 0.2;
  domain::Check repairs = check("repairs", domain::Metric::kOutstandingRepairs);
  repairs.limit = 1000;
  domain::MigrationPlan plan;
  plan.steps = {StepOf(domain::Stage::kDualWrite, 0, {mirror, repairs}),
                StepOf(domain::Stage::kShadowRead, 0, {mismatches, city}),
                StepOf(domain::Stage::kCanaryRead, 10'000, {mismatches, city, errors, latency, repairs}),
                StepOf(domain::Stage::kCanaryRead, 50'000, {mismatches, errors, latency})};
  return plan;
}

// Every number that a result holds, bit for bit; moments counted from `origin`.
inline std::string Numbers(const domain::GateResult& result, absl::Time origin = absl::UnixEpoch()) {
  const auto bits = [](double value) { return absl::bit_cast<uint64_t>(value); };
  std::string text = absl::StrCat(domain::VerdictName(result.verdict), " ", static_cast<int>(result.action),
                                  " ", result.deadline_passed, " ", bits(result.log_evidence_rollback), " ",
                                  bits(result.log_threshold_rollback), " ", result.evidence_restarts);
  for (const std::string& field : result.suspect_fields) absl::StrAppend(&text, " ", field);
  for (const domain::Guard& guard : result.guards) absl::StrAppend(&text, " [", guard.name, "]");
  for (const domain::CheckResult& c : result.checks) {
    absl::StrAppend(&text, "; ", c.check, " ", domain::VerdictName(c.verdict), " ", c.bad, "/", c.total, " ",
                    c.bad_baseline, "/", c.total_baseline);
    absl::StrAppend(&text, " ", c.affected_subjects, " ", c.affected_subjects_baseline, " ",
                    c.distinct_subjects);
    for (const double value : {c.dispersion, c.estimate, c.lower, c.upper, c.budget, c.log_evidence_rollback,
                               c.log_threshold_rollback, c.log_evidence_advance, c.log_threshold_advance}) {
      absl::StrAppend(&text, " ", bits(value));
    }
    absl::StrAppend(&text, " ", absl::FormatDuration(c.onset.value_or(absl::InfinitePast()) - origin), " ",
                    c.needed_more.value_or(0), " ", c.needed_more.has_value(), " ", c.will_not_resolve, " ",
                    c.rising);
  }
  return text;
}

// And every word, including what depends on the moment.
inline std::string Words(const domain::GateResult& result) {
  std::string text = absl::StrCat(result.sentence, " ", absl::FormatDuration(result.bake_remaining));
  for (const domain::Guard& guard : result.guards) absl::StrAppend(&text, "; ", guard.sentence);
  for (const domain::CheckResult& check : result.checks) {
    absl::StrAppend(&text, "; ", check.null_hypothesis, " ", check.sentence, " ",
                    absl::FormatDuration(check.eta.value_or(absl::ZeroDuration())));
  }
  return text;
}

class GateTest : public EngineTest {
 protected:
  GateTest() { SetLogLevel(LogLevel::kError); }

  // One second: traffic, then a tick.
  void Second(uint64_t matches, uint64_t mismatches) {
    clock_.Advance(absl::Seconds(1));
    if (matches + mismatches > 0) {
      const auto receipt = Report({"a", 1, ++sequence_, {DeltaNow(matches, mismatches)}});
      ASSERT_TRUE(receipt.ok()) << receipt.status();
    }
    const absl::Status ticked = engine_->Tick();
    ASSERT_TRUE(ticked.ok()) << ticked;
    if (!streams_.empty()) AckAll();
  }
  void Seconds(int count, uint64_t matches, uint64_t mismatches) {
    for (int i = 0; i < count && !HasFatalFailure(); ++i) Second(matches, mismatches);
  }
  // Until the migration stands at `step`, for at most ten minutes.
  void WalkTo(int step, uint64_t matches = 100) {
    for (int i = 0; i < 600 && Now().migration->step != step && !HasFatalFailure(); ++i) Second(matches, 0);
    ASSERT_EQ(Now().migration->step, step) << Now().migration->run_state_reason;
  }

  // What was seen in second `i`, of everything that RichPlan looks at; deterministic.
  domain::TelemetryDelta RichDelta(const std::string& name, int i, bool broken = false) {
    const auto at = static_cast<uint64_t>(i);
    domain::TelemetryDelta delta = DeltaOf(name, 60 + at * 37 % 11, 0);
    domain::WindowStats& stats = delta.stats;
    const uint64_t mismatches = (at % 9 == 0 ? 1 : 0) + (broken ? 25 : 0);
    stats.comparison(domain::ComparisonOutcome::kMismatch) = mismatches;
    domain::FieldMismatches city;
    city[domain::MismatchKind::kValue] = mismatches;
    EXPECT_TRUE(stats.AddFieldMismatches("city", city).ok());
    const auto hash = [&](uint64_t subject) {
      return domain::KeyHash(domain::SaltSeed("subjects"), absl::StrCat(at, " ", subject));
    };
    for (uint64_t subject = 0; subject < stats.comparable(); ++subject) {
      stats.subjects.compared.Record(hash(subject));
      if (subject < mismatches) stats.subjects.mismatched.Record(hash(subject), hash(subject) | 1);
    }
    const uint64_t new_reads =
        uint64_t{300} * Now(name).migration->published.read_weight / domain::kBucketCount;
    stats.arm(domain::Arm::kOld).requests = 300 - new_reads;
    stats.arm(domain::Arm::kNew).requests = new_reads;
    for (const domain::Arm arm : {domain::Arm::kOld, domain::Arm::kNew}) {
      domain::ArmStats& side = stats.arm(arm);
      for (uint64_t read = 0; read < side.requests; ++read) {
        side.latency.Record(1'000'000 + (at * 7919 + read * 104'729) % 900'000);
      }
      side.errors = side.requests > 0 && at % 4 == 0 ? 1 : 0;
    }
    stats.writes.authoritative_ok = 50;
    stats.writes.mirror_ok = 49;
    stats.writes.mirror_failed = 1;
    stats.repairs.queued = 1;
    stats.repairs.done = at % 2;
    return delta;
  }

  const domain::GateResult& Gate() {
    view_ = Now();
    LOCKSTEP_CHECK(view_.gate != nullptr, "the gate has been evaluated");
    return view_.gate->result();
  }
  bool HasGuard(const std::string& name) {
    for (const domain::Guard& guard : Gate().guards) {
      if (guard.name == name) return true;
    }
    return false;
  }
  // Newest first.
  std::vector<domain::DecisionRecord> Decisions(const std::string& name = kName) {
    auto decisions = registry().ListDecisions(name, 0, 1000);
    EXPECT_TRUE(decisions.ok()) << decisions.status();
    return *std::move(decisions);
  }

  uint64_t sequence_ = 0;
  MigrationView view_;
};

}  // namespace lockstep::engine
