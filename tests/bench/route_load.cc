// Unary decisions over the network, beside a bare gRPC echo with messages of the same size.
//
//   route_load --pairs 20 --seconds 0.5 --in-flight 64
//   route_load --client-cores 0 --server-cores 0        # the quietest way to compare CPU time
//   route_load --mtls                                   # each end shows the other a certificate
//
// Three servers run in processes of their own: the routing service on the real engine, an echo, and the same
// echo once more, whose ratio to the first is the noise that every other ratio carries. Each round loads one
// after the other for a moment, in an order that rotates. Prints JSON lines: first the configuration, then
// one for every load of a round. figures.py makes medians and intervals of them.
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "core/base/status_macros.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "tests/bench/bench_certificates.h"
#include "tests/bench/child_process.h"
#include "tests/bench/closed_loop.h"
#include "tests/bench/route_servers.h"

namespace lockstep::bench {
namespace {

using Stub = v1::RoutingService::Stub;
using RouteLoop = ClosedLoop<v1::RouteRequest, v1::RouteResponse>;
using BatchLoop = ClosedLoop<v1::BatchRouteRequest, v1::BatchRouteResponse>;

constexpr size_t kKeyBytes = 24;
constexpr size_t kRequests = 1024;
constexpr size_t kKeysPerBatch = 64;
constexpr uint64_t kSeed = 20240607;

struct Options {
  int pairs = 20;
  double seconds = 0.5;
  int in_flight = 64;
  int batches_in_flight = 16;
  std::vector<int> client_cores;
  std::vector<int> server_cores;
  bool mtls = false;
  std::string certificates;  // directory; empty: no TLS
  std::string serve;
  std::string echo_response;
};

// A server process, and a channel to it.
struct Target {
  std::unique_ptr<ChildProcess> process;
  std::unique_ptr<Stub> stub;
};

// What is measured under one name.
struct Subject {
  std::string name;
  const Target* target;
  size_t decisions_per_call;
  std::function<LoadResult(absl::Duration)> load;
};

std::string MakeKey(Prng* prng) {
  std::string key = "customer-";
  while (key.size() < kKeyBytes) key += static_cast<char>('0' + prng->Below(10));
  return key;
}

std::vector<v1::RouteRequest> MakeRequests() {
  Prng prng(kSeed);
  std::vector<v1::RouteRequest> requests(kRequests);
  for (v1::RouteRequest& request : requests) {
    request.set_migration(kBenchMigration);
    request.set_key(MakeKey(&prng));
  }
  return requests;
}

std::vector<v1::BatchRouteRequest> MakeBatches() {
  Prng prng(kSeed);
  std::vector<v1::BatchRouteRequest> batches(kRequests / kKeysPerBatch);
  for (v1::BatchRouteRequest& batch : batches) {
    batch.set_migration(kBenchMigration);
    for (size_t i = 0; i < kKeysPerBatch; ++i) batch.add_keys(MakeKey(&prng));
  }
  return batches;
}

absl::StatusOr<Target> StartTarget(const Options& options, std::vector<std::string> arguments) {
  if (!options.server_cores.empty()) {
    arguments.insert(arguments.end(), {"--server-cores", absl::StrJoin(options.server_cores, ",")});
  }
  if (!options.certificates.empty())
    arguments.insert(arguments.end(), {"--certificates", options.certificates});
  LOCKSTEP_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials,
                            ChannelCredentialsOf(options.certificates));
  Target target;
  LOCKSTEP_ASSIGN_OR_RETURN(target.process, ChildProcess::Start(arguments));
  target.stub = v1::RoutingService::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", target.process->first_line()), credentials));
  return target;
}

// The routing server's answers to all requests.
absl::StatusOr<std::vector<v1::RouteResponse>> CollectResponses(
    const Target& routing, const std::vector<v1::RouteRequest>& requests) {
  std::vector<v1::RouteResponse> responses(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    const grpc::Status status = routing.stub->Route(&context, requests[i], &responses[i]);
    if (!status.ok()) return absl::UnavailableError(absl::StrCat("Route failed: ", status.error_message()));
  }
  return responses;
}

// The one whose size is the nearest to the mean, for the echo to answer.
const v1::RouteResponse& TypicalResponse(const std::vector<v1::RouteResponse>& responses,
                                         double* mean_bytes) {
  size_t bytes = 0;
  for (const v1::RouteResponse& response : responses) bytes += response.ByteSizeLong();
  *mean_bytes = static_cast<double>(bytes) / static_cast<double>(responses.size());
  const auto distance = [mean = *mean_bytes](const v1::RouteResponse& response) {
    return std::abs(static_cast<double>(response.ByteSizeLong()) - mean);
  };
  return *std::min_element(responses.begin(), responses.end(),
                           [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
}

RouteLoop::StartCall StartRoute(Stub* stub) {
  return [stub](grpc::ClientContext* context, const v1::RouteRequest* request, v1::RouteResponse* response,
                std::function<void(grpc::Status)> done) {
    stub->async()->Route(context, request, response, std::move(done));
  };
}

BatchLoop::StartCall StartBatch(Stub* stub) {
  return [stub](grpc::ClientContext* context, const v1::BatchRouteRequest* request,
                v1::BatchRouteResponse* response, std::function<void(grpc::Status)> done) {
    stub->async()->BatchRoute(context, request, response, std::move(done));
  };
}

// Loads one server and prints what came of it; `round` below 0 is a warm-up and prints nothing.
absl::Status Measure(const Subject& subject, int round, absl::Duration duration) {
  const absl::Duration server_before = subject.target->process->CpuTime();
  const absl::Duration client_before = OwnCpuTime();
  LoadResult result = subject.load(duration);
  const absl::Duration server_cpu = subject.target->process->CpuTime() - server_before;
  const absl::Duration client_cpu = OwnCpuTime() - client_before;
  if (!result.first_error.ok()) {
    return absl::UnavailableError(
        absl::StrCat(subject.name, ": a call failed: ", result.first_error.ToString()));
  }
  if (result.calls_in_time == 0)
    return absl::UnavailableError(absl::StrCat(subject.name, ": no answer in time"));
  if (round < 0) return absl::OkStatus();
  const auto calls = static_cast<double>(result.calls);
  const double calls_per_second = static_cast<double>(result.calls_in_time) / absl::ToDoubleSeconds(duration);
  absl::PrintF(
      R"({"round":%d,"subject":"%s","calls":%d,"calls_per_s":%.1f,"decisions_per_s":%.1f,"p50_us":%.1f,"p99_us":%.1f,)"
      R"("server_cpu_us":%.3f,"client_cpu_us":%.3f})"
      "\n",
      round, subject.name, result.calls, calls_per_second,
      calls_per_second * static_cast<double>(subject.decisions_per_call),
      result.QuantileNanoseconds(0.5) / 1e3, result.QuantileNanoseconds(0.99) / 1e3,
      absl::ToDoubleMicroseconds(server_cpu) / calls, absl::ToDoubleMicroseconds(client_cpu) / calls);
  fflush(stdout);
  return absl::OkStatus();
}

absl::Status RunRounds(const Options& options, const std::vector<Subject>& subjects) {
  const absl::Duration duration = absl::Seconds(options.seconds);
  for (const Subject& subject : subjects) LOCKSTEP_RETURN_IF_ERROR(Measure(subject, -1, duration));
  for (int round = 0; round < options.pairs; ++round) {
    for (size_t i = 0; i < subjects.size(); ++i) {
      const Subject& subject = subjects[(i + static_cast<size_t>(round)) % subjects.size()];
      LOCKSTEP_RETURN_IF_ERROR(Measure(subject, round, duration));
    }
  }
  return absl::OkStatus();
}

absl::Status Compare(const Options& options) {
  LOCKSTEP_RETURN_IF_ERROR(PinToCores(options.client_cores));
  const std::vector<v1::RouteRequest> requests = MakeRequests();
  const std::vector<v1::BatchRouteRequest> batches = MakeBatches();

  LOCKSTEP_ASSIGN_OR_RETURN(const Target routing, StartTarget(options, {"--serve", "routing"}));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<v1::RouteResponse> responses,
                            CollectResponses(routing, requests));
  double mean_bytes = 0;
  const v1::RouteResponse& typical = TypicalResponse(responses, &mean_bytes);
  const std::string hex = absl::BytesToHexString(typical.SerializeAsString());
  LOCKSTEP_ASSIGN_OR_RETURN(const Target echo,
                            StartTarget(options, {"--serve", "echo", "--echo-response", hex}));
  LOCKSTEP_ASSIGN_OR_RETURN(const Target echo_again,
                            StartTarget(options, {"--serve", "echo", "--echo-response", hex}));

  absl::PrintF(
      R"({"config":{"pairs":%d,"seconds":%g,"in_flight":%d,"batches_in_flight":%d,"keys_per_batch":%d,)"
      R"("request_bytes":%d,"response_bytes":%.2f,"echo_response_bytes":%d,"client_cores":"%s","server_cores":"%s"}})"
      "\n",
      options.pairs, options.seconds, options.in_flight, options.batches_in_flight, kKeysPerBatch,
      requests.front().ByteSizeLong(), mean_bytes, typical.ByteSizeLong(),
      absl::StrJoin(options.client_cores, ","), absl::StrJoin(options.server_cores, ","));

  const auto route_load = [&](const Target& target) {
    return [&options, &requests, stub = target.stub.get()](absl::Duration duration) {
      return RouteLoop::Run(StartRoute(stub), &requests, options.in_flight, duration);
    };
  };
  const auto batch_load = [&](absl::Duration duration) {
    return BatchLoop::Run(StartBatch(routing.stub.get()), &batches, options.batches_in_flight, duration);
  };
  return RunRounds(options, {{"route", &routing, 1, route_load(routing)},
                             {"echo", &echo, 1, route_load(echo)},
                             {"echo_again", &echo_again, 1, route_load(echo_again)},
                             {"batch", &routing, kKeysPerBatch, batch_load}});
}

absl::Status Serve(const Options& options) {
  LOCKSTEP_RETURN_IF_ERROR(PinToCores(options.server_cores));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials,
                            ServerCredentialsOf(options.certificates));
  if (options.serve == "routing") return ServeRouting(credentials);
  v1::RouteResponse response;
  if (!response.ParseFromString(absl::HexStringToBytes(options.echo_response))) {
    return absl::InvalidArgumentError("--echo-response is not a RouteResponse");
  }
  return ServeEcho(response, credentials);
}

absl::Status Run(Options options) {
  if (!options.serve.empty()) return Serve(options);
  if (!options.mtls) return Compare(options);
  const std::filesystem::path scratch =
      std::filesystem::temp_directory_path() / absl::StrCat("lockstep-route-", getpid());
  std::filesystem::create_directory(scratch);
  options.certificates = scratch;
  absl::Status status = MakeCertificate(scratch);
  if (status.ok()) status = Compare(options);
  std::filesystem::remove_all(scratch);
  return status;
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as lockstepd does
  lockstep::SetLogLevel(lockstep::LogLevel::kWarning);
  lockstep::bench::Options options;
  CLI::App app("Unary decisions over the network, beside a bare gRPC echo");
  app.add_option("--pairs", options.pairs, "rounds")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--seconds", options.seconds, "per load")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--in-flight", options.in_flight, "unary calls")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--batches-in-flight", options.batches_in_flight)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--client-cores", options.client_cores, "e.g. 0,1; default: all")->delimiter(',');
  app.add_option("--server-cores", options.server_cores, "e.g. 0,1; default: all")->delimiter(',');
  app.add_flag("--mtls", options.mtls, "with a certificate made for this run");
  app.add_option("--certificates", options.certificates)->group("");
  app.add_option("--serve", options.serve)->check(CLI::IsMember({"routing", "echo"}))->group("");
  app.add_option("--echo-response", options.echo_response)->group("");
  CLI11_PARSE(app, argc, argv);

  const absl::Status status = lockstep::bench::Run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "route_load: %s\n", status.ToString().c_str());
  return 1;
}
