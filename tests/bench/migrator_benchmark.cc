// What a Migrator costs beside the service's own code, and what the SDK pays to count.
//
// Every call runs the same trivial callbacks; BareCallbacks is those alone, called as the Migrator calls
// them, so that the difference of two lines of one run is the Migrator's own price. run.sh takes it over many
// short runs. Each benchmark also reports how many heap allocations a call makes.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/domain/routing_state.h"
#include "core/domain/window_stats.h"
#include "lockstep/client.h"
#include "lockstep/executor.h"
#include "lockstep/migrator.h"
#include "lockstep/telemetry.h"
#include "tests/bench/bench_client.h"
#include "tests/bench/bench_loop.h"
#include "tests/bench/bench_migrator.h"

namespace lockstep {
namespace {

using bench::BenchMigrator;
using bench::Keys;
using bench::Run;
using domain::Stage;

constexpr uint32_t kOnePercent = domain::kBucketCount / 100;
constexpr char kChecked[] = "bench/checked";
constexpr uint64_t kSalt = 0x5eed;
constexpr Attribution kTo = {.migration_index = 0, .generation = 1, .epoch = 2, .contract_revision = 3};

std::string NameAt(Stage stage) { return absl::StrCat("bench/stage-", static_cast<int>(stage)); }

constexpr Stage kStages[] = {Stage::kDualWrite, Stage::kShadowRead, Stage::kCanaryRead, Stage::kCutover,
                             Stage::kNewOnly};

// A service with one migration in each stage, comparing one read in a hundred.
Client* SharedClient() {
  static const std::unique_ptr<Client> client = [] {
    std::vector<bench::BenchMigration> migrations;
    for (const Stage stage : kStages) {
      migrations.push_back(bench::MigrationAt(stage, NameAt(stage), kOnePercent));
    }
    return bench::MakeClient(migrations);
  }();
  return client.get();
}

void Read(benchmark::State& state, Stage stage) {
  const std::unique_ptr<BenchMigrator> migrator = bench::MakeMigrator(SharedClient(), NameAt(stage));
  Run(state, [&](size_t i) { return migrator->Read(static_cast<uint32_t>(i)).ok(); });
}

void Write(benchmark::State& state, Stage stage) {
  const std::unique_ptr<BenchMigrator> migrator = bench::MakeMigrator(SharedClient(), NameAt(stage));
  Run(state, [&](size_t i) { return migrator->Write(static_cast<uint32_t>(i), 1).ok(); });
}

// A read whose other side is read and compared every time, all of it on this thread.
void ReadChecked(benchmark::State& state) {
  const auto executor = std::make_shared<bench::LaterExecutor>();
  const std::unique_ptr<Client> client =
      bench::MakeClient({bench::MigrationAt(Stage::kShadowRead, kChecked, domain::kBucketCount)}, executor);
  const std::unique_ptr<BenchMigrator> migrator = bench::MakeMigrator(client.get(), kChecked);
  Run(state, [&](size_t i) {
    const bool ok = migrator->Read(static_cast<uint32_t>(i)).ok();
    executor->RunAll();
    return ok;
  });
  const domain::WindowStats totals = client->telemetry().Totals(0);
  LOCKSTEP_CHECK(totals.compared() == totals.arm(domain::Arm::kOld).requests, "not every read was compared");
}

// Drops what it is given.
class NoExecutor final : public Executor {
 public:
  void Submit(absl::Duration, Task) override {}
};

// The same as the request sees it: the comparison is prepared, and is somebody else's from there. Dropping it
// is in the price.
void ReadCheckedElsewhere(benchmark::State& state) {
  const std::unique_ptr<Client> client =
      bench::MakeClient({bench::MigrationAt(Stage::kShadowRead, kChecked, domain::kBucketCount)},
                        std::make_shared<NoExecutor>());
  const std::unique_ptr<BenchMigrator> migrator = bench::MakeMigrator(client.get(), kChecked);
  Run(state, [&](size_t i) { return migrator->Read(static_cast<uint32_t>(i)).ok(); });
}

// What the service's code for a read costs, called as the Migrator calls it.
void BareCallbacks(benchmark::State& state) {
  BenchMigrator::RoutingKeyFn routing_key = bench::RoutingKeyOf;
  BenchMigrator::ReadFn read = bench::ReadNumber;
  benchmark::DoNotOptimize(routing_key);
  benchmark::DoNotOptimize(read);
  Run(state, [&](size_t i) {
    const auto key = static_cast<uint32_t>(i);
    std::string routed = routing_key(key);
    benchmark::DoNotOptimize(routed);
    return read(key, ReadContext{}).ok();
  });
}

// A latency takes two.
void TwoClockReads(benchmark::State& state) {
  const Clock& clock = SharedClient()->clock();
  Run(state, [&](size_t) {
    const int64_t start = clock.NanosecondsSinceBoot();
    return clock.NanosecondsSinceBoot() - start;
  });
}

void RouteByHandle(benchmark::State& state) {
  const Client& client = *SharedClient();
  const MigrationHandle migration = *client.Resolve(NameAt(Stage::kDualWrite));
  Run(state, [&](size_t i) { return client.Route(migration, Keys()[i]).ok(); });
}

TelemetryRecorder& SharedRecorder() {
  static TelemetryRecorder recorder({.migrations = {"bench/recorded"}}, SystemClock::Get());
  return recorder;
}

void RecordComparison(benchmark::State& state) {
  TelemetryRecorder& recorder = SharedRecorder();
  Run(state, [&](size_t i) {
    const absl::string_view key = Keys()[i];
    recorder.RecordComparison(kTo, kSalt, {.routing_key = key, .subject = key});
    return i;
  });
}

void RecordRead(benchmark::State& state) {
  TelemetryRecorder& recorder = SharedRecorder();
  Run(state, [&](size_t i) {
    recorder.RecordRead(kTo, domain::Arm::kOld, true, absl::Microseconds(10 + i), {Keys()[i], kSalt});
    return i;
  });
}

// What is compared with each other stands together.
BENCHMARK_CAPTURE(Read, DUAL_WRITE, Stage::kDualWrite);
BENCHMARK(BareCallbacks);
BENCHMARK(TwoClockReads);
BENCHMARK_CAPTURE(Read, SHADOW_READ, Stage::kShadowRead);
BENCHMARK_CAPTURE(Read, CANARY_READ, Stage::kCanaryRead);
BENCHMARK_CAPTURE(Read, CUTOVER, Stage::kCutover);
BENCHMARK_CAPTURE(Read, NEW_ONLY, Stage::kNewOnly);
BENCHMARK_CAPTURE(Write, DUAL_WRITE, Stage::kDualWrite);
BENCHMARK_CAPTURE(Write, SHADOW_READ, Stage::kShadowRead);
BENCHMARK_CAPTURE(Write, CANARY_READ, Stage::kCanaryRead);
BENCHMARK_CAPTURE(Write, CUTOVER, Stage::kCutover);
BENCHMARK_CAPTURE(Write, NEW_ONLY, Stage::kNewOnly);
BENCHMARK(RecordComparison)->ThreadRange(1, 2);
BENCHMARK(RecordRead)->ThreadRange(1, 2);
BENCHMARK(ReadChecked);
BENCHMARK(ReadCheckedElsewhere);
BENCHMARK(RouteByHandle);

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  lockstep::SetLogLevel(lockstep::LogLevel::kWarning);  // standard output is for the figures
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
