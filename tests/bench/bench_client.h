// What the benchmarks in process have in common: the keys they route, and a service's client on a control
// plane in memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/check.h"
#include "core/base/prng.h"
#include "core/domain/routing_state.h"
#include "lockstep/client.h"
#include "lockstep/fake_control_plane.h"

namespace lockstep::bench {

inline constexpr size_t kKeyBytes = 24;
inline constexpr size_t kInputs = 1024;  // a power of two; they stay in the first-level cache
inline constexpr uint64_t kSeed = 20240607;

// The same keys for every benchmark: 24 printable bytes, as in "customer-" and a number.
inline const std::array<std::string, kInputs>& Keys() {
  static const std::array<std::string, kInputs> keys = [] {
    std::array<std::string, kInputs> made;
    Prng prng(kSeed);
    for (std::string& key : made) {
      key = "customer-";
      while (key.size() < kKeyBytes) key += static_cast<char>('0' + prng.Below(10));
    }
    return made;
  }();
  return keys;
}

struct BenchMigration {
  std::string name;  // "namespace/id"
  domain::RoutingState state;
};

// A client that has its first snapshot. `executor` may be null: the client's own. `plane`: another one than
// the client's own, for who publishes later.
inline std::unique_ptr<Client> MakeClient(const std::vector<BenchMigration>& migrations,
                                          std::shared_ptr<Executor> executor = nullptr,
                                          std::shared_ptr<FakeControlPlane> plane = nullptr) {
  if (plane == nullptr) plane = std::make_shared<FakeControlPlane>();
  ClientOptions options;
  for (const BenchMigration& migration : migrations) {
    plane->SetState(migration.name, migration.state);
    options.migrations.push_back(migration.name);
  }
  options.transport = plane;
  options.service = "bench";
  options.executor = std::move(executor);
  options.seed = kSeed;
  auto made = Client::Create(std::move(options));
  LOCKSTEP_CHECK(made.ok(), std::string(made.status().message()).c_str());
  const absl::Status ready = (*made)->WaitUntilReady(absl::Now() + absl::Seconds(10));
  LOCKSTEP_CHECK(ready.ok(), std::string(ready.message()).c_str());
  return *std::move(made);
}

}  // namespace lockstep::bench
