// cities_service: one instance of the example's service. `cities_service --help` lists the flags.
//
// Stops on SIGTERM or SIGINT. The report file is replaced all the time, so that what a process that is killed
// had seen is there, up to the last moment before.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <map>
#include <thread>

#include "client/examples/cities/files.h"
#include "client/examples/cities/service.h"
#include "core/base/log.h"

namespace {

using lockstep::domain::LeasePolicy;
using lockstep::examples::CitiesService;
using lockstep::examples::MapperVersion;
using lockstep::examples::ServiceOptions;

constexpr timespec kBetweenReports = {.tv_sec = 0, .tv_nsec = 200'000'000};

void WriteReport(const CitiesService& service, const std::string& path) {
  if (path.empty()) return;
  const absl::Status written = lockstep::examples::WriteFile(path, service.Report().ToJson() + "\n");
  if (!written.ok()) std::fprintf(stderr, "cities_service: %s\n", written.ToString().c_str());
}

int Run(const ServiceOptions& options, const std::string& report_path) {
  // Blocked before any thread exists, so that only the waiting thread gets them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  auto service = CitiesService::Create(options);
  if (!service.ok()) {
    std::fprintf(stderr, "cities_service: %s\n", service.status().ToString().c_str());
    return 1;
  }
  std::atomic<bool> stop{false};
  std::thread waiter([&] {
    while (sigtimedwait(&signals, nullptr, &kBetweenReports) < 0) WriteReport(**service, report_path);
    stop = true;
  });
  const absl::Status ended = (*service)->Run(stop);
  waiter.join();
  WriteReport(**service, report_path);
  if (!ended.ok()) {
    std::fprintf(stderr, "cities_service: shutdown: %s\n", ended.ToString().c_str());
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ServiceOptions options;
  std::string report_path;
  CLI::App app(
      "One instance of the cities example: replays writes and serves reads through the Lockstep SDK.",
      "cities_service");
  const std::map<std::string, MapperVersion> mappers = {{"v1", MapperVersion::kLosesLeadingZeros},
                                                        {"v2", MapperVersion::kCorrect}};
  app.add_option("--address", options.address, "lockstepd's host:port")->capture_default_str();
  app.add_option("--instance-id", options.instance_id, "stable id of this instance")->required();
  app.add_option("--migration", options.migration, "namespace/id")->capture_default_str();
  app.add_option("--legacy", options.legacy_path, "the old side's database")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--modern", options.modern_path, "the new side's database; created when missing")
      ->required();
  app.add_option("--oplog", options.oplog_path, "writes to replay")->required()->check(CLI::ExistingFile);
  app.add_option("--acks", options.acks_path, "acknowledgement log; created when missing")->required();
  const std::map<std::string, LeasePolicy> policies = {{"keep-serving", LeasePolicy::kKeepServing},
                                                       {"fail-writes", LeasePolicy::kFailWrites}};
  app.add_option("--state-dir", options.state_directory,
                 "where the SDK keeps its snapshot, enrolment and mirror journal; one for each instance");
  app.add_option("--lease-policy", options.lease_policy,
                 "when the control plane is out of reach for a lease: keep-serving or fail-writes")
      ->transform(CLI::CheckedTransformer(policies))
      ->default_str("keep-serving");
  double lease_seconds = absl::ToDoubleSeconds(options.lease_ttl);
  app.add_option("--lease-seconds", lease_seconds, "how long a lease lasts")
      ->check(CLI::Range(1.0, 600.0))
      ->capture_default_str();
  app.add_option("--mapper", options.mapper, "release of the mapper: v1 or v2")
      ->required()
      ->transform(CLI::CheckedTransformer(mappers));
  app.add_option("--writes-per-second", options.writes_per_second)
      ->check(CLI::Range(0.1, 1e5))
      ->capture_default_str();
  app.add_option("--reads-per-second", options.reads_per_second)
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str();
  app.add_option("--ids", options.id_count, "reads draw ids from 1 to this")
      ->required()
      ->check(CLI::PositiveNumber);
  app.add_option("--zipf", options.zipf_exponent, "exponent of the read distribution")
      ->check(CLI::Range(0.0, 5.0))
      ->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--report", report_path, "keep this file up to date with what was seen, in JSON");
  CLI11_PARSE(app, argc, argv);
  options.lease_ttl = absl::Seconds(lease_seconds);
  return Run(options, report_path);
}
