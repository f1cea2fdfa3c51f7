// What readers of the registry get: an immutable migration with what is known about it at this moment.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/domain/migration.h"

namespace lockstep::engine {

// An evaluation of a migration's gate. Immutable; thread-safe.
class GateEvaluation {
 public:
  GateEvaluation(domain::GateResult the_result, absl::Time when);
  GateEvaluation(domain::GateFinding finding, absl::Time when);
  GateEvaluation(const GateEvaluation&) = delete;
  GateEvaluation& operator=(const GateEvaluation&) = delete;

  // Without what domain::GateFinding::outline leaves out.
  const domain::GateResult& outline() const { return finding_ ? finding_->outline() : *explained_; }
  // With everything. Worked out for whoever asks first: nobody does for most evaluations, and it takes longer
  // than the verdict.
  const domain::GateResult& result() const;

  const absl::Time time;

 private:
  const std::optional<domain::GateFinding> finding_;
  mutable std::once_flag explain_;
  mutable std::optional<domain::GateResult> explained_;  // written once: before explain_ is through
};

// Somebody whom a pending state waits for.
struct FenceWait {
  // The enrolled instance; "remote decisions" for unary answers that are still valid.
  std::string instance_id;
  std::string service;                      // empty for remote decisions
  uint64_t epoch = 0;                       // the oldest epoch that may still be acted on
  std::string reason;                       // why that epoch and the next state can't coexist, in words
  absl::Time since = absl::InfinitePast();  // since when it stands in the way
  std::string pinned_by;                    // what keeps it there, as it last said; may be empty
  std::string unblock;                      // what would end the wait
  bool operator==(const FenceWait&) const = default;
};

// Cheap to copy.
struct MigrationView {
  std::shared_ptr<const domain::Migration> migration;  // never null
  std::shared_ptr<const GateEvaluation> gate;          // null: not evaluated in this step yet
  // Whom the next hop towards `migration->pending` waits for; empty without one.
  std::vector<FenceWait> waiting;
  size_t waiting_count = 0;  // how many there are: `waiting` names the first of them

  std::string etag() const;
};

// The decimal form of the version.
std::string EtagOf(const domain::Migration& migration);

}  // namespace lockstep::engine
