// Long runs of the simulator, and one again.
//
//   lockstep_sim --first-seed 1 --seeds 100000
//   lockstep_sim --first-seed 4711 --seeds 1 --operations 120 --faults crash,delay --broken no-fence
//
// Prints a violation with the trace of its last events and a smaller run that has one, too, and ends with 1.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/log.h"
#include "tests/sim/options.h"

namespace lockstep::sim {
namespace {

struct Flags {
  SimOptions options;
  uint64_t seeds = 1000;
  bool keep_going = false;
  bool shrink = true;  // print the trace of a smaller run
};

bool ParseFaults(absl::string_view text, uint32_t* faults) {
  *faults = 0;
  if (text == "none") return true;
  for (const absl::string_view name : absl::StrSplit(text, ',')) {
    const std::optional<Fault> fault = ParseFault(name);
    if (!fault.has_value()) return false;
    *faults |= uint32_t{1} << static_cast<int>(*fault);
  }
  return true;
}

bool Parse(int argc, char** argv, Flags* flags) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view flag = argv[i];
    if (flag == "--keep-going") {
      flags->keep_going = true;
      continue;
    }
    if (flag == "--trace") {
      flags->options.trace = true;
      continue;
    }
    if (flag == "--no-shrink") {
      flags->shrink = false;
      continue;
    }
    if (++i == argc) return false;
    const absl::string_view value = argv[i];
    bool ok = false;
    if (flag == "--first-seed") ok = absl::SimpleAtoi(value, &flags->options.seed);
    if (flag == "--seeds") ok = absl::SimpleAtoi(value, &flags->seeds);
    if (flag == "--operations") ok = absl::SimpleAtoi(value, &flags->options.operations);
    if (flag == "--faults") ok = ParseFaults(value, &flags->options.faults);
    if (flag == "--broken" && ParseBroken(value).has_value()) {
      flags->options.broken = *ParseBroken(value);
      ok = true;
    }
    if (!ok) return false;
  }
  return true;
}

void Print(const std::vector<std::string>& trace) {
  for (const std::string& line : trace) std::printf("  %s\n", line.c_str());
}

void Explain(SimOptions options, bool shrink) {
  if (shrink) options = Shrink(options);
  options.trace = true;
  const SimResult result = Simulate(options);
  Print(result.trace);
  std::printf("%s\nreplay: %s\n", result.violation.c_str(), ReplayCommand(options).c_str());
}

int Main(int argc, char** argv) {
  Flags flags;
  if (!Parse(argc, argv, &flags)) {
    std::fprintf(stderr,
                 "usage: lockstep_sim [--first-seed S] [--seeds N] [--operations N] [--faults a,b|none]\n"
                 "                    [--broken rule] [--keep-going] [--no-shrink] [--trace]\n");
    return 2;
  }
  SetLogLevel(static_cast<LogLevel>(static_cast<int>(LogLevel::kError) + 1));
  SimStats stats;
  uint64_t failures = 0, done = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (; done < flags.seeds && (failures == 0 || flags.keep_going); ++done) {
    SimOptions options = flags.options;
    options.seed += done;
    const SimResult result = Simulate(options);
    stats.Add(result.stats);
    if (options.trace) Print(result.trace);
    if (result.violation.empty()) continue;
    ++failures;
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(options.seed), result.violation.c_str());
    if (!flags.keep_going) Explain(options, flags.shrink);
    std::fflush(stdout);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%llu seeds in %.1f s (%.0f a second), %llu violations; %s\n",
              static_cast<unsigned long long>(done), seconds,
              static_cast<double>(done) / std::max(seconds, 1e-9), static_cast<unsigned long long>(failures),
              stats.ToString().c_str());
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace lockstep::sim

int main(int argc, char** argv) { return lockstep::sim::Main(argc, argv); }
