// A load of unary calls with a fixed number in flight: each answer starts the next call.
//
// A closed loop measures capacity. Its latencies are those under that load and nothing more: a slow server is
// simply asked less often.
#pragma once

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace lockstep::bench {

struct LoadResult {
  uint64_t calls = 0;          // all that were answered
  uint64_t calls_in_time = 0;  // before the time was up; for rates
  absl::Status first_error;    // OK: every call was
  std::vector<uint64_t> latencies_ns;

  void Add(const LoadResult& other) {
    calls += other.calls;
    calls_in_time += other.calls_in_time;
    if (first_error.ok()) first_error = other.first_error;
    latencies_ns.insert(latencies_ns.end(), other.latencies_ns.begin(), other.latencies_ns.end());
  }

  // Sorts the latencies; `q` in [0, 1]; 0 without any.
  uint64_t QuantileNanoseconds(double q) {
    if (latencies_ns.empty()) return 0;
    const auto at = static_cast<size_t>(q * static_cast<double>(latencies_ns.size() - 1));
    std::nth_element(latencies_ns.begin(), latencies_ns.begin() + static_cast<ptrdiff_t>(at),
                     latencies_ns.end());
    return latencies_ns[at];
  }
};

template <typename Request, typename Response>
class ClosedLoop {
 public:
  // Starts one call of the callback API. All pointers live until `done` has been called.
  using StartCall =
      std::function<void(grpc::ClientContext*, const Request*, Response*, std::function<void(grpc::Status)>)>;

  // Takes the requests in turn; `requests` is not empty and outlives the loop. Runs for `duration`, then
  // returns when the last call is answered.
  static LoadResult Run(StartCall start, const std::vector<Request>* requests, int in_flight,
                        absl::Duration duration) {
    ClosedLoop loop(std::move(start), requests, in_flight, duration);
    return loop.Finish();
  }

 private:
  using SteadyClock = std::chrono::steady_clock;

  // One call in flight at a time; only its own callback touches it.
  struct Slot {
    std::optional<grpc::ClientContext> context;  // can't be used twice
    Response response;
    size_t next_request = 0;
    SteadyClock::time_point started;
    LoadResult result;
  };

  ClosedLoop(StartCall start, const std::vector<Request>* requests, int in_flight, absl::Duration duration)
      : start_(std::move(start)),
        requests_(requests),
        stride_(static_cast<size_t>(in_flight)),
        end_(SteadyClock::now() + absl::ToChronoNanoseconds(duration)),
        slots_(stride_),
        running_(in_flight) {
    for (size_t i = 0; i < slots_.size(); ++i) {
      slots_[i].next_request = i;
      Start(&slots_[i]);
    }
  }

  void Start(Slot* slot) {
    slot->context.emplace();
    const Request& request = (*requests_)[slot->next_request % requests_->size()];
    slot->next_request += stride_;
    slot->started = SteadyClock::now();
    start_(&*slot->context, &request, &slot->response,
           [this, slot](grpc::Status status) { Done(slot, status); });
  }

  void Done(Slot* slot, const grpc::Status& status) {
    const auto now = SteadyClock::now();
    LoadResult& result = slot->result;
    ++result.calls;
    if (now < end_) ++result.calls_in_time;
    result.latencies_ns.push_back(
        static_cast<uint64_t>(std::chrono::nanoseconds(now - slot->started).count()));
    if (!status.ok()) {
      result.first_error =
          absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
    }
    if (status.ok() && now < end_) return Start(slot);
    MutexLock lock(&mutex_);
    if (--running_ == 0) all_done_.Signal();
  }

  LoadResult Finish() {
    {
      MutexLock lock(&mutex_);
      while (running_ > 0) all_done_.Wait(&mutex_);
    }
    LoadResult total;
    for (const Slot& slot : slots_) total.Add(slot.result);
    return total;
  }

  const StartCall start_;
  const std::vector<Request>* const requests_;
  const size_t stride_;
  const SteadyClock::time_point end_;
  std::vector<Slot> slots_;
  Mutex mutex_;
  CondVar all_done_;
  int running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::bench
