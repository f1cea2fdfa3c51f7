// More telemetry than the disk takes, over gRPC, as the SDK's transport sends it: what waits is bounded, and
// those who send are told to come later, and with less.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "lockstep/grpc_transport.h"
#include "server/service/telemetry_service.h"
#include "tests/engine/engine_fixture.h"
#include "tests/support/eventually.h"

namespace lockstep::service {
namespace {

using domain::ComparisonOutcome;
using engine::kName;
using testing::Eventually;

constexpr size_t kMaxQueuedBytes = 256 << 10;
constexpr uint64_t kSenders = 300;
constexpr uint64_t kMatchesInABatch = 100;

class TelemetryFloodTest : public engine::EngineTest {
 protected:
  TelemetryFloodTest() {
    SetLogLevel(LogLevel::kError);
    options_.telemetry.max_queued_bytes = kMaxQueuedBytes;
    Restart();
    Create();
    service_ = std::make_unique<TelemetryServiceImpl>(engine_.get(), &clock_);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    transport_ = *MakeGrpcTransport(
        {.address = absl::StrCat("127.0.0.1:", port), .report_deadline = absl::Minutes(2)});
  }
  ~TelemetryFloodTest() override {
    transport_.reset();
    server_->Shutdown();
  }

  // With sketches, which take 4 KiB.
  domain::TelemetryBatch BatchOf(uint64_t session) {
    domain::TelemetryDelta delta = DeltaNow(kMatchesInABatch, 0);
    for (uint64_t subject = 1; subject <= kMatchesInABatch; ++subject) {
      delta.stats.subjects.compared.distinct.Add(subject << 40);
    }
    delta.stats.subjects.compared.slots.Add(0, kMatchesInABatch);
    return {"a", session, 1, {delta}};
  }

  void Send(uint64_t session) {
    transport_->ReportComparisons(BatchOf(session), [this, session](absl::StatusOr<ReportReply> reply) {
      MutexLock lock(&mutex_);
      if (!reply.ok()) {
        refusals_.push_back(reply.status());
        refused_.push_back(session);
        return;
      }
      ++accepted_;
      if (!reply->retry_after.has_value()) return;
      ++slowed_down_;
      EXPECT_EQ(reply->samples_per_fingerprint, 0u);
    });
  }
  uint64_t Answered() {
    MutexLock lock(&mutex_);
    return accepted_ + refused_.size();
  }
  std::vector<uint64_t> TakeRefused() {
    MutexLock lock(&mutex_);
    return std::exchange(refused_, {});
  }

  std::unique_ptr<TelemetryServiceImpl> service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<Transport> transport_;
  Mutex mutex_;
  std::vector<uint64_t> refused_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> refusals_ ABSL_GUARDED_BY(mutex_);
  uint64_t accepted_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t slowed_down_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST_F(TelemetryFloodTest, IsBoundedToldAndCountedOnce) {
  store_.BlockCommit(1, store::FaultyStore::Moment::kBeforeApply);
  Send(1);
  store_.WaitUntilBlocked();
  for (uint64_t session = 2; session <= kSenders; ++session) Send(session);
  // All have come: each waits or was refused.
  ASSERT_TRUE(Eventually([&] {
    const engine::TelemetryCounters counters = engine_->telemetry().counters();
    return counters.queued_batches + counters.refused_batches == kSenders - 1;
  }));
  const uint64_t queued = engine_->telemetry().counters().queued_batches;
  EXPECT_GT(queued, 10u);
  EXPECT_LT(queued, kMaxQueuedBytes / domain::DistinctSketch::kRegisters);
  ASSERT_TRUE(Eventually([&] { return Answered() == kSenders - 1 - queued; }));
  {
    MutexLock lock(&mutex_);
    for (const absl::Status& refusal : refusals_) {
      EXPECT_EQ(refusal.code(), absl::StatusCode::kResourceExhausted) << refusal;
      const std::optional<ErrorInfo> info = GetErrorInfo(refusal);
      ASSERT_TRUE(info.has_value()) << refusal;
      EXPECT_EQ(info->reason, "QUEUE_FULL");
      EXPECT_EQ(info->metadata.count("retry_after_ms"), 1u);
    }
  }
  store_.Release();
  for (bool all_taken = false; !all_taken;) {
    ASSERT_TRUE(Eventually([&] { return Answered() == kSenders; }));
    const std::vector<uint64_t> again = TakeRefused();
    all_taken = again.empty();
    for (const uint64_t session : again) Send(session);
  }
  {
    MutexLock lock(&mutex_);
    EXPECT_GE(slowed_down_, 1u) << "the first one was answered while the queue was full";
  }
  EXPECT_EQ(engine_->telemetry().Totals(kName, 1).comparison(ComparisonOutcome::kMatch),
            kSenders * kMatchesInABatch);
}

}  // namespace
}  // namespace lockstep::service
