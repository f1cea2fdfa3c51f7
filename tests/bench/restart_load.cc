// How long the server takes from its start until it is ready, by what its data directory holds.
//
//   restart_load --migrations 10000 --audit-entries 1000000 --rounds 20
//
// The server is the program's own (server/app) in a process of its own, on data directories that are written
// once, through the store's own interface, and removed at the end:
//   empty      nothing
//   created    the migrations, each of them created and taken to CANARY_READ
//   audit      the same migrations after so many more changes that there are as many audit entries as asked
//              for, each with the decision that it is of
//   windows    as `created`, and the first of them has 30 days of closed buckets
// One JSON line a round and directory:
//   ready_ms   from the start of the process until it serves
//   cpu_ms     of the process until then
//   rss_mib    its resident memory then
#include <stdio.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "server/app/server.h"
#include "server/store/proto_record_codec.h"
#include "server/store/rocksdb_store.h"
#include "tests/bench/child_process.h"
#include "tests/bench/many_migrations.h"
#include "tests/store/temp_directory.h"

namespace lockstep::bench {
namespace {

constexpr int kEntriesOfCreation = 4;  // created, started, advanced twice
constexpr int kThirtyDaysOfBuckets = 30 * 24 * 3600 / 5;

struct Options {
  int migrations = 10'000;
  int audit_entries = 1'000'000;
  int buckets = kThirtyDaysOfBuckets;
  int rounds = 20;
  std::string serve;  // of a child process: the data directory
};

double ResidentMib() {
  std::ifstream file("/proc/self/statm");
  double size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

absl::Status Serve(const std::string& directory) {
  app::Config config;
  config.listen = "127.0.0.1:0";
  config.http_port = 0;
  config.data_dir = directory;
  config.gate_interval = absl::Hours(1);  // what it does later is no part of the start
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<app::Server> server, app::Server::Start(config));
  AnnounceAndWait(absl::StrCat(ResidentMib()));
  return absl::OkStatus();
}

struct Subject {
  std::string name;
  std::unique_ptr<store::TempDirectory> directory = std::make_unique<store::TempDirectory>();
};

absl::Status Fill(const ManyMigrations& many, const Subject& subject) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<store::Store> store,
                            store::OpenRocksDbStore({.path = subject.directory->path()}));
  return WriteManyMigrations(many, store::ProtoRecordCodec(), *SystemClock::Get(), store.get());
}

absl::Status MeasureStart(const Subject& subject, int round) {
  const absl::Time began = absl::Now();
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<ChildProcess> server,
                            ChildProcess::Start({"--serve", subject.directory->path()}));
  const absl::Duration ready = absl::Now() - began;
  const absl::Duration cpu = server->CpuTime();
  double rss_mib = 0;
  if (!absl::SimpleAtod(server->first_line(), &rss_mib)) {
    return absl::InternalError(absl::StrCat("the server said ", server->first_line()));
  }
  if (round < 0) return absl::OkStatus();  // the first start moves the log into table files
  absl::PrintF(R"({"round":%d,"subject":"%s","ready_ms":%.3f,"cpu_ms":%.3f,"rss_mib":%.2f})"
               "\n",
               round, subject.name, absl::ToDoubleMilliseconds(ready), absl::ToDoubleMilliseconds(cpu),
               rss_mib);
  fflush(stdout);
  return absl::OkStatus();
}

absl::Status Measure(const Options& options) {
  const ManyMigrations created = {.count = options.migrations, .step = TenChecks()};
  ManyMigrations audit = created;
  audit.further_changes = options.audit_entries / options.migrations - kEntriesOfCreation;
  ManyMigrations windows = created;
  windows.buckets = options.buckets;
  windows.bucket = BusyBucket(200, false, 0);
  std::vector<Subject> subjects;
  for (const char* const name : {"empty", "created", "audit", "windows"}) subjects.push_back({name});
  LOCKSTEP_RETURN_IF_ERROR(Fill(created, subjects[1]));
  LOCKSTEP_RETURN_IF_ERROR(Fill(audit, subjects[2]));
  LOCKSTEP_RETURN_IF_ERROR(Fill(windows, subjects[3]));
  for (int round = -1; round < options.rounds; ++round) {
    for (size_t i = 0; i < subjects.size(); ++i) {
      const size_t turn = (i + static_cast<size_t>(round + 1)) % subjects.size();
      LOCKSTEP_RETURN_IF_ERROR(MeasureStart(subjects[turn], round));
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as lockstepd does
  lockstep::SetLogLevel(lockstep::LogLevel::kError);
  lockstep::bench::Options options;
  CLI::App app("Starts of the server on data directories of different sizes");
  app.add_option("--migrations", options.migrations)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--audit-entries", options.audit_entries)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--buckets", options.buckets, "of the directory `windows`")->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--serve", options.serve)->group("");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status =
      options.serve.empty() ? lockstep::bench::Measure(options) : lockstep::bench::Serve(options.serve);
  if (status.ok()) return 0;
  std::fprintf(stderr, "restart_load: %s\n", status.ToString().c_str());
  return 1;
}
