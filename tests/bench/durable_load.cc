// What the server makes durable, beside the least that it takes.
//
//   durable_load --part ingest --pairs 20 --seconds 0.5     telemetry of 2 KB a batch, 64 batches in flight
//   durable_load --part admin --pairs 20                    one client that updates a migration
//
// The server is lockstepd on a RocksDB store in a temporary directory, in a process of its own; beside it
// are an echo that parses the same messages and answers the same replies, in another process, and RocksDB
// alone, written to by this one. Each round loads one after the other for a moment, in an order that rotates.
// Prints JSON lines: first the configuration, then one for every load of a round, and one with what the two
// that bound the server allow together. figures.py makes medians and intervals of them.
#include <grpcpp/grpcpp.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
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
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "core/base/status_macros.h"
#include "core/domain/records.h"
#include "core/wire/telemetry.h"
#include "server/app/server.h"
#include "tests/bench/child_process.h"
#include "tests/bench/closed_loop.h"
#include "tests/bench/route_servers.h"
#include "tests/bench/sync_counter.h"
#include "tests/bench/synced_writers.h"
#include "tests/store/temp_directory.h"
#include "tests/support/api_client.h"
#include "tests/support/http_client.h"

namespace lockstep::bench {
namespace {

using ReportLoop = ClosedLoop<v1::ReportComparisonsRequest, v1::ReportComparisonsResponse>;
using UpdateLoop = ClosedLoop<v1::UpdateMigrationRequest, v1::Migration>;

constexpr char kId[] = "orders";
constexpr size_t kBatchBytes = 2048;
constexpr size_t kValueBytes = 2048;
constexpr uint64_t kSeed = 20240607;
constexpr int kCalibratingUpdates = 32;
constexpr long kTmpfsMagic = 0x01021994;

struct Options {
  std::string part = "ingest";
  int pairs = 20;
  double seconds = 0.5;
  int in_flight = 64;
  // Of a child process.
  std::string serve;
  std::string directory;
  std::string echo_response;
};

// --- Batches ---

// Reads of the old side with their latencies, each compared and equal, until the batch has its size.
domain::TelemetryBatch MakeBatch(uint64_t session) {
  Prng prng(kSeed + session);
  domain::TelemetryBatch batch;
  batch.instance_id = absl::StrCat("instance-", session);
  batch.session = session;
  batch.sequence = 1;
  domain::TelemetryDelta& delta = batch.deltas.emplace_back();
  delta.migration = testing::NameOf(kId);
  delta.generation = 1;
  delta.contract_revision = 1;
  domain::ArmStats& reads = delta.stats.arm(domain::Arm::kOld);
  do {
    const uint64_t subject = prng.Next();
    ++reads.requests;
    reads.latency.Record(1'000'000 + prng.Below(1'000'000) * prng.Below(4));
    delta.stats.subjects.reads[static_cast<size_t>(domain::Arm::kOld)].Record(subject);
    ++delta.stats.comparison(domain::ComparisonOutcome::kMatch);
    delta.stats.subjects.compared.Record(subject);
  } while (wire::ToProto(batch).ByteSizeLong() < kBatchBytes);
  return batch;
}

// One batch for each call in flight, each of a session of its own, sent again and again under the next
// sequence: counted anew every time.
class Sessions {
 public:
  Sessions(int count, uint64_t epoch) {
    for (int i = 0; i < count; ++i) {
      domain::TelemetryBatch batch = MakeBatch(static_cast<uint64_t>(i) + 1);
      batch.deltas[0].epoch = epoch;
      requests_.push_back(wire::ToProto(batch));
      requests_.back().set_sequence(0);
    }
    compared_ = requests_[0].deltas(0).stats().comparisons(0).count();
  }
  // Unread by the loop but for their number: `Next` says what is sent.
  const std::vector<v1::ReportComparisonsRequest>* requests() const { return &requests_; }
  const v1::ReportComparisonsRequest* Next(const v1::ReportComparisonsRequest* at) {
    v1::ReportComparisonsRequest& request = requests_[static_cast<size_t>(at - requests_.data())];
    request.set_sequence(request.sequence() + 1);
    const int64_t now = absl::ToUnixSeconds(absl::Now());
    request.mutable_deltas(0)->mutable_bucket_start()->set_seconds(now - now % 5);
    return &request;
  }
  size_t bytes() const { return requests_[0].ByteSizeLong(); }
  uint64_t compared() const { return compared_; }

 private:
  std::vector<v1::ReportComparisonsRequest> requests_;
  uint64_t compared_ = 0;
};

// --- Servers ---

// Answers at once, looking at nothing.
class EchoTelemetry final : public v1::TelemetryService::CallbackService {
  grpc::ServerUnaryReactor* ReportComparisons(grpc::CallbackServerContext* context,
                                              const v1::ReportComparisonsRequest*,
                                              v1::ReportComparisonsResponse*) override {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};
class EchoMigrations final : public v1::MigrationService::CallbackService {
 public:
  explicit EchoMigrations(v1::Migration response) : response_(std::move(response)) {}

 private:
  grpc::ServerUnaryReactor* UpdateMigration(grpc::CallbackServerContext* context,
                                            const v1::UpdateMigrationRequest*,
                                            v1::Migration* response) override {
    *response = response_;
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  const v1::Migration response_;
};

absl::Status ServeEcho(const Options& options) {
  v1::Migration response;
  if (!response.ParseFromString(absl::HexStringToBytes(options.echo_response))) {
    return absl::InvalidArgumentError("--echo-response is not a Migration");
  }
  EchoTelemetry telemetry;
  EchoMigrations migrations(std::move(response));
  return ServeAll({&telemetry, &migrations}, grpc::InsecureServerCredentials());
}

absl::Status ServeLockstepd(const Options& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(SyncCounts* const syncs, MapSyncCounts(options.directory + "/syncs"));
  CountSyncsIn(syncs);
  app::Config config;
  config.listen = "127.0.0.1:0";
  config.http_port = 0;
  config.data_dir = options.directory + "/data";
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<app::Server> server, app::Server::Start(config));
  AnnounceAndWait(absl::StrCat(server->grpc_port(), " ", server->http_port()));
  server->Drain();
  return absl::OkStatus();
}

// Everything that a part compares.
struct Targets {
  std::string directory;  // of this run, on a disk
  std::unique_ptr<ChildProcess> lockstepd;
  std::unique_ptr<ChildProcess> echo;
  std::unique_ptr<testing::ApiClient> api;
  std::unique_ptr<testing::ApiClient> echo_api;
  std::unique_ptr<SyncedWriters> rocksdb;
  SyncCounts* syncs = nullptr;
  uint16_t http_port = 0;
};

absl::Status CheckOnDisk(const std::string& directory) {
  struct statfs info = {};
  if (statfs(directory.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, directory);
  if (info.f_type != kTmpfsMagic) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(directory, " is in memory: set TMPDIR to a directory on a disk"));
}

absl::Status StartLockstepd(Targets* targets) {
  LOCKSTEP_RETURN_IF_ERROR(CheckOnDisk(targets->directory));
  LOCKSTEP_ASSIGN_OR_RETURN(targets->syncs, MapSyncCounts(targets->directory + "/syncs"));
  LOCKSTEP_ASSIGN_OR_RETURN(targets->lockstepd,
                            ChildProcess::Start({"--serve", "lockstepd", "--directory", targets->directory}));
  const std::vector<std::string> ports = absl::StrSplit(targets->lockstepd->first_line(), ' ');
  uint32_t http_port = 0;
  if (ports.size() != 2 || !absl::SimpleAtoi(ports[1], &http_port)) {
    return absl::InternalError("the server did not say its ports");
  }
  targets->http_port = static_cast<uint16_t>(http_port);
  targets->api = std::make_unique<testing::ApiClient>(absl::StrCat("127.0.0.1:", ports[0]));
  LOCKSTEP_RETURN_IF_ERROR(targets->api->Create(kId, testing::SampleMigration()).status());
  return targets->api->Start(kId).status();
}

absl::Status StartPeers(Targets* targets, const v1::Migration& response) {
  const std::string hex = absl::BytesToHexString(response.SerializeAsString());
  LOCKSTEP_ASSIGN_OR_RETURN(targets->echo, ChildProcess::Start({"--serve", "echo", "--echo-response", hex}));
  targets->echo_api =
      std::make_unique<testing::ApiClient>(absl::StrCat("127.0.0.1:", targets->echo->first_line()));
  LOCKSTEP_ASSIGN_OR_RETURN(targets->rocksdb, SyncedWriters::Open(targets->directory + "/rocksdb"));
  return absl::OkStatus();
}

// Commits that the server has asked its store for.
double CommitsOf(const Targets& targets) {
  return testing::MetricValue(testing::HttpGet(targets.http_port, "/metrics").body,
                              "lockstep_store_commit_duration_seconds_count");
}

uint64_t LogBytes(const std::string& directory) {
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.path().extension() == ".log") bytes += entry.file_size();
  }
  return bytes;
}

// --- Measuring ---

struct Subject {
  std::string name;
  const ChildProcess* server;  // null: none
  std::function<LoadResult(absl::Duration)> load;
};

// Of one load; printed as it comes.
struct Measured {
  double calls_per_s = 0;
  double p50_us = 0;
};

absl::StatusOr<Measured> Measure(const Targets& targets, const Subject& subject, int round,
                                 absl::Duration duration, uint64_t comparisons_per_call) {
  const bool real = subject.server == targets.lockstepd.get();
  const absl::Duration cpu_before =
      subject.server != nullptr ? subject.server->CpuTime() : absl::ZeroDuration();
  const uint64_t log_before = targets.syncs->log, mark_before = targets.syncs->mark;
  const double commits_before = real ? CommitsOf(targets) : 0;
  LoadResult result = subject.load(duration);
  if (!result.first_error.ok() || result.calls_in_time == 0) {
    return absl::UnavailableError(absl::StrCat(subject.name, ": ", result.first_error.ToString()));
  }
  const auto calls = static_cast<double>(result.calls);
  Measured measured;
  measured.calls_per_s = static_cast<double>(result.calls_in_time) / absl::ToDoubleSeconds(duration);
  measured.p50_us = static_cast<double>(result.QuantileNanoseconds(0.5)) / 1e3;
  if (round < 0) return measured;  // a warm-up
  absl::PrintF(R"({"round":%d,"subject":"%s","calls":%d,"calls_per_s":%.1f,"p50_us":%.1f,"p99_us":%.1f)",
               round, subject.name, result.calls, measured.calls_per_s, measured.p50_us,
               static_cast<double>(result.QuantileNanoseconds(0.99)) / 1e3);
  if (subject.server != nullptr) {
    absl::PrintF(R"(,"server_cpu_us":%.3f)",
                 absl::ToDoubleMicroseconds(subject.server->CpuTime() - cpu_before) / calls);
  }
  if (real) {
    const auto log_syncs = static_cast<double>(targets.syncs->log - log_before);
    const auto mark_syncs = static_cast<double>(targets.syncs->mark - mark_before);
    absl::PrintF(
        R"(,"comparisons_per_s":%.0f,"log_syncs_per_call":%.4f,"syncs_per_call":%.4f,"log_syncs_per_commit":%.4f)",
        measured.calls_per_s * static_cast<double>(comparisons_per_call), log_syncs / calls,
        (log_syncs + mark_syncs) / calls, log_syncs / (CommitsOf(targets) - commits_before));
  }
  absl::PrintF("}\n");
  fflush(stdout);
  return measured;
}

// Of the echo and of RocksDB alone: what nobody could beat who does both.
using Limit = std::function<std::string(const Measured& echo, const Measured& rocksdb)>;

// `subjects`: the server, the echo, RocksDB alone.
absl::Status RunRounds(const Options& options, const Targets& targets, const std::vector<Subject>& subjects,
                       uint64_t comparisons_per_call, const Limit& limit) {
  const absl::Duration duration = absl::Seconds(options.seconds);
  for (int round = -1; round < options.pairs; ++round) {
    std::vector<Measured> measured(subjects.size());
    for (size_t i = 0; i < subjects.size(); ++i) {
      const size_t at = (i + static_cast<size_t>(round + 1)) % subjects.size();
      LOCKSTEP_ASSIGN_OR_RETURN(measured[at],
                                Measure(targets, subjects[at], round, duration, comparisons_per_call));
    }
    if (round < 0) continue;
    absl::PrintF(R"({"round":%d,"subject":"limit",%s})"
                 "\n",
                 round, limit(measured[1], measured[2]));
  }
  return absl::OkStatus();
}

ReportLoop::StartCall StartReport(testing::ApiClient* api, Sessions* sessions) {
  return [api, sessions](grpc::ClientContext* context, const v1::ReportComparisonsRequest* request,
                         v1::ReportComparisonsResponse* response, std::function<void(grpc::Status)> done) {
    api->telemetry()->async()->ReportComparisons(context, sessions->Next(request), response, std::move(done));
  };
}

absl::Status CompareIngest(const Options& options, Targets* targets) {
  LOCKSTEP_RETURN_IF_ERROR(StartLockstepd(targets));
  LOCKSTEP_RETURN_IF_ERROR(StartPeers(targets, v1::Migration()));
  LOCKSTEP_ASSIGN_OR_RETURN(const v1::Migration migration, targets->api->Get(kId));
  Sessions sessions(options.in_flight, migration.routing().epoch());
  Sessions echoed(options.in_flight, migration.routing().epoch());
  absl::PrintF(
      R"({"config":{"part":"ingest","pairs":%d,"seconds":%g,"in_flight":%d,"batch_bytes":%d,"comparisons":%d}})"
      "\n",
      options.pairs, options.seconds, options.in_flight, sessions.bytes(), sessions.compared());
  const auto report = [&](testing::ApiClient* api, Sessions* to_send) {
    return [&options, api, to_send](absl::Duration duration) {
      return ReportLoop::Run(StartReport(api, to_send), to_send->requests(), options.in_flight, duration);
    };
  };
  const auto put = [&](absl::Duration duration) {
    return targets->rocksdb->Run(options.in_flight, kValueBytes, duration);
  };
  return RunRounds(options, *targets,
                   {{"ingest", targets->lockstepd.get(), report(targets->api.get(), &sessions)},
                    {"echo", targets->echo.get(), report(targets->echo_api.get(), &echoed)},
                    {"rocksdb", nullptr, put}},
                   sessions.compared(), [](const Measured& echo, const Measured& rocksdb) {
                     return absl::StrFormat(R"("calls_per_s":%.1f)",
                                            std::min(echo.calls_per_s, rocksdb.calls_per_s));
                   });
}

UpdateLoop::StartCall StartUpdate(testing::ApiClient* api) {
  return [api](grpc::ClientContext* context, const v1::UpdateMigrationRequest* request,
               v1::Migration* response, std::function<void(grpc::Status)> done) {
    api->migrations()->async()->UpdateMigration(context, request, response, std::move(done));
  };
}

// Each of them changes what the one before left.
std::vector<v1::UpdateMigrationRequest> MakeUpdates() {
  std::vector<v1::UpdateMigrationRequest> updates(2);
  for (size_t i = 0; i < updates.size(); ++i) {
    updates[i].mutable_migration()->set_name(testing::NameOf(kId));
    updates[i].mutable_migration()->set_description(absl::StrCat("description ", i));
    updates[i].mutable_update_mask()->add_paths("description");
  }
  return updates;
}

absl::Status CompareAdmin(const Options& options, Targets* targets) {
  LOCKSTEP_RETURN_IF_ERROR(StartLockstepd(targets));
  const std::vector<v1::UpdateMigrationRequest> updates = MakeUpdates();
  const uint64_t bytes_before = LogBytes(targets->directory);
  v1::Migration response;
  for (int i = 0; i < kCalibratingUpdates; ++i) {
    LOCKSTEP_ASSIGN_OR_RETURN(
        response, targets->api->Call(&v1::MigrationService::Stub::UpdateMigration, updates[i % 2]));
  }
  const size_t bytes = (LogBytes(targets->directory) - bytes_before) / kCalibratingUpdates;
  LOCKSTEP_RETURN_IF_ERROR(StartPeers(targets, response));
  absl::PrintF(R"({"config":{"part":"admin","pairs":%d,"seconds":%g,"bytes_per_update":%d}})"
               "\n",
               options.pairs, options.seconds, bytes);
  const auto update = [&updates](testing::ApiClient* api) {
    return [&updates, api](absl::Duration duration) {
      return UpdateLoop::Run(StartUpdate(api), &updates, 1, duration);
    };
  };
  const auto put = [&](absl::Duration duration) { return targets->rocksdb->Run(1, bytes, duration); };
  return RunRounds(options, *targets,
                   {{"update", targets->lockstepd.get(), update(targets->api.get())},
                    {"echo", targets->echo.get(), update(targets->echo_api.get())},
                    {"rocksdb", nullptr, put}},
                   0, [](const Measured& echo, const Measured& rocksdb) {
                     return absl::StrFormat(R"("p50_us":%.1f)", echo.p50_us + rocksdb.p50_us);
                   });
}

absl::Status Run(const Options& options) {
  if (options.serve == "echo") return ServeEcho(options);
  if (options.serve == "lockstepd") return ServeLockstepd(options);
  const store::TempDirectory directory;  // outlives the server
  Targets targets;
  targets.directory = directory.path();
  return options.part == "ingest" ? CompareIngest(options, &targets) : CompareAdmin(options, &targets);
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as lockstepd does
  lockstep::SetLogLevel(lockstep::LogLevel::kWarning);
  lockstep::bench::Options options;
  CLI::App app("What the server makes durable, beside the least that it takes");
  app.add_option("--part", options.part)->check(CLI::IsMember({"ingest", "admin"}))->capture_default_str();
  app.add_option("--pairs", options.pairs, "rounds")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--seconds", options.seconds, "per load")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--in-flight", options.in_flight, "batches")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--serve", options.serve)->check(CLI::IsMember({"lockstepd", "echo"}))->group("");
  app.add_option("--directory", options.directory)->group("");
  app.add_option("--echo-response", options.echo_response)->group("");
  CLI11_PARSE(app, argc, argv);

  const absl::Status status = lockstep::bench::Run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "durable_load: %s\n", status.ToString().c_str());
  return 1;
}
