// A small world for the fence: one migration, a server that publishes by the production rule, and two
// instances.
//
//   A  KEEP_SERVING, with a state directory: comes back from a crash with what is on its disk, and acts on
//   it. B  FAIL_WRITES, without: comes back from a crash knowing nothing, and acts only while it believes in
//   its lease.
//
// Each may have one operation under way, routed by the state in force when it began; connections break and
// come back; state messages and heartbeats take their time. (An acceptance or an acknowledgement that takes
// its time is as good as a later one.) Time goes in ticks: the server counts B's lease for kLeaseTicks from
// the receipt of a heartbeat, B for kClientTicks of its own clock from the sending of the answered one; that
// clock may lose one tick in kLeaseTicks.
//
// Epochs are positions in `history`, which begins at the oldest one that anybody refers to; so the world is
// finite although epochs are not. A publish that would make the history longer than kMaxHistory is left out.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/model/routing_states.h"

namespace lockstep::model {

inline constexpr uint8_t kMaxHistory = 3;
inline constexpr uint8_t kLeaseTicks = 3;
inline constexpr uint8_t kClientTicks = 2;

// What can go wrong. Everything at once is too much for one search; both parts contain everything that the
// fence says about the instance they look at, and the other one is the same but for the faults.
enum class Faults : uint8_t {
  kDisk,   // both crash and lose connections, A has a state directory; B has no lease (KEEP_SERVING, too)
  kLease,  // B has a lease, crashes, and loses connections; A is slow only
};

// What is left out of the real rules, to show that the search would notice.
struct Rules {
  bool fence = true;            // publishes wait
  bool ack_after_drain = true;  // else an instance acknowledges while an operation is on an older epoch
  bool snapshot_durable_before_ack = true;
  bool claim_raises_nothing =
      true;                     // else a reconnect counts as an acknowledgement, also of what isn't durable
  bool lease_from_send = true;  // else B counts from the receipt of the answer
  bool clock_margin = true;     // else B counts kLeaseTicks itself
  bool expired_enrols_anew = true;  // else a heartbeat over the old connection makes B count and live again
  bool readers_are_counted = true;  // else nothing ever waits for a B that only reads any more
};

// Position in the history plus one; 0 = none.
using EpochRef = uint8_t;

enum class HeartbeatPhase : uint8_t { kNone, kSent, kAnswered };

struct Instance {
  uint8_t up = 1;
  EpochRef in_force = 0;
  EpochRef pinned = 0;    // of the operation under way, if it is on an older epoch than that
  EpochRef disk = 0;      // A only
  uint8_t connected = 0;  // for the server; what is under way to the instance may still arrive without
  EpochRef message = 0;   // a state on its way to the instance
  EpochRef recorded = 0;  // what the server has; 0 = not enrolled

  bool operator==(const Instance&) const = default;
};

struct Lease {
  HeartbeatPhase phase = HeartbeatPhase::kNone;
  uint8_t message_first = 0;  // the state under way was sent before the answer under way
  uint8_t age = 0;            // since the heartbeat was sent, in ticks of B's clock, at most kLeaseTicks
  uint8_t only_reads =
      0;                  // B's operation began under an earlier lease, so its writes are past their deadline
  uint8_t passed_by = 0;  // the server has seen the lease end
  uint8_t server_left = 0;
  uint8_t client_left = 0;
  uint8_t slip_wait = 0;  // ticks until B's clock may lose another one

  bool operator==(const Lease&) const = default;
};

struct World {
  uint8_t length = 1;
  std::array<StateId, kMaxHistory> history = {};  // oldest first; the last of `length` is published
  StateId goal = kNoState;
  std::array<Instance, 2> instances;
  Lease lease;

  bool operator==(const World&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const World& world) {
    return H::combine_contiguous(std::move(h), reinterpret_cast<const uint8_t*>(&world), sizeof(World));
  }
  StateId published() const { return history[length - 1u]; }
};
static_assert(std::has_unique_object_representations_v<World>, "hashed by its bytes");

struct Step {
  World to;
  const char* name;
  bool command;  // somebody asks for something else: does not count as progress
};

// Every world that can follow.
void Successors(const World& world, Faults faults, const Rules& rules, const std::vector<StateId>& goals,
                std::vector<Step>* steps);

// Empty, or which two instances may act on what at the same time.
std::string FindViolation(const World& world, Faults faults);

std::string ToString(const World& world);

}  // namespace lockstep::model
