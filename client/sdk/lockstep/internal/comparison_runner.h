// Runs comparisons off the request path: shadow read, compare, classify, settle, record.
//
// Some of them are then timed: both sides are read once more in random order.
//
//   if (runner->Admit()) runner->Start({...});   // else it was shed; the caller counts it
//
// Thread-safe. Comparisons keep the runner alive, hold no lock while they call out, and hold the operation's
// pin until they end.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/base/prng.h"
#include "lockstep/client.h"
#include "lockstep/comparator.h"
#include "lockstep/migrator_types.h"

namespace lockstep::internal {

// What one side answered: the record's fields, nothing, or an error.
using SideView = absl::StatusOr<std::optional<RecordView>>;

struct ComparisonTask {
  RouteHandle route;
  std::string routing_key;
  std::string subject;  // empty: the routing key
  std::string trace_id;
  domain::Side served_side = domain::Side::kOld;
  // The answer that was served. Called once, on the executor, so that the request does not pay for the
  // conversion.
  std::function<SideView()> served;
  // Reads one side. What is read only for its duration is not converted, and comes back as nothing.
  std::function<SideView(domain::Side, absl::Time deadline, bool convert)> read;
};

class ComparisonRunner : public std::enable_shared_from_this<ComparisonRunner> {
 public:
  // `client` must outlive the runner's comparisons.
  ComparisonRunner(Client* client, const MigratorOptions& options);

  // Takes a place; false when all are taken or the client is shutting down.
  bool Admit();
  // After Admit.
  void Start(ComparisonTask task);
  int in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

 private:
  struct Running;
  struct Verdict;

  void FirstPass(const std::shared_ptr<Running>& running);
  // Reads both sides again.
  void SettlePass(const std::shared_ptr<Running>& running);
  // Ends with `verdict`, timed or not, or settles it if it is a mismatch and there are passes left.
  void Conclude(const std::shared_ptr<Running>& running, Verdict verdict);
  // Times both sides, then records.
  void TimingPass(const Running& running);
  void Record(const Running& running, std::optional<TimedPair> timed);
  // True with this probability.
  bool Draw(double probability);

  Client* const client_;
  const MigratorOptions options_;
  std::atomic<int> in_flight_{0};
  Mutex prng_mutex_;  // taken on the executor only
  Prng prng_ ABSL_GUARDED_BY(prng_mutex_);
};

}  // namespace lockstep::internal
