// Measures the gate against its bar and prints a table: claim, bar, measured, pass or MISSED.
//
//   gate_bar [--full] [--seed N] [--threads N] [--only POINT]...
//
// --full: the numbers of runs that the bar asks for (many minutes); otherwise as many as CI has time for.
// Exit code: 0 = every bar is met, 1 = one is missed, 2 = wrong usage.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/gate/bar.h"

namespace lockstep::bar {
namespace {

struct Point {
  int number;
  const char* title;
  Report (*measure)(const Options&);
};

constexpr Point kPoints[] = {{1, "calibration at the edge of each null", MeasureCalibration},
                             {2, "false rollback of A/A traffic", MeasureFalseRollbacks},
                             {3, "detection", MeasureDetection},
                             {4, "advance although bad", MeasureFalseAdvances},
                             {5, "clean certificate", MeasureCleanCertificate},
                             {6, "end to end", MeasureEndToEnd},
                             {7, "bursts", MeasureBursts},
                             {8, "replay", MeasureReplay}};

struct Arguments {
  Options options;
  std::vector<int> only;
};

std::optional<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  arguments.options.threads = std::max(1u, std::thread::hardware_concurrency());
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--full") {
      arguments.options.full = true;
      continue;
    }
    uint64_t value = 0;
    if (i + 1 == words.size() || !absl::SimpleAtoi(words[i + 1], &value)) return std::nullopt;
    if (words[i] == "--seed") {
      arguments.options.seed = value;
    } else if (words[i] == "--threads" && value > 0 && value <= 1024) {
      arguments.options.threads = value;
    } else if (words[i] == "--only" && value >= 1 && value <= std::size(kPoints)) {
      arguments.only.push_back(static_cast<int>(value));
    } else {
      return std::nullopt;
    }
    ++i;
  }
  return arguments;
}

void Print(const Report& report) {
  size_t claim = 0, bar = 0, measured = 0;
  for (const Row& row : report.rows) {
    claim = std::max(claim, row.claim.size());
    bar = std::max(bar, row.bar.size());
    measured = std::max(measured, row.measured.size());
  }
  for (const Row& row : report.rows) {
    std::string line =
        absl::StrFormat("  %-*s  %-*s  %-*s", static_cast<int>(claim), row.claim, static_cast<int>(bar),
                        row.bar, static_cast<int>(measured), row.measured);
    if (row.passed) absl::StrAppend(&line, *row.passed ? "  pass" : "  MISSED");
    std::cout << line.substr(0, line.find_last_not_of(' ') + 1) << "\n";
  }
  for (const std::string& note : report.notes) std::cout << "  note: " << note << "\n";
}

int Run(const Arguments& arguments) {
  size_t missed = 0, bars = 0;
  std::cout << "gate bar: seed " << arguments.options.seed << ", "
            << (arguments.options.full ? "full" : "brief") << "\n";
  for (const Point& point : kPoints) {
    if (!arguments.only.empty() &&
        std::find(arguments.only.begin(), arguments.only.end(), point.number) == arguments.only.end()) {
      continue;
    }
    const auto started = std::chrono::steady_clock::now();
    const Report report = point.measure(arguments.options);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
    std::cout << absl::StrFormat("\n%d. %s (%.0f s)\n", point.number, point.title, took.count());
    Print(report);
    std::cout.flush();
    for (const Row& row : report.rows) {
      bars += row.passed ? 1 : 0;
      missed += row.passed && !*row.passed ? 1 : 0;
    }
  }
  std::cout << "\n" << bars - missed << " of " << bars << " bars met\n";
  return missed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace lockstep::bar

int main(int argc, char** argv) {
  const auto arguments = lockstep::bar::Parse({argv + 1, argv + argc});
  if (!arguments) {
    std::cerr << "usage: gate_bar [--full] [--seed N] [--threads N] [--only POINT (1 to 8)]...\n";
    return 2;
  }
  return lockstep::bar::Run(*arguments);
}
