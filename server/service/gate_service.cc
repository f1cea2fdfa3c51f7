#include "server/service/gate_service.h"

#include "core/base/status_macros.h"
#include "core/wire/gate.h"
#include "core/wire/records.h"
#include "server/service/evidence_stream.h"
#include "server/service/unary.h"

namespace lockstep::service {

grpc::ServerUnaryReactor* GateServiceImpl::ExplainGate(grpc::CallbackServerContext* context,
                                                       const v1::ExplainGateRequest* request,
                                                       v1::ExplainGateResponse* response) {
  return AnswerFromPool(context, pool_, [this, request, response]() -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(const wire::ExplainGateRequest asked,
                              wire::ExplainGateFromProto(*request, clock_->Now()));
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::GateExplanation explanation,
                              engine_->gate().Explain(asked.name, asked.time));
    *response->mutable_gate() = wire::ToProto(explanation.result, explanation.time);
    response->set_step(static_cast<uint32_t>(explanation.step));
    if (explanation.last_decision) {
      *response->mutable_last_decision() = wire::ToProto(*explanation.last_decision);
    }
    return absl::OkStatus();
  });
}

grpc::ServerWriteReactor<v1::EvidenceLine>* GateServiceImpl::ExportEvidence(
    grpc::CallbackServerContext*, const v1::ExportEvidenceRequest* request) {
  return new EvidenceStream(engine_, pool_, &streams_, *request);
}

}  // namespace lockstep::service
