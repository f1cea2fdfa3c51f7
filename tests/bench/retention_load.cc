// What the database takes on disk under a constant load, hour after hour, when evidence is kept for one.
//
//   retention_load --migrations 10 --rounds 20
//
// The real engine on the real store, on a clock that is told: each migration reports a full bucket every 5 s,
// and the engine ticks as often. One JSON line a round, an hour each:
//   peak_mib   the most that all files in the data directory took in that hour
//   third_mib  the same of the third hour: by then the first removals have been
#include <stdio.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/str_format.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "tests/bench/gate_fleet.h"

namespace lockstep::bench {
namespace {

constexpr int kBucketsPerHour = 720;
constexpr int kHoursBefore = 2;

struct Options {
  int migrations = 10;
  int rounds = 20;
  int divide = 1;
};

double Mebibytes(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// Files come and go meanwhile: one that is gone takes nothing.
uint64_t BytesIn(const std::string& directory) {
  uint64_t bytes = 0;
  std::error_code gone;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    const bool is_file = entry.is_regular_file(gone);
    const uint64_t size = is_file ? entry.file_size(gone) : 0;
    if (!gone) bytes += size;
  }
  return bytes;
}

absl::Status Measure(const Options& options) {
  engine::EngineOptions engine;
  engine.evidence.keep = absl::Hours(1) / options.divide;
  GateFleet fleet({.migrations = options.migrations, .engine = engine});
  LOCKSTEP_RETURN_IF_ERROR(fleet.Start());
  const int buckets = std::max(1, kBucketsPerHour / options.divide);
  const int buckets_per_look = std::max(1, buckets / 60);
  double third = 0;
  for (int hour = 0; hour <= kHoursBefore + options.rounds; ++hour) {
    uint64_t peak = 0;
    for (int i = 1; i <= buckets; ++i) {
      LOCKSTEP_RETURN_IF_ERROR(fleet.Report(domain::kTelemetryBucket));
      LOCKSTEP_RETURN_IF_ERROR(fleet.engine().Tick());
      if (i % buckets_per_look == 0) peak = std::max(peak, BytesIn(fleet.directory()));
    }
    if (hour == kHoursBefore) third = Mebibytes(peak);
    if (hour <= kHoursBefore) continue;
    absl::PrintF(R"({"round":%d,"subject":"retention","peak_mib":%.3f,"third_mib":%.3f})"
                 "\n",
                 hour - kHoursBefore - 1, Mebibytes(peak), third);
    fflush(stdout);
  }
  return fleet.CheckEvidence();
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  lockstep::SetLogLevel(lockstep::LogLevel::kError);
  lockstep::bench::Options options;
  CLI::App app("The size of the database under a constant load");
  app.add_option("--migrations", options.migrations)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", options.rounds, "hours looked at")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--divide", options.divide, "hours are so many times shorter, to try it out")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = lockstep::bench::Measure(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "retention_load: %s\n", status.ToString().c_str());
  return 1;
}
