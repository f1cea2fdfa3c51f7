// TelemetryService: takes in what instances saw. Thin: wire -> engine -> wire.
#pragma once

#include "core/base/clock.h"
#include "lockstep/v1/telemetry_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/service/arena_messages.h"

namespace lockstep::service {

// Thread-safe. Owns neither argument.
class TelemetryServiceImpl final : public v1::TelemetryService::CallbackService {
 public:
  TelemetryServiceImpl(engine::Engine* engine, const Clock* clock) : engine_(engine), clock_(clock) {
    SetMessageAllocatorFor_ReportComparisons(&messages_);
  }

  grpc::ServerUnaryReactor* ReportComparisons(grpc::CallbackServerContext*,
                                              const v1::ReportComparisonsRequest*,
                                              v1::ReportComparisonsResponse*) override;

 private:
  // A batch of 2 KB becomes some 5 KB of messages.
  static constexpr size_t kUsualBatchBytes = 8 << 10;

  ArenaMessages<v1::ReportComparisonsRequest, v1::ReportComparisonsResponse, kUsualBatchBytes> messages_;
  engine::Engine* const engine_;
  const Clock* const clock_;
};

}  // namespace lockstep::service
