// The evidence of one migration as a log that can be judged again (core/domain/rehearsal.h), piece by piece,
// so that a slow reader holds nothing but its place.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/domain/rehearsal.h"
#include "server/engine/evidence_retention.h"
#include "server/engine/migration_history.h"
#include "server/engine/registry.h"
#include "server/engine/telemetry.h"

namespace lockstep::engine {

// The log ends with the buckets that were closed when it was opened. Thread-compatible.
class EvidenceExport {
 public:
  // Owns none of the arguments; `subject` has evidence, and all buckets before `closed_before` are closed.
  EvidenceExport(const Registry* registry, const Telemetry* telemetry, const EvidenceRetention* retention,
                 GateSubject subject, absl::Time closed_before);

  // The next lines: the header first, then steps and buckets in the order of time, with at most `limit` > 0
  // buckets. Empty at the end. ABORTED when the migration was deleted meanwhile, so that no part is taken for
  // the whole; FAILED_PRECONDITION (EVIDENCE_EXPIRED) when it began anew and its buckets are no longer kept.
  absl::StatusOr<std::vector<domain::EvidenceLine>> Next(size_t limit);

 private:
  // Lines for the steps that begin at `time` or before and were not told yet.
  void AppendStepsUntil(absl::Time time, std::vector<domain::EvidenceLine>* lines);

  const Registry* const registry_;
  const Telemetry* const telemetry_;
  const EvidenceRetention* const retention_;
  const GateSubject subject_;
  const absl::Time closed_before_;
  bool header_told_ = false;
  size_t steps_told_ = 0;
  absl::Time position_;  // buckets before have been told
};

}  // namespace lockstep::engine
