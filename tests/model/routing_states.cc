#include "tests/model/routing_states.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/domain/compatibility.h"
#include "core/domain/next_hop.h"

namespace lockstep::model {
namespace {

using domain::BucketMode;
using domain::RoutingState;
using domain::Stage;

RoutingState Cutover(uint32_t write, uint32_t drain) {
  RoutingState state = domain::StateOfStage(Stage::kCutover, domain::kBucketCount);
  state.write_weight = write;
  state.drain_weight = drain;
  return state;
}

std::vector<RoutingState> AllStates() {
  std::vector<RoutingState> states = {
      domain::StateOfStage(Stage::kOff, 0), domain::StateOfStage(Stage::kDualWrite, 0),
      domain::StateOfStage(Stage::kShadowRead, 0), domain::StateOfStage(Stage::kCanaryRead, 0),
      domain::StateOfStage(Stage::kCanaryRead, domain::kBucketCount)};
  for (const uint32_t write : {0u, kHalf, domain::kBucketCount}) {
    for (const uint32_t drain : {0u, kHalf, domain::kBucketCount}) {
      if (write <= drain) states.push_back(Cutover(write, drain));
    }
  }
  states.push_back(domain::StateOfStage(Stage::kNewOnly, 0));
  states.push_back(domain::StateOfStage(Stage::kComplete, 0));
  return states;
}

// The side that is read while the lease is over; a held bucket is read from where it is served, from new.
bool ReadsOld(BucketMode mode) {
  switch (mode) {
    case BucketMode::kOff:
    case BucketMode::kDual:
    case BucketMode::kShadow:
    case BucketMode::kCanary:
      return true;
    case BucketMode::kDrain:
    case BucketMode::kCutover:
    case BucketMode::kNewOnly:
    case BucketMode::kComplete:
      return false;
  }
  return false;
}

// Whether all that is written reaches the old side (the new side); of a held bucket nothing is written.
bool Reaches(BucketMode mode, bool old_side) {
  switch (mode) {
    case BucketMode::kOff:
      return old_side;
    case BucketMode::kDual:
    case BucketMode::kShadow:
    case BucketMode::kCanary:
    case BucketMode::kDrain:
    case BucketMode::kCutover:
      return true;
    case BucketMode::kNewOnly:
    case BucketMode::kComplete:
      return !old_side;
  }
  return false;
}

bool ReadsWhatIsWritten(const RoutingState& reader, const RoutingState& writer) {
  for (const uint32_t bucket : {0u, kHalf}) {  // the weights are multiples of it
    const bool reads_old = ReadsOld(domain::ModeOfBucket(reader, bucket));
    if (!Reaches(domain::ModeOfBucket(writer, bucket), reads_old)) return false;
  }
  return true;
}

constexpr size_t kMaxStates = 16;

struct Tables {
  std::array<std::array<bool, kMaxStates>, kMaxStates> may_coexist;
  std::array<std::array<bool, kMaxStates>, kMaxStates> may_read_beside;
  std::array<std::array<StateId, kMaxStates>, kMaxStates> next_hop;
  std::array<std::array<bool, kMaxStates>, kMaxStates> begins_to_hold;
  std::array<std::array<StateId, kMaxStates>, kMaxStates> released;
};

Tables MakeTables() {
  const std::vector<RoutingState>& states = States();
  LOCKSTEP_CHECK(states.size() <= kMaxStates, "enlarge the tables");
  Tables tables{};
  for (size_t a = 0; a < states.size(); ++a) {
    for (size_t b = 0; b < states.size(); ++b) {
      tables.may_coexist[a][b] = domain::MayCoexist(states[a], states[b]);
      tables.begins_to_hold[a][b] = domain::BeginsToHold(states[a], states[b]);
      tables.may_read_beside[a][b] = ReadsWhatIsWritten(states[a], states[b]);
      tables.released[a][b] =
          IdOf(domain::Released(states[a], domain::AuthorityOfHeld(states[a], states[b])));
      tables.next_hop[a][b] = kNoState;
      if (a == b) continue;
      const std::optional<RoutingState> hop = domain::NextHop(states[a], states[b], kHalf);
      if (hop.has_value()) tables.next_hop[a][b] = IdOf(*hop);
    }
  }
  return tables;
}

const Tables& TheTables() {
  static const Tables* const tables = new Tables(MakeTables());
  return *tables;
}

}  // namespace

const std::vector<RoutingState>& States() {
  static const auto* const states = new std::vector<RoutingState>(AllStates());
  return *states;
}

StateId IdOf(const RoutingState& state) {
  const std::vector<RoutingState>& states = States();
  const auto found =
      std::find_if(states.begin(), states.end(), [&](const RoutingState& s) { return s.RoutesLike(state); });
  LOCKSTEP_CHECK(found != states.end(), "a hop leads to a state that the model doesn't have");
  return static_cast<StateId>(found - states.begin());
}

bool MayCoexist(StateId a, StateId b) { return TheTables().may_coexist[a][b]; }
bool MayReadBeside(StateId reader, StateId writer) { return TheTables().may_read_beside[reader][writer]; }
StateId NextHop(StateId published, StateId goal) { return TheTables().next_hop[published][goal]; }
bool BeginsToHold(StateId from, StateId to) { return TheTables().begins_to_hold[from][to]; }
bool HoldsWrites(StateId state) { return domain::HoldsWrites(States()[state]); }
StateId Released(StateId published, StateId goal) { return TheTables().released[published][goal]; }

std::string NameOf(StateId id) {
  const RoutingState& state = States()[id];
  std::string name(domain::StageName(state.stage));
  if (state.stage == Stage::kCanaryRead) absl::StrAppend(&name, " ", state.read_weight / 1000, "%");
  if (state.stage == Stage::kCutover) {
    absl::StrAppend(&name, " w", state.write_weight / 1000, "% d", state.drain_weight / 1000, "%");
  }
  return name;
}

}  // namespace lockstep::model
