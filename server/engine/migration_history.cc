#include "server/engine/migration_history.h"

#include <utility>

#include "core/domain/transition.h"

namespace lockstep::engine {

MigrationHistory::MigrationHistory(domain::Migration present) : migration_(std::move(present)) {
  migration_.run_state = domain::RunState::kDraft;
  migration_.step = -1;
  migration_.step_started_at = absl::InfinitePast();
  migration_.deadline_from = absl::InfinitePast();
  migration_.published = domain::RoutingState();
  migration_.pending.reset();
  migration_.pending_since = absl::InfinitePast();
  migration_.draining.clear();
  migration_.notified_checks.clear();
}

void MigrationHistory::Add(const domain::DecisionRecord& record) {
  const uint64_t timeline_before = timeline_.id();
  timeline_.Add(record);
  const bool published = record.after.epoch != 0 && record.after.epoch != record.before.epoch;
  if (record.after.epoch == 0) {
    migration_.pending = record.after;
    migration_.pending_since = record.time;
  } else {
    migration_.published = record.after;
  }
  if (published && BeginsStep(record.action)) {
    migration_.pending.reset();
    migration_.pending_since = absl::InfinitePast();
    migration_.step_started_at = record.time;
    migration_.deadline_from = record.time;
  } else if (record.action == domain::CommandName(domain::CommandKind::kResume) &&
             timeline_.id() != timeline_before) {
    migration_.step_started_at = record.time;  // the bake time starts anew with the evidence
  }
  if (record.run_state == domain::RunState::kRunning && migration_.run_state != domain::RunState::kRunning) {
    migration_.deadline_from = record.time;
  }
  migration_.run_state = record.run_state;
  migration_.step = record.step;
  migration_.plan_revision = record.plan_revision;
}

}  // namespace lockstep::engine
