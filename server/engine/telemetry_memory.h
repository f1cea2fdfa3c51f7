// What a batch of telemetry takes in memory while it waits: up to thirty times what it took on the wire,
// since sketches are kept dense.
#pragma once

#include <cstddef>

#include "core/domain/records.h"

namespace lockstep::engine {

// An estimate, on the high side.
size_t MemoryOf(const domain::TelemetryBatch& batch);

}  // namespace lockstep::engine
