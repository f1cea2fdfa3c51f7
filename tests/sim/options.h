// What a run is made of: a seed, the kinds of faults, how much of them, and the rule that is broken, if any.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace lockstep::sim {

enum class Fault : uint8_t {
  kDelay,          // messages and store calls are slow now and then
  kBreak,          // connections break, seen by one end long before the other, or by both
  kPartition,      // a process is cut off
  kCrash,          // processes crash and come back
  kPause,          // processes stand still (SIGSTOP)
  kServerRestart,  // the control plane crashes, or drains its streams and restarts
  kServerDisk,     // its commits fail, or their outcome is unknown
  kStoreErrors,    // single calls of the migrated stores fail, before or after their effect
  kSickSide,       // one of the stores is out for a while
  kDrift,          // clocks run up to 4 % apart
  kMachineCrash,   // a crash takes what was not synced with it
  kLeave,          // processes shut down in order, for good or to come back
  kCorrupt,        // a routing message arrives with another content
  kServerPause,    // the control plane stands still
  kRenewal,        // the server asks for a new stream, at whatever moment
};

inline constexpr std::array<Fault, 15> kAllFaults = {
    Fault::kDelay,         Fault::kBreak,      Fault::kPartition,   Fault::kCrash,       Fault::kPause,
    Fault::kServerRestart, Fault::kServerDisk, Fault::kStoreErrors, Fault::kSickSide,    Fault::kDrift,
    Fault::kMachineCrash,  Fault::kLeave,      Fault::kCorrupt,     Fault::kServerPause, Fault::kRenewal};

absl::string_view FaultName(Fault fault);
std::optional<Fault> ParseFault(absl::string_view name);

// A rule that the wrapper at some seam breaks, to show that the simulator notices.
enum class Broken : uint8_t {
  kNothing,
  kNoFence,              // the server takes a state that it has sent for acknowledged
  kAckBeforeDrain,       // an instance acknowledges what it accepts, whatever is under way
  kClaimsTooMuch,        // a reconnect claims, and acknowledges, what it was sent last
  kNoVersionGuard,       // mirror writes apply whatever is there
  kMirrorLies,           // mirror writes are confirmed before they are applied
  kSlowLeaseClock,       // an instance's clock runs slower than the margin allows for
  kIgnoresDeadlines,     // store calls take effect after their deadline
  kStorageLies,          // what the state directory was given is not durable
  kJournalLost,          // what is appended to the state directory is dropped
  kSharedId,             // two processes act under one instance id
  kEvictsLive,           // the operator evicts instances that are alive
  kServerLosesCommits,   // the control plane's disk forgets acknowledged commits
  kIgnoresHold,          // a service writes the old side although its key is held
  kStaleReplica,         // reads of the new side come from a replica that lags
  kExecutorDropsTasks,   // background work is lost
  kVersionsFromClock,    // the authoritative side takes the version from the service's clock
  kOtherBuckets,         // one process hashes keys otherwise
  kBackfillBeforeFence,  // the backfill does not wait for instances at OFF
  kAcksLost,             // acknowledgements never arrive
  kMirrorFirst,          // the mirror is written before the authoritative side
  kLeaseFromReceipt,     // an instance counts its lease from when the answer came
  kNoDigestCheck,        // a message that was changed on its way is taken
  kCountsTwice,          // a repeated report is counted again
  kGateForgets,          // the gate goes on, and leaves no decision record
};

inline constexpr std::array<Broken, 24> kAllBroken = {
    Broken::kNoFence,           Broken::kAckBeforeDrain, Broken::kClaimsTooMuch,
    Broken::kNoVersionGuard,    Broken::kMirrorLies,     Broken::kSlowLeaseClock,
    Broken::kIgnoresDeadlines,  Broken::kStorageLies,    Broken::kJournalLost,
    Broken::kSharedId,          Broken::kEvictsLive,     Broken::kServerLosesCommits,
    Broken::kIgnoresHold,       Broken::kStaleReplica,   Broken::kExecutorDropsTasks,
    Broken::kVersionsFromClock, Broken::kOtherBuckets,   Broken::kBackfillBeforeFence,
    Broken::kAcksLost,          Broken::kMirrorFirst,    Broken::kLeaseFromReceipt,
    Broken::kNoDigestCheck,     Broken::kCountsTwice,    Broken::kGateForgets};

absl::string_view BrokenName(Broken broken);
std::optional<Broken> ParseBroken(absl::string_view name);

struct SimOptions {
  uint64_t seed = 1;
  uint32_t faults = ~uint32_t{0};  // bits by Fault
  // Operations of all processes together; when they are over, everything is healed.
  int operations = 400;
  Broken broken = Broken::kNothing;
  bool trace = false;

  bool Has(Fault fault) const { return (faults >> static_cast<int>(fault) & 1) != 0; }
};

// The command line that repeats the run.
std::string ReplayCommand(const SimOptions& options);

struct SimStats {
  uint64_t events = 0;
  uint64_t reads = 0, writes = 0;  // that ended well
  uint64_t failed = 0;             // by a store's fault, a deadline or a lease
  uint64_t held = 0;               // writes that were held; of those `held_expired` past their deadline
  uint64_t held_expired = 0;
  uint64_t crashes = 0, server_crashes = 0, pauses = 0, evictions = 0;
  uint64_t reports = 0, repeated_reports = 0;   // that the server has counted, or found counted before
  uint64_t gate_advances = 0, gate_others = 0;  // decisions
  uint64_t shutdowns = 0, server_pauses = 0, corrupted = 0;
  uint64_t publishes = 0, slices = 0, rollbacks = 0;
  uint64_t reached_cutover = 0, reached_new_only = 0;
  uint64_t cut_keys = 0;  // records left unequal by a crash that nothing could have remembered

  void Add(const SimStats& other);
  std::string ToString() const;
};

struct SimResult {
  std::string violation;           // empty = none
  std::vector<std::string> trace;  // the last events, with SimOptions::trace
  SimStats stats;
};

// Of the trace and the statistics: the same in every process.
uint64_t HashOf(const SimResult& result);

// One run; everything in it follows from `options`.
SimResult Simulate(const SimOptions& options);

// A violation of `options` (which has one) with fewer kinds of faults and operations that still has one.
SimOptions Shrink(SimOptions options);

}  // namespace lockstep::sim
