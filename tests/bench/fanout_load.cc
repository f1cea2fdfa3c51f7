// Propagation to many subscribers: this process is the server, others are the instances.
//
//   fanout_load --subscribers 1000 --rounds 20
//
// Each instance is a Watch stream over a connection of its own that accepts and acknowledges whatever it is
// sent. Each round publishes once (a drill: the same routing under a new epoch, ahead of everything, as a
// rollback would be) and waits until all have acknowledged. One JSON line a round:
//   p50_us, p99_us, max_us   from the call of the publish until an instance had the message, by the machine's
//   monotonic clock settled_us               until the server had every acknowledgement server_cpu_us of the
//   server for each instance: the message, its acceptance and its acknowledgement stream_kib resident memory
//   of the server for each stream, measured once when all are there
#include <grpcpp/grpcpp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/service/routing_service.h"
#include "server/service/worker_pool.h"
#include "server/store/memory_store.h"
#include "server/store/proto_record_codec.h"
#include "tests/bench/child_process.h"
#include "tests/bench/route_servers.h"

namespace lockstep::bench {
namespace {

constexpr int kSubscribersPerProcess = 1000;
constexpr absl::Duration kPatience = absl::Minutes(2);
constexpr int kWorkerThreads = 4;  // as lockstepd has

struct Options {
  int subscribers = 1000;
  int rounds = 20;
  // Of a child process.
  std::string subscribe;  // the server's address
  int first = 0;
  std::string output;
};

int64_t MonotonicNanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

// When instances of this process had the message of an epoch.
class Arrivals {
 public:
  void Note(uint64_t epoch) {
    const int64_t now = MonotonicNanoseconds();
    MutexLock lock(&mutex_);
    by_epoch_[epoch].push_back(now);
    newest_ = std::max(newest_, epoch);
  }
  size_t Count() const {
    MutexLock lock(&mutex_);
    return newest_ == 0 ? 0 : by_epoch_.at(newest_).size();
  }
  // "epoch nanoseconds" a line.
  void Write(const std::string& path) const {
    std::ofstream file(path);
    MutexLock lock(&mutex_);
    for (const auto& [epoch, times] : by_epoch_) {
      for (const int64_t time : times) file << epoch << ' ' << time << '\n';
    }
  }

 private:
  mutable Mutex mutex_;
  uint64_t newest_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::vector<int64_t>> by_epoch_ ABSL_GUARDED_BY(mutex_);
};

// One instance. Lives until the process ends.
class Subscriber final : public grpc::ClientBidiReactor<v1::WatchRequest, v1::WatchResponse> {
 public:
  Subscriber(const std::string& address, int number, Arrivals* arrivals) : arrivals_(arrivals) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    stub_ = v1::RoutingService::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
    v1::WatchRequest enrol;
    enrol.mutable_enrol()->set_instance_id(absl::StrCat("subscriber-", number));
    enrol.mutable_enrol()->set_service("bench");
    enrol.mutable_enrol()->set_version("1");
    enrol.mutable_enrol()->add_migrations(kBenchMigration);
    enrol.mutable_enrol()->mutable_lease_ttl()->set_seconds(600);
    stub_->async()->Watch(&context_, this);
    AddHold();
    StartRead(&response_);
    Send(std::move(enrol));
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return RemoveHold();
    uint64_t epoch = 0;
    uint64_t revision = 0;
    if (response_.has_snapshot() && response_.snapshot().migrations_size() > 0) {
      epoch = response_.snapshot().migrations(0).state().epoch();
      revision = response_.snapshot().revision();
    } else if (response_.has_delta() && response_.delta().changed_size() > 0) {
      epoch = response_.delta().changed(0).state().epoch();
      revision = response_.delta().revision();
    }
    if (epoch != 0) {
      arrivals_->Note(epoch);
      v1::WatchRequest accept;
      accept.mutable_accept()->set_revision(revision);
      Send(std::move(accept));
      v1::WatchRequest ack;
      ack.mutable_ack()->set_revision(revision);
      v1::HeldEpoch* held = ack.mutable_ack()->add_held();
      held->set_migration(kBenchMigration);
      held->set_epoch(epoch);
      Send(std::move(ack));
    }
    StartRead(&response_);
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(&mutex_);
    queue_.pop_front();
    if (ok && !queue_.empty()) StartWrite(&queue_.front());
  }
  void OnDone(const grpc::Status& status) override {
    std::fprintf(stderr, "fanout_load: a stream ended: %s\n", status.error_message().c_str());
    std::_Exit(1);
  }

 private:
  void Send(v1::WatchRequest request) {
    MutexLock lock(&mutex_);
    queue_.push_back(std::move(request));
    if (queue_.size() == 1) StartWrite(&queue_.front());
  }

  Arrivals* const arrivals_;
  std::unique_ptr<v1::RoutingService::Stub> stub_;
  grpc::ClientContext context_;
  v1::WatchResponse response_;
  Mutex mutex_;
  std::deque<v1::WatchRequest> queue_ ABSL_GUARDED_BY(mutex_);  // the first one is being written
};

absl::Status Subscribe(const Options& options) {
  static Arrivals arrivals;
  static std::vector<std::unique_ptr<Subscriber>> subscribers;
  for (int i = 0; i < options.subscribers; ++i) {
    subscribers.push_back(std::make_unique<Subscriber>(options.subscribe, options.first + i, &arrivals));
  }
  const absl::Time give_up = absl::Now() + kPatience;
  while (arrivals.Count() < subscribers.size()) {
    if (absl::Now() > give_up) return absl::DeadlineExceededError("not every stream was sent its snapshot");
    absl::SleepFor(absl::Milliseconds(10));
  }
  AnnounceAndWait("ready");
  arrivals.Write(options.output);
  std::_Exit(0);  // without waiting for a thousand connections to close
}

double ResidentKibibytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::stod(line.substr(6));
  }
  return 0;
}

// The server and the processes that subscribe to it.
class Fanout {
 public:
  explicit Fanout(const Options& options)
      : options_(options),
        store_(store::NewMemoryStore()),
        engine_(store_.get(), &codec_, SystemClock::Get(), 1, {}),
        pool_(kWorkerThreads),
        service_(&engine_, &pool_, SystemClock::Get(), {.max_enrolments_per_second = 1000000}) {}
  ~Fanout() {
    children_.clear();
    service_.EndStreams();
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    engine_.Stop();
    std::filesystem::remove_all(scratch_);
  }

  absl::Status Run() {
    LOCKSTEP_RETURN_IF_ERROR(engine_.Start());
    LOCKSTEP_RETURN_IF_ERROR(CreateBenchMigration(&engine_.registry()));
    LOCKSTEP_RETURN_IF_ERROR(Listen());
    const double before = ResidentKibibytes();
    LOCKSTEP_RETURN_IF_ERROR(StartSubscribers());
    LOCKSTEP_RETURN_IF_ERROR(WaitForAll(Published()));
    const double stream_kib = (ResidentKibibytes() - before) / options_.subscribers;
    for (int round = -1; round < options_.rounds; ++round) {  // the first one warms up
      LOCKSTEP_RETURN_IF_ERROR(Publish(round));
    }
    children_.clear();  // they write what they have seen
    return Report(stream_kib);
  }

 private:
  struct Round {
    int number;
    int64_t start;
    absl::Duration settled;
    absl::Duration cpu;
  };

  absl::Status Listen() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return absl::UnavailableError("gRPC: can't listen on loopback");
    address_ = absl::StrCat("127.0.0.1:", port);
    return absl::OkStatus();
  }

  absl::Status StartSubscribers() {
    scratch_ = std::filesystem::temp_directory_path() / absl::StrCat("lockstep-fanout-", getpid());
    std::filesystem::create_directory(scratch_);
    for (int first = 0; first < options_.subscribers; first += kSubscribersPerProcess) {
      const int count = std::min(kSubscribersPerProcess, options_.subscribers - first);
      const std::string output = scratch_ / absl::StrCat(first);
      LOCKSTEP_ASSIGN_OR_RETURN(
          std::unique_ptr<ChildProcess> child,
          ChildProcess::Start({"--subscribe", address_, "--subscribers", absl::StrCat(count), "--first",
                               absl::StrCat(first), "--output", output}));
      children_.push_back(std::move(child));
      outputs_.push_back(output);
    }
    return absl::OkStatus();
  }

  uint64_t Published() { return engine_.registry().Get(kBenchMigration)->migration->published.epoch; }

  absl::Status WaitForAll(uint64_t epoch) {
    const absl::Time give_up = absl::Now() + kPatience;
    while (engine_.instances().OldestLiveEpoch(kBenchMigration).value_or(0) < epoch) {
      if (absl::Now() > give_up) return absl::DeadlineExceededError("not every instance has acknowledged");
      absl::SleepFor(absl::Microseconds(500));
    }
    return absl::OkStatus();
  }

  absl::Status Publish(int round) {
    engine::MutationContext context;
    context.principal = {"user:bench"};
    const absl::Duration cpu_before = OwnCpuTime();
    const int64_t start = MonotonicNanoseconds();
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::MigrationView view,
                              engine_.registry().Drill(kBenchMigration, context));
    const uint64_t epoch = view.migration->published.epoch;
    LOCKSTEP_RETURN_IF_ERROR(WaitForAll(epoch));
    if (round < 0) return absl::OkStatus();
    rounds_[epoch] = {round, start, absl::Nanoseconds(MonotonicNanoseconds() - start),
                      OwnCpuTime() - cpu_before};
    return absl::OkStatus();
  }

  absl::Status Report(double stream_kib) {
    std::map<uint64_t, std::vector<double>> delays_us;
    for (const std::string& output : outputs_) {
      std::ifstream file(output);
      uint64_t epoch = 0;
      int64_t time = 0;
      while (file >> epoch >> time) {
        const auto round = rounds_.find(epoch);
        if (round != rounds_.end())
          delays_us[epoch].push_back(static_cast<double>(time - round->second.start) / 1e3);
      }
    }
    for (const auto& [epoch, round] : rounds_) {
      std::vector<double>& delays = delays_us[epoch];
      if (delays.size() != static_cast<size_t>(options_.subscribers)) {
        return absl::InternalError(absl::StrCat("epoch ", epoch, " reached ", delays.size(), " of ",
                                                options_.subscribers, " subscribers"));
      }
      std::sort(delays.begin(), delays.end());
      const auto quantile = [&](double q) {
        return delays[static_cast<size_t>(q * static_cast<double>(delays.size() - 1))];
      };
      absl::PrintF(
          R"({"round":%d,"subject":"fanout","subscribers":%d,"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f,)"
          R"("settled_us":%.1f,"server_cpu_us":%.3f,"stream_kib":%.2f})"
          "\n",
          round.number, options_.subscribers, quantile(0.5), quantile(0.99), delays.back(),
          absl::ToDoubleMicroseconds(round.settled),
          absl::ToDoubleMicroseconds(round.cpu) / options_.subscribers, stream_kib);
    }
    return absl::OkStatus();
  }

  const Options options_;
  const std::unique_ptr<store::Store> store_;
  const store::ProtoRecordCodec codec_;
  engine::Engine engine_;
  service::WorkerPool pool_;
  service::RoutingServiceImpl service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::filesystem::path scratch_;
  std::vector<std::unique_ptr<ChildProcess>> children_;
  std::vector<std::string> outputs_;
  std::map<uint64_t, Round> rounds_;  // by epoch
};

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as lockstepd does
  lockstep::SetLogLevel(lockstep::LogLevel::kWarning);
  lockstep::bench::Options options;
  CLI::App app("Propagation of a publish to many subscribers");
  app.add_option("--subscribers", options.subscribers)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--subscribe", options.subscribe)->group("");
  app.add_option("--first", options.first)->group("");
  app.add_option("--output", options.output)->group("");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = options.subscribe.empty() ? lockstep::bench::Fanout(options).Run()
                                                        : lockstep::bench::Subscribe(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "fanout_load: %s\n", status.ToString().c_str());
  return 1;
}
