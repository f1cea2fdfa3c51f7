// A server of the API in the test's process, on a port of its own: answers from a script, and keeps what it
// was asked.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/mutex.h"
#include "google/protobuf/message.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/gate_service.grpc.pb.h"
#include "lockstep/v1/migration_service.grpc.pb.h"
#include "lockstep/v1/routing_service.grpc.pb.h"

namespace lockstep::cli {

// What the next calls do. Set it up before the call; read it after the call.
struct Script {
  absl::Status status;                              // what every call but the streams fails with, unless OK
  std::map<std::string, v1::Migration> migrations;  // by name; unknown ones are NOT_FOUND
  v1::Migration changed;                            // answer of every state change
  bool point_of_no_return = false;  // an advance is refused unless it accepts that there is no way back
  v1::EvictInstanceResponse evicted;
  v1::DrillRollbackResponse drill;
  // What the next calls of ListInstances answer, one after the other; then `instances`.
  std::vector<std::vector<v1::Instance>> instances_before;
  std::vector<v1::Migration> watched;  // what a watch streams ...
  absl::Status watch_end;              // ... before it ends with this; OK = it goes on until it is cancelled
  size_t watch_breaks = 0;             // this many streams break (UNAVAILABLE) after their first message
  std::vector<v1::Instance> instances;
  std::vector<v1::DecisionRecord> decisions;
  std::vector<v1::MismatchSample> mismatches;
  v1::RouteResponse route;
  v1::ExplainGateResponse explanation;
  std::vector<v1::EvidenceLine> evidence;
  bool serving = true;
};

class FakeServer final {
 public:
  FakeServer();
  ~FakeServer();

  const std::string& address() const { return address_; }
  Script& script() { return script_; }

  // "StartMigration", in order.
  const std::vector<std::string>& calls() const { return calls_; }
  // The newest request of that type.
  template <typename Request>
  Request Last() const {
    Request request;
    const auto found = requests_.find(request.GetTypeName());
    if (found != requests_.end()) request.ParseFromString(found->second);
    return request;
  }
  // Of the newest call: the metadata "lockstep-principal".
  const std::string& principal() const { return principal_; }

 private:
  class Migrations;
  class Routing;
  class Gate;
  class Health;

  // Records the call; the scripted failure, or OK.
  grpc::Status Record(grpc::ServerContext* context, const std::string& method,
                      const google::protobuf::Message& request);

  std::string address_;
  Script script_;
  std::vector<std::string> calls_;
  std::map<std::string, std::string> requests_;
  std::string principal_;
  std::unique_ptr<Migrations> migrations_;
  std::unique_ptr<Routing> routing_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<Health> health_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace lockstep::cli
