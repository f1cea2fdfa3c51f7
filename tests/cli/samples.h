// Messages that the tests show and send.
#pragma once

#include <vector>

#include "absl/time/time.h"
#include "lockstep/v1/gate_service.pb.h"
#include "lockstep/v1/migration.pb.h"
#include "lockstep/v1/migration_service.pb.h"
#include "lockstep/v1/routing_service.pb.h"

namespace lockstep::cli {

// What "now" is for the samples.
absl::Time SampleNow();

// In CANARY_READ at 1 %, one check passed, one holding, one hopeless; a guard is open.
v1::Migration CanaryMigration();
// Rolled back to SHADOW_READ.
v1::Migration RolledBackMigration();
// Committed to SHADOW_READ, which waits for two instances.
v1::Migration PendingMigration();
// In CUTOVER, on the way from 10 % to 50 %: the writes of the next slice are held, for one instance that has
// not moved on.
v1::Migration CutoverMigration();
// At NEW_ONLY: no way back.
v1::Migration NewOnlyMigration();
v1::Migration DraftMigration();

std::vector<v1::Instance> SampleInstances();
// One for each state of a lease and each policy, one pinned by everything there is.
std::vector<v1::Instance> SampleFleet();
std::vector<v1::DecisionRecord> SampleDecisions();
std::vector<v1::MismatchSample> SampleMismatches();
v1::RouteResponse SampleRoute();

// A gate in which every part says something: a rate that passes, a ratio that holds, a level, a breach that
// only notifies, a guard, a suspect field.
v1::ExplainGateResponse SampleExplanation();

}  // namespace lockstep::cli
