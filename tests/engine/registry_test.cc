#include "server/engine/registry.h"

#include <functional>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "core/domain/compatibility.h"
#include "tests/engine/engine_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using domain::Stage;
using ::testing::HasSubstr;

class RegistryTest : public EngineTest {
 protected:
  std::shared_ptr<const GateEvaluation> EvaluationNow(domain::GateResult result) {
    return std::make_shared<const GateEvaluation>(std::move(result), clock_.Now());
  }
  // Up to the stage of step `step`, every instance following.
  void WalkTo(int step) {
    ASSERT_TRUE(Do(CommandKind::kStart).ok());
    AckAll();
    while (Now().migration->step < step) {
      const auto advanced = Do(CommandKind::kAdvance, By("user:ann"), true);
      ASSERT_TRUE(advanced.ok()) << advanced.status();
      AckAll();
    }
  }
};

TEST_F(RegistryTest, Errors) {
  Create();
  struct Case {
    const char* what;
    std::function<absl::Status()> call;
    absl::StatusCode code;
    const char* reason;
  };
  MutationContext stale = By("user:ann");
  stale.etag = "41";
  MigrationDefinition again;
  again.name = kName;
  again.plan = FullPlan();
  MigrationDefinition bad = again;
  bad.name = "namespaces/shop/migrations/other";
  bad.plan.steps[1].checks[0].budget = 0;
  MigrationDefinition falling = bad;
  falling.plan = FullPlan();
  falling.plan.steps[4].weight = 10;
  const std::string nobody = "namespaces/shop/migrations/nobody";
  const Case cases[] = {
      {"get unknown", [&] { return registry().Get(nobody).status(); }, absl::StatusCode::kNotFound,
       "MIGRATION_NOT_FOUND"},
      {"start unknown", [&] { return Do(CommandKind::kStart, By("a"), false, 0, nobody).status(); },
       absl::StatusCode::kNotFound, "MIGRATION_NOT_FOUND"},
      {"update unknown", [&] { return registry().Update(nobody, {}, By("a")).status(); },
       absl::StatusCode::kNotFound, "MIGRATION_NOT_FOUND"},
      {"delete unknown", [&] { return registry().Delete(nobody, By("a")); }, absl::StatusCode::kNotFound,
       "MIGRATION_NOT_FOUND"},
      {"create twice", [&] { return registry().Create(again, By("a")).status(); },
       absl::StatusCode::kAlreadyExists, "MIGRATION_ALREADY_EXISTS"},
      {"budget 0", [&] { return registry().Create(bad, By("a")).status(); },
       absl::StatusCode::kInvalidArgument, "INVALID_ARGUMENT"},
      {"falling weight", [&] { return registry().Create(falling, By("a")).status(); },
       absl::StatusCode::kInvalidArgument, "INVALID_ARGUMENT"},
      {"stale etag", [&] { return Do(CommandKind::kStart, stale).status(); }, absl::StatusCode::kAborted,
       "ETAG_MISMATCH"},
      {"stale etag of a delete", [&] { return registry().Delete(kName, stale); }, absl::StatusCode::kAborted,
       "ETAG_MISMATCH"},
      {"advance a draft", [&] { return Do(CommandKind::kAdvance).status(); },
       absl::StatusCode::kFailedPrecondition, "ILLEGAL_TRANSITION"},
  };
  const uint64_t revision = store_.revision();
  for (const Case& c : cases) {
    const absl::Status status = c.call();
    EXPECT_EQ(status.code(), c.code) << c.what << ": " << status;
    EXPECT_EQ(ReasonOf(status), c.reason) << c.what;
  }
  EXPECT_EQ(store_.revision(), revision) << "a refusal wrote something";
}

TEST_F(RegistryTest, ValidateOnlyChangesNothing) {
  Create();
  MutationContext dry = By("user:ann");
  dry.validate_only = true;
  dry.request_id = "9e107d9d-0000-4000-8000-000000000001";
  const uint64_t revision = store_.revision();
  const auto view = Do(CommandKind::kStart, dry);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->migration->published.stage, Stage::kDualWrite);
  EXPECT_EQ(StageNow(), Stage::kOff);
  EXPECT_EQ(store_.revision(), revision);
  ASSERT_TRUE(registry().Delete(kName, dry).ok());
  EXPECT_EQ(Do(CommandKind::kAdvance, dry).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(registry().Get(kName).ok());
}

TEST_F(RegistryTest, ARequestIdReturnsItsFirstAnswerForADay) {
  Create();
  MutationContext once = By("user:ann");
  once.request_id = "9e107d9d-0000-4000-8000-000000000002";
  const auto first = Do(CommandKind::kStart, once);
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(Do(CommandKind::kPause).ok());
  Restart();
  const auto repeat = Do(CommandKind::kStart, once);
  ASSERT_TRUE(repeat.ok()) << repeat.status();
  EXPECT_EQ(repeat->etag(), first->etag());
  EXPECT_EQ(repeat->migration->run_state, domain::RunState::kRunning);
  EXPECT_EQ(Now().migration->run_state, domain::RunState::kPaused);
  EXPECT_EQ(ReasonOf(Do(CommandKind::kResume, once).status()), "REQUEST_ID_REUSED");
  clock_.Advance(RequestLog::kRetention);
  EXPECT_TRUE(Do(CommandKind::kResume, once).ok());
}

TEST_F(RegistryTest, EveryChangeLeavesARecord) {
  Enrol("a");
  Create();
  WalkTo(2);
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  const auto records = registry().ListDecisions(kName, 0, 100);
  ASSERT_TRUE(records.ok()) << records.status();
  ASSERT_EQ(records->size(), Now().migration->decision_count);
  EXPECT_EQ(records->front().action, "rollback");
  EXPECT_EQ(records->front().actor, "user:ann");
  EXPECT_EQ(records->front().before.stage, Stage::kCanaryRead);
  EXPECT_EQ(records->front().after.stage, Stage::kShadowRead);
  EXPECT_EQ(records->back().action, "create");
  // Pages fit together.
  const auto page = registry().ListDecisions(kName, records->at(1).number, 1);
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->at(0).number, records->at(2).number);
  uint64_t audited = 0;
  ASSERT_TRUE(memory_
                  ->Scan(store::Table::kAudit, "", "", store::kNoLimit,
                         [&](absl::string_view key, absl::string_view) {
                           EXPECT_EQ(*store::ParseAuditKey(key), ++audited);
                           return true;
                         })
                  .ok());
  EXPECT_EQ(audited, records->size());
}

TEST_F(RegistryTest, AForwardStepWaitsAndSaysForWhom) {
  Create();
  Enrol("slow");
  Enrol("fast");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());  // DUAL_WRITE at once: OFF beside it is only latent
  ASSERT_TRUE(Ack("fast", 2).ok());
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  MigrationView view = Now();
  ASSERT_TRUE(view.migration->pending.has_value());
  EXPECT_EQ(view.migration->pending->stage, Stage::kShadowRead);
  ASSERT_EQ(view.waiting.size(), 1u);
  EXPECT_EQ(view.waiting[0].instance_id, "slow");
  EXPECT_EQ(view.waiting[0].service, "cities");
  EXPECT_EQ(view.waiting[0].epoch, 1u);
  EXPECT_THAT(view.waiting[0].reason, HasSubstr("OFF"));
  EXPECT_EQ(ReasonOf(Do(CommandKind::kAdvance, By("user:ann"), true).status()), "FENCE_WAITS");
  // A crash changes nothing about it.
  Restart();
  EXPECT_EQ(Now().waiting.size(), 2u);  // the acknowledgement of "fast" was not durable yet
  Enrol("fast", {{kName, 2}});
  Enrol("slow", {{kName, 1}});
  EXPECT_EQ(StageNow(), Stage::kDualWrite);
  clock_.Advance(absl::Seconds(6));  // remote decisions that the former process may have given
  ASSERT_TRUE(Ack("slow", 2).ok());
  EXPECT_EQ(StageNow(), Stage::kShadowRead);
  EXPECT_EQ(Now().migration->step_started_at, clock_.Now());
  EXPECT_EQ(registry().ListDecisions(kName, 0, 1)->front().action, "publish");
}

TEST_F(RegistryTest, ARollbackReplacesWhatIsPending) {
  Create();
  Enrol("slow");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  ASSERT_TRUE(Now().migration->pending.has_value());
  ASSERT_TRUE(Do(CommandKind::kRollback).ok());
  EXPECT_FALSE(Now().migration->pending.has_value());
  EXPECT_EQ(StageNow(), Stage::kOff);
  EXPECT_EQ(Now().migration->published.generation, 2u);
}

TEST_F(RegistryTest, AnAbortGoesOverABridge) {
  Create();
  Enrol("a");
  WalkTo(2);
  ASSERT_TRUE(Do(CommandKind::kAbort).ok());
  EXPECT_EQ(StageNow(), Stage::kDualWrite);
  ASSERT_TRUE(Now().migration->pending.has_value());
  EXPECT_EQ(ReasonOf(registry().Delete(kName, By("user:ann"))), "MIGRATION_ACTIVE");
  AckAll();
  EXPECT_EQ(StageNow(), Stage::kOff);
  EXPECT_EQ(Now().migration->published.generation, 2u);
}

TEST_F(RegistryTest, WithoutInstancesNothingWaits) {
  Create();
  WalkTo(4);
  ASSERT_TRUE(Do(CommandKind::kAbort).ok());
  EXPECT_EQ(StageNow(), Stage::kOff);
  EXPECT_FALSE(Now().migration->pending.has_value());
}

TEST_F(RegistryTest, RemoteDecisionsHoldAFenceUntilTheyExpire) {
  Create();
  ASSERT_TRUE(registry().RouteRemotely(kName).ok());  // at OFF
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  ASSERT_EQ(Now().waiting.size(), 1u);
  EXPECT_EQ(Now().waiting[0].instance_id, "remote decisions");
  clock_.Advance(absl::Seconds(4));
  ASSERT_TRUE(registry().PublishAllPossible().ok());
  EXPECT_EQ(StageNow(), Stage::kDualWrite);
  Restart();
  clock_.Advance(absl::Seconds(4));  // the restart knows no better than that they were given just before it
  ASSERT_TRUE(registry().PublishAllPossible().ok());
  EXPECT_EQ(StageNow(), Stage::kDualWrite);
  clock_.Advance(absl::Seconds(2));
  ASSERT_TRUE(registry().PublishAllPossible().ok());
  EXPECT_EQ(StageNow(), Stage::kShadowRead);
  EXPECT_EQ(registry().Explain(kName)->valid_for, absl::ZeroDuration());
}

TEST_F(RegistryTest, Updates) {
  Create();
  Enrol("a");
  WalkTo(2);
  MigrationUpdate later_step;
  later_step.plan = FullPlan();
  later_step.plan->steps[3].weight = 50000;
  auto view = registry().Update(kName, later_step, By("user:ann"));
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->migration->plan_revision, 2u);
  MigrationUpdate this_step;
  this_step.plan = FullPlan();
  this_step.plan->steps[2].weight = 2000;
  EXPECT_EQ(ReasonOf(registry().Update(kName, this_step, By("user:ann")).status()), "PLAN_IN_USE");
  MigrationUpdate fewer;
  fewer.plan = FullPlan();
  fewer.plan->steps.resize(2);
  EXPECT_EQ(ReasonOf(registry().Update(kName, fewer, By("user:ann")).status()), "PLAN_IN_USE");

  const uint64_t epoch = view->migration->published.epoch;
  MigrationUpdate contract;
  contract.contract.emplace().fields.push_back({.path = "name"});
  view = registry().Update(kName, contract, By("user:ann"));
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->migration->contract.revision, 2u);
  EXPECT_EQ(view->migration->published.epoch, epoch + 1);
  EXPECT_EQ(engine_->hub().Latest()->Find(kName)->contract.revision, 2u);

  MigrationUpdate pins;
  pins.pins.emplace().keys["vip"] = domain::Side::kOld;
  view = registry().Update(kName, pins, By("user:ann"));
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->migration->published.epoch, epoch + 2);
  ASSERT_NE(view->migration->published.pins, nullptr);
  EXPECT_EQ(view->migration->draining.size(), 2u);

  MigrationUpdate nothing;
  nothing.description = "the orders";
  view = registry().Update(kName, nothing, By("user:ann"));
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view->migration->published.epoch, epoch + 2);
  EXPECT_EQ(view->migration->description, "the orders");
}

TEST_F(RegistryTest, MoreStepsWakeASucceededMigration) {
  domain::MigrationPlan plan = FullPlan();
  plan.steps.resize(3);
  Create(kName, plan);
  WalkTo(2);
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  EXPECT_EQ(Now().migration->run_state, domain::RunState::kSucceeded);
  MigrationUpdate more;
  more.plan = FullPlan();
  ASSERT_TRUE(registry().Update(kName, more, By("user:ann")).ok());
  EXPECT_EQ(Now().migration->run_state, domain::RunState::kRunning);
}

TEST_F(RegistryTest, ADeletedMigrationVanishesAndANewOneGoesOnCounting) {
  Create();
  Enrol("a");
  ASSERT_NE(Take("a")->Find(kName), nullptr);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  EXPECT_EQ(ReasonOf(registry().Delete(kName, By("user:ann"))), "MIGRATION_ACTIVE");
  ASSERT_TRUE(Do(CommandKind::kAbort).ok());
  AckAll();
  const domain::Migration before = *Now().migration;
  ASSERT_TRUE(engine_->Delete(kName, By("user:ann")).ok());
  EXPECT_EQ(Take("a")->Find(kName), nullptr);
  Restart();
  EXPECT_EQ(registry().Get(kName).status().code(), absl::StatusCode::kNotFound);
  const MigrationView again = Create();
  EXPECT_NE(again.migration->uid, before.uid);
  EXPECT_EQ(again.migration->published.epoch, before.published.epoch + 1);
  EXPECT_EQ(again.migration->published.generation, before.published.generation + 1);
  EXPECT_EQ(again.migration->decision_count, 1u);
}

TEST_F(RegistryTest, Lists) {
  for (const char* name :
       {"namespaces/a/migrations/x", "namespaces/a/migrations/y", "namespaces/b/migrations/x"}) {
    Create(name);
  }
  const auto names = [](const std::vector<MigrationView>& views) {
    std::vector<std::string> list;
    for (const MigrationView& view : views) list.push_back(view.migration->name);
    return list;
  };
  using ::testing::ElementsAre;
  EXPECT_THAT(names(registry().List("a", "", 10)),
              ElementsAre("namespaces/a/migrations/x", "namespaces/a/migrations/y"));
  EXPECT_THAT(names(registry().List("", "", 2)),
              ElementsAre("namespaces/a/migrations/x", "namespaces/a/migrations/y"));
  EXPECT_THAT(names(registry().List("", "namespaces/a/migrations/y", 2)),
              ElementsAre("namespaces/b/migrations/x"));
  EXPECT_THAT(names(registry().List("b", "namespaces/a/migrations/x", 2)),
              ElementsAre("namespaces/b/migrations/x"));
  EXPECT_TRUE(registry().List("c", "", 2).empty());
}

TEST_F(RegistryTest, Watch) {
  Create();
  int woken = 0;
  const auto listener = registry().Watch(kName, [&] { ++woken; });
  EXPECT_TRUE(listener->TakeChanged());
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  ASSERT_TRUE(Do(CommandKind::kPause).ok());
  EXPECT_EQ(woken, 1);  // not read in between
  EXPECT_TRUE(listener->TakeChanged());
  ASSERT_TRUE(registry().ApplyVerdict(kName, Now().migration->version, EvaluationNow({})).ok());
  EXPECT_EQ(woken, 2);
}

TEST_F(RegistryTest, AVerdictForAnotherVersionIsDropped) {
  Create();
  WalkTo(2);
  domain::GateResult rollback;
  rollback.verdict = domain::Verdict::kRollBack;
  rollback.sentence = "too many mismatches.";
  const uint64_t version = Now().migration->version;
  ASSERT_TRUE(Do(CommandKind::kPause).ok());
  auto changed = registry().ApplyVerdict(kName, version, EvaluationNow(rollback));
  ASSERT_TRUE(changed.ok());
  EXPECT_FALSE(*changed);
  EXPECT_EQ(StageNow(), Stage::kCanaryRead);
  changed = registry().ApplyVerdict(kName, version + 1, EvaluationNow(rollback));
  ASSERT_TRUE(changed.ok());
  EXPECT_TRUE(*changed);
  EXPECT_EQ(StageNow(), Stage::kShadowRead);
  uint64_t by_gate = 0;
  for (const TransitionCount& count : registry().transitions())
    by_gate += count.actor == "gate" ? count.count : 0;
  EXPECT_EQ(by_gate, 1u);
  EXPECT_EQ(registry().ListDecisions(kName, 0, 1)->front().actor, "gate");
}

// Whatever the moment of a crash, the state after it is the one before or the one after the change, complete.
TEST_F(RegistryTest, ACommitWhoseOutcomeIsUnknownStopsTheFunnel) {
  for (const auto moment :
       {store::FaultyStore::Moment::kBeforeApply, store::FaultyStore::Moment::kAfterApply}) {
    const std::string name = moment == store::FaultyStore::Moment::kBeforeApply ? "namespaces/a/migrations/x"
                                                                                : "namespaces/a/migrations/y";
    Create(name);
    MutationContext once = By("user:ann");
    once.request_id = "id of " + name;
    store_.FailCommit(1, moment, absl::UnknownError("sync failed"));
    const absl::Status status = Do(CommandKind::kStart, once, false, 0, name).status();
    EXPECT_EQ(ReasonOf(status), "STORE_FAILED") << status;
    EXPECT_EQ(Now(name).migration->published.stage, Stage::kOff) << "shown before it is durable";
    EXPECT_EQ(engine_->hub().Latest()->Find(name)->state.stage, Stage::kOff);
    EXPECT_FALSE(engine_->health().ok());
    EXPECT_EQ(ReasonOf(Do(CommandKind::kStart, By("user:ann"), false, 0, name).status()), "STORE_FAILED");
    Restart();
    EXPECT_TRUE(engine_->health().ok());
    const bool there = moment == store::FaultyStore::Moment::kAfterApply;
    EXPECT_EQ(Now(name).migration->published.stage, there ? Stage::kDualWrite : Stage::kOff);
    EXPECT_EQ(registry().ListDecisions(name, 0, 10)->size(), there ? 2u : 1u);
    // The repeat of the same request ends in the same place either way.
    const auto repeat = Do(CommandKind::kStart, once, false, 0, name);
    ASSERT_TRUE(repeat.ok()) << repeat.status();
    EXPECT_EQ(Now(name).migration->published.stage, Stage::kDualWrite);
    EXPECT_EQ(registry().ListDecisions(name, 0, 10)->size(), 2u);
  }
}

TEST_F(RegistryTest, AnEnrolmentWhoseOutcomeIsUnknownIsSeenInTheHealth) {
  Create();
  store_.FailCommit(1, store::FaultyStore::Moment::kAfterApply, absl::UnknownError("sync failed"));
  EXPECT_FALSE(InstanceSession::Open(engine_.get(), RequestOf("a"), [] {}).ok());
  EXPECT_FALSE(engine_->health().ok());
  EXPECT_EQ(engine_->instances().OldestLiveEpoch(kName), 1u) << "it counts, since it may be enrolled";
}

TEST_F(RegistryTest, AFailedCommitChangesNothing) {
  Create();
  MutationContext once = By("user:ann");
  once.request_id = "id";
  store_.FailCommit(1, store::FaultyStore::Moment::kBeforeApply, absl::ResourceExhaustedError("disk full"));
  EXPECT_EQ(Do(CommandKind::kStart, once).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(StageNow(), Stage::kOff);
  EXPECT_TRUE(Do(CommandKind::kStart, once).ok());
  EXPECT_EQ(StageNow(), Stage::kDualWrite);
}

TEST_F(RegistryTest, Enrolment) {
  Create();
  Enrol("a");
  EXPECT_EQ(engine_->instances().List(kName)[0].acknowledged_epoch, 1u);
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  EXPECT_EQ(Ack("a", 3).code(), absl::StatusCode::kInvalidArgument);
  const auto old = std::move(streams_["a"].session);
  Enrol("a");  // claims nothing: an earlier process may still be there
  EXPECT_EQ(engine_->instances().List(kName)[0].acknowledged_epoch, 1u);
  EXPECT_EQ(ReasonOf(old->OnAck(0, {{kName, 2}}, {})), "NOT_ENROLLED");
  ASSERT_TRUE(Ack("a", 2).ok());
  Enrol("a", {{kName, 1}});  // less than it acknowledged: what it claims counts
  EXPECT_EQ(engine_->instances().OldestLiveEpoch(kName), 1u);
  ASSERT_TRUE(Do(CommandKind::kAdvance, By("user:ann"), true).ok());
  EXPECT_EQ(Now().waiting.size(), 1u);
  EXPECT_THAT(Now().waiting[0].reason, HasSubstr("OFF"));  // found in the decision records
  ASSERT_TRUE(streams_["a"].session->OnLeave().ok());
  EXPECT_EQ(StageNow(), Stage::kShadowRead);
  EXPECT_EQ(ReasonOf(registry().Enrol(RequestOf("a", {{kName, 9}})).status()), "EPOCH_AHEAD");
}

// The promise of docs/semantics.md, section 3, under random commands and acknowledgements that come late,
// early, not at all, and over restarts: what instances may act on never collides.
TEST(PublishSimulation, NoTwoLiveStatesCollide) {
  class Simulation : public EngineTest {
   public:
    explicit Simulation(uint64_t seed) : prng_(seed) {}
    void TestBody() override {
      Create(kName, PlanToComplete());
      for (int i = 0; i < 250 && !HasFailure(); ++i) Step();
    }

   private:
    // What the instance really acts on, as the SDK would: everything it was sent since `oldest`.
    struct Actor {
      uint64_t oldest = 0;
      uint64_t newest = 0;
    };

    void Step() {
      const std::string id = absl::StrCat("i", prng_.Below(4));
      switch (prng_.Below(10)) {
        case 0:
        case 1:
          Command();
          break;
        case 2:
          Join(id);
          break;
        case 3:
          Leave(id);
          break;
        case 4:
          if (prng_.Below(4) == 0) RestartServer();
          break;
        case 5:
          clock_.Advance(absl::Seconds(3));
          EXPECT_TRUE(engine_->Tick().ok());
          break;
        default:
          Follow(id);
      }
      Deliver();
      Check();
    }

    void Command() {
      const CommandKind kind = domain::kAllCommands[prng_.Below(domain::kAllCommands.size())];
      const Stage stage = StageNow();
      // Within DUAL_WRITE to CANARY_READ. Down to OFF it may have to wait for who still compares or reads
      // new.
      const bool at_once = stage > Stage::kDualWrite && stage <= Stage::kCanaryRead;
      const bool overrides = kind == CommandKind::kAdvance || kind == CommandKind::kSetWeight;
      const auto result = Do(kind, By("user:ann"), overrides, static_cast<uint32_t>(prng_.Below(100001)));
      if (kind != CommandKind::kRollback || !at_once) return;
      EXPECT_TRUE(result.ok()) << result.status();
      EXPECT_FALSE(Now().migration->pending.has_value()) << "a rollback waits";
      EXPECT_LT(StageNow(), stage);
    }

    void Join(const std::string& id) {
      const auto actor = actors_.find(id);
      if (actor == actors_.end()) {
        Enrol(id);
      } else if (prng_.Below(2) == 0) {
        Enrol(id, {{kName, actor->second.oldest}});
      }
    }

    void Leave(const std::string& id) {
      if (streams_.count(id) == 0) return;
      actors_.erase(id);
      EXPECT_TRUE(streams_[id].session->OnLeave().ok());
      streams_.erase(id);
    }

    // Operations under older epochs end.
    void Follow(const std::string& id) {
      const auto actor = actors_.find(id);
      if (actor == actors_.end() || streams_.count(id) == 0) return;
      actor->second.oldest += prng_.Below(actor->second.newest - actor->second.oldest + 1);
      EXPECT_TRUE(Ack(id, actor->second.oldest).ok());
    }

    void RestartServer() {
      Restart();
      clock_.Advance(absl::Seconds(6));
    }

    void Deliver() {
      for (auto& [id, stream] : streams_) {
        if (prng_.Below(3) == 0) continue;
        const auto snapshot = Take(id);
        if (snapshot == nullptr) continue;
        const domain::RoutingState& state = snapshot->Find(kName)->state;
        published_[state.epoch] = state;
        Actor& actor = actors_[id];
        EXPECT_GE(state.epoch, actor.newest);
        actor.newest = state.epoch;
        if (actor.oldest == 0) actor.oldest = state.epoch;
      }
      published_[Now().migration->published.epoch] = Now().migration->published;
    }

    void Check() {
      // An instance acts on what it holds as the oldest and on the newest it was sent.
      std::vector<uint64_t> live = {Now().migration->published.epoch};
      for (const auto& [id, actor] : actors_) {
        for (uint64_t epoch : {actor.oldest, actor.newest}) live.push_back(epoch);
      }
      for (uint64_t a : live) {
        for (uint64_t b : live) {
          const auto collision = domain::FindIncompatibility(published_.at(a), published_.at(b));
          EXPECT_FALSE(collision.has_value())
              << "epochs " << a << " and " << b << ": " << collision->ToString();
        }
      }
    }

    Prng prng_;
    std::map<std::string, Actor> actors_;
    std::map<uint64_t, domain::RoutingState> published_;
  };
  SetLogLevel(LogLevel::kError);
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Simulation(seed).TestBody();
    if (::testing::Test::HasFailure()) break;
  }
}

}  // namespace
}  // namespace lockstep::engine
