// lockstepd as an object: opens the store, starts the engine, listens on both doors, ticks the gate, drains.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/app/config.h"

namespace lockstep::app {

class Server {
 public:
  // Everything is up when it returns. Errors say what is wrong and what to do: data directory locked, damaged
  // or of a newer format; port in use; disk full.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Config& config);

  // As Drain.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t grpc_port() const;
  uint16_t http_port() const;

  // Blocks until `deadline` from now at most: not ready any more, streams are told to reconnect, open calls
  // end, queued telemetry is written. Idempotent; not thread-safe.
  void Drain();

  // OK, or why the process cannot go on (a commit's outcome is unknown): restart it.
  absl::Status health() const;

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep::app
