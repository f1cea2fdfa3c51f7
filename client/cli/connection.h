// The server, as the command sees it: every call carries a deadline and the principal, and every failure is
// an absl::Status with lockstep::ErrorInfo (core/base/error_info.h) where the server gave one.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/terminal.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/gate_service.grpc.pb.h"
#include "lockstep/v1/migration_service.grpc.pb.h"
#include "lockstep/v1/routing_service.grpc.pb.h"

namespace lockstep::cli {

// "user:ann@host", from USER or LOGNAME and the host's name.
std::string PrincipalOf(const Streams& streams);

// Connects lazily. Thread-compatible.
class Connection {
 public:
  Connection(const std::string& address, absl::Duration timeout, std::string principal);

  // UNAVAILABLE and DEADLINE_EXCEEDED name the address. `wait_for_server`: until the deadline, instead of
  // failing at once, while nobody listens.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request, std::optional<absl::Duration> wait_for_server = {}) {
    grpc::ClientContext context;
    Prepare(&context, wait_for_server.value_or(timeout_));
    context.set_wait_for_ready(wait_for_server.has_value());
    Response response;
    const grpc::Status status = (StubOf<Stub>().*method)(&context, request, &response);
    if (!status.ok()) return Failure(status);
    return response;
  }

  // Calls `on_message` with each message of a stream, until it ends. No deadline: a long answer takes its
  // time, and a server that is gone is noticed.
  template <typename Stub, typename Request, typename Response>
  absl::Status Read(std::unique_ptr<grpc::ClientReader<Response>> (Stub::*method)(grpc::ClientContext*,
                                                                                  const Request&),
                    const Request& request, absl::FunctionRef<void(const Response&)> on_message) {
    grpc::ClientContext context;
    Prepare(&context, absl::InfiniteDuration());
    const auto reader = (StubOf<Stub>().*method)(&context, request);
    Response response;
    while (reader->Read(&response)) on_message(response);
    const grpc::Status status = reader->Finish();
    return status.ok() ? absl::OkStatus() : Failure(status);
  }

  // Calls `on_update` with the migration now and after every change, until it returns false (then OK), the
  // deadline passes (DEADLINE_EXCEEDED) or the server refuses. A stream that broke is opened again for up to
  // 30 s; `on_reconnect` is told why. If the server can't be reached at the first attempt, that is final.
  absl::Status Watch(const std::string& name, absl::Time deadline,
                     absl::FunctionRef<bool(const v1::Migration&)> on_update,
                     absl::FunctionRef<void(const absl::Status&)> on_reconnect);

 private:
  template <typename Stub>
  Stub& StubOf();

  void Prepare(grpc::ClientContext* context, absl::Duration timeout) const;
  absl::Status Failure(const grpc::Status& status) const;
  // One stream. `seen` is set by the first update.
  absl::Status WatchOnce(const std::string& name, absl::Time deadline,
                         absl::FunctionRef<bool(const v1::Migration&)> on_update, bool* seen, bool* stop);

  const std::string address_;
  const absl::Duration timeout_;
  const std::string principal_;
  const std::shared_ptr<grpc::Channel> channel_;
  v1::MigrationService::Stub migrations_;
  v1::RoutingService::Stub routing_;
  v1::GateService::Stub gate_;
  grpc::health::v1::Health::Stub health_;
};

template <>
inline v1::MigrationService::Stub& Connection::StubOf() {
  return migrations_;
}
template <>
inline v1::RoutingService::Stub& Connection::StubOf() {
  return routing_;
}
template <>
inline v1::GateService::Stub& Connection::StubOf() {
  return gate_;
}
template <>
inline grpc::health::v1::Health::Stub& Connection::StubOf() {
  return health_;
}

}  // namespace lockstep::cli
