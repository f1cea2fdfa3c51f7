// The transport that speaks gRPC to lockstepd.
//
//   auto client = lockstep::ConnectGrpc({.address = "lockstepd:7420"},
//                                       {.service = "orders", .migrations = {"shop/orders"}});
//
// Part of lockstep::client; everything else in the SDK builds without gRPC.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lockstep/client.h"
#include "lockstep/transport.h"

namespace grpc {
class ChannelCredentials;
}

namespace lockstep {

struct GrpcTransportOptions {
  // "host:port" or any gRPC target name.
  std::string address;
  // Null: plain text, for a trusted network or a sidecar only.
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  // How long one telemetry report may take before it is retried.
  absl::Duration report_deadline = absl::Seconds(5);
};

// INVALID_ARGUMENT for an empty address. Does not connect yet: a server that is down shows as
// OnClosed(UNAVAILABLE).
//
// Keepalive pings go out every 10 s, with streams or without, and a peer that does not answer within 5 s is
// given up: the only settings that notice a stopped server behind a dead network.
absl::StatusOr<std::shared_ptr<Transport>> MakeGrpcTransport(GrpcTransportOptions options);

// Client::Create over MakeGrpcTransport; `options.transport` is filled in.
absl::StatusOr<std::unique_ptr<Client>> ConnectGrpc(GrpcTransportOptions transport, ClientOptions options);

}  // namespace lockstep
