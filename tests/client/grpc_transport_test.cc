// The client over real gRPC, against a scripted server in the same process: what goes over the wire arrives
// as the SDK means it, streams break and come back, and reports are retried under their number.
#include "lockstep/grpc_transport.h"

#include "absl/strings/match.h"
#include "client/sdk/src/reporter.h"
#include "core/wire/routing.h"
#include "core/wire/telemetry.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "lockstep/v1/telemetry_service.grpc.pb.h"
#include "tests/client/plane_testing.h"

namespace lockstep {
namespace {

using domain::Stage;
using testing_support::Eventually;
using testing_support::kFullName;
using testing_support::kMigration;

domain::Snapshot SnapshotAt(uint64_t epoch, Stage stage, uint32_t read_weight = 0) {
  domain::RoutingState state = domain::StateOfStage(stage, read_weight);
  state.epoch = epoch;
  return {.revision = epoch,
          .store_epoch = 7,
          .migrations = {{.name = kFullName, .state = state, .contract = {}}}};
}

v1::Snapshot OnTheWire(const domain::Snapshot& snapshot) {
  return wire::ToProto(snapshot, domain::SnapshotDigest(snapshot));
}

// Synchronous, one stream at a time. Each stream starts with the current snapshot and gets what is pushed.
class ScriptedServer final : public v1::RoutingService::Service, public v1::TelemetryService::Service {
 public:
  using WatchStream = grpc::ServerReaderWriter<v1::WatchResponse, v1::WatchRequest>;

  grpc::Status Watch(grpc::ServerContext* context, WatchStream* stream) override {
    v1::WatchRequest request;
    if (!stream->Read(&request) || !request.has_enrol()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "the first message must be enrol"};
    }
    {
      MutexLock lock(&mutex_);
      enrolments.push_back(request.enrol());
      stream_ = stream;
      context_ = context;
      *response_.mutable_snapshot() = OnTheWire(snapshot_);
      stream->Write(response_);
    }
    while (stream->Read(&request)) Note(stream, request);
    MutexLock lock(&mutex_);
    stream_ = nullptr;
    return grpc::Status::OK;
  }

  grpc::Status ReportComparisons(grpc::ServerContext*, const v1::ReportComparisonsRequest* request,
                                 v1::ReportComparisonsResponse* response) override {
    MutexLock lock(&mutex_);
    sequences.push_back(request->sequence());
    if (reports_to_fail > 0) {
      --reports_to_fail;
      return {grpc::StatusCode::UNAVAILABLE, "not now"};
    }
    const absl::StatusOr<domain::TelemetryBatch> batch = wire::TelemetryBatchFromProto(*request, absl::Now());
    if (!batch.ok()) return {grpc::StatusCode::INVALID_ARGUMENT, std::string(batch.status().message())};
    for (const domain::TelemetryDelta& delta : batch->deltas) EXPECT_TRUE(totals.Merge(delta.stats).ok());
    return grpc::Status::OK;
  }

  void Publish(const v1::Snapshot& snapshot) {
    MutexLock lock(&mutex_);
    *response_.mutable_snapshot() = snapshot;
    if (stream_ != nullptr) stream_->Write(response_);
  }
  // What has changed from `base` to `next`.
  void PublishDelta(domain::Snapshot base, domain::Snapshot next) {
    for (domain::Snapshot* snapshot : {&base, &next}) {
      for (domain::MigrationRouting& routing : snapshot->migrations) {
        routing.digest = domain::RoutingDigest(routing);
      }
    }
    MutexLock lock(&mutex_);
    *response_.mutable_delta() =
        wire::ToProto(domain::DeltaBetween(base, next), domain::SnapshotDigest(next));
    if (stream_ != nullptr) stream_->Write(response_);
  }
  void SetSnapshot(domain::Snapshot snapshot) {
    MutexLock lock(&mutex_);
    snapshot_ = std::move(snapshot);
  }
  void Break() {
    MutexLock lock(&mutex_);
    if (stream_ != nullptr) context_->TryCancel();
  }
  // Reads what the server has noted.
  template <typename Get>
  auto Ask(Get&& get) {
    MutexLock lock(&mutex_);
    return get(*this);
  }

  // The revision of the newest acknowledgement; 0 before the first. Within Ask.
  uint64_t acknowledged() const { return acks.empty() ? 0 : acks.back().revision(); }

  // Guarded by mutex_; Ask from outside.
  std::vector<v1::Enrol> enrolments;
  std::vector<uint64_t> accepts;
  std::vector<v1::Ack> acks;
  std::vector<v1::Nack> nacks;
  int heartbeats = 0;
  v1::InstanceStatus status;  // of the last heartbeat
  bool left = false;
  int reports_to_fail = 0;
  std::vector<uint64_t> sequences;
  domain::WindowStats totals;

 private:
  void Note(WatchStream* stream, const v1::WatchRequest& request) {
    MutexLock lock(&mutex_);
    if (request.has_accept()) accepts.push_back(request.accept().revision());
    if (request.has_ack()) acks.push_back(request.ack());
    if (request.has_nack()) nacks.push_back(request.nack());
    if (request.has_leave()) left = true;
    if (request.has_heartbeat()) {
      ++heartbeats;
      status = request.heartbeat().status();
      v1::WatchResponse reply;
      reply.mutable_heartbeat()->set_revision(request.heartbeat().revision());
      stream->Write(reply);
    }
  }

  Mutex mutex_;
  domain::Snapshot snapshot_ = SnapshotAt(1, Stage::kDualWrite);
  v1::WatchResponse response_;
  WatchStream* stream_ = nullptr;
  grpc::ServerContext* context_ = nullptr;
};

class GrpcTransportTest : public ::testing::Test {
 protected:
  GrpcTransportTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(static_cast<v1::RoutingService::Service*>(&scripted_));
    builder.RegisterService(static_cast<v1::TelemetryService::Service*>(&scripted_));
    server_ = builder.BuildAndStart();
    ClientOptions options = {
        .service = "orders", .version = "1.2", .migrations = {kMigration}, .instance_id = "i-1"};
    options.heartbeat_interval = absl::Milliseconds(20);
    options.telemetry_interval = absl::Milliseconds(10);
    options.backoff_max = absl::Milliseconds(100);
    options.seed = 1;
    client_ = *ConnectGrpc({.address = absl::StrCat("127.0.0.1:", port_)}, std::move(options));
    EXPECT_TRUE(client_->WaitUntilReady(absl::Now() + absl::Seconds(20)).ok());
  }
  ~GrpcTransportTest() override {
    client_.reset();
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
  }
  bool Await(const std::function<bool(ScriptedServer&)>& condition) {
    return Eventually([&] { return scripted_.Ask(condition); });
  }

  int port_ = 0;
  ScriptedServer scripted_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(GrpcTransportTest, EnrolsAcknowledgesAndKeepsTheLease) {
  ASSERT_TRUE(Await([](ScriptedServer& s) { return !s.acks.empty() && s.heartbeats >= 3; }));
  scripted_.Ask([](ScriptedServer& s) {
    EXPECT_EQ(s.enrolments[0].instance_id(), "i-1");
    EXPECT_EQ(s.enrolments[0].version(), "1.2");
    EXPECT_THAT(s.enrolments[0].migrations(), ::testing::ElementsAre(kFullName));
    EXPECT_EQ(s.acks[0].revision(), 1u);
    EXPECT_EQ(s.enrolments[0].store_epoch(), 0u);
    EXPECT_EQ(s.enrolments[0].lease_ttl().seconds(), 15);
    EXPECT_EQ(s.enrolments[0].lease_policy(), v1::LEASE_POLICY_KEEP_SERVING);
    EXPECT_EQ(s.acks[0].held(0).epoch(), 1u);
    EXPECT_THAT(s.accepts, ::testing::ElementsAre(1));
    return 0;
  });
  EXPECT_EQ(client_->Route(kMigration, "k")->stage(), Stage::kDualWrite);
  scripted_.Publish(OnTheWire(SnapshotAt(2, Stage::kCanaryRead, 1000)));
  ASSERT_TRUE(Await([](ScriptedServer& s) { return s.acknowledged() == 2; }));
  EXPECT_EQ(client_->Route(kMigration, "k")->stage(), Stage::kCanaryRead);
}

TEST_F(GrpcTransportTest, DeltasAndTheStatusOfOperations) {
  auto running = std::make_unique<RouteHandle>(*client_->Route(kMigration, "k"));
  scripted_.PublishDelta(SnapshotAt(1, Stage::kDualWrite), SnapshotAt(2, Stage::kShadowRead));
  ASSERT_TRUE(Await([](ScriptedServer& s) { return !s.accepts.empty() && s.accepts.back() == 2; }));
  EXPECT_EQ(client_->Route(kMigration, "k")->stage(), Stage::kShadowRead);
  ASSERT_TRUE(Await([](ScriptedServer& s) { return s.status.operations() == 1; }));
  EXPECT_EQ(scripted_.Ask([](ScriptedServer& s) { return s.acknowledged(); }), 1u);
  running.reset();
  ASSERT_TRUE(Await([](ScriptedServer& s) { return s.acknowledged() == 2; }));
  scripted_.PublishDelta(SnapshotAt(1, Stage::kDualWrite), SnapshotAt(3, Stage::kDualWrite));
  ASSERT_TRUE(Await([](ScriptedServer& s) { return s.nacks.size() == 1; }));
  EXPECT_EQ(scripted_.Ask([](ScriptedServer& s) { return s.nacks[0].revision(); }), 3u);
}

TEST_F(GrpcTransportTest, HeldWritesAreCheckedBeforeTheAcknowledgement) {
  domain::Snapshot holds = SnapshotAt(2, Stage::kCutover);
  holds.migrations[0].state.drain_weight = 1000;
  scripted_.Publish(OnTheWire(holds));
  ASSERT_TRUE(Await([](ScriptedServer& s) { return s.acknowledged() == 2; }));
  scripted_.Ask([](ScriptedServer& s) {
    EXPECT_EQ(s.acks.back().slice_checks_size(), 1);
    EXPECT_EQ(s.acks.back().slice_checks(0).migration(), kFullName);
    EXPECT_EQ(s.acks.back().slice_checks(0).epoch(), 2u);
    return 0;
  });
}

TEST_F(GrpcTransportTest, UndecodableAndInvalidSnapshotsAreRefused) {
  v1::Snapshot undecodable = OnTheWire(SnapshotAt(2, Stage::kDualWrite));
  undecodable.mutable_migrations(0)->mutable_state()->set_stage(static_cast<v1::Stage>(99));
  scripted_.Publish(undecodable);
  ASSERT_TRUE(Await([](ScriptedServer& s) { return s.nacks.size() == 1; }));
  domain::Snapshot invalid = SnapshotAt(3, Stage::kDualWrite);
  invalid.migrations[0].state.read_weight = 5;
  scripted_.Publish(OnTheWire(invalid));
  ASSERT_TRUE(Await([](ScriptedServer& s) { return s.nacks.size() == 2; }));
  scripted_.Ask([](ScriptedServer& s) {
    EXPECT_EQ(s.nacks[0].revision(), 2u);
    EXPECT_EQ(s.nacks[1].revision(), 3u);
    EXPECT_FALSE(s.nacks[0].reason().empty());
    return 0;
  });
  EXPECT_EQ(client_->Route(kMigration, "k")->epoch(), 1u);
}

TEST_F(GrpcTransportTest, ComesBackAfterABreak) {
  scripted_.SetSnapshot(SnapshotAt(5, Stage::kShadowRead));
  scripted_.Break();
  ASSERT_TRUE(Await([](ScriptedServer& s) { return s.enrolments.size() >= 2; }));
  ASSERT_TRUE(Eventually([&] { return client_->Route(kMigration, "k")->epoch() == 5; }));
  scripted_.Ask([](ScriptedServer& s) {
    EXPECT_EQ(s.enrolments.back().held(0).epoch(), 1u);
    EXPECT_EQ(s.enrolments.back().store_epoch(), 7u);
    return 0;
  });
}

TEST_F(GrpcTransportTest, ReportsAreRetriedUnderTheirNumberAndShutdownLeaves) {
  ASSERT_TRUE(Eventually([&] { return client_->Stats().batches_acknowledged == 1; })) << "says it is there";
  scripted_.Ask([](ScriptedServer& s) { return s.reports_to_fail = 2; });
  {
    const RouteHandle route = *client_->Route(kMigration, "k");
    client_->telemetry().RecordRead(route.attribution(), domain::Arm::kOld, false, absl::Milliseconds(3),
                                    route.SubjectNamed("k"));
  }
  ASSERT_TRUE(client_->Shutdown(absl::Now() + absl::Seconds(20)).ok());
  scripted_.Ask([&](ScriptedServer& s) {
    EXPECT_THAT(s.sequences, ::testing::ElementsAre(1, 2, 2, 2));
    EXPECT_EQ(s.totals, client_->telemetry().Totals(0));
    EXPECT_TRUE(s.left);
    return 0;
  });
}

TEST(GrpcTransportOptionsTest, Errors) {
  EXPECT_TRUE(absl::IsInvalidArgument(MakeGrpcTransport({}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      MakeGrpcTransport({.address = "x:1", .report_deadline = absl::ZeroDuration()}).status()));
}

TEST(GrpcTransportOptionsTest, NobodyListening) {
  // Port 1 is reserved and refused at once.
  const std::unique_ptr<Client> client =
      *ConnectGrpc({.address = "127.0.0.1:1"}, {.service = "orders", .migrations = {kMigration}, .seed = 1});
  ASSERT_TRUE(Eventually([&] {
    return absl::StrContains(client->Route(kMigration, "k").status().message(), "last error: UNAVAILABLE");
  }));
  EXPECT_TRUE(absl::IsUnavailable(client->Route(kMigration, "k").status()));
}

// The reporter estimates sizes, because it knows nothing of the wire; the server refuses what is too large.
TEST(BatchSizeTest, FullBatchesAreWithinTheServersLimit) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  TelemetryRecorder recorder({.migrations = {kFullName}, .digest_key = "fleet"}, &clock);
  internal::Reporter reporter({.instance_id = "i-1", .max_pending_deltas = 1000}, 1);
  constexpr int kSubjects = 8000;
  constexpr uint64_t kDeltas = 60;
  for (uint64_t epoch = 1; epoch <= kDeltas; ++epoch) {
    const Attribution to = {.generation = 1, .epoch = epoch, .contract_revision = 1};
    for (int i = 0; i < kSubjects; ++i) {
      const std::string name = absl::StrCat("order-", i);
      // Every tenth fails, which costs a digest.
      const bool ok = i % 10 != 0;
      const absl::Duration latency = absl::Microseconds(i * i);
      recorder.RecordRead(to, i % 2 == 0 ? domain::Arm::kOld : domain::Arm::kNew, ok, latency, {name, 1});
      recorder.RecordComparison(to, 1, {.outcome = domain::ComparisonOutcome::kMatch, .subject = name});
    }
  }
  reporter.Add(recorder.Collect());
  uint64_t deltas = 0;
  size_t largest = 0;
  while (const domain::TelemetryBatch* const batch = reporter.NextToSend(absl::Seconds(1))) {
    const v1::ReportComparisonsRequest request = wire::ToProto(*batch);
    largest = std::max(largest, request.ByteSizeLong());
    EXPECT_TRUE(wire::TelemetryBatchFromProto(request, clock.Now()).ok());
    deltas += batch->deltas.size();
    reporter.OnReply(ReportReply{}, absl::Seconds(1));
  }
  EXPECT_EQ(deltas, kDeltas);
  EXPECT_LE(largest, wire::kMaxBatchBytes);
  EXPECT_GE(largest, wire::kMaxBatchBytes / 4) << "and not much smaller than they may be";

  reporter.KeepAlive(absl::Seconds(100));
  const domain::TelemetryBatch* const empty = reporter.NextToSend(absl::Seconds(100));
  ASSERT_NE(empty, nullptr);
  EXPECT_TRUE(wire::TelemetryBatchFromProto(wire::ToProto(*empty), clock.Now()).ok());
}

}  // namespace
}  // namespace lockstep
