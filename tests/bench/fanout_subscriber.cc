#include "tests/bench/fanout_subscriber.h"

#include <grpcpp/grpcpp.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/mutex.h"
#include "lockstep/v1/routing_service.grpc.pb.h"
#include "tests/bench/child_process.h"
#include "tests/bench/route_servers.h"

namespace lockstep::bench {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(2);

// When instances of this process had the message of an epoch.
class Arrivals {
 public:
  void Note(uint64_t epoch, size_t bytes) {
    const int64_t now = MonotonicNanoseconds();
    MutexLock lock(&mutex_);
    by_epoch_[epoch].push_back({now, bytes});
    newest_ = std::max(newest_, epoch);
  }
  size_t Count() const {
    MutexLock lock(&mutex_);
    return newest_ == 0 ? 0 : by_epoch_.at(newest_).size();
  }
  void Write(const std::string& path) const {
    std::ofstream file(path);
    MutexLock lock(&mutex_);
    for (const auto& [epoch, arrivals] : by_epoch_) {
      for (const auto& [time, bytes] : arrivals) file << epoch << ' ' << time << ' ' << bytes << '\n';
    }
  }

 private:
  mutable Mutex mutex_;
  uint64_t newest_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::vector<std::pair<int64_t, size_t>>> by_epoch_ ABSL_GUARDED_BY(mutex_);
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
    if (epoch != 0) Answer(epoch, revision);
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
  void Answer(uint64_t epoch, uint64_t revision) {
    arrivals_->Note(epoch, response_.ByteSizeLong());
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

}  // namespace

absl::Status Subscribe(const SubscribeOptions& options) {
  static Arrivals arrivals;
  static std::vector<std::unique_ptr<Subscriber>> subscribers;
  for (int i = 0; i < options.subscribers; ++i) {
    subscribers.push_back(std::make_unique<Subscriber>(options.address, options.first + i, &arrivals));
  }
  const absl::Time give_up = absl::Now() + kPatience;
  while (arrivals.Count() < subscribers.size()) {
    if (absl::Now() > give_up) return absl::DeadlineExceededError("not every stream was sent its state");
    absl::SleepFor(absl::Milliseconds(10));
  }
  AnnounceAndWait("ready");
  arrivals.Write(options.output);
  std::_Exit(0);  // without waiting for a thousand connections to close
}

}  // namespace lockstep::bench
