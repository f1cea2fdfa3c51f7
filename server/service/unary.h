// The shape of every unary method: work that yields an absl::Status, then Finish with it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/status.h"
#include "server/service/call.h"
#include "server/service/worker_pool.h"

namespace lockstep::service {

// For work that touches memory only: `work` fills the response on gRPC's own thread.
template <typename Work>
grpc::ServerUnaryReactor* AnswerInline(grpc::CallbackServerContext* context, Work&& work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(std::forward<Work>(work)()));
  return reactor;
}

// For work that may wait for the disk. What it captures by pointer (context, request, response) lives until
// Finish.
template <typename Work>
grpc::ServerUnaryReactor* AnswerFromPool(grpc::CallbackServerContext* context, WorkerPool* pool,
                                         Work&& work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  pool->Submit([reactor, work = std::forward<Work>(work)] { reactor->Finish(ToGrpcStatus(work())); });
  return reactor;
}

}  // namespace lockstep::service
