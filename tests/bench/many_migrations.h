// A store full of migrations, written through the store's own interface: as a server would have left it, and
// much faster than by asking one.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/base/clock.h"
#include "core/domain/plan.h"
#include "core/domain/window_stats.h"
#include "server/store/record_codec.h"
#include "server/store/store.h"

namespace lockstep::bench {

struct ManyMigrations {
  int count = 1;
  // DUAL_WRITE, SHADOW_READ, then this step, at which each of them stands, RUNNING.
  domain::PlanStep step;
  // Further changes that each of them has seen: paused and resumed in turn, a decision and an audit entry
  // each.
  int further_changes = 0;
  // Closed buckets of evidence that the first of them has, up to now; with these counts.
  int buckets = 0;
  domain::WindowStats bucket;
};

// "namespaces/bench/migrations/m-0000042".
std::string ManyName(int number);

// The ten checks that the benchmarks look at CANARY_READ with: every metric that counts events, some of them
// more than once with other parameters.
domain::PlanStep TenChecks();
// What one bucket holds for all of them: 5 s of `reads_per_second`, subjects named as the SDK names them, or
// not at all. Another one for each `seed`.
domain::WindowStats BusyBucket(double reads_per_second, bool subjects, uint64_t seed);

// Fills an empty store; `clock` says when all of that happened.
absl::Status WriteManyMigrations(const ManyMigrations& many, const store::RecordCodec& codec,
                                 const Clock& clock, store::Store* store);

}  // namespace lockstep::bench
