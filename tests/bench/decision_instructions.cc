// Calls what a request pays for a fixed number of times, for instructions.py to count the instructions of.
//
// Each loop is a function that is never inlined, under a name that callgrind can be told. What the first call
// of a thread sets up happens before.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/domain/decision.h"
#include "lockstep/client.h"
#include "lockstep/migrator.h"
#include "lockstep/telemetry.h"
#include "tests/bench/bench_client.h"
#include "tests/bench/bench_migrator.h"

namespace lockstep {
namespace {

using bench::Keys;
using bench::kInputs;

constexpr char kMigration[] = "bench/orders";
constexpr char kFullName[] = "namespaces/bench/migrations/orders";

// Keeps `value` from being optimised away.
template <typename T>
void Use(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

struct Subjects {
  bench::BenchMigration migration = bench::MigrationAt(domain::Stage::kDualWrite, kMigration, 0);
  std::unique_ptr<Client> client = bench::MakeClient({migration});
  MigrationHandle handle = *client->Resolve(kMigration);
  std::unique_ptr<bench::BenchMigrator> migrator = bench::MakeMigrator(client.get(), kMigration);
  Attribution to = client->Route(handle, "k")->attribution();
};

}  // namespace

// Names without a namespace, for callgrind.
#define COUNTED extern "C" [[gnu::noinline]] void

COUNTED counted_decide(const Subjects& s, size_t calls) {
  for (size_t i = 0; i < calls; ++i) {
    Use(domain::Decide(s.migration.state, Keys()[i % kInputs], nullptr));
  }
}

COUNTED counted_route_by_handle(const Subjects& s, size_t calls) {
  for (size_t i = 0; i < calls; ++i) {
    Use(s.client->Route(s.handle, Keys()[i % kInputs])->decision());
  }
}

COUNTED counted_route_by_name(const Subjects& s, size_t calls) {
  for (size_t i = 0; i < calls; ++i) {
    Use(s.client->Route(kFullName, Keys()[i % kInputs])->decision());
  }
}

COUNTED counted_migrator_read(const Subjects& s, size_t calls) {
  for (size_t i = 0; i < calls; ++i) Use(s.migrator->Read(static_cast<uint32_t>(i)));
}

COUNTED counted_record_comparison(const Subjects& s, size_t calls) {
  for (size_t i = 0; i < calls; ++i) {
    const absl::string_view key = Keys()[i % kInputs];
    s.client->telemetry().RecordComparison(s.to, s.migration.state.salt_seed,
                                           {.routing_key = key, .subject = key});
  }
}

}  // namespace lockstep

int main(int argc, char** argv) {
  const size_t calls = argc == 2 ? std::strtoul(argv[1], nullptr, 10) : 0;
  if (calls == 0) {
    std::fprintf(stderr, "usage: decision_instructions CALLS\n");
    return 2;
  }
  using namespace lockstep;  // NOLINT
  SetLogLevel(LogLevel::kWarning);
  const Subjects subjects;
  Use(subjects.migrator->Read(0));
  counted_decide(subjects, calls);
  counted_route_by_handle(subjects, calls);
  counted_route_by_name(subjects, calls);
  counted_migrator_read(subjects, calls);
  counted_record_comparison(subjects, calls);
  return 0;
}
