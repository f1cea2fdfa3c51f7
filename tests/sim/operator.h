// The person who runs the migration: starts it, moves it on, and changes their mind; backfills; evicts what
// is gone. Everything is decided by the seed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/prng.h"
#include "tests/sim/process.h"
#include "tests/sim/server.h"

namespace lockstep::sim {

class Operator {
 public:
  Operator(Commons* commons, Server* server, std::vector<std::unique_ptr<Process>>* processes, Prng prng)
      : commons_(commons), server_(server), processes_(processes), prng_(std::move(prng)) {
    changes_mind_ = 3 + prng_.Below(25);
    goes_on_ = prng_.Below(3) == 0;
    automatic_ = prng_.Below(2) == 0;
  }

  // Makes the migration. Before any process starts.
  void Create();
  // Acts now and again from now on.
  void Begin();
  // No more commands but those that clean up.
  void Rest() { resting_ = true; }
  // The new side has everything that was written before both were.
  bool Backfilled(const domain::RoutingState& published) const;

 private:
  void MakeAutomatic(domain::MigrationPlan* plan);
  void Turn();
  void Decide(const domain::Migration& migration);
  void Command(domain::CommandKind kind, const domain::Migration& before, uint32_t weight = 0);
  void Drill();
  void EvictGhosts();
  void Evict(const std::string& instance_id);
  void Backfill(const domain::Migration& migration);
  void Copy(uint64_t generation, Key key);
  bool EverybodyIsAt(const domain::RoutingState& published) const;

  Commons* const commons_;
  Server* const server_;
  std::vector<std::unique_ptr<Process>>* const processes_;
  Prng prng_;
  bool resting_ = false;
  bool goes_on_ = false;         // past the point of no return
  bool automatic_ = false;       // leaves to the gate what the gate may do
  uint64_t changes_mind_ = 0;    // instead of going on: of 100 turns
  uint64_t backfill_begun_ = 0;  // generations
  uint64_t backfilled_ = 0;
};

// Keys are 0 to this, exclusive.
inline constexpr Key kKeys = 10;

}  // namespace lockstep::sim
