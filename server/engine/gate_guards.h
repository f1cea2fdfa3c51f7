// Conditions that hold a step whatever the evidence says, as far as only the server knows them. Those that
// follow from what was counted (the share of traffic, too little that could be compared) are made by
// domain::GateEvidence.
#pragma once

#include <vector>

#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "server/engine/instance_table.h"
#include "server/engine/migration_history.h"

namespace lockstep::engine {

// An instance and when its last telemetry batch was counted.
struct ReportingInstance {
  InstanceView instance;
  absl::Time last_report = absl::InfinitePast();
};

//   pending_publish  a state is committed and waits for instances
//   stale_telemetry  a stage that compares, with checks, and no comparisons for
//   plan.telemetry_limits.stale_after;
//                    `last_comparison` is the end of the newest closed bucket with any
std::vector<domain::Guard> TrafficGuards(const GateSubject& subject, absl::Time last_comparison,
                                         absl::Time now);

//   expected_instances   before reads move: fewer enrolled than the plan expects
//   unexpected_instance  before reads move: enrolled, of a service that the plan does not expect
//   silent_instance      while the stage mirrors or compares: enrolled, connected or gone without leaving,
//   and no batch
//                        for plan.telemetry_limits.stale_after. Instances send a batch every 15 s, if only an
//                        empty one.
// `instances` are those enrolled for the migration.
std::vector<domain::Guard> InstanceGuards(const GateSubject& subject,
                                          const std::vector<ReportingInstance>& instances, absl::Time now);

// Whether InstanceGuards opens guards of this name.
bool IsInstanceGuard(const domain::Guard& guard);

}  // namespace lockstep::engine
