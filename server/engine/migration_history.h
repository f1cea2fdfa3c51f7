// A migration as it was at some moment, from its decision records: what the gate had before it.
#pragma once

#include <memory>
#include <optional>

#include "core/domain/records.h"
#include "server/engine/evidence_timeline.h"

namespace lockstep::engine {

// What the gate needs to know about a migration; consistent in itself.
struct GateSubject {
  std::shared_ptr<const domain::Migration> migration;
  EvidenceTimeline timeline;
};

// As it was at a moment of the past. Of the migration, everything that the gate reads is as it was then:
// plan, contract, published and pending state, step, run state and the times since when they count. The rest
// is as it is now.
struct GatePast {
  GateSubject subject;
  // The newest decision at that moment. `subject` is as it was before a decision of that very moment, so it
  // is what such a decision rested on.
  std::optional<domain::DecisionRecord> last_decision;
};

// Follows decision records. A value.
class MigrationHistory {
 public:
  // `present` gives what does not change; where it stands is forgotten.
  explicit MigrationHistory(domain::Migration present);

  // Records in the order of their numbers.
  void Add(const domain::DecisionRecord& record);

  const domain::Migration& migration() const { return migration_; }
  const EvidenceTimeline& timeline() const { return timeline_; }

 private:
  domain::Migration migration_;
  EvidenceTimeline timeline_;
};

}  // namespace lockstep::engine
