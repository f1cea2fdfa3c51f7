// The counts of one migration in one bucket of event time.
#pragma once

#include "core/domain/window_stats.h"
#include "core/wire/violations.h"
#include "lockstep/v1/telemetry_service.pb.h"

namespace lockstep::wire {

// Counts of 0 are left out. A sketch is sparse as long as that is shorter: below 1,024 registers.
v1::WindowStats ToProto(const domain::WindowStats& stats);

// Violations: an outcome, a (field, kind) or a latency bucket that comes twice or is unknown; more than
// domain::WindowStats::kMaxFields fields; a count above domain::kMaxCount; a sketch of both forms, or with
// registers that cannot be; slots that are neither none nor 64; affected subjects that don't rise, have no
// events or are more than domain::SubjectEvents::kMaxAffected. Whether the counts fit together is
// for domain::WindowStats::Validate.
domain::WindowStats ReadWindowStats(const v1::WindowStats& stats, const FieldPath& path,
                                    Violations& violations);

}  // namespace lockstep::wire
