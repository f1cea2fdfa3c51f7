// The API as tests call it: over a real channel, errors decoded with their details.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/error_info.h"
#include "lockstep/v1/gate_service.grpc.pb.h"
#include "lockstep/v1/migration_service.grpc.pb.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "lockstep/v1/telemetry_service.grpc.pb.h"
#include "tests/support/eventually.h"

namespace lockstep::testing {

// With what google.rpc details say, for GetErrorInfo.
absl::Status Decode(const grpc::Status& status);

// The reason in the status's ErrorInfo; empty when there is none.
std::string ReasonOf(const absl::Status& status);

// A channel of its own to `address` ("127.0.0.1:7420"), which reconnects without long pauses.
std::shared_ptr<grpc::Channel> NewChannel(const std::string& address);

// Thread-safe.
class ApiClient {
 public:
  explicit ApiClient(const std::string& address) : ApiClient(NewChannel(address)) {}
  explicit ApiClient(std::shared_ptr<grpc::Channel> channel);

  // api.Call(&v1::MigrationService::Stub::GetMigration, request)
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request, absl::Duration timeout = kPatience) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    if (!principal_.empty()) context.AddMetadata("lockstep-principal", principal_);
    Response response;
    const grpc::Status status = (StubOf<Stub>()->*method)(&context, request, &response);
    if (!status.ok()) return Decode(status);
    return response;
  }

  absl::StatusOr<v1::Migration> Create(absl::string_view id, v1::Migration migration);
  absl::StatusOr<v1::Migration> Get(absl::string_view id);
  absl::StatusOr<v1::Migration> Start(absl::string_view id);
  // With an override, so that no gate has to have looked.
  absl::StatusOr<v1::Migration> Advance(absl::string_view id);
  absl::StatusOr<v1::ReportComparisonsResponse> Report(const v1::ReportComparisonsRequest& request);

  // Sent with every call from now on; set it before others use the client.
  void set_principal(std::string principal) { principal_ = std::move(principal); }

  v1::MigrationService::Stub* migrations() { return migrations_.get(); }
  v1::RoutingService::Stub* routing() { return routing_.get(); }
  v1::TelemetryService::Stub* telemetry() { return telemetry_.get(); }
  v1::GateService::Stub* gate() { return gate_.get(); }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  template <typename Stub>
  Stub* StubOf() {
    if constexpr (std::is_same_v<Stub, v1::MigrationService::Stub>) {
      return migrations_.get();
    } else if constexpr (std::is_same_v<Stub, v1::RoutingService::Stub>) {
      return routing_.get();
    } else if constexpr (std::is_same_v<Stub, v1::GateService::Stub>) {
      return gate_.get();
    } else {
      return telemetry_.get();
    }
  }

  const std::shared_ptr<grpc::Channel> channel_;
  std::string principal_;
  std::unique_ptr<v1::MigrationService::Stub> migrations_;
  std::unique_ptr<v1::RoutingService::Stub> routing_;
  std::unique_ptr<v1::TelemetryService::Stub> telemetry_;
  std::unique_ptr<v1::GateService::Stub> gate_;
};

// "namespaces/test/migrations/{id}".
std::string NameOf(absl::string_view id);

// DUAL_WRITE, SHADOW_READ, CANARY_READ at 1 % and at 100 %, each left by hand only; no checks; one declared
// field, "name".
v1::Migration SampleMigration();

// A batch of one delta with `matches` comparisons that matched, in the bucket of now.
v1::ReportComparisonsRequest SampleBatch(absl::string_view instance, uint64_t session, uint64_t sequence,
                                         absl::string_view id, uint64_t matches);

// A request id as clients make them; `number` tells them apart.
std::string RequestId(uint64_t number);

// An instance's stream. Reads block until something comes or the stream ends, at kPatience at the latest.
class WatchClient {
 public:
  explicit WatchClient(ApiClient* api);
  // Cancels what is left.
  ~WatchClient();

  bool Send(const v1::WatchRequest& request) { return stream_->Write(request); }
  // Enrols for these migrations (ids).
  bool Enrol(absl::string_view instance, const std::vector<std::string>& ids,
             const std::map<std::string, uint64_t>& held = {}, uint64_t store_epoch = 0);
  // False at the end of the stream.
  bool Read(v1::WatchResponse* response) { return stream_->Read(response); }
  // What is in force after the next snapshot or delta, which it accepts; heartbeats and drain notices are
  // skipped. One without migrations at the end of the stream.
  v1::Snapshot ReadSnapshot();
  // Acknowledges every migration of the snapshot at its epoch.
  bool Acknowledge(const v1::Snapshot& snapshot);
  // Reads to the end.
  absl::Status Finish();
  void Cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WatchRequest, v1::WatchResponse>> stream_;
  v1::Snapshot in_force_;
  bool finished_ = false;
};

}  // namespace lockstep::testing
