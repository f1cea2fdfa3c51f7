// The healthy system keeps every promise in every run, a seed replays its run exactly, and a failing run is
// shrunk.
//
// LOCKSTEP_SIM_SEEDS and LOCKSTEP_SIM_FIRST_SEED choose other runs; lockstep_sim is for long ones.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/log.h"
#include "tests/sim/fiber.h"
#include "tests/sim/options.h"

namespace lockstep::sim {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

class Simulation : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { SetLogLevel(static_cast<LogLevel>(static_cast<int>(LogLevel::kError) + 1)); }
};

std::string Explain(SimOptions options) {
  options = Shrink(options);
  options.trace = true;
  const SimResult result = Simulate(options);
  const size_t first = result.trace.size() > 200 ? result.trace.size() - 200 : 0;
  return absl::StrCat(
      absl::StrJoin(result.trace.begin() + static_cast<std::ptrdiff_t>(first), result.trace.end(), "\n"),
      "\n", result.violation, "\nreplay: ", ReplayCommand(options));
}

// A part of the seeds, so that they may be tried side by side.
class Promises : public Simulation, public ::testing::WithParamInterface<uint64_t> {};
constexpr uint64_t kParts = 8;

TEST_P(Promises, AreKept) {
  const uint64_t seeds = (FromEnvironment("LOCKSTEP_SIM_SEEDS", 4000) + kParts - 1) / kParts;
  const uint64_t first = FromEnvironment("LOCKSTEP_SIM_FIRST_SEED", 1) + GetParam() * seeds;
  SimStats stats;
  for (uint64_t i = 0; i < seeds; ++i) {
    SimOptions options;
    options.seed = first + i;
    const SimResult result = Simulate(options);
    stats.Add(result.stats);
    ASSERT_EQ(result.violation, "") << "seed " << options.seed << "\n" << Explain(options);
  }
  std::cout << seeds << " seeds from " << first << ": " << stats.ToString() << "\n";
  if (seeds < 100) return;
  // A simulator that goes nowhere finds nothing.
  EXPECT_GT(stats.reached_cutover, seeds / 4);
  EXPECT_GT(stats.held, seeds);
  EXPECT_GT(stats.gate_advances, seeds / 4);
  EXPECT_GT(stats.shutdowns, seeds);
  EXPECT_GT(stats.corrupted, seeds);
  EXPECT_LT(stats.cut_keys, seeds / 10);
}

INSTANTIATE_TEST_SUITE_P(Parts, Promises, ::testing::Range(uint64_t{0}, kParts));

TEST_F(Simulation, WithoutFaultsNothingFails) {
  SimOptions options;
  options.faults = 0;
  for (options.seed = 1; options.seed <= 50; ++options.seed) {
    const SimResult result = Simulate(options);
    ASSERT_EQ(result.violation, "") << "seed " << options.seed;
    EXPECT_EQ(result.stats.cut_keys, 0u);
  }
}

constexpr uint64_t kReplayed = 20;
constexpr char kPrintHashes[] = "LOCKSTEP_SIM_PRINT_HASHES";

TEST_F(Simulation, ASeedReplaysARunExactly) {
  SimOptions options;
  options.trace = true;
  for (options.seed = 1; options.seed <= kReplayed; ++options.seed) {
    const SimResult first = Simulate(options);
    const SimResult second = Simulate(options);
    ASSERT_EQ(first.stats.events, second.stats.events) << "seed " << options.seed;
    ASSERT_EQ(first.trace, second.trace) << "seed " << options.seed;
    // For the other process of the next test.
    if (std::getenv(kPrintHashes) != nullptr)
      std::cout << absl::StrCat("hash ", options.seed, " ", absl::Hex(HashOf(first)), "\n");
  }
}

// Other addresses, another seed of absl's hash tables: nothing may follow from them.
TEST_F(Simulation, ASeedReplaysARunExactlyInAnotherProcess) {
  setenv(kPrintHashes, "1", 1);
  // /proc/self would be the shell's.
  const std::string self = absl::StrCat("/proc/", getpid(), "/exe");
  FILE* const other =
      popen(absl::StrCat(self, " --gtest_filter=Simulation.ASeedReplaysARunExactly").c_str(), "r");
  unsetenv(kPrintHashes);
  ASSERT_NE(other, nullptr);
  std::string printed;
  char part[4096];
  for (size_t n = 0; (n = fread(part, 1, sizeof part, other)) > 0;) printed.append(part, n);
  ASSERT_EQ(pclose(other), 0) << printed;
  SimOptions options;
  options.trace = true;
  for (options.seed = 1; options.seed <= kReplayed; ++options.seed) {
    const std::string line =
        absl::StrCat("hash ", options.seed, " ", absl::Hex(HashOf(Simulate(options))), "\n");
    EXPECT_TRUE(absl::StrContains(printed, line)) << "not the same there: " << line << printed;
  }
}

TEST_F(Simulation, AFailingRunIsShrunk) {
  SimOptions options;
  options.broken = Broken::kNoVersionGuard;
  while (Simulate(options).violation.empty()) ++options.seed;
  const SimOptions smaller = Shrink(options);
  EXPECT_FALSE(Simulate(smaller).violation.empty());
  EXPECT_LE(smaller.operations, options.operations);
  EXPECT_NE(smaller.faults, options.faults);
}

TEST(Fibers, UnwindWhenTheyAreCancelled) {
  FiberPool pool;
  int steps = 0, unwound = 0;
  struct Count {
    int* count;
    ~Count() { ++*count; }
  };
  Fiber* const fiber = pool.New([&] {
    const Count at_end{&unwound};
    while (true) {
      ++steps;
      Fiber::Suspend();
    }
  });
  fiber->Resume();
  fiber->Resume();
  EXPECT_FALSE(fiber->done());
  fiber->Cancel();
  EXPECT_TRUE(fiber->done());
  EXPECT_EQ(steps, 2);
  EXPECT_EQ(unwound, 1);
  pool.Release(fiber);
}

}  // namespace
}  // namespace lockstep::sim
