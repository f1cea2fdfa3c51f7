// lockstepd inside the test: every layer, on loopback, in memory unless a data directory is given.
#pragma once

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "server/app/server.h"

namespace lockstep::testing {

// Ports of its own, no gate ticks for a day, a short drain; change what the test is about.
inline app::Config QuietConfig() {
  app::Config config;
  config.listen = "127.0.0.1:0";
  config.http_port = 0;
  config.store = app::StoreKind::kMemory;
  config.gate_interval = absl::Hours(24);
  config.drain_timeout = absl::Seconds(5);
  return config;
}

inline std::unique_ptr<app::Server> StartServer(const app::Config& config = QuietConfig()) {
  SetLogLevel(LogLevel::kError);
  absl::StatusOr<std::unique_ptr<app::Server>> server = app::Server::Start(config);
  LOCKSTEP_CHECK(server.ok(), server.status().ToString().c_str());
  return *std::move(server);
}

inline std::string AddressOf(const app::Server& server) {
  return absl::StrCat("127.0.0.1:", server.grpc_port());
}

}  // namespace lockstep::testing
