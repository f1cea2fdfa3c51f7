// What every gRPC method of this project does around its own work: who calls, and how an error is told.
#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "server/engine/mutation_context.h"

namespace lockstep::service {

// Metadata key under which a client names its principal, e.g. "user:ann@host". Not verified: there is no
// authentication in this version.
inline constexpr char kPrincipalMetadataKey[] = "lockstep-principal";

// The caller's principal; "anonymous@PEER" when it names none. Control characters and what exceeds 256 bytes
// are cut.
engine::Principal PrincipalOf(const grpc::CallbackServerContext& context);

// Code and message as they are, with google.rpc details made from the attached lockstep::ErrorInfo.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace lockstep::service
