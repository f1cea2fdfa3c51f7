// Propagation to many subscribers, beside the least that gRPC can do to send the same bytes to as many
// streams.
//
//   fanout_load --subscribers 1000 --rounds 20
//   fanout_load --subscribers 1000 --pinned-keys 100      # a message of 4 KB
//   fanout_load --subscribers 1000 --telemetry      # every other push while telemetry is at full load
//
// Servers and subscribers run in processes of their own: lockstepd's service, a bare fan-out
// (fanout_servers.h) and the same once more, whose ratio to the first is the noise that every other ratio
// carries. Each server has its own subscribers: streams over a connection each that accept and acknowledge
// whatever they are sent. A round publishes once to each, in an order that rotates, and waits until all have
// acknowledged. One JSON line for every publish:
//   p50_us, p99_us, max_us   from the call of the publish until an instance had the message
//   settled_us               until the server had every acknowledgement
//   server_cpu_us            of the server for each instance: the message, its acceptance and acknowledgement
//   encoded                  times that the message was serialised
//   message_bytes            of the message
//   stream_kib               resident memory of the server for each stream, when all were there
//   pushed_stream_kib        the same after this publish: gRPC keeps some of what a message needed
#include <stdio.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "tests/bench/child_process.h"
#include "tests/bench/fanout_servers.h"
#include "tests/bench/fanout_subscriber.h"
#include "tests/bench/telemetry_pressure.h"

namespace lockstep::bench {
namespace {

constexpr int kSubscribersPerProcess = 1000;
// More streams than this are not worth a third server.
constexpr int kMostForNoise = 1000;

struct Options {
  int subscribers = 1000;
  int rounds = 20;
  int pinned_keys = 0;
  bool telemetry = false;
  // Of a child process.
  std::string serve;
  std::string report;  // address
  SubscribeOptions subscribe;
};

// A server and its subscribers.
struct Target {
  std::unique_ptr<ChildProcess> server;
  double memory_kib = 0;  // of the server, for all streams, before the first push
  std::vector<std::unique_ptr<ChildProcess>> subscribers;
  std::vector<std::string> outputs;
};

// What is measured under one name.
struct Subject {
  std::string name;
  Target* target;
  bool pressed = false;  // telemetry is at full load meanwhile
};

struct Measured {
  int round;
  std::string subject;
  const Target* target;
  Push push;
  double reports_per_s = 0;
};

class Fanout {
 public:
  explicit Fanout(const Options& options)
      : options_(options),
        scratch_(std::filesystem::temp_directory_path() / absl::StrCat("lockstep-fanout-", getpid())) {
    std::filesystem::create_directory(scratch_);
  }
  ~Fanout() { std::filesystem::remove_all(scratch_); }

  absl::Status Run() {
    std::vector<Subject> subjects;
    LOCKSTEP_ASSIGN_OR_RETURN(Target real, StartTarget("fanout"));
    subjects.push_back({"fanout", &real});
    Target bare;
    Target bare_again;
    std::unique_ptr<ChildProcess> reporter;
    if (options_.telemetry) {
      const std::string address = absl::StrCat("127.0.0.1:", real.server->first_line());
      LOCKSTEP_ASSIGN_OR_RETURN(reporter, ChildProcess::Start({"--report", address}));
      subjects.push_back({"fanout_pressed", &real, true});
    } else {
      LOCKSTEP_ASSIGN_OR_RETURN(bare, StartTarget("bare"));
      subjects.push_back({"bare", &bare});
      if (options_.subscribers <= kMostForNoise) {
        LOCKSTEP_ASSIGN_OR_RETURN(bare_again, StartTarget("bare"));
        subjects.push_back({"bare_again", &bare_again});
      }
    }
    LOCKSTEP_RETURN_IF_ERROR(RunRounds(subjects, reporter.get()));
    for (const Subject& subject : subjects) subject.target->subscribers.clear();  // they write what they saw
    for (const Measured& measured : measured_) LOCKSTEP_RETURN_IF_ERROR(Report(measured));
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<Target> StartTarget(const std::string& kind) {
    Target target;
    LOCKSTEP_ASSIGN_OR_RETURN(target.server, ChildProcess::Start({"--serve", kind, "--pinned-keys",
                                                                  absl::StrCat(options_.pinned_keys)}));
    const std::string address = absl::StrCat("127.0.0.1:", target.server->first_line());
    for (int first = 0; first < options_.subscribers; first += kSubscribersPerProcess) {
      const int count = std::min(kSubscribersPerProcess, options_.subscribers - first);
      target.outputs.push_back(scratch_ / absl::StrCat("arrivals-", ++outputs_));
      LOCKSTEP_ASSIGN_OR_RETURN(
          std::unique_ptr<ChildProcess> process,
          ChildProcess::Start({"--subscribe", address, "--subscribers", absl::StrCat(count), "--first",
                               absl::StrCat(first), "--output", target.outputs.back()}));
      target.subscribers.push_back(std::move(process));
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string memory,
                              target.server->Ask(absl::StrCat("ready ", options_.subscribers)));
    target.memory_kib = std::stod(memory);
    return target;
  }

  absl::Status RunRounds(const std::vector<Subject>& subjects, ChildProcess* reporter) {
    for (int round = -1; round < options_.rounds; ++round) {  // the first one warms up
      for (size_t i = 0; i < subjects.size(); ++i) {
        const Subject& subject = subjects[(i + static_cast<size_t>(round + 1)) % subjects.size()];
        LOCKSTEP_ASSIGN_OR_RETURN(const Measured measured, Measure(subject, round, reporter));
        if (round >= 0) measured_.push_back(measured);
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Measured> Measure(const Subject& subject, int round, ChildProcess* reporter) {
    Measured measured{round, subject.name, subject.target, {}};
    if (subject.pressed) LOCKSTEP_RETURN_IF_ERROR(reporter->Ask("start").status());
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string line, subject.target->server->Ask("push"));
    if (subject.pressed) {
      LOCKSTEP_ASSIGN_OR_RETURN(const std::string rate, reporter->Ask("stop"));
      measured.reports_per_s = std::stod(rate);
    }
    LOCKSTEP_ASSIGN_OR_RETURN(measured.push, Push::FromLine(line));
    return measured;
  }

  struct Seen {
    std::vector<double> delays_us;  // sorted
    size_t message_bytes = 0;
  };
  static Seen SeenOf(const Target& target, const Push& push) {
    Seen seen;
    for (const std::string& output : target.outputs) {
      std::ifstream file(output);
      uint64_t epoch = 0;
      int64_t time = 0;
      size_t bytes = 0;
      while (file >> epoch >> time >> bytes) {
        if (epoch != push.epoch) continue;
        seen.delays_us.push_back(static_cast<double>(time - push.start_ns) / 1e3);
        seen.message_bytes = std::max(seen.message_bytes, bytes);
      }
    }
    std::sort(seen.delays_us.begin(), seen.delays_us.end());
    return seen;
  }

  absl::Status Report(const Measured& measured) const {
    const Push& push = measured.push;
    const Seen seen = SeenOf(*measured.target, push);
    const std::vector<double>& delays = seen.delays_us;
    if (delays.size() != static_cast<size_t>(options_.subscribers)) {
      return absl::InternalError(absl::StrCat(measured.subject, ": epoch ", push.epoch, " reached ",
                                              delays.size(), " of ", options_.subscribers, " subscribers"));
    }
    const auto quantile = [&](double q) {
      return delays[static_cast<size_t>(q * static_cast<double>(delays.size() - 1))];
    };
    absl::PrintF(
        R"({"round":%d,"subject":"%s","subscribers":%d,"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f,)"
        R"("settled_us":%.1f,"server_cpu_us":%.3f,"encoded":%d,"message_bytes":%d,"stream_kib":%.2f,)"
        R"("pushed_stream_kib":%.2f,"reports_per_s":%.1f})"
        "\n",
        measured.round, measured.subject, options_.subscribers, quantile(0.5), quantile(0.99), delays.back(),
        push.settled_us, push.cpu_us / options_.subscribers, push.encoded, seen.message_bytes,
        measured.target->memory_kib / options_.subscribers, push.memory_kib / options_.subscribers,
        measured.reports_per_s);
    return absl::OkStatus();
  }

  const Options options_;
  const std::filesystem::path scratch_;
  int outputs_ = 0;
  std::vector<Measured> measured_;
};

absl::Status Run(const Options& options) {
  if (options.serve == "fanout") return ServeFanout(options.pinned_keys);
  if (options.serve == "bare") return ServeBareFanout(options.pinned_keys);
  if (!options.report.empty()) return PressTelemetry(options.report);
  if (options.subscribe.address.empty()) return Fanout(options).Run();
  SubscribeOptions subscribe = options.subscribe;
  subscribe.subscribers = options.subscribers;
  return Subscribe(subscribe);
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as lockstepd does
  lockstep::SetLogLevel(lockstep::LogLevel::kWarning);
  lockstep::bench::Options options;
  CLI::App app("Propagation of a publish to many subscribers, beside a bare fan-out");
  app.add_option("--subscribers", options.subscribers)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--pinned-keys", options.pinned_keys, "in the routing that is sent")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--telemetry", options.telemetry, "beside the same at full load of telemetry instead");
  app.add_option("--serve", options.serve)->check(CLI::IsMember({"fanout", "bare"}))->group("");
  app.add_option("--report", options.report)->group("");
  app.add_option("--subscribe", options.subscribe.address)->group("");
  app.add_option("--first", options.subscribe.first)->group("");
  app.add_option("--output", options.subscribe.output)->group("");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = lockstep::bench::Run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "fanout_load: %s\n", status.ToString().c_str());
  return 1;
}
