// The loops of the benchmarks in process.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "tests/bench/bench_client.h"
#include "tests/support/allocation_counter.h"

namespace lockstep::bench {

// Calls `call(i)` with i in [0, kInputs), in turn, once per iteration, and counts what it allocates.
template <typename Call>
void Run(benchmark::State& state, Call&& call) {
  size_t i = 0;
  call(i);  // what a thread's first call sets up is not part of the price
  const uint64_t before = ThreadAllocations();
  for (auto _ : state) {
    i = (i + 1) % kInputs;
    benchmark::DoNotOptimize(call(i));
  }
  state.counters["allocations"] = benchmark::Counter(static_cast<double>(ThreadAllocations() - before),
                                                     benchmark::Counter::kAvgIterations);
}

// The same, save that the next input depends on the outcome of the last: what a caller that acts on each
// answer waits for, where Run above lets the processor overlap calls. `call` returns 0 or 1.
template <typename Call>
void RunChained(benchmark::State& state, Call&& call) {
  size_t i = 0;
  for (auto _ : state) {
    i = (i + 1 + static_cast<size_t>(call(i))) % kInputs;
    benchmark::DoNotOptimize(i);
  }
  state.counters["allocations"] = 0;  // counted by the benchmark that is not chained
}

}  // namespace lockstep::bench
