#include "server/app/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mutex.h"
#include "core/base/prng.h"
#include "core/base/status_macros.h"
#include "grpc/health/v1/health.pb.h"
#include "server/engine/engine.h"
#include "server/http/http_server.h"
#include "server/http/operations_pages.h"
#include "server/service/gate_service.h"
#include "server/service/migration_service.h"
#include "server/service/routing_service.h"
#include "server/service/telemetry_service.h"
#include "server/service/worker_pool.h"
#include "server/store/memory_store.h"
#include "server/store/proto_record_codec.h"
#include "server/store/rocksdb_store.h"

namespace lockstep::app {
namespace {

// Calls that wait for the disk: enough to fill a commit group.
constexpr int kWorkerThreads = 8;
// The same for people's calls, which a rollback is one of: it must not queue behind what a fleet says.
constexpr int kAdminThreads = 4;
// Of one connection. An instance needs two; the rest is for proxies that bundle many.
constexpr int kMaxStreamsPerConnection = 1000;
constexpr int kMaxMessageBytes = 4 << 20;
// Clients ping every 10 s even without calls, which the defaults would punish (toolchain measurements in
// docs/adr/0004).
constexpr int kMinPingIntervalMs = 5000;

absl::StatusOr<std::unique_ptr<store::Store>> OpenStore(const Config& config) {
  switch (config.store) {
    case StoreKind::kMemory:
      return store::NewMemoryStore();
    case StoreKind::kRocksDb: {
      store::RocksDbStoreOptions options;
      options.path = config.data_dir;
      return store::OpenRocksDbStore(options);
    }
  }
  return absl::InternalError("unknown kind of store");
}

int Milliseconds(absl::Duration duration) { return static_cast<int>(absl::ToInt64Milliseconds(duration)); }

engine::EngineOptions EngineOptionsOf(const Config& config) {
  engine::EngineOptions options;
  options.registry.remote_decision_validity = config.remote_valid_for;
  options.registry.new_store_epoch = config.restored_from_backup;
  options.evidence.keep = config.evidence_retention;
  return options;
}

}  // namespace

class Server::Impl {
 public:
  Impl(const Config& config, std::unique_ptr<store::Store> store)
      : config_(config),
        store_(std::move(store)),
        engine_(store_.get(), &codec_, SystemClock::Get(), SystemSeed(), EngineOptionsOf(config)) {}

  ~Impl() { Drain(); }

  absl::Status Start() {
    LOCKSTEP_RETURN_IF_ERROR(engine_.Start());
    pool_ = std::make_unique<service::WorkerPool>(kWorkerThreads);
    admin_pool_ = std::make_unique<service::WorkerPool>(kAdminThreads);
    LOCKSTEP_RETURN_IF_ERROR(StartGrpc());
    LOCKSTEP_RETURN_IF_ERROR(StartHttp());
    LOCKSTEP_RETURN_IF_ERROR(WritePortFile());
    ticker_ = std::thread([this] { TickLoop(); });
    ready_ = true;
    return absl::OkStatus();
  }

  void Drain() {
    if (drained_) return;
    drained_ = true;
    ready_ = false;
    if (grpc_ != nullptr) {
      if (auto* health = grpc_->GetHealthCheckService()) health->SetServingStatus(false);
      routing_->EndStreams();
      migrations_->EndStreams();
      gate_->EndStreams();
      grpc_->Shutdown(absl::ToChronoTime(absl::Now() + config_.drain_timeout));
      grpc_->Wait();
    }
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
      wake_.SignalAll();
    }
    if (ticker_.joinable()) ticker_.join();
    admin_pool_.reset();  // runs what the ended calls left to do
    pool_.reset();
    engine_.Stop();
    http_.reset();
  }

  uint16_t grpc_port() const { return static_cast<uint16_t>(grpc_port_); }
  uint16_t http_port() const { return http_->port(); }
  absl::Status health() const { return engine_.health(); }

 private:
  absl::Status StartGrpc() {
    migrations_ = std::make_unique<service::MigrationServiceImpl>(&engine_, admin_pool_.get());
    routing_ = std::make_unique<service::RoutingServiceImpl>(
        &engine_, pool_.get(), SystemClock::Get(),
        service::RoutingServiceOptions{.max_enrolments_per_second = config_.max_enrolments_per_second,
                                       .max_stream_age = config_.max_stream_age,
                                       .enrol_timeout = config_.enrol_timeout});
    telemetry_ = std::make_unique<service::TelemetryServiceImpl>(&engine_, SystemClock::Get());
    gate_ = std::make_unique<service::GateServiceImpl>(&engine_, admin_pool_.get(), SystemClock::Get());

    // Linked for reflection, which can describe the health service only if its descriptor is in the program.
    grpc::health::v1::HealthCheckRequest::descriptor();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    builder.AddListeningPort(config_.listen, grpc::InsecureServerCredentials(), &grpc_port_);
    builder.RegisterService(migrations_.get());
    builder.RegisterService(routing_.get());
    builder.RegisterService(telemetry_.get());
    builder.RegisterService(gate_.get());
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingIntervalMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    // A peer whose host is gone says nothing, not even that it is gone.
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(config_.keepalive_time));
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(config_.keepalive_timeout));
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT,
                               0);  // a second server on the port is a mistake, not a scale-out
    grpc_ = builder.BuildAndStart();
    if (grpc_ == nullptr || grpc_port_ == 0) {
      return absl::UnavailableError(
          absl::StrCat("gRPC: can't listen on ", config_.listen,
                       ": the port is in use or the address is not this machine's; choose another "
                       "with --listen or stop what uses it"));
    }
    return absl::OkStatus();
  }

  absl::Status StartHttp() {
    http::HttpServerOptions options;
    options.address = config_.http_address;
    options.port = config_.http_port;
    http::OperationsSource source;
    source.engine = &engine_;
    source.ready = [this] { return ready_.load(); };
    source.version = LOCKSTEP_VERSION;
    LOCKSTEP_ASSIGN_OR_RETURN(http_,
                              http::HttpServer::Start(options, http::OperationsPages(std::move(source))));
    return absl::OkStatus();
  }

  absl::Status WritePortFile() {
    if (config_.port_file.empty()) return absl::OkStatus();
    // Written aside and renamed, so that whoever waits for the file reads all of it.
    const std::string partial = config_.port_file + ".partial";
    std::ofstream file(partial);
    file << "grpc " << grpc_port_ << "\nhttp " << http_->port() << "\n";
    file.close();
    if (!file || std::rename(partial.c_str(), config_.port_file.c_str()) != 0) {
      return absl::UnavailableError(absl::StrCat("can't write the port file ", config_.port_file));
    }
    return absl::OkStatus();
  }

  void TickLoop() {
    MutexLock lock(&mutex_);
    while (!stopping_) {
      wake_.WaitFor(&mutex_, absl::ToChronoNanoseconds(config_.gate_interval));
      if (stopping_) break;
      mutex_.Unlock();
      if (const absl::Status ticked = engine_.Tick(); !ticked.ok()) {
        Log(LogLevel::kWarning, "gate tick failed", {{"error", ticked.ToString()}});
      }
      mutex_.Lock();
    }
  }

  const Config config_;
  std::unique_ptr<store::Store> store_;
  store::ProtoRecordCodec codec_;
  engine::Engine engine_;
  std::unique_ptr<service::WorkerPool> pool_;        // what instances say
  std::unique_ptr<service::WorkerPool> admin_pool_;  // what people ask for
  std::unique_ptr<service::MigrationServiceImpl> migrations_;
  std::unique_ptr<service::RoutingServiceImpl> routing_;
  std::unique_ptr<service::TelemetryServiceImpl> telemetry_;
  std::unique_ptr<service::GateServiceImpl> gate_;
  int grpc_port_ = 0;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<http::HttpServer> http_;
  std::atomic<bool> ready_{false};
  bool drained_ = false;
  Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread ticker_;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Config& config) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<store::Store> store, OpenStore(config));
  auto impl = std::make_unique<Impl>(config, std::move(store));
  LOCKSTEP_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

uint16_t Server::grpc_port() const { return impl_->grpc_port(); }
uint16_t Server::http_port() const { return impl_->http_port(); }
void Server::Drain() { impl_->Drain(); }
absl::Status Server::health() const { return impl_->health(); }

}  // namespace lockstep::app
