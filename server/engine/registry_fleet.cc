// What the registry does about single instances: enrolment, eviction, drills, and what they find in a slice.
// See registry.h.
#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/error_info.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/domain/next_hop.h"
#include "server/engine/registry.h"

namespace lockstep::engine {
namespace {

absl::Status EpochAhead(absl::string_view instance_id, absl::string_view migration, uint64_t held,
                        uint64_t published) {
  return WithErrorInfo(
      absl::FailedPreconditionError(absl::StrCat(
          "instance '", instance_id, "' holds epoch ", held, " of ", migration,
          ", but this server has published ", published,
          " at most: its data is older than the instance's. Connect it to the right server, restore the "
          "newest "
          "data, or, if this is all there is, start the server once with --restored-from-backup")),
      {.reason = "EPOCH_AHEAD",
       .metadata = {{"migration", std::string(migration)}, {"published_epoch", absl::StrCat(published)}},
       .field_violations = {},
       .precondition_violations = {}});
}

absl::Status ReasonRequired() {
  return WithErrorInfo(
      absl::InvalidArgumentError("an eviction needs a reason: how it is known that the instance is gone"),
      {.reason = "REASON_REQUIRED",
       .metadata = {},
       .field_violations = {{"change.reason", "is empty; say how it is known that the instance is gone"}},
       .precondition_violations = {}});
}

// The first of the steps that the plan still has which would go wrong beside `holder`, who acts for as long
// as it likes.
void AddRiskOfPlan(const domain::Migration& migration, const StateHistory& history, const Holder& holder,
                   std::vector<std::string>* risks) {
  for (size_t step = static_cast<size_t>(migration.step + 1); step < migration.plan.steps.size(); ++step) {
    const domain::PlanStep& next = migration.plan.steps[step];
    const std::string why = WhyWait(domain::TargetState(migration, next.stage, next.weight), history, holder);
    if (why.empty()) continue;
    risks->push_back(absl::StrCat("it goes on serving without a lease, and step ", step + 1,
                                  " of the plan would no longer wait for it: ", why));
    return;
  }
}

}  // namespace

void Registry::WarnOfDivergence(const EnrolRequest& request, const Entry& entry) const {
  const domain::Migration& migration = *entry.migration;
  const auto held = request.held.find(migration.name);
  if (held == request.held.end() || held->second == 0) return;
  const absl::StatusOr<InstanceView> known = instances_->Find(migration.name, request.instance_id);
  if (known.ok() && known->acknowledged_epoch <= held->second) return;  // fences have waited for it
  StateHistory history = FindStatesSince(migration, held->second);
  if (history.empty() || history.back().epoch != migration.published.epoch) {
    history.push_back(migration.published);
  }
  const std::string why =
      WhyWait(migration.published, history, {request.instance_id, request.service, held->second, false});
  if (why.empty()) return;
  Log(LogLevel::kWarning,
      "an instance is back that fences did not wait for: the sides may have diverged, since it acted on what "
      "can't stand beside what is published; verify them before the migration goes on",
      {{"migration", migration.name},
       {"instance", request.instance_id},
       {"service", request.service},
       {"epoch", absl::StrCat(held->second)},
       {"reason", why}});
}

absl::StatusOr<ConnectionId> Registry::Enrol(EnrolRequest request) {
  if (request.store_epoch != store_epoch_) {
    for (auto& [name, epoch] : request.held) epoch = 0;
  }
  ConnectionId connection = 0;
  {
    MutexLock lock(&mutex_);
    LOCKSTEP_RETURN_IF_ERROR(health());
    std::map<std::string, EpochsAtEnrolment> epochs;
    for (const std::string& name : request.migrations) {
      const absl::StatusOr<EntryPtr> entry = FindEntry(name);
      if (!entry.ok()) continue;
      const domain::RoutingState& state = (*entry)->migration->published;
      const uint64_t epoch = state.epoch;
      const auto held = request.held.find(name);
      if (held != request.held.end() && held->second > epoch) {
        NoteBehind(name, request.instance_id, held->second);
        return EpochAhead(request.instance_id, name, held->second, epoch);
      }
      // Somebody new would be given a state that others may have left for one that can't stand beside it.
      if (held == request.held.end()) LOCKSTEP_RETURN_IF_ERROR(CheckNotBehind(name));
      WarnOfDivergence(request, **entry);
      // Nobody has checked the slice that is held unless it said so over a stream. A hold has one epoch.
      epochs[name] = {epoch, domain::HoldsWrites(state) ? epoch - 1 : epoch};
    }
    connection = instances_->Enrol(request, epochs);
  }
  const absl::Status durable = instances_->CommitEnrolment(request.instance_id);
  if (durable.ok()) return connection;
  instances_->Disconnected(request.instance_id, connection);
  return durable;
}

// Why it would be bad if `instance` were still there: its epochs against what is published, and against what
// its absence lets through.
std::vector<std::string> Registry::RisksOfEvicting(const Entry& entry, const InstanceView& instance) const {
  std::vector<std::string> risks;
  const domain::Migration& migration = *entry.migration;
  const StateHistory history = HistoryOf(entry);
  const Holder holder{instance.instance_id, instance.service, instance.acknowledged_epoch, false};
  const auto add = [&](const domain::RoutingState& state) {
    std::string why = WhyWait(state, history, holder);
    if (!why.empty()) risks.push_back(std::move(why));
  };
  if (migration.pending) {
    const auto hop =
        domain::NextHop(migration.published, *migration.pending, migration.plan.cutover.slice_weight);
    if (hop) add(*hop);
    if (!hop || !hop->RoutesLike(*migration.pending)) add(*migration.pending);
  }
  if (instance.lease_policy == domain::LeasePolicy::kKeepServing)
    AddRiskOfPlan(migration, history, holder, &risks);
  if (instance.lease == LeaseState::kLive) {
    risks.push_back("it is connected and its lease is live, so it is there: it will enrol again at once");
  }
  if (instance.status.repairs > 0 || instance.status.queued_mirrors > 0) {
    risks.push_back(absl::StrCat("mirror writes that only it knows of would be forgotten: ",
                                 domain::DescribeStatus(instance.status)));
  }
  return risks;
}

absl::StatusOr<Eviction> Registry::Evict(absl::string_view name, const std::string& instance_id,
                                         const MutationContext& context) {
  WakeList wake;
  const auto run = [&]() -> absl::StatusOr<Eviction> {
    MutexLock lock(&mutex_);
    LOCKSTEP_ASSIGN_OR_RETURN(std::optional<RequestLog::Answer> repeat, FindRepeat("evict", name, context));
    if (repeat) {
      Eviction eviction;
      eviction.view.migration = std::make_shared<const domain::Migration>(*std::move(repeat->migration));
      eviction.instance.instance_id = instance_id;
      return eviction;
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr before, FindForChange(name, context.etag));
    if (absl::StripAsciiWhitespace(context.reason).empty()) return ReasonRequired();
    Eviction eviction;
    LOCKSTEP_ASSIGN_OR_RETURN(eviction.instance, instances_->Find(name, instance_id));
    eviction.risks = RisksOfEvicting(*before, eviction.instance);
    Change change = ChangeFrom(before, context.principal.name);
    change.action = change.method = "evict";
    change.reason =
        absl::StrCat("instance '", instance_id, "' of '", eviction.instance.service, "' at epoch ",
                     eviction.instance.acknowledged_epoch, " is taken as gone: ", context.reason);
    if (!eviction.risks.empty()) {
      absl::StrAppend(&change.reason, "; should it still act: ", absl::StrJoin(eviction.risks, "; "));
    }
    change.request_id = context.request_id;
    change.keep_gate = true;
    change.evicted = instance_id;
    LOCKSTEP_ASSIGN_OR_RETURN(eviction.view, ApplyAndView(std::move(change), context, &wake));
    return eviction;
  };
  absl::StatusOr<Eviction> eviction = run();
  wake.WakeAll();
  return eviction;
}

absl::StatusOr<MigrationView> Registry::Drill(absl::string_view name, const MutationContext& context) {
  WakeList wake;
  const auto run = [&]() -> absl::StatusOr<MigrationView> {
    MutexLock lock(&mutex_);
    LOCKSTEP_ASSIGN_OR_RETURN(std::optional<RequestLog::Answer> repeat, FindRepeat("drill", name, context));
    if (repeat) {
      return MigrationView{
          std::make_shared<const domain::Migration>(*std::move(repeat->migration)), nullptr, {}, 0};
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr before, FindForChange(name, context.etag));
    if (before->migration->pending) {
      const std::string why = absl::StrCat(
          name, " has a state waiting to be published, which a drill would delay: wait for it, or roll back");
      return WithErrorInfo(absl::FailedPreconditionError(why),
                           {.reason = "FENCE_WAITS",
                            .metadata = {},
                            .field_violations = {},
                            .precondition_violations = {{"FENCE_WAITS", std::string(name), why}}});
    }
    Change change = ChangeFrom(before, context.principal.name);
    change.action = kActionDrill;
    change.method = kActionDrill;
    change.reason =
        context.reason.empty() ? "drill of a rollback: the routing stays as it is" : context.reason;
    change.request_id = context.request_id;
    change.keep_gate = true;
    change.drill = true;
    PublishInto(before->migration->published, change.time, &change.after);
    DropDrained(*before, &change.after);
    return ApplyAndView(std::move(change), context, &wake);
  };
  absl::StatusOr<MigrationView> view = run();
  wake.WakeAll();
  return view;
}

absl::Status Registry::ApplySliceCheck(const std::string& instance_id, const domain::SliceCheck& check) {
  if (check.repaired > 0) {
    Log(LogLevel::kWarning, "records of a held slice had been missed by their mirror and were repaired",
        {{"migration", check.migration},
         {"instance", instance_id},
         {"checked", absl::StrCat(check.checked)},
         {"repaired", absl::StrCat(check.repaired)}});
  }
  if (check.differing == 0 && check.unchecked == 0) return absl::OkStatus();
  WakeList wake;
  const auto run = [&]() -> absl::Status {
    MutexLock lock(&mutex_);
    LOCKSTEP_RETURN_IF_ERROR(health());
    const absl::StatusOr<EntryPtr> before = FindEntry(check.migration);
    if (!before.ok()) return absl::OkStatus();  // deleted meanwhile
    const domain::Migration& migration = *(*before)->migration;
    if (check.epoch != migration.published.epoch || !domain::HoldsWrites(migration.published) ||
        !CheckNotBehind(check.migration).ok()) {
      return absl::OkStatus();  // that hold is over, or nothing may be published
    }
    if (!domain::StopsSlice(migration, check)) {
      NoteLetThrough(instance_id, check);
      return absl::OkStatus();
    }
    const absl::Time now = clock_->Now();
    LOCKSTEP_ASSIGN_OR_RETURN(
        const std::optional<domain::Transition> transition,
        domain::Plan(migration, domain::SliceFailure{instance_id, check}, nullptr, now));
    if (!transition) return absl::OkStatus();
    LOCKSTEP_RETURN_IF_ERROR(
        Apply(TransitionChange(*before, *transition, kFencePrincipal, now), false, &wake).status());
    return PublishPending(check.migration, &wake);
  };
  const absl::Status status = run();
  wake.WakeAll();
  return status;
}

void Registry::NoteLetThrough(const std::string& instance_id, const domain::SliceCheck& check) {
  LetThrough& slice = let_through_[check.migration];
  if (slice.epoch != check.epoch) slice = {check.epoch, {}};
  const auto [noted, is_new] = slice.found.insert_or_assign(instance_id, check);
  if (!is_new) return;  // said again, over another connection
  Log(LogLevel::kWarning,
      "a slice goes back to the old side although not all of its records are known to agree",
      {{"migration", check.migration},
       {"instance", instance_id},
       {"checked", absl::StrCat(check.checked)},
       {"unchecked", absl::StrCat(check.unchecked)},
       {"differing", absl::StrCat(check.differing)},
       {"example", check.example}});
}

std::string Registry::DescribeLetThrough(const Change& change) const {
  const auto slice = let_through_.find(change.name);
  if (change.before == nullptr || slice == let_through_.end()) return "";
  const domain::RoutingState& before = change.before->migration->published;
  const bool moves_back = change.after.published.drain_weight < before.drain_weight &&
                          change.after.published.write_weight <= before.write_weight;
  if (!moves_back || slice->second.epoch != before.epoch) return "";
  constexpr size_t kNamed = 10;
  uint64_t differing = 0, unchecked = 0;
  std::vector<std::string> names;
  for (const auto& [instance_id, check] : slice->second.found) {
    differing += check.differing;
    unchecked += check.unchecked;
    if (names.size() < kNamed) names.push_back(absl::StrCat("'", instance_id, "'"));
  }
  const size_t more = slice->second.found.size() - names.size();
  return absl::StrCat("; of the records of the slice ", differing, " differ and ", unchecked,
                      " could not be compared, as ", absl::StrJoin(names, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "", " found");
}

}  // namespace lockstep::engine
