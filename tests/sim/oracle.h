// What must be true at every step, whatever the faults. The simulated world tells it what happens; it keeps
// the first thing that must not be.
//
// It knows nothing of how the engine and the SDK work: states are learned from what the server sends,
// everything else from what services ask for and what the two stores hold.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/compatibility.h"
#include "core/domain/migration.h"
#include "core/domain/records.h"
#include "core/domain/routing_state.h"
#include "lockstep/migrator_types.h"
#include "tests/sim/options.h"
#include "tests/sim/scheduler.h"

namespace lockstep::sim {

using Key = int64_t;

std::string RoutingKeyOf(Key key);

struct Row {
  Version version = 0;           // 0 = never was
  std::optional<int64_t> value;  // none: a tombstone, or never was
};

// One of the two migrated stores. Effects are atomic; when they take place is for the world to say.
struct ModelStore {
  std::map<Key, Row> rows;
  Row Get(Key key) const {
    const auto found = rows.find(key);
    return found == rows.end() ? Row{} : found->second;
  }
};

// A write of a service.
struct WriteOp {
  int process = 0;
  Key key = 0;
  std::optional<int64_t> value;  // unique; none: a delete
  absl::Time started, deadline;  // by the process's clock
  // What is known of it so far.
  uint64_t epoch = 0;
  std::optional<domain::Side> authoritative;
  Version version = 0;  // 0: the authoritative side doesn't have it
  bool store_failed = false;
  bool ended = false;
  int64_t acting = 0;  // of Oracle::BeginActing
};

// What a read has to see, fixed when it begins.
struct ReadExpectation {
  Version of_mirrored = 0;                   // whatever side it is served from
  std::optional<int64_t> value_of_mirrored;  // of that version
  Version of_side[2] = {0, 0};               // if served from that side
  Version of_all = 0;                        // if served from the side that is authoritative for it
  Version of_token = 0;
};

class Oracle {
 public:
  Oracle(const Scheduler* scheduler, SimStats* stats) : scheduler_(scheduler), stats_(stats) {}

  // The first thing that must not be; empty = none so far.
  const std::string& violation() const { return violation_; }
  void Violate(std::string what);

  // Routing states.
  void OnSent(const domain::RoutingState& state);
  const domain::RoutingState* StateOf(uint64_t epoch) const;
  // Somebody asked for this, and it was granted.
  void OnCommand(const domain::Migration& after);
  // What the gate has decided grants what its evidence shows.
  void OnDecision(const domain::DecisionRecord& record, const domain::MigrationPlan& plan);
  // The requests and telemetry of services.
  void OnReadAsked() { ++reads_asked_; }
  void CheckTotals(const domain::WindowStats& totals);
  // Whether it was granted is not known; it may be found granted after a restart.
  void OnUnknownCommand();
  // The published state, after each step of the server.
  void OnPublished(const domain::RoutingState& published);

  // Who acts. `until`: a write of an instance with a lease can have no effect later than that.
  int64_t BeginActing(int process, Key key, uint64_t epoch, absl::Duration until);
  void EndActing(int64_t acting);
  void ForgetProcess(int process);
  // The control plane takes it that this one, whose lease is over, writes nothing until it has enrolled
  // again.
  void OnPassedBy(int process);
  void OnEnrolled(int process) { passed_by_.erase(process); }
  // It says that it acts on nothing older than `epoch`.
  void OnClaim(int process, uint64_t epoch);
  // Records are copied from old to new, so that nobody may write by OFF any more.
  void OnBackfillBegins(uint64_t generation);

  // Every mode routes a key to one side at one epoch: `write`, or a read of an instance whose lease is live.
  void OnRouted(uint64_t epoch, Key key, bool write, domain::Side side);

  // Stores.
  void OnApplied(domain::Side side, Key key, const Row& row);
  // Nothing remembers that the other side misses this.
  void Cut(Key key) { cut_.insert(key); }
  const std::set<Key>& cut() const { return cut_; }

  // Visibility.
  void OnAcknowledged(const WriteOp& op, const ReadToken& token);
  void OnBackfilled(Key key, const Row& row);
  ReadExpectation Expect(Key key, const ReadToken* after) const;
  // `strict`: the instance's lease is live, so that its authoritative side is the fleet's.
  void OnRead(Key key, const ReadExpectation& expected, domain::Side side, uint64_t epoch, const Row& seen,
              bool strict);

  // At the end, when everything is healed and settled.
  void CheckStores(const ModelStore& old_side, const ModelStore& new_side,
                   const domain::RoutingState& published, bool backfilled);

 private:
  struct Actor {
    int process;
    uint32_t bucket;
    uint64_t epoch;
    absl::Duration until;
  };
  struct Acknowledged {
    Version mirrored = 0;
    std::optional<int64_t> mirrored_value;
    Version side[2] = {0, 0};
    Version all = 0;
  };
  uint32_t BucketOf(Key key, const domain::RoutingState& state) const;
  void CheckPair(const Actor& a, const Actor& b);
  void CheckLeaseOf(const Actor& actor);
  void CheckBackfill(const Actor& actor);

  const Scheduler* const scheduler_;
  SimStats* const stats_;
  std::string violation_;
  std::map<uint64_t, domain::RoutingState> states_;
  std::optional<domain::RoutingState> published_;
  std::optional<domain::RoutingState> granted_;
  uint64_t reads_asked_ = 0;
  int64_t next_actor_ = 1;
  std::map<int64_t, Actor> actors_;
  std::set<int> passed_by_;
  uint64_t backfill_begun_ = 0;  // the newest generation
  std::map<std::pair<uint64_t, Key>, domain::Side> routed_reads_, routed_writes_;
  std::map<std::pair<Key, Version>, std::optional<int64_t>> minted_;
  std::map<Key, Acknowledged> acknowledged_;
  std::set<Key> cut_;
};

}  // namespace lockstep::sim
