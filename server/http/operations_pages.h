// The operational pages: /metrics, /healthz, /readyz.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "server/engine/engine.h"
#include "server/http/http_server.h"

namespace lockstep::http {

// Health as the pages see it.
struct OperationsSource {
  engine::Engine* engine = nullptr;  // not owned
  // Whether the process is up to taking calls: false while it starts and while it drains.
  std::function<bool()> ready;
  std::string version;
};

// GET /healthz: 200 as long as the process answers (liveness). GET /readyz: 200 when calls are taken and the
// store accepts commits, else 503 with the reason. GET /metrics: Prometheus text format.
std::map<std::string, HttpHandler> OperationsPages(OperationsSource source);

}  // namespace lockstep::http
