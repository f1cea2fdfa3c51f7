#include "tests/cli/samples.h"

#include <string>

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace lockstep::cli {
namespace {

// 2024-05-01 12:00:00 UTC.
constexpr int64_t kNow = 1714564800;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

constexpr char kDefinition[] = R"(
  name: "namespaces/demo/migrations/cities" uid: "0b5e7c7e-3f0e-4c0e-9d53-1a2b3c4d5e6f" etag: "12"
  description: "Flat table to\x1b[31m normalised schema" owners: "geo@example.com" owners: "ann@example.com"
  labels { key: "team" value: "geo" }
  salt: "0b5e7c7e-3f0e-4c0e-9d53-1a2b3c4d5e6f"
  plan {
    steps { stage: STAGE_DUAL_WRITE min_bake { seconds: 600 } }
    steps { stage: STAGE_SHADOW_READ min_bake { seconds: 1800 }
      checks { name: "mismatches" metric: METRIC_MISMATCH_RATIO budget: 0.001 } }
    steps { stage: STAGE_CANARY_READ weight: 1000 min_bake { seconds: 1800 }
      checks { name: "mismatches" metric: METRIC_MISMATCH_RATIO budget: 0.001 }
      checks { name: "errors" metric: METRIC_ERROR_RATIO floor: 0.005 }
      checks { name: "mirror" metric: METRIC_MIRROR_FAILURE_RATIO budget: 0.001 advisory: true } }
    steps { stage: STAGE_CANARY_READ weight: 100000 manual: true }
    alpha_rollback: 0.01 alpha_advance: 0.01
  }
  create_time { seconds: 1714478400 } update_time { seconds: 1714564200 }
)";

constexpr char kGate[] = R"(
  gate {
    verdict: VERDICT_HOLD sentence: "errors: too few reads served by new"
    bake_remaining { seconds: 1200 } evaluate_time { seconds: 1714564799 }
    checks { check: "mismatches" metric: METRIC_MISMATCH_RATIO verdict: VERDICT_ADVANCE on_breach: BREACH_ACTION_ROLLBACK
      bad: 1 total: 51234 estimate: 0.0000195 lower: 0.0000001 upper: 0.00021 budget: 0.001
      log_evidence_rollback: -3.2 log_threshold_rollback: 4.6 log_evidence_advance: 6.1 log_threshold_advance: 4.6
      sentence: "at most 0.021 %" }
    checks { check: "errors" metric: METRIC_ERROR_RATIO verdict: VERDICT_HOLD on_breach: BREACH_ACTION_ROLLBACK
      bad: 2 total: 400 bad_baseline: 90 total_baseline: 39600 estimate: 0.005 lower: 0.0004 upper: 0.021 budget: 0.005
      needed_more: 1203 sentence: "needs more" }
    checks { check: "mirror" metric: METRIC_MIRROR_FAILURE_RATIO verdict: VERDICT_HOLD advisory: true
      on_breach: BREACH_ACTION_NOTIFY lower: 0 upper: 1 budget: 0.001 }
    guards { name: "expected_instances" sentence: "2 of 3 expected instances of 'cities' are enrolled" }
  }
)";

}  // namespace

absl::Time SampleNow() { return absl::FromUnixSeconds(kNow); }

v1::Migration CanaryMigration() {
  return Parse<v1::Migration>(std::string(kDefinition) + kGate + R"(
    run_state: RUN_STATE_RUNNING step: 2 step_start_time { seconds: 1714564200 }
    routing { stage: STAGE_CANARY_READ read_weight: 1000 epoch: 7 generation: 1 comparison_weight: 20000 salt_seed: 99 }
    reversible: true)");
}

v1::Migration RolledBackMigration() {
  return Parse<v1::Migration>(std::string(kDefinition) + R"(
    run_state: RUN_STATE_ROLLED_BACK run_state_reason: "mismatches: 4.1 % of comparisons differ, 0.1 % are acceptable"
    step: 1 step_start_time { seconds: 1714564790 }
    routing { stage: STAGE_SHADOW_READ epoch: 8 generation: 1 comparison_weight: 20000 } reversible: true
    gate { verdict: VERDICT_ROLL_BACK action: BREACH_ACTION_ROLLBACK sentence: "mismatches is breached"
      checks { check: "mismatches" metric: METRIC_MISMATCH_RATIO verdict: VERDICT_ROLL_BACK bad: 41 total: 1000
        estimate: 0.041 lower: 0.03 upper: 0.055 budget: 0.001 } })");
}

v1::Migration PendingMigration() {
  return Parse<v1::Migration>(std::string(kDefinition) + R"(
    run_state: RUN_STATE_RUNNING step: 0
    routing { stage: STAGE_DUAL_WRITE epoch: 2 generation: 1 } reversible: true
    pending_routing { stage: STAGE_SHADOW_READ generation: 1 } pending_since { seconds: 1714564795 }
    waiting_for { instance_id: "cities-1" service: "cities" epoch: 1 reason: "OFF may not coexist with SHADOW_READ" }
    waiting_for { instance_id: "cities-2" service: "cities" epoch: 1 reason: "OFF may not coexist with SHADOW_READ" })");
}

v1::Migration CutoverMigration() {
  v1::Migration migration = Parse<v1::Migration>(std::string(kDefinition) + R"(
    run_state: RUN_STATE_RUNNING step: 4 step_start_time { seconds: 1714564200 } reversible: true
    routing { stage: STAGE_CUTOVER read_weight: 100000 write_weight: 10000 drain_weight: 15000 epoch: 31 generation: 1 }
    pending_routing { stage: STAGE_CUTOVER read_weight: 100000 write_weight: 50000 drain_weight: 50000 generation: 1 }
    pending_since { seconds: 1714564759 }
    waiting_for { instance_id: "cities-2" service: "cities[2J" epoch: 30 since { seconds: 1714564798 }
      reason: "an instance at epoch 30 may write keys from 10 % to 15 % to old first"
      pinned_by: "3 operations, oldest 12 s" unblock: "the operations end, or its lease, or it is evicted" })");
  auto* steps = migration.mutable_plan()->mutable_steps();
  for (const uint32_t weight : {50000u, 100000u}) {
    v1::PlanStep* step = steps->Add();
    step->set_stage(v1::STAGE_CUTOVER);
    step->set_weight(weight);
  }
  steps->Add()->set_stage(v1::STAGE_NEW_ONLY);
  steps->Add()->set_stage(v1::STAGE_COMPLETE);
  return migration;
}

v1::Migration NewOnlyMigration() {
  v1::Migration migration = CutoverMigration();
  migration.clear_pending_routing();
  migration.clear_pending_since();
  migration.clear_waiting_for();
  migration.set_step(6);
  migration.set_reversible(false);
  migration.mutable_routing()->set_stage(v1::STAGE_NEW_ONLY);
  migration.mutable_routing()->set_write_weight(100000);
  migration.mutable_routing()->set_drain_weight(100000);
  return migration;
}

v1::Migration DraftMigration() {
  return Parse<v1::Migration>(
      R"(name: "namespaces/demo/migrations/orders" etag: "1" run_state: RUN_STATE_DRAFT
    routing { stage: STAGE_OFF epoch: 1 generation: 1 } plan { steps { stage: STAGE_DUAL_WRITE } })");
}

std::vector<v1::Instance> SampleInstances() {
  return {Parse<v1::Instance>(
              R"(instance_id: "cities-1" service: "cities" version: "1.4.0" connected: true sent_epoch: 7
            acknowledged_epoch: 7 last_seen_time { seconds: 1714564799 })"),
          Parse<v1::Instance>(
              R"(instance_id: "cities-2" service: "cities" sent_epoch: 7 acknowledged_epoch: 5 lag: 2
            last_seen_time { seconds: 1714564700 } last_nack: "revision 9 is older than 10")")};
}

std::vector<v1::Instance> SampleFleet() {
  return {
      Parse<v1::Instance>(
          R"(instance_id: "cities-0" service: "cities" version: "1.4.0" connected: true sent_epoch: 31
            acknowledged_epoch: 31 accepted_epoch: 31 accept_delay { nanos: 4200000 } lease: LEASE_STATE_LIVE
            lease_policy: LEASE_POLICY_KEEP_SERVING lease_expire_time { seconds: 1714564812 }
            last_seen_time { seconds: 1714564799 } enrol_time { seconds: 1714478400 } status {})"),
      Parse<v1::Instance>(
          R"(instance_id: "cities-1" service: "cities" version: "1.4.0" sent_epoch: 31 acknowledged_epoch: 30 lag: 1
            accepted_epoch: 30 lease: LEASE_STATE_DISCONNECTED lease_policy: LEASE_POLICY_FAIL_WRITES
            lease_expire_time { seconds: 1714564808 } last_seen_time { seconds: 1714564793 }
            status { operations: 3 oldest_operation { seconds: 12 } repairs: 2 queued_mirrors: 1 held_writes: 4 })"),
      Parse<v1::Instance>(
          R"(instance_id: "cities-2" service: "cities" sent_epoch: 31 acknowledged_epoch: 29 lag: 2 accepted_epoch: 29
            accept_delay { seconds: 1 nanos: 500000000 } lease: LEASE_STATE_EXPIRED
            lease_policy: LEASE_POLICY_KEEP_SERVING lease_expire_time { seconds: 1714564760 }
            last_nack: "epoch 30 of demo/cities is older than 31")"),
      Parse<v1::Instance>(
          R"(instance_id: "cities-3" service: "cities" acknowledged_epoch: 31 lease: LEASE_STATE_LIVE connected: true
            lease_policy: LEASE_POLICY_KEEP_SERVING)")};
}

std::vector<v1::DecisionRecord> SampleDecisions() {
  return {Parse<v1::DecisionRecord>(
              R"(name: "namespaces/demo/migrations/cities/decisions/2" time { seconds: 1714564790 }
            actor: "gate" action: "rollback" reason: "mismatches is breached" plan_revision: 1 step: 1
            before { stage: STAGE_CANARY_READ read_weight: 1000 epoch: 7 } after { stage: STAGE_SHADOW_READ epoch: 8 }
            run_state: RUN_STATE_ROLLED_BACK evidence { verdict: VERDICT_ROLL_BACK })"),
          Parse<v1::DecisionRecord>(
              R"(name: "namespaces/demo/migrations/cities/decisions/1" time { seconds: 1714564200 }
            actor: "user:ann@host" action: "start" plan_revision: 1 step: 0 before { stage: STAGE_OFF epoch: 1 }
            after { stage: STAGE_DUAL_WRITE } run_state: RUN_STATE_RUNNING)")};
}

std::vector<v1::MismatchSample> SampleMismatches() {
  return {Parse<v1::MismatchSample>(R"(time { seconds: 1714564780 } field: "admin_code" kind: "value"
            key_digest: "00112233445566778899aabbccddeeff" old_digest: "aaaaaaaaaaaaaaaabbbb"
            new_digest: "ccccccccccccccccdddd" old_length: 2 new_length: 1 instance_id: "cities-1" epoch: 7
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736")"),
          Parse<v1::MismatchSample>(R"(time { seconds: 1714564700 } kind: "missing_in_new"
            key_digest: "ffeeddccbbaa99887766554433221100" instance_id: "cities-2" epoch: 7)")};
}

v1::RouteResponse SampleRoute() {
  return Parse<v1::RouteResponse>(
      R"(decision { read_side: SIDE_NEW write_mode: WRITE_MODE_OLD_THEN_NEW compare: true
    reason: DECISION_REASON_BUCKET_IN bucket: 412 } epoch: 7 stage: STAGE_CANARY_READ)");
}

v1::ExplainGateResponse SampleExplanation() {
  return Parse<v1::ExplainGateResponse>(R"(
  step: 2
  gate {
    verdict: VERDICT_HOLD sentence: "errors: 2 of 400 reads served by the new side failed: needs 1,203 more."
    bake_remaining { seconds: 1200 } evaluate_time { seconds: 1714564799 }
    log_evidence_rollback: 1.25 log_threshold_rollback: 4.605 suspect_fields: "admin\x1b_code" evidence_restarts: 1
    deadline_passed: true
    guards { name: "share" sentence: "the new side served 3 % of the reads, but 1 % are configured" }
    checks { check: "mismatches" metric: METRIC_MISMATCH_RATIO field: "admin_code" verdict: VERDICT_ADVANCE
      on_breach: BREACH_ACTION_ROLLBACK null_hypothesis: "the mismatch rate of 'admin_code' is at most 0.1 %"
      bad: 1 total: 51234 estimate: 0.0000195 lower: 0.0000001 upper: 0.00021 budget: 0.001
      log_evidence_rollback: -3.2 log_threshold_rollback: 5.99 log_evidence_advance: 6.1 log_threshold_advance: 5.99
      affected_subjects: 1 distinct_subjects: 40123 dispersion: 1 sentence: "at most 0.021 %" }
    checks { check: "errors" metric: METRIC_ERROR_RATIO verdict: VERDICT_HOLD on_breach: BREACH_ACTION_PAUSE
      null_hypothesis: "the new side fails at most 1.1 times as often as the old side, or at most 0.5 %"
      bad: 2 total: 400 bad_baseline: 90 total_baseline: 39600 estimate: 0.005 lower: 0.0004 upper: 0.021 budget: 0.005
      affected_subjects: 2 affected_subjects_baseline: 71 distinct_subjects: 391 dispersion: 1.7
      log_evidence_rollback: 2.1 log_threshold_rollback: 5.99 log_evidence_advance: -1.4 log_threshold_advance: 5.99
      onset_time { seconds: 1714564500 } needed_more: 1203 eta { seconds: 300 } sentence: "needs more" }
    checks { check: "tail" metric: METRIC_LATENCY quantile: 0.95 verdict: VERDICT_HOLD advisory: true
      on_breach: BREACH_ACTION_NOTIFY bad: 900 total: 9000 bad_baseline: 500 total_baseline: 10000 estimate: 0.1
      lower: 0.09 upper: 0.11 will_not_resolve: true log_evidence_rollback: 12 log_threshold_rollback: 5.99
      log_threshold_advance: 5.99 sentence: "slower" }
    checks { check: "repairs" metric: METRIC_OUTSTANDING_REPAIRS verdict: VERDICT_HOLD bad: 12 estimate: 12 budget: 10
      on_breach: BREACH_ACTION_ROLLBACK sentence: "12 repairs are outstanding" }
    checks { check: "copied" metric: METRIC_COVERAGE verdict: VERDICT_ADVANCE bad: 999 total: 1000 estimate: 0.999
      budget: 0.999 on_breach: BREACH_ACTION_ROLLBACK sentence: "99.9 % of the rows are copied" }
  }
  last_decision { name: "namespaces/demo/migrations/cities/decisions/3" time { seconds: 1714564200 } actor: "gate"
    action: "advance" reason: "all checks pass" before { stage: STAGE_SHADOW_READ epoch: 6 }
    after { stage: STAGE_CANARY_READ read_weight: 1000 epoch: 7 } run_state: RUN_STATE_RUNNING step: 2 })");
}

}  // namespace lockstep::cli
