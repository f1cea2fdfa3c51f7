// What an SDK holds: the routing states (and contracts) of the migrations it asked for, at one revision.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/domain/contract.h"
#include "core/domain/routing_state.h"

namespace lockstep::domain {

struct MigrationRouting {
  std::string name;
  RoutingState state;
  Contract contract;
};

// Entries are sorted by name, each name once.
struct Snapshot {
  uint64_t revision = 0;  // the store revision it was taken at; only rises
  std::vector<MigrationRouting> migrations;

  // Null when the migration isn't in it. Logarithmic.
  const MigrationRouting* Find(absl::string_view name) const;
};

// What an SDK checks before it acts on a snapshot: sorted and unique names, every routing state valid, every
// contract valid, and neither revision nor any epoch or generation older than in `last_good` (null: none),
// nor an epoch that routes otherwise than it did there. A state with another salt seed belongs to another
// migration, recreated under the old name, whose epochs count anew. INVALID_ARGUMENT says which migration and
// why; the caller keeps its last good snapshot and sends the message as the NACK's reason.
absl::Status ValidateSnapshot(const Snapshot& snapshot, const Snapshot* last_good);

}  // namespace lockstep::domain
