#include "tests/sim/options.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lockstep::sim {
namespace {

constexpr std::pair<Fault, absl::string_view> kFaultNames[] = {
    {Fault::kDelay, "delay"},
    {Fault::kBreak, "break"},
    {Fault::kPartition, "partition"},
    {Fault::kCrash, "crash"},
    {Fault::kPause, "pause"},
    {Fault::kServerRestart, "server-restart"},
    {Fault::kServerDisk, "server-disk"},
    {Fault::kStoreErrors, "store-errors"},
    {Fault::kSickSide, "sick-side"},
    {Fault::kDrift, "drift"},
    {Fault::kMachineCrash, "machine-crash"},
    {Fault::kLeave, "leave"},
    {Fault::kCorrupt, "corrupt"},
    {Fault::kServerPause, "server-pause"},
    {Fault::kRenewal, "renewal"},
};

constexpr std::pair<Broken, absl::string_view> kBrokenNames[] = {
    {Broken::kNothing, "nothing"},
    {Broken::kNoFence, "no-fence"},
    {Broken::kAckBeforeDrain, "ack-before-drain"},
    {Broken::kClaimsTooMuch, "claims-too-much"},
    {Broken::kNoVersionGuard, "no-version-guard"},
    {Broken::kMirrorLies, "mirror-lies"},
    {Broken::kSlowLeaseClock, "slow-lease-clock"},
    {Broken::kIgnoresDeadlines, "ignores-deadlines"},
    {Broken::kStorageLies, "storage-lies"},
    {Broken::kJournalLost, "journal-lost"},
    {Broken::kSharedId, "shared-id"},
    {Broken::kEvictsLive, "evicts-live"},
    {Broken::kServerLosesCommits, "server-loses-commits"},
    {Broken::kIgnoresHold, "ignores-hold"},
    {Broken::kStaleReplica, "stale-replica"},
    {Broken::kExecutorDropsTasks, "executor-drops-tasks"},
    {Broken::kVersionsFromClock, "versions-from-clock"},
    {Broken::kOtherBuckets, "other-buckets"},
    {Broken::kBackfillBeforeFence, "backfill-before-fence"},
    {Broken::kAcksLost, "acks-lost"},
    {Broken::kMirrorFirst, "mirror-first"},
    {Broken::kLeaseFromReceipt, "lease-from-receipt"},
    {Broken::kNoDigestCheck, "no-digest-check"},
    {Broken::kCountsTwice, "counts-twice"},
    {Broken::kGateForgets, "gate-forgets"},
};

template <typename Table, typename Value>
absl::string_view NameIn(const Table& table, Value value) {
  for (const auto& [candidate, name] : table) {
    if (candidate == value) return name;
  }
  return "";
}

template <typename Value, typename Table>
std::optional<Value> ParseIn(const Table& table, absl::string_view text) {
  for (const auto& [value, name] : table) {
    if (name == text) return value;
  }
  return std::nullopt;
}

}  // namespace

absl::string_view FaultName(Fault fault) { return NameIn(kFaultNames, fault); }
std::optional<Fault> ParseFault(absl::string_view name) { return ParseIn<Fault>(kFaultNames, name); }
absl::string_view BrokenName(Broken broken) { return NameIn(kBrokenNames, broken); }
std::optional<Broken> ParseBroken(absl::string_view name) { return ParseIn<Broken>(kBrokenNames, name); }

std::string ReplayCommand(const SimOptions& options) {
  std::vector<absl::string_view> faults;
  for (const Fault fault : kAllFaults) {
    if (options.Has(fault)) faults.push_back(FaultName(fault));
  }
  std::string command =
      absl::StrCat("lockstep_sim --first-seed ", options.seed, " --seeds 1 --operations ", options.operations,
                   " --faults ", faults.empty() ? "none" : absl::StrJoin(faults, ","));
  if (options.broken != Broken::kNothing) absl::StrAppend(&command, " --broken ", BrokenName(options.broken));
  return command;
}

void SimStats::Add(const SimStats& other) {
  events += other.events;
  reads += other.reads;
  writes += other.writes;
  failed += other.failed;
  held += other.held;
  held_expired += other.held_expired;
  crashes += other.crashes;
  server_crashes += other.server_crashes;
  pauses += other.pauses;
  evictions += other.evictions;
  reports += other.reports;
  repeated_reports += other.repeated_reports;
  gate_advances += other.gate_advances;
  gate_others += other.gate_others;
  shutdowns += other.shutdowns;
  server_pauses += other.server_pauses;
  corrupted += other.corrupted;
  publishes += other.publishes;
  slices += other.slices;
  rollbacks += other.rollbacks;
  reached_cutover += other.reached_cutover;
  reached_new_only += other.reached_new_only;
  cut_keys += other.cut_keys;
}

std::string SimStats::ToString() const {
  return absl::StrCat(
      "events ", events, ", reads ", reads, ", writes ", writes, ", failed ", failed, ", held ", held, " (",
      held_expired, " too long), publishes ", publishes, ", slices ", slices, ", rollbacks ", rollbacks,
      ", runs that reached CUTOVER ", reached_cutover, " and NEW_ONLY ", reached_new_only, ", crashes ",
      crashes, " and ", server_crashes, " of the server, pauses ", pauses, " and ", server_pauses,
      " of the server, shutdowns ", shutdowns, ", messages corrupted ", corrupted, ", evictions ", evictions,
      ", reports ", reports, " and ", repeated_reports, " repeated, steps taken by the gate ", gate_advances,
      ", other decisions of it ", gate_others, ", records cut by a crash ", cut_keys);
}

uint64_t HashOf(const SimResult& result) {
  // FNV-1a: absl::Hash is another one in each process.
  uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&hash](absl::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    hash *= 0x100000001b3u;
  };
  for (const std::string& line : result.trace) add(line);
  add(result.violation);
  add(result.stats.ToString());
  return hash;
}

SimOptions Shrink(SimOptions options) {
  options.trace = false;
  const auto fails = [](const SimOptions& candidate) { return !Simulate(candidate).violation.empty(); };
  for (const Fault fault : kAllFaults) {
    SimOptions fewer = options;
    fewer.faults &= ~(uint32_t{1} << static_cast<int>(fault));
    if (fewer.faults != options.faults && fails(fewer)) options = fewer;
  }
  for (int step = options.operations / 2; step > 0; step /= 2) {
    while (options.operations > step) {
      SimOptions fewer = options;
      fewer.operations -= step;
      if (!fails(fewer)) break;
      options = fewer;
    }
  }
  return options;
}

}  // namespace lockstep::sim
