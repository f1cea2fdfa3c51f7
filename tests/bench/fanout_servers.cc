#include "tests/bench/fanout_servers.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/wire/routing.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/engine/instance_session.h"
#include "server/service/routing_service.h"
#include "server/service/telemetry_service.h"
#include "server/service/worker_pool.h"
#include "server/store/memory_store.h"
#include "server/store/proto_record_codec.h"
#include "tests/bench/child_process.h"
#include "tests/bench/route_servers.h"

namespace lockstep::bench {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(2);
constexpr absl::Duration kPollInterval = absl::Microseconds(500);
constexpr int kWorkerThreads = 4;  // as lockstepd has
constexpr uint64_t kSeed = 1;
constexpr uint64_t kRevisionOfThousands = 4000;

absl::Status WaitUntil(const std::function<bool()>& done) {
  const absl::Time give_up = absl::Now() + kPatience;
  while (!done()) {
    if (absl::Now() > give_up) return absl::DeadlineExceededError("not every instance has acknowledged");
    absl::SleepFor(kPollInterval);
  }
  return absl::OkStatus();
}

engine::MutationContext BenchContext() {
  engine::MutationContext context;
  context.principal = {"user:bench"};
  return context;
}

absl::Status CreateMigration(engine::Registry* registry, int pinned_keys) {
  LOCKSTEP_RETURN_IF_ERROR(CreateBenchMigration(registry));
  if (pinned_keys == 0) return absl::OkStatus();
  engine::MigrationUpdate update;
  update.pins.emplace();
  for (int i = 0; i < pinned_keys; ++i) {
    update.pins->keys[absl::StrFormat("namespaces/bench/customers/%08d", i)] = domain::Side::kNew;
  }
  return registry->Update(kBenchMigration, update, BenchContext()).status();
}

// What the two have in common: the protocol with fanout_load and what is measured.
class FanoutServer {
 public:
  virtual ~FanoutServer() = default;

  absl::Status Serve(const std::vector<grpc::Service*>& services) {
    int port = 0;
    LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<grpc::Server> server,
                              StartServer(services, grpc::InsecureServerCredentials(), &port));
    idle_kib_ = ResidentKibibytes();
    AnnounceAndAnswer(absl::StrCat(port), [this](const std::string& asked) { return Answer(asked); });
    EndStreams();
    server->Shutdown(std::chrono::system_clock::now());
    return absl::OkStatus();
  }

 protected:
  // What a push needs that is not part of it.
  virtual absl::Status BeforePush() = 0;
  // Returns the epoch.
  virtual absl::StatusOr<uint64_t> Publish() = 0;
  // Whether all have acknowledged what was published last; subscribers do so once they are there.
  virtual bool Settled(int subscribers) = 0;
  virtual uint64_t Encoded() = 0;
  virtual void EndStreams() = 0;

 private:
  absl::StatusOr<std::string> Answer(const std::string& asked) {
    if (absl::StartsWith(asked, "ready ")) {
      if (!absl::SimpleAtoi(asked.substr(6), &subscribers_))
        return absl::InvalidArgumentError("ready needs a number");
      LOCKSTEP_RETURN_IF_ERROR(WaitUntil([this] { return Settled(subscribers_); }));
      return absl::StrCat(ResidentKibibytes() - idle_kib_);
    }
    LOCKSTEP_RETURN_IF_ERROR(BeforePush());
    const uint64_t encoded_before = Encoded();
    const absl::Duration cpu_before = OwnCpuTime();
    const int64_t start = MonotonicNanoseconds();
    LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t epoch, Publish());
    LOCKSTEP_RETURN_IF_ERROR(WaitUntil([this] { return Settled(subscribers_); }));
    const absl::Duration settled = absl::Nanoseconds(MonotonicNanoseconds() - start);
    const absl::Duration cpu = OwnCpuTime() - cpu_before;
    return Push{.epoch = epoch,
                .start_ns = start,
                .settled_us = absl::ToDoubleMicroseconds(settled),
                .cpu_us = absl::ToDoubleMicroseconds(cpu),
                .encoded = Encoded() - encoded_before,
                .memory_kib = ResidentKibibytes() - idle_kib_}
        .ToLine();
  }

  int subscribers_ = 0;
  double idle_kib_ = 0;
};

class RealFanout final : public FanoutServer {
 public:
  RealFanout()
      : store_(store::NewMemoryStore()),
        engine_(store_.get(), &codec_, SystemClock::Get(), kSeed, {}),
        pool_(kWorkerThreads),
        routing_(&engine_, &pool_, SystemClock::Get(), {.max_enrolments_per_second = 1000000}),
        telemetry_(&engine_, SystemClock::Get()) {}
  ~RealFanout() override { engine_.Stop(); }

  absl::Status Run(int pinned_keys) {
    LOCKSTEP_RETURN_IF_ERROR(engine_.Start());
    LOCKSTEP_RETURN_IF_ERROR(CreateMigration(&engine_.registry(), pinned_keys));
    return Serve({&routing_, &telemetry_});
  }

 private:
  absl::Status BeforePush() override { return engine_.Tick(); }
  absl::StatusOr<uint64_t> Publish() override {
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::MigrationView view,
                              engine_.registry().Drill(kBenchMigration, BenchContext()));
    return view.migration->published.epoch;
  }
  bool Settled(int) override {
    const uint64_t published = engine_.registry().Get(kBenchMigration)->migration->published.epoch;
    return engine_.instances().OldestLiveEpoch(kBenchMigration).value_or(0) >= published;
  }
  uint64_t Encoded() override { return routing_.states_encoded(); }
  void EndStreams() override { routing_.EndStreams(); }

  const std::unique_ptr<store::Store> store_;
  const store::ProtoRecordCodec codec_;
  engine::Engine engine_;
  service::WorkerPool pool_;
  service::RoutingServiceImpl routing_;
  service::TelemetryServiceImpl telemetry_;
};

// What the real service sends after a drill.
absl::StatusOr<v1::WatchResponse> TypicalPush(int pinned_keys) {
  const std::unique_ptr<store::Store> store = store::NewMemoryStore();
  const store::ProtoRecordCodec codec;
  engine::Engine engine(store.get(), &codec, SystemClock::Get(), kSeed, {});
  LOCKSTEP_RETURN_IF_ERROR(engine.Start());
  LOCKSTEP_RETURN_IF_ERROR(CreateMigration(&engine.registry(), pinned_keys));
  engine::EnrolRequest enrolment;
  enrolment.instance_id = "i";
  enrolment.service = "bench";
  enrolment.migrations = {kBenchMigration};
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<engine::InstanceSession> session,
                            engine::InstanceSession::Open(&engine, enrolment, [] {}));
  const std::optional<engine::InstanceMessage> first = session->Next();
  LOCKSTEP_RETURN_IF_ERROR(session->OnAccept(std::get<engine::SnapshotMessage>(*first).snapshot->revision));
  LOCKSTEP_RETURN_IF_ERROR(engine.registry().Drill(kBenchMigration, BenchContext()).status());
  const std::optional<engine::InstanceMessage> push = session->Next();
  const auto& delta = std::get<engine::DeltaMessage>(*push);
  v1::WatchResponse response;
  *response.mutable_delta() = wire::ToProto(*delta.delta, delta.digest);
  // The real one counts every enrolment: as many bytes as a number of that size takes.
  response.mutable_delta()->set_revision(response.delta().revision() + kRevisionOfThousands);
  return response;
}

using BareWatch = v1::RoutingService::WithRawCallbackMethod_Watch<v1::RoutingService::Service>;

class BareFanout final : public FanoutServer, public BareWatch {
 public:
  explicit BareFanout(v1::WatchResponse typical) : message_(std::move(typical)) { Encode(); }

  absl::Status Run() { return Serve({this}); }

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Watch(grpc::CallbackServerContext*) override {
    return new Stream(this);
  }

 private:
  class Stream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
   public:
    explicit Stream(BareFanout* server) : server_(server) { StartRead(&request_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      if (!std::exchange(joined_, true)) {
        server_->Join(this);
      } else {
        server_->answers_.fetch_add(1, std::memory_order_relaxed);
      }
      StartRead(&request_);
    }
    void OnDone() override {}  // lives as long as the process

   private:
    BareFanout* const server_;
    bool joined_ = false;
    grpc::ByteBuffer request_;
  };

  void Join(Stream* stream) {
    MutexLock lock(&mutex_);
    streams_.push_back(stream);
    stream->StartWrite(&bytes_);
  }
  void Encode() {
    grpc::ByteBuffer bytes;
    bool owned = false;
    grpc::SerializationTraits<v1::WatchResponse>::Serialize(message_, &bytes, &owned);
    bytes_.Swap(&bytes);
    ++encoded_;
  }

  absl::Status BeforePush() override { return absl::OkStatus(); }
  absl::StatusOr<uint64_t> Publish() override {
    answers_.store(0);
    v1::SnapshotDelta& delta = *message_.mutable_delta();
    delta.set_base_revision(delta.revision());
    delta.set_revision(delta.revision() + 1);
    v1::RoutingState& state = *delta.mutable_changed(0)->mutable_state();
    state.set_epoch(state.epoch() + 1);
    MutexLock lock(&mutex_);
    Encode();
    for (Stream* stream : streams_) stream->StartWrite(&bytes_);
    return state.epoch();
  }
  // Everyone has accepted and acknowledged.
  bool Settled(int subscribers) override { return answers_.load() == 2 * subscribers; }
  uint64_t Encoded() override { return encoded_; }
  void EndStreams() override {}  // subscribers are gone by now

  std::atomic<int> answers_{0};
  v1::WatchResponse message_;
  Mutex mutex_;
  grpc::ByteBuffer bytes_;  // of message_; written to nobody when it is replaced
  uint64_t encoded_ = 0;
  std::vector<Stream*> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::string Push::ToLine() const {
  return absl::StrFormat("%d %d %.1f %.1f %d %.0f", epoch, start_ns, settled_us, cpu_us, encoded, memory_kib);
}

absl::StatusOr<Push> Push::FromLine(const std::string& line) {
  Push push;
  std::istringstream in(line);
  in >> push.epoch >> push.start_ns >> push.settled_us >> push.cpu_us >> push.encoded >> push.memory_kib;
  if (!in) return absl::InternalError(absl::StrCat("not a push: ", line));
  return push;
}

absl::Status ServeFanout(int pinned_keys) { return RealFanout().Run(pinned_keys); }

absl::Status ServeBareFanout(int pinned_keys) {
  LOCKSTEP_ASSIGN_OR_RETURN(v1::WatchResponse typical, TypicalPush(pinned_keys));
  return BareFanout(std::move(typical)).Run();
}

}  // namespace lockstep::bench
