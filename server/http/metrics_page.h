// The engine's numbers in Prometheus text format. Names and labels are part of the public contract (README,
// docs). Labels are migrations, declared fields and enums: never keys, users or instances.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "server/engine/engine.h"

namespace lockstep::http {

std::string RenderMetrics(const engine::EngineMetrics& metrics, absl::string_view version);

}  // namespace lockstep::http
