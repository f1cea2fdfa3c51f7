// The mutations of the registry: what may change, and into what. See registry.h.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/check.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"
#include "core/domain/next_hop.h"
#include "server/engine/registry.h"
#include "server/engine/registry_keys.h"

namespace lockstep::engine {
namespace {

absl::Status Refused(absl::string_view reason, absl::string_view subject, absl::string_view why) {
  return WithErrorInfo(
      absl::FailedPreconditionError(why),
      {.reason = std::string(reason),
       .metadata = {},
       .field_violations = {},
       .precondition_violations = {{std::string(reason), std::string(subject), std::string(why)}}});
}

// The status of a validator as a violation of one field.
absl::Status AsViolation(absl::string_view field, const absl::Status& status) {
  if (status.ok()) return status;
  return InvalidArgumentWithViolations({{std::string(field), std::string(status.message())}});
}

absl::Status CheckPlan(const domain::MigrationPlan& plan, const domain::Contract& contract) {
  std::vector<FieldViolation> violations;
  for (const domain::Violation& violation : domain::ValidatePlan(plan, contract)) {
    violations.push_back({violation.path, violation.message});
  }
  return violations.empty() ? absl::OkStatus() : InvalidArgumentWithViolations(std::move(violations));
}

std::shared_ptr<const domain::Pins> SharePins(const domain::Pins& pins) {
  return pins.empty() ? nullptr : std::make_shared<const domain::Pins>(pins);
}

bool IsUnderWay(const domain::Migration& migration) {
  return migration.step >= 0 && migration.run_state != domain::RunState::kRolledBack;
}

// Whether `plan` may replace the plan of a migration where it stands.
absl::Status CheckPlanFits(const domain::Migration& migration, const domain::MigrationPlan& plan) {
  if (migration.pending) {
    return Refused("PLAN_IN_USE", "plan",
                   "the plan can't be edited while a state waits to be published: wait for it, or roll back");
  }
  if (!IsUnderWay(migration)) return absl::OkStatus();
  const auto index = static_cast<size_t>(migration.step);
  const domain::PlanStep& current = migration.plan.steps[index];
  if (index < plan.steps.size() && plan.steps[index].stage == current.stage &&
      plan.steps[index].weight == current.weight) {
    return absl::OkStatus();
  }
  return Refused(
      "PLAN_IN_USE", absl::StrCat("plan.steps[", index, "]"),
      absl::StrCat("the migration is at step ", index + 1, " (", domain::StageName(current.stage),
                   ", weight ", current.weight,
                   "): the new plan must have the same stage and weight at that step. Roll back or "
                   "abort first to change it"));
}

void ReplacePlan(const domain::MigrationPlan& plan, absl::Time now, domain::Migration* after) {
  after->plan = plan;
  ++after->plan_revision;
  after->notified_checks.clear();  // evidence starts anew
  if (after->run_state == domain::RunState::kRolledBack) {
    after->step = domain::StepAfterRollback(plan, after->published.stage);
  }
  if (after->run_state == domain::RunState::kSucceeded &&
      static_cast<size_t>(after->step) + 1 < plan.steps.size()) {
    after->run_state = domain::RunState::kRunning;
    after->run_state_reason = "steps were added to the plan";
    after->deadline_from = now;
  }
}

// Pins of both the published state, as a new epoch, and of what is pending.
absl::Status ReplacePins(const domain::Pins& pins, domain::Migration* after) {
  after->pins = pins;
  after->published.pins = SharePins(pins);
  LOCKSTEP_RETURN_IF_ERROR(AsViolation("pins", domain::ValidateRoutingState(after->published)));
  if (!after->pending) return absl::OkStatus();
  after->pending->pins = after->published.pins;
  return AsViolation("pins", domain::ValidateRoutingState(*after->pending));
}

}  // namespace

absl::StatusOr<std::optional<RequestLog::Answer>> Registry::FindRepeat(absl::string_view method,
                                                                       absl::string_view name,
                                                                       const MutationContext& context) const {
  LOCKSTEP_RETURN_IF_ERROR(health());
  if (context.request_id.empty()) return std::optional<RequestLog::Answer>();
  return requests_.Find(context.request_id, method, name, clock_->Now());
}

absl::StatusOr<Registry::EntryPtr> Registry::FindForChange(absl::string_view name,
                                                           const std::string& etag) const {
  LOCKSTEP_ASSIGN_OR_RETURN(EntryPtr entry, FindEntry(name));
  LOCKSTEP_RETURN_IF_ERROR(CheckNotBehind(name));
  const std::string present = EtagOf(*entry->migration);
  if (etag.empty() || etag == present) return entry;
  return WithErrorInfo(absl::AbortedError(absl::StrCat(name, " was changed meanwhile (etag ", present,
                                                       ", not ", etag, "): read it again and decide anew")),
                       {.reason = "ETAG_MISMATCH",
                        .metadata = {{"etag", present}},
                        .field_violations = {},
                        .precondition_violations = {}});
}

absl::StatusOr<MigrationView> Registry::ApplyAndView(Change change, const MutationContext& context,
                                                     WakeList* wake) {
  const std::string name = change.name;
  LOCKSTEP_ASSIGN_OR_RETURN(EntryPtr entry, Apply(std::move(change), context.validate_only, wake));
  if (!context.validate_only && entry->migration->pending) {
    // The change itself is done; should the next step fail, the next tick tries again.
    if (PublishPending(name, wake).ok()) {
      LOCKSTEP_ASSIGN_OR_RETURN(entry, FindEntry(name));
    }
  }
  return ViewOf(*entry);
}

absl::StatusOr<domain::Migration> Registry::NewMigration(const MigrationDefinition& definition) {
  LOCKSTEP_RETURN_IF_ERROR(CheckPlan(definition.plan, definition.contract));
  LOCKSTEP_RETURN_IF_ERROR(AsViolation("contract", domain::ValidateContract(definition.contract)));
  uint64_t last_epoch = 0;
  uint64_t last_generation = 0;
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> retired,
                            store_->Get(store::Table::kMeta, store::MetaKey(RetiredKey(definition.name))));
  if (retired) {
    const std::vector<absl::string_view> parts = absl::StrSplit(*retired, ' ');
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &last_epoch) ||
        !absl::SimpleAtoi(parts[1], &last_generation)) {
      return absl::DataLossError(
          absl::StrCat("the last epoch of the deleted ", definition.name, " is damaged"));
    }
  }
  domain::Migration migration;
  migration.name = definition.name;
  migration.uid = prng_.Uuid();
  migration.description = definition.description;
  migration.labels = definition.labels;
  migration.owners = definition.owners;
  migration.salt = definition.salt.empty() ? migration.uid : definition.salt;
  migration.plan = definition.plan;
  migration.contract = definition.contract;
  migration.contract.revision = 1;
  migration.pins = definition.pins;
  migration.published = domain::StateOfStage(domain::Stage::kOff, 0);
  migration.published.epoch = last_epoch + 1;
  migration.published.generation = last_generation + 1;
  migration.published.salt_seed = domain::SaltSeed(migration.salt);
  migration.published.pins = SharePins(definition.pins);
  migration.create_time = clock_->Now();
  migration.run_state_reason = "created";
  LOCKSTEP_RETURN_IF_ERROR(AsViolation("pins", domain::ValidateRoutingState(migration.published)));
  return migration;
}

absl::StatusOr<MigrationView> Registry::Create(const MigrationDefinition& definition,
                                               const MutationContext& context) {
  WakeList wake;
  const auto create = [&]() -> absl::StatusOr<MigrationView> {
    MutexLock lock(&mutex_);
    LOCKSTEP_ASSIGN_OR_RETURN(std::optional<RequestLog::Answer> repeat,
                              FindRepeat("create", definition.name, context));
    if (repeat) {
      return MigrationView{
          std::make_shared<const domain::Migration>(*std::move(repeat->migration)), nullptr, {}, 0};
    }
    if (FindEntry(definition.name).ok()) {
      return WithErrorInfo(absl::AlreadyExistsError(absl::StrCat("there is a migration ", definition.name)),
                           {.reason = "MIGRATION_ALREADY_EXISTS",
                            .metadata = {{"migration", definition.name}},
                            .field_violations = {},
                            .precondition_violations = {}});
    }
    Change change;
    change.name = definition.name;
    LOCKSTEP_ASSIGN_OR_RETURN(change.after, NewMigration(definition));
    change.time = clock_->Now();
    change.actor = context.principal.name;
    change.action = change.method = "create";
    change.reason = context.reason.empty() ? "created" : context.reason;
    change.request_id = context.request_id;
    return ApplyAndView(std::move(change), context, &wake);
  };
  absl::StatusOr<MigrationView> view = create();
  wake.WakeAll();
  return view;
}

absl::StatusOr<Registry::Change> Registry::UpdateChange(const EntryPtr& before, const MigrationUpdate& update,
                                                        absl::Time now) const {
  Change change;
  change.name = before->migration->name;
  change.before = before;
  change.after = *before->migration;
  change.time = now;
  change.action = kActionUpdate;
  change.keep_gate = true;
  domain::Migration& after = change.after;
  if (update.description) after.description = *update.description;
  if (update.labels) after.labels = *update.labels;
  if (update.owners) after.owners = *update.owners;
  bool new_epoch = false;
  if (update.pins && *update.pins != after.pins) {
    LOCKSTEP_RETURN_IF_ERROR(ReplacePins(*update.pins, &after));
    new_epoch = true;
  }
  if (update.plan && *update.plan != after.plan) {
    LOCKSTEP_RETURN_IF_ERROR(CheckPlan(*update.plan, update.contract ? *update.contract : after.contract));
    LOCKSTEP_RETURN_IF_ERROR(CheckPlanFits(after, *update.plan));
    ReplacePlan(*update.plan, now, &after);
    change.action = kActionUpdatePlan;
    change.keep_gate = false;
  }
  if (update.contract && update.contract->fields != after.contract.fields) {
    LOCKSTEP_RETURN_IF_ERROR(AsViolation("contract", domain::ValidateContract(*update.contract)));
    if (!update.plan) LOCKSTEP_RETURN_IF_ERROR(CheckPlan(after.plan, *update.contract));
    after.contract.fields = update.contract->fields;
    ++after.contract.revision;
    after.notified_checks.clear();  // evidence starts anew
    change.action = kActionUpdateContract;
    change.keep_gate = false;
    new_epoch = true;
  }
  // Else there would be two epochs of one hold, and a check of the first would say nothing of the second.
  if (new_epoch && domain::HoldsWrites(before->migration->published)) {
    return Refused(
        "FENCE_WAITS", change.name,
        absl::StrCat(change.name,
                     " holds the writes of a slice at this moment, and pins and contract stay as they "
                     "are meanwhile: try again when the slice has moved or was released, within ",
                     absl::FormatDuration(after.plan.cutover.max_hold)));
  }
  // The same modes in every bucket as the state before, so nobody has to be waited for.
  if (new_epoch) {
    after.published_at = now;
    after.draining.push_back(before->migration->published);
    after.published.epoch = before->migration->published.epoch + 1;
    DropDrained(*before, &after);
  }
  return change;
}

absl::StatusOr<MigrationView> Registry::Update(absl::string_view name, const MigrationUpdate& update,
                                               const MutationContext& context) {
  WakeList wake;
  const auto run = [&]() -> absl::StatusOr<MigrationView> {
    MutexLock lock(&mutex_);
    LOCKSTEP_ASSIGN_OR_RETURN(std::optional<RequestLog::Answer> repeat, FindRepeat("update", name, context));
    if (repeat) {
      return MigrationView{
          std::make_shared<const domain::Migration>(*std::move(repeat->migration)), nullptr, {}, 0};
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr before, FindForChange(name, context.etag));
    LOCKSTEP_ASSIGN_OR_RETURN(Change change, UpdateChange(before, update, clock_->Now()));
    change.actor = context.principal.name;
    change.reason = context.reason.empty() ? "definition updated" : context.reason;
    change.method = "update";
    change.request_id = context.request_id;
    return ApplyAndView(std::move(change), context, &wake);
  };
  absl::StatusOr<MigrationView> view = run();
  wake.WakeAll();
  return view;
}

absl::Status Registry::CheckNobodyActsOn(const domain::Migration& migration) const {
  // A migration of that name that is created anew begins at OFF: whoever is there already is no obstacle, and
  // nobody else would be waited for any more.
  const bool at_off = migration.published.stage == domain::Stage::kOff;
  const uint64_t first_harmless = at_off ? migration.published.epoch : migration.published.epoch + 1;
  const std::vector<InstanceView> acting =
      instances_->ListBelow(migration.name, first_harmless, Counted::kAll);
  if (acting.empty()) return absl::OkStatus();
  constexpr size_t kNamed = 3;
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(acting.size(), kNamed); ++i) {
    names.push_back(absl::StrCat("'", acting[i].instance_id, "' of '", acting[i].service, "'"));
  }
  return Refused(
      "MIGRATION_IN_USE", acting[0].instance_id,
      absl::StrCat(migration.name, " is still acted on by ", absl::StrJoin(names, ", "),
                   acting.size() > kNamed ? absl::StrCat(" and ", acting.size() - kNamed, " more") : "",
                   at_off
                       ? ", which may act on what was published before OFF: wait until they have followed, "
                         "stop them, or evict them once it is certain that they are gone"
                       : ": take the migration out of these services, stop them, or evict them once it is "
                         "certain that they are gone"));
}

absl::Status Registry::Delete(absl::string_view name, const MutationContext& context) {
  WakeList wake;
  const auto run = [&]() -> absl::Status {
    MutexLock lock(&mutex_);
    LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<RequestLog::Answer> repeat,
                              FindRepeat("delete", name, context));
    if (repeat) return absl::OkStatus();
    LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr before, FindForChange(name, context.etag));
    const domain::Migration& migration = *before->migration;
    const domain::Stage stage = migration.published.stage;
    if ((stage != domain::Stage::kOff && stage != domain::Stage::kComplete) || migration.pending) {
      return Refused("MIGRATION_ACTIVE", domain::StageName(stage),
                     absl::StrCat(name, " is at ", domain::StageName(stage),
                                  migration.pending ? " with a state waiting to be published" : "",
                                  ": only a migration at OFF or COMPLETE can be deleted; abort it first"));
    }
    LOCKSTEP_RETURN_IF_ERROR(CheckNobodyActsOn(migration));
    if (context.validate_only) return absl::OkStatus();
    const absl::Time now = clock_->Now();
    store::WriteBatch batch;
    batch.Delete(store::Table::kMigrations, store::MigrationKey(name));
    for (uint64_t number = 1; number <= migration.decision_count; ++number) {
      batch.Delete(store::Table::kDecisions, store::DecisionKey(name, number));
      batch.Delete(store::Table::kDefinitions, store::DefinitionKey(name, number));
    }
    batch.Delete(store::Table::kMeta, store::MetaKey(TimelineKey(name)));
    batch.Put(store::Table::kMeta, store::MetaKey(RetiredKey(name)),
              absl::StrCat(migration.published.epoch, " ", migration.published.generation));
    AppendAudit(context.principal.name, "delete", name, context.reason, now, &batch);
    requests_.Append(context.request_id, "delete", name, nullptr, now, &batch);
    LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t revision, Commit(name, std::move(batch)));
    instances_->MigrationDeleted(std::string(name));
    Show(std::string(name), nullptr, revision, false, &wake);
    return absl::OkStatus();
  };
  const absl::Status status = run();
  wake.WakeAll();
  return status;
}

absl::StatusOr<MigrationView> Registry::Execute(absl::string_view name, domain::Command command,
                                                const MutationContext& context) {
  if (command.reason.empty()) command.reason = context.reason;
  WakeList wake;
  const auto run = [&]() -> absl::StatusOr<MigrationView> {
    MutexLock lock(&mutex_);
    const absl::string_view method = domain::CommandName(command.kind);
    LOCKSTEP_ASSIGN_OR_RETURN(std::optional<RequestLog::Answer> repeat, FindRepeat(method, name, context));
    if (repeat) {
      return MigrationView{
          std::make_shared<const domain::Migration>(*std::move(repeat->migration)), nullptr, {}, 0};
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr before, FindForChange(name, context.etag));
    const absl::Time now = clock_->Now();
    const std::shared_ptr<const GateEvaluation> before_gate = before->gate->Get();
    LOCKSTEP_ASSIGN_OR_RETURN(
        const std::optional<domain::Transition> transition,
        domain::Plan(*before->migration, command, before_gate ? &before_gate->result() : nullptr, now));
    LOCKSTEP_CHECK(transition.has_value(), "a command is granted or refused");
    Change change = TransitionChange(before, *transition, context.principal.name, now);
    change.method = std::string(method);
    change.request_id = context.request_id;
    return ApplyAndView(std::move(change), context, &wake);
  };
  absl::StatusOr<MigrationView> view = run();
  wake.WakeAll();
  return view;
}

absl::StatusOr<bool> Registry::ApplyVerdict(absl::string_view name, uint64_t version,
                                            std::shared_ptr<const GateEvaluation> evaluation) {
  WakeList wake;
  const auto run = [&]() -> absl::StatusOr<bool> {
    MutexLock lock(&mutex_);
    LOCKSTEP_RETURN_IF_ERROR(health());
    LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr before, FindEntry(name));
    if (before->migration->version != version || !CheckNotBehind(name).ok()) return false;
    before->gate->Set(evaluation);
    wake.Append(watchers_.Changed(name));
    const absl::Time time = evaluation->time;
    // What is planned doesn't depend on the words, only how it is put. Mostly it is nothing.
    const domain::GateResult& outline = evaluation->outline();
    LOCKSTEP_ASSIGN_OR_RETURN(std::optional<domain::Transition> transition,
                              domain::Plan(*before->migration, domain::GateVerdict{outline}, &outline, time));
    if (!transition) return false;
    const domain::GateResult& result = evaluation->result();
    LOCKSTEP_ASSIGN_OR_RETURN(transition,
                              domain::Plan(*before->migration, domain::GateVerdict{result}, &result, time));
    LOCKSTEP_CHECK(transition.has_value(), "words decide nothing");
    LOCKSTEP_RETURN_IF_ERROR(
        Apply(TransitionChange(before, *transition, kGatePrincipal, time), false, &wake).status());
    LOCKSTEP_RETURN_IF_ERROR(PublishPending(name, &wake));
    return true;
  };
  absl::StatusOr<bool> changed = run();
  wake.WakeAll();
  return changed;
}

absl::Status Registry::RenewEvidence(absl::string_view name, absl::Time begun_before,
                                     const std::string& reason) {
  WakeList wake;
  const auto run = [&]() -> absl::Status {
    MutexLock lock(&mutex_);
    LOCKSTEP_RETURN_IF_ERROR(health());
    const absl::StatusOr<EntryPtr> before = FindEntry(name);
    if (!before.ok() || (*before)->timeline.begin() >= begun_before) return absl::OkStatus();
    Change change = ChangeFrom(*before, kGatePrincipal);
    change.action = kActionRenewEvidence;
    change.reason = reason;
    change.after.notified_checks.clear();
    return Apply(std::move(change), false, &wake).status();
  };
  const absl::Status status = run();
  wake.WakeAll();
  return status;
}

}  // namespace lockstep::engine
