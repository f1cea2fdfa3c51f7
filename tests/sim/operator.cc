#include "tests/sim/operator.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace lockstep::sim {
namespace {

using domain::CommandKind;
using domain::PlanStep;
using domain::RunState;
using domain::Side;
using domain::Stage;

// Left by the gate when it has been there for a little, and, with `check`, when enough comparisons were
// equal.
PlanStep AutomaticStep(Stage stage, uint32_t percent, bool check) {
  PlanStep step;
  step.stage = stage;
  step.weight = percent * (domain::kBucketCount / 100);
  step.min_bake = absl::Seconds(2);
  if (!check) return step;
  domain::Check mismatches;
  mismatches.name = "mismatches";
  mismatches.metric = domain::Metric::kMismatchRatio;
  mismatches.budget = 0.7;
  step.checks = {mismatches};
  return step;
}

PlanStep ManualStep(Stage stage, uint32_t percent = 0) {
  PlanStep step;
  step.stage = stage;
  step.weight = percent * (domain::kBucketCount / 100);
  step.manual = true;
  return step;
}

bool AtLastWayBack(const domain::Migration& migration) {
  return migration.published.stage == Stage::kCutover &&
         migration.published.write_weight == domain::kBucketCount;
}

engine::MutationContext ByAnn() {
  engine::MutationContext context;
  context.principal.name = "user:ann";
  context.reason = "the seed says so";
  return context;
}

}  // namespace

void Operator::Begin() {
  commons_->scheduler.After(absl::Milliseconds(100 + prng_.Below(700)), [this] {
    Turn();
    Begin();
  });
}

void Operator::Create() {
  engine::MigrationDefinition definition;
  definition.name = kMigration;
  definition.salt = "simulated";
  definition.plan.steps = {ManualStep(Stage::kDualWrite),      ManualStep(Stage::kShadowRead),
                           ManualStep(Stage::kCanaryRead, 30), ManualStep(Stage::kCanaryRead, 100),
                           ManualStep(Stage::kCutover, 25),    ManualStep(Stage::kCutover, 100),
                           ManualStep(Stage::kNewOnly),        ManualStep(Stage::kComplete)};
  if (automatic_) MakeAutomatic(&definition.plan);
  constexpr uint32_t kSlices[] = {10000, 25000, 50000, 100000};
  definition.plan.cutover.slice_weight = kSlices[prng_.Below(4)];
  definition.plan.cutover.max_hold = absl::Seconds(4);
  const auto created = server_->engine().registry().Create(definition, ByAnn());
  commons_->Trace(absl::StrCat("operator creates: ", created.status().ToString()));
  LOCKSTEP_CHECK(created.ok(), created.status().ToString().c_str());
  commons_->oracle.OnCommand(*created->migration);
}

// The first read of new waits for the backfill, and the point of no return for the operator.
void Operator::MakeAutomatic(domain::MigrationPlan* plan) {
  const bool check = prng_.Below(2) == 0;
  for (PlanStep& step : plan->steps) {
    const bool last = step.stage == Stage::kCutover && step.weight == domain::kBucketCount;
    if (step.stage == Stage::kDualWrite || last || step.stage > Stage::kCutover) continue;
    step = AutomaticStep(step.stage, step.weight / (domain::kBucketCount / 100), check);
  }
  plan->alpha_advance = plan->alpha_rollback = 0.5;
  plan->telemetry_limits.max_not_comparable = 1;
  plan->telemetry_limits.max_share_skew = 1e6;
}

void Operator::Turn() {
  if (!server_->up() || server_->paused()) return;
  const absl::StatusOr<engine::MigrationView> view = server_->engine().registry().Get(kMigration);
  if (!view.ok()) return;
  EvictGhosts();
  Backfill(*view->migration);
  if (!resting_ && commons_->options.broken == Broken::kEvictsLive && prng_.Below(4) == 0) {
    const Process& process = *(*processes_)[prng_.Below(processes_->size())];
    if (process.running()) Evict(process.instance_id());
  }
  if (!resting_) Decide(*view->migration);
  server_->Look();
}

void Operator::Decide(const domain::Migration& migration) {
  const uint64_t dice = prng_.Below(100);
  if (migration.run_state == RunState::kDraft) return Command(CommandKind::kStart, migration);
  if (migration.run_state == RunState::kPaused || migration.run_state == RunState::kRolledBack) {
    if (dice < 80) return Command(CommandKind::kResume, migration);
    if (dice < 84) return Command(CommandKind::kRollback, migration);
    return;
  }
  if (dice >= changes_mind_) {
    // What both sides don't have yet is not to be read from new.
    const bool ready = migration.published.stage != Stage::kDualWrite || Backfilled(migration.published);
    // The point of no return is passed late and seldom.
    // The gate takes its steps when it has seen enough, and few operators wait for ever.
    const bool waits = automatic_ && migration.step >= 0 &&
                       !migration.plan.steps[static_cast<size_t>(migration.step)].manual &&
                       prng_.Below(20) != 0;
    if (waits) return;
    if (ready && (!AtLastWayBack(migration) || prng_.Below(4) == 0))
      Command(CommandKind::kAdvance, migration);
    return;
  }
  switch (prng_.Below(8)) {
    case 0:
    case 1:
    case 2:
      return Command(CommandKind::kRollback, migration);
    case 3:
      return Command(prng_.Below(3) == 0 ? CommandKind::kAbort : CommandKind::kPause, migration);
    case 4:
    case 5:
      return Command(CommandKind::kSetWeight, migration,
                     static_cast<uint32_t>(prng_.Below(domain::kBucketCount + 1)));
    case 6:
      return Drill();
    default:
      break;
  }
}

void Operator::Command(CommandKind kind, const domain::Migration& before, uint32_t weight) {
  domain::Command command;
  command.kind = kind;
  command.weight = weight;
  command.override_gate = kind == CommandKind::kAdvance || kind == CommandKind::kSetWeight;
  command.accept_no_way_back = kind == CommandKind::kAdvance && AtLastWayBack(before);
  command.reason = "the seed says so";
  const auto after = server_->engine().registry().Execute(kMigration, command, ByAnn());
  commons_->Trace(
      absl::StrCat("operator: ", domain::CommandName(kind), " ", weight, ": ", after.status().ToString()));
  if (after.ok()) {
    for (const engine::FenceWait& wait : after->waiting) {
      commons_->Trace(
          absl::StrCat("  it waits for ", wait.instance_id, " at epoch ", wait.epoch, ": ", wait.reason));
    }
  }
  if (absl::IsUnknown(after.status()) || absl::IsUnavailable(after.status()))
    commons_->oracle.OnUnknownCommand();
  if (!after.ok()) return;
  const domain::Migration& now = *after->migration;
  commons_->oracle.OnCommand(now);
  const Stage stage = before.published.stage;
  const bool rolls_back =
      kind == CommandKind::kRollback && stage > Stage::kDualWrite && stage <= Stage::kCanaryRead;
  if (kind == CommandKind::kRollback) ++commons_->stats.rollbacks;
  if (rolls_back && (now.pending.has_value() || now.published.epoch == before.published.epoch)) {
    commons_->oracle.Violate(
        absl::StrCat("a rollback from ", domain::StageName(stage), " was not published at once"));
  }
}

void Operator::Drill() {
  const auto after = server_->engine().registry().Drill(kMigration, ByAnn());
  commons_->Trace(absl::StrCat("operator drills: ", after.status().ToString()));
}

void Operator::EvictGhosts() {
  for (const std::unique_ptr<Process>& process : *processes_) {
    for (const std::string& id : process->ghosts()) {
      if (server_->engine().instances().Find(kMigration, id).ok()) Evict(id);
    }
  }
}

void Operator::Evict(const std::string& instance_id) {
  const auto evicted = server_->engine().registry().Evict(kMigration, instance_id, ByAnn());
  if (evicted.ok()) ++commons_->stats.evictions;
  commons_->Trace(absl::StrCat("operator evicts ", instance_id, ": ", evicted.status().ToString()));
}

bool Operator::EverybodyIsAt(const domain::RoutingState& published) const {
  if (commons_->options.broken == Broken::kBackfillBeforeFence) return true;
  const auto instances = server_->engine().instances().List(kMigration);
  return std::all_of(instances.begin(), instances.end(), [&](const engine::InstanceView& instance) {
    // One that writes nothing any more since its lease ended, and had no mirrors at OFF, is not waited for.
    return instance.passed_by || instance.acknowledged_epoch >= published.epoch;
  });
}

bool Operator::Backfilled(const domain::RoutingState& published) const {
  return backfilled_ == published.generation;
}

void Operator::Backfill(const domain::Migration& migration) {
  const uint64_t generation = migration.published.generation;
  if (migration.published.stage != Stage::kDualWrite || backfill_begun_ >= generation) return;
  if (!EverybodyIsAt(migration.published)) return;
  commons_->Trace(absl::StrCat("backfill of generation ", generation, " begins"));
  backfill_begun_ = generation;
  commons_->oracle.OnBackfillBegins(generation);
  Copy(generation, 0);
}

void Operator::Copy(uint64_t generation, Key key) {
  if (key == kKeys) {
    backfilled_ = generation;
    commons_->Trace("backfill is complete");
    return;
  }
  // Read here, written there, and in between others write, too.
  const Row row = commons_->store(Side::kOld).Get(key);
  commons_->scheduler.After(absl::Milliseconds(1 + prng_.Below(60)), [this, generation, key, row] {
    Row& there = commons_->store(Side::kNew).rows[key];
    if (row.version > there.version) {
      there = row;
      commons_->past[key].emplace_back(commons_->scheduler.now(), row);
    }
    if (row.version > 0) commons_->oracle.OnBackfilled(key, row);
    Copy(generation, key + 1);
  });
}

}  // namespace lockstep::sim
