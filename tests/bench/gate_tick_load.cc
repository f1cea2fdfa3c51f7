// One tick of the gate loop over many migrations of ten checks, each with a fresh closed bucket of evidence,
// as a server has it once in five seconds; and the ticks in between, which find nothing new.
//
//   gate_tick_load --migrations 1,10,100,1000,10000 --rounds 20
//
// The real engine on the real store (a directory that is removed at the end). Evidence comes the way it comes
// from instances, through telemetry reports, which are not part of the price. One JSON line a round and size:
//   cpu_s, wall_s  of the tick with fresh buckets; CPU time of the ticking thread
//   check_ns       the same for each check
//   idle_cpu_s     of a tick without anything new
//   limit_s        what a tick may take
#include <stdio.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "tests/bench/gate_fleet.h"
#include "tests/bench/many_migrations.h"

namespace lockstep::bench {
namespace {

constexpr double kLimitSeconds = 1;
// Ticks of small fleets are repeated, so that a clock can time them.
constexpr int kLeastMigrationsPerRound = 100;

struct Options {
  std::vector<int> migrations = {1, 10, 100, 1000, 10000};
  int rounds = 20;
  int divide = 1;
  double reads_per_second = 200;
  bool subjects = true;
};

absl::Duration ThreadCpuTime() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return absl::DurationFromTimespec(now);
}

struct Spent {
  absl::Duration cpu, wall;
};

absl::StatusOr<Spent> Tick(GateFleet& fleet) {
  const absl::Time began = absl::Now();
  const absl::Duration before = ThreadCpuTime();
  LOCKSTEP_RETURN_IF_ERROR(fleet.engine().gate().Tick());
  return Spent{ThreadCpuTime() - before, absl::Now() - began};
}

absl::Status MeasureRound(int round, int migrations, GateFleet* fleet) {
  const int ticks = std::max(1, kLeastMigrationsPerRound / fleet->migrations());
  absl::Duration cpu, wall, idle;
  for (int i = 0; i < ticks; ++i) {
    LOCKSTEP_RETURN_IF_ERROR(fleet->Report());
    LOCKSTEP_ASSIGN_OR_RETURN(const Spent fresh, Tick(*fleet));
    LOCKSTEP_ASSIGN_OR_RETURN(const Spent nothing_new, Tick(*fleet));
    cpu += fresh.cpu / ticks;
    wall += fresh.wall / ticks;
    idle += nothing_new.cpu / ticks;
  }
  if (round < 0) return fleet->CheckEvidence();
  const double checks =
      static_cast<double>(fleet->migrations()) * static_cast<double>(TenChecks().checks.size());
  absl::PrintF(R"({"round":%d,"subject":"gate_tick_%d","cpu_s":%.9f,"wall_s":%.9f,)"
               R"("check_ns":%.1f,"idle_cpu_s":%.9f,"limit_s":%g})"
               "\n",
               round, migrations, absl::ToDoubleSeconds(cpu), absl::ToDoubleSeconds(wall),
               absl::ToDoubleNanoseconds(cpu) / checks, absl::ToDoubleSeconds(idle), kLimitSeconds);
  fflush(stdout);
  return absl::OkStatus();
}

absl::Status Measure(const Options& options) {
  std::vector<std::unique_ptr<GateFleet>> fleets;
  for (const int migrations : options.migrations) {
    fleets.push_back(
        std::make_unique<GateFleet>(GateFleetOptions{.migrations = std::max(1, migrations / options.divide),
                                                     .reads_per_second = options.reads_per_second,
                                                     .subjects = options.subjects}));
    LOCKSTEP_RETURN_IF_ERROR(fleets.back()->Start());
  }
  for (int round = -1; round < options.rounds; ++round) {
    for (size_t i = 0; i < fleets.size(); ++i) {
      LOCKSTEP_RETURN_IF_ERROR(MeasureRound(round, options.migrations[i], fleets[i].get()));
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  lockstep::SetLogLevel(lockstep::LogLevel::kError);
  lockstep::bench::Options options;
  CLI::App app("Ticks of the gate loop over many migrations");
  app.add_option("--migrations", options.migrations, "sizes of the fleets")->delimiter(',');
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--divide", options.divide, "fleets are so many times smaller than they say, to try it out")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--reads-per-second", options.reads_per_second, "of each migration")->capture_default_str();
  app.add_option("--subjects", options.subjects, "whether reports name subjects")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = lockstep::bench::Measure(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "gate_tick_load: %s\n", status.ToString().c_str());
  return 1;
}
