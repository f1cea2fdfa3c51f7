#include "tests/bench/telemetry_pressure.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lockstep/v1/telemetry_service.grpc.pb.h"
#include "tests/bench/child_process.h"
#include "tests/bench/closed_loop.h"
#include "tests/bench/route_servers.h"

namespace lockstep::bench {
namespace {

using Loop = ClosedLoop<v1::ReportComparisonsRequest, v1::ReportComparisonsResponse>;

constexpr int kInstances = 16;
constexpr size_t kBatchBytes = 2048;
constexpr int kBucketSeconds = 5;
constexpr absl::Duration kBeat = absl::Milliseconds(50);

// Session 1 of one instance, as of now, before its first batch.
v1::ReportComparisonsRequest MakeBatch(int instance) {
  v1::ReportComparisonsRequest batch;
  batch.set_instance_id(absl::StrCat("reporter-", instance));
  batch.set_session(1);
  while (batch.ByteSizeLong() < kBatchBytes) {
    v1::MigrationDelta* delta = batch.add_deltas();
    delta->set_migration(kBenchMigration);
    delta->set_generation(1);
    delta->set_epoch(1);
    delta->set_contract_revision(1);
    v1::OutcomeCount* count = delta->mutable_stats()->add_comparisons();
    count->set_outcome(v1::COMPARISON_OUTCOME_MATCH);
    count->set_count(1000);
  }
  return batch;
}

class Pressure {
 public:
  explicit Pressure(const std::string& address)
      : stub_(
            v1::TelemetryService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {
    for (int i = 0; i < kInstances; ++i) batches_.push_back(MakeBatch(i));
  }

  absl::StatusOr<std::string> Answer(const std::string& asked) {
    if (asked == "start") {
      stop_ = false;
      total_ = {};
      started_ = absl::Now();
      thread_ = std::thread([this] { Press(); });
      absl::SleepFor(2 * kBeat);  // until it is in full swing
      return "ok";
    }
    stop_ = true;
    thread_.join();
    if (!total_.first_error.ok()) return total_.first_error;
    return absl::StrCat(static_cast<double>(total_.calls) / absl::ToDoubleSeconds(absl::Now() - started_));
  }

 private:
  void Press() {
    while (!stop_) {
      const LoadResult result = Loop::Run(
          [this](grpc::ClientContext* context, const v1::ReportComparisonsRequest* request,
                 v1::ReportComparisonsResponse* response, std::function<void(grpc::Status)> done) {
            // As many batches as calls in flight, so that each is an instance with one call at a time.
            v1::ReportComparisonsRequest& batch = batches_[static_cast<size_t>(request - batches_.data())];
            batch.set_sequence(batch.sequence() + 1);
            const int64_t now = absl::ToUnixSeconds(absl::Now()) / kBucketSeconds * kBucketSeconds;
            for (v1::MigrationDelta& delta : *batch.mutable_deltas())
              delta.mutable_bucket_start()->set_seconds(now);
            stub_->async()->ReportComparisons(context, &batch, response, std::move(done));
          },
          &batches_, kInstances, kBeat);
      total_.calls += result.calls;
      if (!result.first_error.ok()) {
        total_.first_error = result.first_error;
        return;
      }
    }
  }

  const std::unique_ptr<v1::TelemetryService::Stub> stub_;
  std::vector<v1::ReportComparisonsRequest> batches_;
  std::thread thread_;
  std::atomic<bool> stop_{false};
  LoadResult total_;  // the thread's while it runs
  absl::Time started_;
};

}  // namespace

absl::Status PressTelemetry(const std::string& address) {
  Pressure pressure(address);
  AnnounceAndAnswer("ready", [&](const std::string& asked) { return pressure.Answer(asked); });
  return absl::OkStatus();
}

}  // namespace lockstep::bench
