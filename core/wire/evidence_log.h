// Lines of an evidence log: what ExportEvidence sends and `lockstep gate replay` reads, as JSON one object a
// line.
#pragma once

#include "absl/status/statusor.h"
#include "core/domain/rehearsal.h"
#include "lockstep/v1/gate_service.pb.h"

namespace lockstep::wire {

v1::EvidenceLine ToProto(const domain::EvidenceLine& line);

// INVALID_ARGUMENT with every violation, as in "header.plan.steps[0].stage": a line that is nothing, a plan
// that is not valid (its checks may name any field, because a log has no contract), times that are impossible
// or missing, and counts as ReadWindowStats and domain::WindowStats::Validate refuse them. Whether lines
// follow each other rightly is for domain::Rehearsal.
absl::StatusOr<domain::EvidenceLine> EvidenceLineFromProto(const v1::EvidenceLine& line);

}  // namespace lockstep::wire
