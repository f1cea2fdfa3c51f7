#include "server/service/telemetry_service.h"

#include <utility>

#include "core/wire/telemetry.h"
#include "core/wire/timestamps.h"
#include "server/service/call.h"

namespace lockstep::service {

grpc::ServerUnaryReactor* TelemetryServiceImpl::ReportComparisons(grpc::CallbackServerContext* context,
                                                                  const v1::ReportComparisonsRequest* request,
                                                                  v1::ReportComparisonsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::StatusOr<domain::TelemetryBatch> batch = wire::TelemetryBatchFromProto(*request, clock_->Now());
  if (!batch.ok()) {
    reactor->Finish(ToGrpcStatus(batch.status()));
    return reactor;
  }
  engine_->telemetry().Report(*std::move(batch),
                              [reactor, response](const absl::StatusOr<engine::TelemetryReceipt>& receipt) {
                                if (receipt.ok()) {
                                  response->set_duplicate(receipt->duplicate);
                                  response->set_stale_deltas(receipt->stale_deltas);
                                  if (receipt->retry_after) {
                                    *response->mutable_retry_after() = wire::ToProto(*receipt->retry_after);
                                  }
                                  if (receipt->samples_per_fingerprint) {
                                    response->set_samples_per_fingerprint(*receipt->samples_per_fingerprint);
                                  }
                                }
                                reactor->Finish(ToGrpcStatus(receipt.status()));
                              });
  return reactor;
}

}  // namespace lockstep::service
