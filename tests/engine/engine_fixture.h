// An engine over a memory store with faults, a clock that stands still, and short ways to say what tests say
// often.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/error_info.h"
#include "core/base/mutex.h"
#include "server/engine/engine.h"
#include "server/engine/instance_session.h"
#include "server/store/memory_store.h"
#include "tests/engine/record_codec_under_test.h"
#include "tests/support/faulty_store.h"

namespace lockstep::engine {

inline constexpr char kName[] = "namespaces/shop/migrations/orders";

// A check on mismatches that `n` clean comparisons certify within a minute of simulated traffic.
inline domain::Check MismatchCheck() {
  domain::Check check;
  check.name = "mismatches";
  check.metric = domain::Metric::kMismatchRatio;
  check.budget = 0.01;
  return check;
}

inline domain::PlanStep StepOf(domain::Stage stage, uint32_t weight = 0,
                               std::vector<domain::Check> checks = {}) {
  domain::PlanStep step;
  step.stage = stage;
  step.weight = weight;
  step.checks = std::move(checks);
  step.min_bake = absl::Seconds(10);
  return step;
}

// DUAL_WRITE, SHADOW_READ, CANARY_READ at 1, 25 and 100 %.
inline domain::MigrationPlan FullPlan() {
  domain::MigrationPlan plan;
  plan.steps = {StepOf(domain::Stage::kDualWrite), StepOf(domain::Stage::kShadowRead, 0, {MismatchCheck()}),
                StepOf(domain::Stage::kCanaryRead, 1000, {MismatchCheck()}),
                StepOf(domain::Stage::kCanaryRead, 25000, {MismatchCheck()}),
                StepOf(domain::Stage::kCanaryRead, 100000, {MismatchCheck()})};
  return plan;
}

// The same, on to COMPLETE.
inline domain::MigrationPlan PlanToComplete() {
  domain::MigrationPlan plan = FullPlan();
  plan.steps.push_back(StepOf(domain::Stage::kCutover, 8000));
  plan.steps.push_back(StepOf(domain::Stage::kCutover, 100000));
  plan.steps.push_back(StepOf(domain::Stage::kNewOnly));
  plan.steps.push_back(StepOf(domain::Stage::kComplete));
  return plan;
}

inline MutationContext By(std::string who) {
  MutationContext context;
  context.principal.name = std::move(who);
  return context;
}

inline std::string ReasonOf(const absl::Status& status) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  return info ? info->reason : "";
}

// Passes commits on until the "process" it belongs to has died.
class Process final : public store::ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  absl::StatusOr<uint64_t> Commit(store::WriteBatch batch,
                                  std::optional<uint64_t> expected_revision) override {
    if (dead_) return absl::UnavailableError("the process is dead");
    return ForwardingStore::Commit(std::move(batch), expected_revision);
  }
  void Die() { dead_ = true; }

 private:
  std::atomic<bool> dead_{false};
};

class EngineTest : public ::testing::Test {
 protected:
  EngineTest()
      : memory_(store::NewMemoryStore()), store_(memory_.get()), clock_(absl::FromUnixSeconds(1700000000)) {
    StartEngine();
  }

  void StartEngine() {
    process_ = std::make_unique<Process>(&store_);
    engine_ = std::make_unique<Engine>(process_.get(), codec_.get(), &clock_, ++seed_, options_);
    const absl::Status started = engine_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }
  // As after a crash: nothing is flushed that need not be.
  void Restart() {
    streams_.clear();
    process_->Die();
    engine_.reset();
    StartEngine();
  }

  Registry& registry() { return engine_->registry(); }

  MigrationView Create(const std::string& name = kName, domain::MigrationPlan plan = FullPlan()) {
    MigrationDefinition definition;
    definition.name = name;
    definition.plan = std::move(plan);
    const auto view = registry().Create(definition, By("user:ann"));
    EXPECT_TRUE(view.ok()) << view.status();
    return *view;
  }

  absl::StatusOr<MigrationView> Do(domain::CommandKind kind, MutationContext context = By("user:ann"),
                                   bool override_gate = false, uint32_t weight = 0,
                                   const std::string& name = kName) {
    domain::Command command;
    command.kind = kind;
    command.override_gate = override_gate;
    command.weight = weight;
    command.accept_no_way_back = kind == domain::CommandKind::kAdvance && NextStageIsNewOnly(name);
    if (override_gate && context.reason.empty()) context.reason = "test";
    return registry().Execute(name, command, context);
  }

  MigrationView Now(const std::string& name = kName) {
    const auto view = registry().Get(name);
    EXPECT_TRUE(view.ok()) << view.status();
    return *view;
  }
  bool NextStageIsNewOnly(const std::string& name = kName) {
    const auto view = registry().Get(name);
    if (!view.ok()) return false;
    const domain::Migration& migration = *view->migration;
    const auto next = static_cast<size_t>(migration.step + 1);
    return next < migration.plan.steps.size() && migration.plan.steps[next].stage == domain::Stage::kNewOnly;
  }
  domain::Stage StageNow() { return Now().migration->published.stage; }

  EnrolRequest RequestOf(const std::string& id, std::map<std::string, uint64_t> held = {},
                         const std::string& service = "cities",
                         std::vector<std::string> migrations = {kName}) {
    EnrolRequest request;
    request.instance_id = id;
    request.service = service;
    request.version = "1";
    request.migrations = std::move(migrations);
    request.held = std::move(held);
    request.store_epoch = registry().store_epoch();
    return request;
  }
  void Enrol(const std::string& id, std::map<std::string, uint64_t> held = {},
             const std::string& service = "cities", std::vector<std::string> migrations = {kName}) {
    EnrolAs(RequestOf(id, std::move(held), service, std::move(migrations)));
  }
  void EnrolAs(const EnrolRequest& request) {
    auto session = InstanceSession::Open(engine_.get(), request, [] {});
    ASSERT_TRUE(session.ok()) << session.status();
    streams_[request.instance_id].session = *std::move(session);
    streams_[request.instance_id].in_force = nullptr;
  }
  // What the instance is sent, applied and accepted; null: nothing new.
  std::shared_ptr<const domain::Snapshot> Take(const std::string& id) {
    Stream& stream = streams_.at(id);
    std::shared_ptr<const domain::Snapshot> taken;
    while (const std::optional<InstanceMessage> message = stream.session->Next()) {
      if (const auto* snapshot = std::get_if<SnapshotMessage>(&*message)) {
        taken = snapshot->snapshot;
        EXPECT_EQ(domain::SnapshotDigest(*taken), snapshot->digest);
      } else if (const auto* delta = std::get_if<DeltaMessage>(&*message)) {
        auto applied = domain::ApplyDelta(*stream.in_force, *delta->delta);
        EXPECT_TRUE(applied.ok()) << applied.status();
        EXPECT_EQ(domain::SnapshotDigest(*applied), delta->digest);
        taken = std::make_shared<const domain::Snapshot>(*std::move(applied));
      } else {
        continue;
      }
      stream.in_force = taken;
      EXPECT_TRUE(stream.session->OnAccept(taken->revision).ok());
    }
    return taken;
  }
  absl::Status Ack(const std::string& id, uint64_t epoch) {
    return streams_.at(id).session->OnAck(0, {{kName, epoch}}, {});
  }
  // Every instance has taken over the published state.
  void AckAll() {
    for (const auto& [id, stream] : streams_) {
      const absl::Status status = Ack(id, Now().migration->published.epoch);
      EXPECT_TRUE(status.ok()) << status;
    }
  }

  absl::StatusOr<TelemetryReceipt> Report(domain::TelemetryBatch batch) {
    return ReportTo(engine_.get(), std::move(batch));
  }
  static absl::StatusOr<TelemetryReceipt> ReportTo(Engine* engine, domain::TelemetryBatch batch) {
    Mutex mutex;
    CondVar answered;
    std::optional<absl::StatusOr<TelemetryReceipt>> answer;
    engine->telemetry().Report(std::move(batch), [&](absl::StatusOr<TelemetryReceipt> result) {
      MutexLock lock(&mutex);
      answer = std::move(result);
      answered.Signal();
    });
    MutexLock lock(&mutex);
    while (!answer) answered.Wait(&mutex);
    return *std::move(answer);
  }

  // A delta of this moment, routed as published.
  domain::TelemetryDelta DeltaOf(const std::string& name, uint64_t matches, uint64_t mismatches) {
    const MigrationView view = Now(name);
    domain::TelemetryDelta delta;
    delta.migration = name;
    delta.generation = view.migration->published.generation;
    delta.epoch = view.migration->published.epoch;
    delta.contract_revision = view.migration->contract.revision;
    delta.bucket_start = BucketFloor(clock_.Now());
    delta.stats.comparison(domain::ComparisonOutcome::kMatch) = matches;
    delta.stats.comparison(domain::ComparisonOutcome::kMissingInNew) = mismatches;
    return delta;
  }
  domain::TelemetryDelta DeltaNow(uint64_t matches, uint64_t mismatches) {
    return DeltaOf(kName, matches, mismatches);
  }

  EngineOptions options_;
  std::unique_ptr<store::Store> memory_;
  store::FaultyStore store_;
  FakeClock clock_;
  uint64_t seed_ = 0;  // of the engine that runs; programs take another one at every start, too
  std::unique_ptr<store::RecordCodec> codec_ = NewCodecUnderTest();
  std::unique_ptr<Process> process_;
  std::unique_ptr<Engine> engine_;
  struct Stream {
    std::unique_ptr<InstanceSession> session;
    std::shared_ptr<const domain::Snapshot> in_force;
  };
  std::map<std::string, Stream> streams_;
};

}  // namespace lockstep::engine
