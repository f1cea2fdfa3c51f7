// GateService: what the gate knows, and why it decides as it does. Thin: wire -> engine -> wire.
#pragma once

#include "core/base/clock.h"
#include "lockstep/v1/gate_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/service/stream_group.h"
#include "server/service/worker_pool.h"

namespace lockstep::service {

// Thread-safe. Owns none of the arguments.
class GateServiceImpl final : public v1::GateService::CallbackService {
 public:
  GateServiceImpl(engine::Engine* engine, WorkerPool* pool, const Clock* clock)
      : engine_(engine), pool_(pool), clock_(clock) {}

  // Ends the open ExportEvidence streams with UNAVAILABLE and refuses new ones, so that a shutdown need not
  // wait.
  void EndStreams() { streams_.EndAll(); }

  grpc::ServerUnaryReactor* ExplainGate(grpc::CallbackServerContext*, const v1::ExplainGateRequest*,
                                        v1::ExplainGateResponse*) override;
  grpc::ServerWriteReactor<v1::EvidenceLine>* ExportEvidence(grpc::CallbackServerContext*,
                                                             const v1::ExportEvidenceRequest*) override;

 private:
  engine::Engine* const engine_;
  WorkerPool* const pool_;
  const Clock* const clock_;
  StreamGroup streams_;
};

}  // namespace lockstep::service
