// A simulated service process: the production Client and Migrator over simulated stores, network, disk, clock
// and executor. It crashes, stands still, and comes back.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/prng.h"
#include "lockstep/client.h"
#include "lockstep/migrator.h"
#include "lockstep/state_storage_memory.h"
#include "tests/sim/fiber.h"
#include "tests/sim/network.h"
#include "tests/sim/oracle.h"
#include "tests/sim/scheduler.h"

namespace lockstep::sim {

// What the processes of a world share.
struct Commons {
  Scheduler scheduler;
  FiberPool fibers;
  SimOptions options;
  SimStats stats;
  Oracle oracle{&scheduler, &stats};
  ModelStore stores[2];
  // For Broken::kStaleReplica: what the new side held before, oldest first.
  std::map<Key, std::deque<std::pair<absl::Duration, Row>>> past;
  bool sick[2] = {false, false};
  bool healed = false;
  std::deque<std::string> trace;

  ModelStore& store(domain::Side side) { return stores[static_cast<size_t>(side)]; }
  bool Has(Fault fault) const { return !healed && options.Has(fault); }
  void Trace(std::string line);
};

struct ProcessConfig {
  int index = 0;
  std::string instance_id;  // empty: another one with every start, unless there is a state directory
  bool state_directory = false;
  bool sync_journal = false;
  domain::LeasePolicy policy = domain::LeasePolicy::kKeepServing;
  MirrorMode mirror_mode = MirrorMode::kWriteThrough;
  double clock_rate = 1.0;
};

class Life;

// What a mirror does not have when a process crashes.
struct Debt {
  Key key = 0;
  Version version = 0;
  domain::Side mirror = domain::Side::kNew;
};

class Process {
 public:
  Process(Commons* commons, Network* network, ProcessConfig config, Prng prng);
  ~Process();

  const ProcessConfig& config() const { return config_; }
  bool running() const { return life_ != nullptr; }
  bool paused() const { return paused_; }

  void Start();
  // Everything in memory is gone. `machine`: what was not synced, too.
  void Crash(bool machine);
  void Pause();
  void Resume();
  // In order; down for `down_for` then. For good: it comes back as one that knows of nothing.
  void Shutdown(Departure departure, absl::Duration down_for);

  void Write(Key key, std::optional<int64_t> value);
  void Read(Key key, bool with_token);

  // Empty, or what is still to be done, for people.
  std::string Unsettled() const;
  // Ids that no process will use any more.
  const std::set<std::string>& ghosts() const { return ghosts_; }
  std::string instance_id() const;
  Life* life() { return life_.get(); }

 private:
  friend class Life;
  // The client has been shut down.
  void OnShutDown(const absl::Status& left);
  // The life is over.
  void End(bool journal_survives);

  Commons* const commons_;
  Network* const network_;
  const ProcessConfig config_;
  Prng prng_;
  DriftingClock clock_;
  std::shared_ptr<MemoryStateStorage> disk_;
  std::shared_ptr<Life> life_;
  int lives_ = 0;
  bool paused_ = false;
  absl::Duration down_for_ = absl::ZeroDuration();  // after a shutdown
  std::vector<std::function<void()>> deferred_;     // what came while it stood still
  std::set<std::string> ghosts_;
  std::vector<Debt> debts_;          // of earlier lives, which the journal remembers
  std::map<Key, ReadToken> tokens_;  // of its own latest acknowledged writes
};

}  // namespace lockstep::sim
