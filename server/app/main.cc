// lockstepd: see `lockstepd --help`. Exit codes: 0 drained after SIGTERM or SIGINT, 1 failed, 2 usage.
#include <pthread.h>
#include <signal.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/base/log.h"
#include "server/app/config.h"
#include "server/app/protobuf_log.h"
#include "server/app/server.h"

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

// How often the health of the store is looked at while waiting for a signal.
constexpr timespec kHealthInterval = {1, 0};

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "lockstepd: %s\n", std::string(status.message()).c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  // gRPC locks absl::Mutex on every call; its deadlock detection triples the cost (docs/adr/0004).
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);

  const auto parsed = lockstep::app::ParseCommandLine(argc, argv);
  if (!parsed.ok()) return Fail(kExitUsage, parsed.status());
  if (!parsed->print_and_exit.empty()) {
    std::fputs(parsed->print_and_exit.c_str(), stdout);
    return 0;
  }
  lockstep::SetLogLevel(parsed->config.log_level);
  lockstep::app::InstallProtobufLogHandler();

  // Blocked before any thread exists, so that only sigtimedwait below gets them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  auto server = lockstep::app::Server::Start(parsed->config);
  if (!server.ok()) return Fail(kExitFailed, server.status());
  lockstep::Log(
      lockstep::LogLevel::kInfo, "serving",
      {{"grpc", absl::StrCat((*server)->grpc_port())}, {"http", absl::StrCat((*server)->http_port())}});

  absl::Status health;
  while (sigtimedwait(&signals, nullptr, &kHealthInterval) < 0) {
    health = (*server)->health();
    if (!health.ok()) break;
  }
  lockstep::Log(lockstep::LogLevel::kInfo, "draining", {});
  (*server)->Drain();
  if (!health.ok()) return Fail(kExitFailed, health);
  lockstep::Log(lockstep::LogLevel::kInfo, "stopped", {});
  return 0;
}
