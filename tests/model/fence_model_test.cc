// Every interleaving of the fence in a small world (fence_world.h): the publish rule keeps incompatible
// states apart, and never gets stuck. Each test prints how many worlds it went through.
#include <gtest/gtest.h>

#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "tests/model/search.h"

namespace lockstep::model {
namespace {

using domain::RoutingState;
using domain::Stage;

constexpr size_t kMaxWorlds = 3'000'000;

StateId Canary(uint32_t read_weight) { return IdOf(domain::StateOfStage(Stage::kCanaryRead, read_weight)); }
StateId At(Stage stage) { return IdOf(domain::StateOfStage(stage, 0)); }
StateId Moved(uint32_t write_weight) {
  RoutingState state = domain::StateOfStage(Stage::kCutover, domain::kBucketCount);
  state.write_weight = state.drain_weight = write_weight;
  return IdOf(state);
}

SearchResult Explore(const char* what, Faults faults, const Rules& rules, const std::vector<StateId>& goals) {
  SearchResult result = Search(faults, rules, goals, kMaxWorlds);
  std::cout << what << ": " << result.worlds << " worlds, " << result.transitions << " transitions\n";
  return result;
}

void ExpectProven(const char* what, Faults faults, const std::vector<StateId>& goals) {
  const SearchResult result = Explore(what, faults, Rules{}, goals);
  EXPECT_EQ(result.violation, "") << absl::StrJoin(result.way, "\n");
  EXPECT_TRUE(result.complete) << "the bound is too low";
  EXPECT_EQ(result.traps, 0u) << result.trap;
}

// Where authority moves and comes back, and where it moves for good.
std::vector<StateId> BackAndForth() { return {Canary(0), Moved(domain::kBucketCount)}; }
std::vector<StateId> ForGood() { return {At(Stage::kDualWrite), At(Stage::kNewOnly)}; }

TEST(FenceModel, ReadStages) {
  const std::vector<StateId> goals = {At(Stage::kOff), Canary(domain::kBucketCount)};
  ExpectProven("read stages, disk", Faults::kDisk, goals);
  ExpectProven("read stages, lease", Faults::kLease, goals);
}

TEST(FenceModel, AuthorityMovesAndComesBack) {
  ExpectProven("back and forth, disk", Faults::kDisk, BackAndForth());
  ExpectProven("back and forth, lease", Faults::kLease, BackAndForth());
}

TEST(FenceModel, PastThePointOfNoReturn) {
  ExpectProven("for good, disk", Faults::kDisk, ForGood());
  ExpectProven("for good, lease", Faults::kLease, ForGood());
}

struct Broken {
  const char* what;
  bool Rules::*rule;
  Faults faults;
  std::vector<StateId> goals = BackAndForth();
};

// Nothing found means that the model would not notice.
TEST(FenceModel, NoticesBrokenRules) {
  const Broken kTable[] = {
      {"no fence", &Rules::fence, Faults::kDisk},
      {"acknowledgement before the drain", &Rules::ack_after_drain, Faults::kDisk},
      {"acknowledgement before the snapshot is durable", &Rules::snapshot_durable_before_ack, Faults::kDisk},
      {"a reconnect counts as an acknowledgement", &Rules::claim_raises_nothing, Faults::kDisk},
      {"lease counted from receipt", &Rules::lease_from_send, Faults::kLease},
      {"no margin for the clock's drift", &Rules::clock_margin, Faults::kLease},
      {"an expired instance counts again without enrolling anew", &Rules::expired_enrols_anew,
       Faults::kLease},
      {"readers whose lease is over are not counted",
       &Rules::readers_are_counted,
       Faults::kLease,
       {At(Stage::kOff), Moved(kHalf)}},
  };
  for (const Broken& broken : kTable) {
    Rules rules;
    rules.*broken.rule = false;
    const SearchResult result = Explore(broken.what, broken.faults, rules, broken.goals);
    EXPECT_NE(result.violation, "") << broken.what;
    if (!result.violation.empty())
      std::cout << "  " << result.way.size() << " steps: " << result.violation << "\n";
  }
}

}  // namespace
}  // namespace lockstep::model
