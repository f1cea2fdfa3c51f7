// TelemetryService: takes in what instances saw. Thin: wire -> engine -> wire.
#pragma once

#include "core/base/clock.h"
#include "lockstep/v1/telemetry_service.grpc.pb.h"
#include "server/engine/engine.h"

namespace lockstep::service {

// Thread-safe. Owns neither argument.
class TelemetryServiceImpl final : public v1::TelemetryService::CallbackService {
 public:
  TelemetryServiceImpl(engine::Engine* engine, const Clock* clock) : engine_(engine), clock_(clock) {}

  grpc::ServerUnaryReactor* ReportComparisons(grpc::CallbackServerContext*,
                                              const v1::ReportComparisonsRequest*,
                                              v1::ReportComparisonsResponse*) override;

 private:
  engine::Engine* const engine_;
  const Clock* const clock_;
};

}  // namespace lockstep::service
