// Runs comparisons off the request path: shadow read, compare, classify, settle, record.
//
// Some of them are then timed: both sides are read once more in random order.
//
//   if (runner->Admit()) runner->Start(std::make_shared<Task>(...));  // else it was shed: the caller counts
//   it
//
// Thread-safe. Comparisons keep the runner alive, hold no lock while they call out, and hold the operation's
// pin until they end.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/prng.h"
#include "lockstep/client.h"
#include "lockstep/comparator.h"
#include "lockstep/migrator_types.h"

namespace lockstep::internal {

// What one side answered: the record's fields, nothing, or an error.
using SideView = absl::StatusOr<std::optional<RecordView>>;

class ComparisonRunner;

// One comparison, admitted by its runner, until its record: what is compared, and how far it is. In one
// piece, because every compared read of a service makes one.
class ComparisonTask {
 public:
  // `runner` has admitted it. By reference, because each move on the way costs something.
  ComparisonTask(std::shared_ptr<ComparisonRunner> runner, RouteHandle&& route, std::string&& routing_key,
                 std::string&& subject, const std::string& trace_id, domain::Side served_side)
      : route(std::move(route)),
        routing_key(std::move(routing_key)),
        subject(std::move(subject)),
        trace_id(trace_id),
        served_side(served_side),
        runner_(std::move(runner)) {}
  // Gives its place back, also when the executor drops it.
  virtual ~ComparisonTask();
  ComparisonTask(const ComparisonTask&) = delete;
  ComparisonTask& operator=(const ComparisonTask&) = delete;

  // The answer that was served. Called on the executor, so that the request does not pay for the conversion.
  virtual SideView Served() const = 0;
  // Reads one side. What is read only for its duration is not converted, and comes back as nothing.
  virtual SideView Read(domain::Side side, absl::Time deadline, bool convert) const = 0;
  // The same, converted, of the side that did not serve; `*equal` and nothing if the service holds it for
  // equal to what was served.
  virtual SideView ReadOther(absl::Time deadline, bool* equal) const = 0;

  const RouteHandle route;
  const std::string routing_key;
  const std::string subject;  // empty: the routing key
  const std::string trace_id;
  const domain::Side served_side;

 private:
  friend class ComparisonRunner;

  // How a pair of answers compares.
  struct Verdict {
    // Nothing: both sides failed, so there was no comparison.
    std::optional<domain::ComparisonOutcome> outcome;
    bool only_old_failed = false;
    bool only_new_failed = false;
    std::vector<FieldDifference> differences;

    bool is_mismatch() const {
      return outcome.has_value() && domain::InfoOf(*outcome).kind == domain::OutcomeKind::kMismatch;
    }
  };

  const std::shared_ptr<ComparisonRunner> runner_;
  size_t settle_passes_ = 0;
  // The authoritative side as last read.
  std::optional<RecordView> authoritative_;
  Verdict verdict_;  // once it is concluded
};

class ComparisonRunner {
 public:
  // `client` must outlive the runner's comparisons.
  ComparisonRunner(Client* client, const MigratorOptions& options);

  // Takes a place; false when all are taken or the client is shutting down.
  bool Admit();
  // `task` is one of this runner.
  void Start(std::shared_ptr<ComparisonTask> task);
  int in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

 private:
  friend class ComparisonTask;
  using TaskPtr = std::shared_ptr<ComparisonTask>;
  using Verdict = ComparisonTask::Verdict;

  void FirstPass(const TaskPtr& task);
  // Reads both sides again.
  void SettlePass(const TaskPtr& task);
  // Ends with `verdict`, timed or not, or settles it if it is a mismatch and there are passes left.
  void Conclude(const TaskPtr& task, Verdict verdict);
  // Times both sides, then records.
  void TimingPass(const ComparisonTask& task);
  void Record(const ComparisonTask& task, std::optional<TimedPair> timed);
  Client* const client_;
  const MigratorOptions options_;
  std::atomic<int> in_flight_{0};
  SharedPrng prng_;
};

}  // namespace lockstep::internal
