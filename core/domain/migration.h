// A migration as the control plane holds it: definition, plan, and where it stands.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/contract.h"
#include "core/domain/plan.h"
#include "core/domain/routing_state.h"

namespace lockstep::domain {

// What the gate loop may do with it. The stage alone doesn't say whether somebody wants it to move.
enum class RunState : uint8_t {
  kDraft,       // created, at OFF, never started in this generation
  kRunning,     // the gate moves it along the plan
  kPaused,      // an operator or a breach stopped it where it stands; only a rollback still moves it
  kRolledBack,  // went back; waits for `resume`
  kSucceeded,   // the last step of the plan has passed
};

absl::string_view RunStateName(RunState state);

struct Migration {
  std::string name;  // "namespaces/{ns}/migrations/{id}"
  std::string uid;   // UUID; a deleted and recreated migration has another one
  std::string description;
  std::map<std::string, std::string> labels;
  std::vector<std::string> owners;
  std::string salt;  // immutable; "{uid}" unless given
  MigrationPlan plan;
  uint64_t plan_revision = 1;  // raised by every edit of the plan
  Contract contract;
  Pins pins;

  RunState run_state = RunState::kDraft;
  std::string run_state_reason;  // one sentence for people
  int step = -1;                 // index into plan.steps; -1 = OFF, before the first step
  absl::Time step_started_at = absl::InfinitePast();  // when the step's state was published
  // Since when the step's deadline runs: the step's state was published, or it was resumed.
  absl::Time deadline_from = absl::InfinitePast();
  // Checks of the step whose breach has been announced (BreachAction::kNotify).
  std::vector<std::string> notified_checks;
  absl::Time rolled_back_at = absl::InfinitePast();
  // The rollback that is under way goes on although records of a slice differ (Command::accept_differences).
  bool accept_differences = false;
  // Records of a slice that were found to differ when it was last kept from moving (by one instance: others
  // may know of more); 0 once a slice has moved.
  uint32_t differing_records = 0;

  // What services act on. `pending` is committed but waits until it may coexist with every live epoch.
  RoutingState published;
  absl::Time published_at = absl::InfinitePast();
  std::optional<RoutingState> pending;
  absl::Time pending_since = absl::InfinitePast();
  // Earlier published states that some instance may still act on, oldest first, `published` excluded.
  std::vector<RoutingState> draining;

  absl::Time create_time = absl::InfinitePast();
  absl::Time update_time = absl::InfinitePast();
  // Raised by every commit that touches this migration; its decimal form is the etag.
  uint64_t version = 0;
  // Number of decision records so far.
  uint64_t decision_count = 0;
};

// When the deadline of the step passes. InfiniteFuture when none is running: the step has none, the migration
// is not RUNNING, or it has left the step and waits for its next state to be published.
absl::Time DeadlineOf(const Migration& migration);

// Resource names.
struct MigrationId {
  std::string ns;
  std::string id;
};
// Accepts "namespaces/{ns}/migrations/{id}" and the short form "{ns}/{id}". Each part is 1 to 63 characters
// of [a-z0-9-], starting with a letter and not ending with '-'. INVALID_ARGUMENT says which part is wrong and
// why.
absl::StatusOr<MigrationId> ParseMigrationName(absl::string_view name);
std::string FullMigrationName(const MigrationId& id);
std::string ShortMigrationName(absl::string_view full_name);

}  // namespace lockstep::domain
