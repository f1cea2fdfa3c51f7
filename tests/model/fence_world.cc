#include "tests/model/fence_world.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/engine/publish_rule.h"

namespace lockstep::model {
namespace {

constexpr uint8_t kLongestAge = kLeaseTicks;
constexpr size_t kA = 0;
constexpr size_t kB = 1;

EpochRef Newest(const World& world) { return world.length; }

// The oldest epoch that the instance may act on, 0 = none.
EpochRef HeldBy(const Instance& instance) {
  return instance.pinned != 0 ? std::min(instance.pinned, instance.in_force) : instance.in_force;
}

// Whether it writes, if something asks it to.
bool MayAct(const World& world, Faults faults, size_t i) {
  return world.instances[i].up != 0 && (i == kA || faults == Faults::kDisk || world.lease.client_left > 0);
}

// Whether the production rule lets `candidate` be published now.
bool RuleAllows(const World& world, const Rules& rules, StateId candidate) {
  using Key = std::pair<std::pair<StateId, uint8_t>,
                        std::pair<std::array<StateId, kMaxHistory>, std::array<EpochRef, 3>>>;
  static auto* const answers = new std::map<Key, bool>();
  const EpochRef a = world.instances[kA].recorded;
  // Passed by: for nothing at all, if the rule is broken.
  const bool passed_by = world.lease.passed_by != 0;
  const EpochRef b = passed_by && !rules.readers_are_counted ? EpochRef{0} : world.instances[kB].recorded;
  const Key key{{candidate, world.length}, {world.history, {a, b, EpochRef{passed_by}}}};
  const auto [it, inserted] = answers->try_emplace(key, false);
  if (!inserted) return it->second;
  engine::LiveStates live;
  for (uint8_t i = 0; i < world.length; ++i) {
    domain::RoutingState state = States()[world.history[i]];
    state.epoch = i + 1u;
    live.history.push_back(std::move(state));
  }
  if (a != 0) live.holders.push_back({.instance_id = "a", .service = "s", .epoch = a});
  const bool b_counts =
      b != 0 && !(passed_by && b >= engine::FirstSafeEpochOfPassedBy(States()[candidate], live.history));
  if (b_counts) live.holders.push_back({.instance_id = "b", .service = "s", .epoch = b});
  it->second = engine::FindWaits(States()[candidate], live).empty();
  return it->second;
}

// Drops the epochs that nobody refers to any more.
void Normalise(World& world) {
  EpochRef oldest = Newest(world);
  const auto see = [&](EpochRef ref) {
    if (ref != 0) oldest = std::min(oldest, ref);
  };
  for (const Instance& instance : world.instances) {
    for (const EpochRef ref :
         {instance.in_force, instance.pinned, instance.disk, instance.message, instance.recorded}) {
      see(ref);
    }
  }
  const uint8_t by = static_cast<uint8_t>(oldest - 1);
  if (by == 0) return;
  std::rotate(world.history.begin(), world.history.begin() + by, world.history.end());
  world.length = static_cast<uint8_t>(world.length - by);
  std::fill(world.history.begin() + world.length, world.history.end(), StateId{0});
  const auto shift = [by](EpochRef& ref) {
    if (ref != 0) ref = static_cast<EpochRef>(ref - by);
  };
  for (Instance& instance : world.instances) {
    for (EpochRef* ref :
         {&instance.in_force, &instance.pinned, &instance.disk, &instance.message, &instance.recorded}) {
      shift(*ref);
    }
  }
}

class Expansion {
 public:
  Expansion(const World& from, Faults faults, const Rules& rules, const std::vector<StateId>& goals,
            std::vector<Step>* steps)
      : from_(from), faults_(faults), rules_(rules), goals_(goals), steps_(steps) {}

  void Run() {
    Server();
    for (size_t i = 0; i < 2; ++i) {
      Process(i);
      Connection(i);
    }
    if (faults_ == Faults::kDisk) return;
    Heartbeats();
    Ticks();
  }

 private:
  template <typename Change>
  void Add(const char* name, Change change, bool command = false) {
    World to = from_;
    change(to);
    Normalise(to);
    if (to == from_) return;
    steps_->push_back({to, name, command});
  }

  void Server() {
    for (const StateId goal : goals_) {
      if (goal == from_.published() || goal == from_.goal || NextHop(from_.published(), goal) == kNoState)
        continue;
      Add(
          "goal", [goal](World& w) { w.goal = goal; }, /*command=*/true);
    }
    if (from_.goal != kNoState) {
      Publish(NextHop(from_.published(), from_.goal), "publish");
      if (HoldsWrites(from_.published())) Publish(Released(from_.published(), from_.goal), "release");
    }
    Add("server restarts", [this](World& w) {
      for (size_t i = 0; i < 2; ++i) {
        if (w.instances[i].connected != 0) Break(w, i);
      }
      if (faults_ == Faults::kDisk || w.instances[kB].recorded == 0) return;
      w.lease.server_left = kLeaseTicks;
      w.lease.passed_by = 0;
    });
    if (faults_ == Faults::kLease && from_.lease.server_left == 0 && from_.lease.passed_by == 0 &&
        from_.instances[kB].recorded != 0) {
      Add("B is passed by", [this](World& w) {
        w.lease.passed_by = 1;
        if (rules_.expired_enrols_anew) Break(w, kB);
      });
    }
  }

  void Publish(StateId candidate, const char* name) {
    if (candidate == kNoState || from_.length == kMaxHistory) return;
    if (rules_.fence && !RuleAllows(from_, rules_, candidate)) return;
    // Nobody's writes are held for an instance that is known not to follow.
    if (BeginsToHold(from_.published(), candidate) && !EverybodyFollows()) return;
    Add(name, [candidate](World& w) {
      w.history[w.length++] = candidate;
      if (w.goal == candidate) w.goal = kNoState;
    });
  }

  bool EverybodyFollows() const {
    for (size_t i = 0; i < 2; ++i) {
      const Instance& instance = from_.instances[i];
      if (instance.recorded == 0) continue;
      if (i == kB && from_.lease.passed_by != 0) return false;
      if (instance.connected == 0 || instance.recorded != Newest(from_)) return false;
      if (i == kB && faults_ == Faults::kLease && from_.lease.server_left == 0) return false;
    }
    return true;
  }

  static void Break(World& w, size_t i) {
    w.instances[i].connected = 0;
    if (i != kB || w.lease.phase != HeartbeatPhase::kSent) return;
    w.lease.phase = HeartbeatPhase::kNone;
    w.lease.age = 0;
  }

  // What is still under way to the instance is lost.
  static void Forget(World& w, size_t i) {
    w.instances[i].connected = w.instances[i].message = 0;
    if (i != kB) return;
    w.lease.phase = HeartbeatPhase::kNone;
    w.lease.message_first = w.lease.age = 0;
  }

  void Process(size_t i) {
    const Instance& instance = from_.instances[i];
    if (instance.up == 0) {
      Add(i == kA ? "A restarts" : "B restarts", [i](World& w) {
        w.instances[i].up = 1;
        w.instances[i].in_force = w.instances[i].disk;
      });
      return;
    }
    if (instance.pinned != 0) Add("operation ends", [i](World& w) { EndOperation(w, i); });
    if (i == kA && faults_ == Faults::kLease) return;
    Add(i == kA ? "A crashes" : "B crashes", [i](World& w) {
      Forget(w, i);
      w.instances[i].up = w.instances[i].in_force = w.instances[i].pinned = 0;
      if (i == kB) w.lease.client_left = w.lease.slip_wait = w.lease.only_reads = 0;
    });
    if (i == kA) Add("A saves", [](World& w) { w.instances[kA].disk = w.instances[kA].in_force; });
  }

  static void EndOperation(World& w, size_t i) {
    w.instances[i].pinned = 0;
    if (i == kB) w.lease.only_reads = 0;
  }

  // What the instance says that it may act on, or nothing.
  EpochRef Claim(const Instance& instance, bool drained, bool durable) const {
    EpochRef claim = drained ? HeldBy(instance) : instance.in_force;
    if (durable && instance.disk != 0) claim = std::min(claim, instance.disk);
    return claim;
  }

  void Connection(size_t i) {
    const Instance& instance = from_.instances[i];
    const bool reliable = i == kA && faults_ == Faults::kLease;
    if (instance.up != 0 && !(reliable && instance.connected != 0)) Connect(i);
    const bool answer_first =
        i == kB && from_.lease.phase == HeartbeatPhase::kAnswered && from_.lease.message_first == 0;
    if (instance.message != 0 && !answer_first) {
      Add("state arrives, an operation is under way",
          [this, i](World& w) { StateArrives(w, i, /*busy=*/true); });
      Add("state arrives", [this, i](World& w) { StateArrives(w, i, /*busy=*/false); });
    }
    if (instance.connected == 0) return;
    if (!reliable) Add("connection breaks", [i](World& w) { Break(w, i); });
    if (instance.message == 0 && instance.in_force != Newest(from_)) {
      Add("state sent", [this, i, reliable](World& w) {
        w.instances[i].message = Newest(w);
        if (i == kB) w.lease.message_first = 0;
        if (reliable) StateArrives(w, i, /*busy=*/false);
      });
    }
    const EpochRef held = Claim(instance, rules_.ack_after_drain, rules_.snapshot_durable_before_ack);
    const bool nothing_saved =
        i == kA && faults_ == Faults::kDisk && rules_.snapshot_durable_before_ack && instance.disk == 0;
    if (held > instance.recorded && !nothing_saved) {
      Add("acknowledged", [i, held](World& w) { w.instances[i].recorded = held; });
    }
  }

  void StateArrives(World& w, size_t i, bool busy) const {
    Instance& in = w.instances[i];
    if (busy && in.pinned == 0 && in.in_force != 0) {
      in.pinned = in.in_force;
      if (i == kB) w.lease.only_reads = MayAct(w, faults_, i) ? 0 : 1;
    }
    in.in_force = std::exchange(in.message, EpochRef{0});
    if (i == kB) w.lease.message_first = 0;
  }

  // The enrolment arrives at once (a slow one is a later one), the answer to it takes its time.
  void Connect(size_t i) {
    Add(i == kA ? "A connects" : "B connects", [this, i](World& w) {
      Instance& in = w.instances[i];
      const EpochRef held = Claim(in, /*drained=*/true, rules_.claim_raises_nothing);
      Forget(w, i);
      in.connected = 1;
      // What is recorded was acknowledged: a claim may only lower it. Who is not known is believed.
      if (in.recorded == 0) {
        in.recorded = held != 0 ? held : Newest(w);
      } else if (held != 0) {
        in.recorded = rules_.claim_raises_nothing ? std::min(in.recorded, held) : held;
      }
      in.message = Newest(w);
      if (i == kA && faults_ == Faults::kLease) StateArrives(w, i, /*busy=*/false);
      if (i != kB || faults_ == Faults::kDisk) return;
      w.lease.server_left = kLeaseTicks;
      w.lease.phase = HeartbeatPhase::kAnswered;
      w.lease.message_first = 1;
      w.lease.age = w.lease.passed_by = 0;
    });
  }

  void Heartbeats() {
    const Instance& b = from_.instances[kB];
    if (b.up == 0) return;
    switch (from_.lease.phase) {
      case HeartbeatPhase::kNone:
        if (b.connected == 0) return;
        Add("heartbeat sent", [](World& w) {
          w.lease.phase = HeartbeatPhase::kSent;
          w.lease.age = 0;
        });
        return;
      case HeartbeatPhase::kSent:
        Add("heartbeat arrives", [](World& w) {
          w.lease.phase = HeartbeatPhase::kAnswered;
          w.lease.message_first = w.instances[kB].message != 0;
          w.lease.server_left = kLeaseTicks;
          w.lease.passed_by = 0;  // of no effect unless the connection outlived the lease
        });
        return;
      case HeartbeatPhase::kAnswered:
        if (b.message == 0 || from_.lease.message_first == 0) {
          Add("heartbeat's answer arrives", [this](World& w) { Renew(w); });
        }
        return;
    }
  }

  void Renew(World& w) const {
    const uint8_t ttl = rules_.clock_margin ? kClientTicks : kLeaseTicks;
    const uint8_t age = rules_.lease_from_send ? w.lease.age : uint8_t{0};
    if (w.instances[kB].in_force != 0 && ttl > age) {
      w.lease.client_left = std::max<uint8_t>(w.lease.client_left, static_cast<uint8_t>(ttl - age));
    }
    w.lease.phase = HeartbeatPhase::kNone;
    w.lease.message_first = w.lease.age = 0;
  }

  void Ticks() {
    Add("time passes", [](World& w) { Tick(w, /*slip=*/false); });
    if (from_.lease.slip_wait == 0 &&
        (from_.lease.client_left > 0 || from_.lease.phase != HeartbeatPhase::kNone)) {
      Add("time passes, B's clock loses a tick", [](World& w) { Tick(w, /*slip=*/true); });
    }
  }

  static void Tick(World& w, bool slip) {
    Lease& lease = w.lease;
    if (lease.server_left > 0) --lease.server_left;
    if (lease.slip_wait > 0) --lease.slip_wait;
    if (slip) {
      lease.slip_wait = kLeaseTicks - 1;
      return;
    }
    if (lease.phase != HeartbeatPhase::kNone && lease.age < kLongestAge) ++lease.age;
    if (lease.client_left > 0 && --lease.client_left == 0 && w.instances[kB].pinned != 0)
      lease.only_reads = 1;
  }

  const World& from_;
  const Faults faults_;
  const Rules& rules_;
  const std::vector<StateId>& goals_;
  std::vector<Step>* const steps_;
};

}  // namespace

void Successors(const World& world, Faults faults, const Rules& rules, const std::vector<StateId>& goals,
                std::vector<Step>* steps) {
  steps->clear();
  Expansion(world, faults, rules, goals, steps).Run();
}

std::string FindViolation(const World& world, Faults faults) {
  if (!MayAct(world, faults, kA) || world.instances[kB].up == 0) return "";
  const bool b_writes = MayAct(world, faults, kB);
  for (const EpochRef a : {world.instances[kA].in_force, world.instances[kA].pinned}) {
    for (const EpochRef b : {world.instances[kB].in_force, world.instances[kB].pinned}) {
      if (a == 0 || b == 0) continue;
      const StateId state_a = world.history[a - 1u], state_b = world.history[b - 1u];
      // A write of B's ends with the lease at the latest, since that is the deadline of its calls.
      const bool writes = b_writes && (b == world.instances[kB].in_force || world.lease.only_reads == 0);
      if (writes && !MayCoexist(state_a, state_b)) {
        return absl::StrCat("A may act on ", NameOf(state_a), " while B may act on ", NameOf(state_b));
      }
      if (!writes && !MayReadBeside(state_b, state_a)) {
        return absl::StrCat("A may write by ", NameOf(state_a), " while B may read by ", NameOf(state_b));
      }
    }
  }
  return "";
}

std::string ToString(const World& world) {
  std::string text = "history";
  for (uint8_t i = 0; i < world.length; ++i) absl::StrAppend(&text, " [", NameOf(world.history[i]), "]");
  absl::StrAppend(&text, ", goal ", world.goal == kNoState ? "-" : NameOf(world.goal));
  for (size_t i = 0; i < 2; ++i) {
    const Instance& in = world.instances[i];
    absl::StrAppend(&text, i == kA ? "; A" : "; B", in.up != 0 ? " up" : " down",
                    in.connected != 0 ? " connected" : "", " in force ", in.in_force, " pinned ", in.pinned,
                    " disk ", in.disk, " message ", in.message, " recorded ", in.recorded);
  }
  absl::StrAppend(&text, "; lease: server ", world.lease.server_left, " client ", world.lease.client_left);
  return text;
}

}  // namespace lockstep::model
