// What a decision costs in process, beside the least that any decision by hashing has to do.
//
// The floor is XXH3-64 of the same 24-byte key, an acquire load of a pointer, and a compare. Everything here
// runs over the same keys, so that ratios within one run mean something; run.sh takes them over many short
// runs. Each benchmark also reports how many heap allocations a call makes.
#define XXH_INLINE_ALL
#include <benchmark/benchmark.h>
#include <xxhash.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "core/domain/bucketing.h"
#include "core/domain/decision.h"
#include "core/domain/latency_sketch.h"
#include "core/domain/routing_state.h"
#include "lockstep/client.h"
#include "tests/bench/bench_client.h"
#include "tests/bench/bench_loop.h"

namespace lockstep {
namespace {

using bench::Keys;
using bench::kInputs;
using bench::kSeed;
using bench::Run;
using bench::RunChained;

constexpr char kMigration[] = "bench/orders";
constexpr char kFullName[] = "namespaces/bench/migrations/orders";
constexpr char kSalt[] = "2f1c9a52-8f6e-4d3b-9a70-5c1e6b7d8e9f";
constexpr uint32_t kReadWeight = 5000;  // 5 % of keys

// Between 1 us and 16 s, about evenly over the magnitudes.
const std::array<uint64_t, kInputs>& Latencies() {
  static const std::array<uint64_t, kInputs> latencies = [] {
    std::array<uint64_t, kInputs> made;
    Prng prng(kSeed);
    for (uint64_t& nanoseconds : made) nanoseconds = (1000 + prng.Below(1000)) << prng.Below(24);
    return made;
  }();
  return latencies;
}

domain::RoutingState CanaryState() {
  domain::RoutingState state = domain::StateOfStage(domain::Stage::kCanaryRead, kReadWeight);
  state.epoch = 1;
  state.salt_seed = domain::SaltSeed(kSalt);
  return state;
}

// A service's client, connected to a control plane in memory that serves one migration in CANARY_READ. One
// for the whole program, as in a service.
const Client& SharedClient() {
  static const std::unique_ptr<Client> client =
      bench::MakeClient({{kMigration, domain::StateOfStage(domain::Stage::kCanaryRead, kReadWeight)}});
  return *client;
}

// As a caller would have it: not a call of its own.
[[gnu::always_inline]] inline domain::Side SideOf(const absl::StatusOr<RouteHandle>& route) {
  LOCKSTEP_CHECK(route.ok(), "routing failed");
  return route->decision().read_side;
}

struct FloorState {
  uint64_t seed;
  uint64_t bound;
};

const FloorState kFloorState = {domain::SaltSeed(kSalt), UINT64_MAX / domain::kBucketCount* kReadWeight};
std::atomic<const FloorState*> floor_state{&kFloorState};

bool DecideAtLeast(absl::string_view key) {
  const FloorState* const now = floor_state.load(std::memory_order_acquire);
  return XXH3_64bits_withSeed(key.data(), key.size(), now->seed) < now->bound;
}

void Floor(benchmark::State& state) {
  const auto& keys = Keys();
  Run(state, [&](size_t i) { return DecideAtLeast(keys[i]); });
}

void FloorChained(benchmark::State& state) {
  const auto& keys = Keys();
  RunChained(state, [&](size_t i) { return DecideAtLeast(keys[i]); });
}

void Bucket(benchmark::State& state) {
  const uint64_t seed = domain::SaltSeed(kSalt);
  const auto& keys = Keys();
  Run(state, [&](size_t i) { return domain::BucketOfHash(domain::KeyHash(seed, keys[i])); });
}

void Decide(benchmark::State& state) {
  const domain::RoutingState routing = CanaryState();
  const auto& keys = Keys();
  Run(state, [&](size_t i) { return domain::Decide(routing, keys[i], nullptr); });
}

void RouteByHandle(benchmark::State& state) {
  const Client& client = SharedClient();
  const MigrationHandle migration = *client.Resolve(kMigration);
  const auto& keys = Keys();
  Run(state, [&](size_t i) { return SideOf(client.Route(migration, keys[i])); });
}

void RouteByHandleChained(benchmark::State& state) {
  const Client& client = SharedClient();
  const MigrationHandle migration = *client.Resolve(kMigration);
  const auto& keys = Keys();
  RunChained(state, [&](size_t i) { return SideOf(client.Route(migration, keys[i])) == domain::Side::kNew; });
}

// A migration with the most keys that may be pinned. Calls are on others, or every second one on one of them.
void RoutePinned(benchmark::State& state, bool half_of_calls) {
  auto pins = std::make_shared<domain::Pins>();
  for (size_t i = 0; half_of_calls && i < kInputs; i += 2) pins->keys.emplace(Keys()[i], domain::Side::kNew);
  for (uint64_t n = 0; pins->keys.size() < domain::kMaxPinnedKeys; ++n) {
    pins->keys.emplace(absl::StrCat("pinned-", absl::Dec(n, absl::kZeroPad16), "-"), domain::Side::kOld);
  }
  domain::RoutingState routing = domain::StateOfStage(domain::Stage::kCanaryRead, kReadWeight);
  routing.pins = std::move(pins);
  const std::unique_ptr<Client> client = bench::MakeClient({{kMigration, routing}});
  const MigrationHandle migration = *client->Resolve(kMigration);
  const auto& keys = Keys();
  Run(state, [&](size_t i) { return SideOf(client->Route(migration, keys[i])); });
}

// While another epoch is published every millisecond, the session takes it in, and what was before it is
// given up.
void RouteInStorm(benchmark::State& state) {
  auto plane = std::make_shared<FakeControlPlane>();
  const std::unique_ptr<Client> client = bench::MakeClient(
      {{kMigration, domain::StateOfStage(domain::Stage::kCanaryRead, kReadWeight)}}, nullptr, plane);
  const MigrationHandle migration = *client->Resolve(kMigration);
  const auto& keys = Keys();
  std::atomic<bool> stop{false};
  std::thread publisher([&] {
    absl::Time next = absl::Now();
    for (uint32_t n = 0; !stop.load(std::memory_order_relaxed); ++n) {
      plane->SetStage(kMigration, domain::Stage::kCanaryRead, kReadWeight + n % 2);
      next += absl::Milliseconds(1);
      absl::SleepFor(next - absl::Now());
    }
  });
  const uint64_t first = client->EpochInForce(migration);
  const absl::Time began = absl::Now();
  Run(state, [&](size_t i) { return SideOf(client->Route(migration, keys[i])); });
  state.counters["epochs_per_s"] = static_cast<double>(client->EpochInForce(migration) - first) /
                                   absl::ToDoubleSeconds(absl::Now() - began);
  stop = true;
  publisher.join();
}

void RouteNamed(benchmark::State& state, absl::string_view name) {
  const Client& client = SharedClient();
  const auto& keys = Keys();
  Run(state, [&](size_t i) { return SideOf(client.Route(name, keys[i])); });
}

void RouteByName(benchmark::State& state) { RouteNamed(state, kFullName); }
void RouteByShortName(benchmark::State& state) { RouteNamed(state, kMigration); }

void SketchRecord(benchmark::State& state) {
  domain::LatencySketch sketch;
  const auto& latencies = Latencies();
  Run(state, [&](size_t i) {
    sketch.Record(latencies[i]);
    return sketch.count();
  });
}

// In the order in which they are compared: the floor beside what is held against it.
BENCHMARK(RouteByHandle)->ThreadRange(1, 2);
BENCHMARK(Floor)->ThreadRange(1, 2);
BENCHMARK(RouteByHandleChained);
BENCHMARK(FloorChained);
BENCHMARK_CAPTURE(RoutePinned, none_of_the_calls, false);
BENCHMARK_CAPTURE(RoutePinned, half_of_the_calls, true);
BENCHMARK(RouteInStorm);
BENCHMARK(RouteByName)->ThreadRange(1, 2);
BENCHMARK(RouteByShortName)->ThreadRange(1, 2);
BENCHMARK(Decide);
BENCHMARK(Bucket);
BENCHMARK(SketchRecord);

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
