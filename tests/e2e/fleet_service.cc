// One service process of the fleet tests: writes and reads its own keys through a Migrator until it is told
// to stop, and says how each operation ended.
//
//   fleet_service ADDRESS MIGRATION INSTANCE DIRECTORY LEASE_MS [OPTION...]
//
// DIRECTORY must be there; the two sides are kept in it, so that they outlive the process. Options:
//   keep-state    the client has a state directory, DIRECTORY/state
//   fail-writes   the lease policy; otherwise KEEP_SERVING
//
// A line for each write and the read of the same key that follows it:
//
//   op START WRITE EPOCH SIDE READ | MESSAGE
//
// START: nanoseconds since 1970. WRITE: OK or the code of the error, then with EPOCH and SIDE (old or new)
// that it was routed by, else 0 and -. READ: OK, the code of the error, or WRONG when it is not what this
// process wrote last. MESSAGE: of the first error. The last line is "end STATUS", of Client::Shutdown.
//
// SIGUSR1: the next authoritative write stops the whole process (SIGSTOP) where its callback begins.
// SIGTERM: a clean end.
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "lockstep/grpc_transport.h"
#include "tests/e2e/memory_sides.h"

namespace lockstep {
namespace {

constexpr int kKeys = 50;
constexpr absl::Duration kPace = absl::Milliseconds(5);

std::atomic<bool> ending{false};
std::atomic<bool> stop_in_write{false};
static_assert(std::atomic<bool>::is_always_lock_free, "for signal handlers");

void OnSignal(int signal) { (signal == SIGUSR1 ? stop_in_write : ending).store(true); }

struct Arguments {
  std::string address, migration, instance, directory;
  int64_t lease_ms = 0;
  std::set<std::string> options;
};

ClientOptions OptionsOf(const Arguments& arguments) {
  ClientOptions options;
  options.service = "fleet";
  options.migrations = {arguments.migration};
  options.instance_id = arguments.instance;
  options.lease_ttl = absl::Milliseconds(arguments.lease_ms);
  options.heartbeat_interval = options.lease_ttl / 5;
  if (arguments.options.count("fail-writes") > 0) options.lease_policy = domain::LeasePolicy::kFailWrites;
  if (arguments.options.count("keep-state") > 0) options.state_directory = arguments.directory + "/state";
  options.backoff_initial = absl::Milliseconds(20);
  options.backoff_max = absl::Milliseconds(200);
  options.telemetry_interval = absl::Milliseconds(100);
  return options;
}

void Work(testing::TextMigrator* migrator) {
  std::map<std::string, std::string> written;
  for (int i = 0; !ending; ++i) {
    const int64_t start = absl::GetCurrentTimeNanos();
    const std::string key = absl::StrCat("key-", i % kKeys);
    const std::string value = absl::StrCat("value-", start);
    const auto write = migrator->Write(key, value);
    if (write.ok()) written[key] = value;
    const auto read = migrator->Read(key);
    std::string read_word(absl::StatusCodeToString(read.status().code()));
    // After a restart it isn't known whether the last write of the process before was cut off.
    if (read.ok() && written.count(key) > 0 && *read != written[key]) read_word = "WRONG";
    std::string message(write.ok() ? read.status().message() : write.status().message());
    absl::StrReplaceAll({{"\n", " "}}, &message);
    const bool on_new = write.ok() && write->token.authoritative == domain::Side::kNew;
    std::printf("op %lld %s %llu %s %s | %s\n", static_cast<long long>(start),
                absl::StatusCodeToString(write.status().code()).c_str(),
                static_cast<unsigned long long>(write.ok() ? write->token.epoch : 0),
                !write.ok() ? "-"
                : on_new    ? "new"
                            : "old",
                read_word.c_str(), message.c_str());
    absl::SleepFor(kPace);
  }
}

int Main(const Arguments& arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  ::signal(SIGUSR1, OnSignal);
  ::signal(SIGTERM, OnSignal);
  testing::MemorySide old_side(arguments.directory + "/old-side");
  testing::MemorySide new_side(arguments.directory + "/new-side");
  const auto client =
      ConnectGrpc({.address = arguments.address, .report_deadline = absl::Seconds(2)}, OptionsOf(arguments));
  if (!client.ok()) {
    std::printf("no client: %s\n", client.status().ToString().c_str());
    return 1;
  }
  const auto same = [](const std::string& text) { return text; };
  const auto before_write = [] {
    if (stop_in_write.exchange(false)) ::raise(SIGSTOP);
  };
  auto migrator = testing::MakeTextMigrator(client->get(), arguments.migration, &old_side, &new_side, same,
                                            {}, before_write);
  if (!migrator.ok()) {
    std::printf("no migrator: %s\n", migrator.status().ToString().c_str());
    return 1;
  }
  Work(migrator->get());
  const absl::Status end = (*client)->Shutdown(absl::Now() + absl::Seconds(30));
  std::printf("end %s\n", end.ToString().c_str());
  return end.ok() ? 0 : 1;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  lockstep::Arguments arguments;
  if (argc < 6 || !absl::SimpleAtoi(argv[5], &arguments.lease_ms)) {
    std::fprintf(stderr, "usage: fleet_service ADDRESS MIGRATION INSTANCE DIRECTORY LEASE_MS [OPTION...]\n");
    return 2;
  }
  arguments.address = argv[1];
  arguments.migration = argv[2];
  arguments.instance = argv[3];
  arguments.directory = argv[4];
  arguments.options.insert(argv + 6, argv + argc);
  return lockstep::Main(arguments);
}
