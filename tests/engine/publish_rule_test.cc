#include "server/engine/publish_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/prng.h"
#include "core/domain/compatibility.h"

namespace lockstep::engine {
namespace {

using domain::Stage;
using domain::StateOfStage;

domain::RoutingState At(Stage stage, uint64_t epoch) {
  domain::RoutingState state = StateOfStage(stage, 0);
  state.epoch = epoch;
  return state;
}

// With everybody at one stage, whoever goes to another directly has to be compatible with it.
TEST(PublishRule, EveryPairOfStages) {
  for (const Stage from : domain::kAllStages) {
    for (const Stage to : domain::kAllStages) {
      const LiveStates live{{At(from, 1)}, {{"a", "s", 1, false}}};
      const bool compatible = domain::MayCoexist(At(from, 1), At(to, 0));
      EXPECT_EQ(FindWaits(At(to, 0), live).empty(), compatible)
          << domain::StageName(from) << " to " << domain::StageName(to);
      // The same in constant time: what the registry goes by.
      EXPECT_EQ(FirstSafeEpoch(At(to, 0), live.history) == 1, compatible);
    }
  }
}

// WhyWait and FirstSafeEpoch say the same of every instance.
TEST(PublishRule, TheShortAndTheFullRuleAgree) {
  Prng prng(7);
  for (int run = 0; run < 20000; ++run) {
    LiveStates live;
    const uint64_t first = 1 + prng.Below(3);
    for (uint64_t i = 0; i <= prng.Below(5); ++i) {
      live.history.push_back(At(domain::kAllStages[prng.Below(domain::kAllStages.size())], first + i));
    }
    const domain::RoutingState candidate = At(domain::kAllStages[prng.Below(domain::kAllStages.size())], 0);
    const uint64_t safe = FirstSafeEpoch(candidate, live.history);
    for (uint64_t epoch = 0; epoch <= live.history.back().epoch; ++epoch) {
      EXPECT_EQ(WhyWait(candidate, live.history, {"a", "s", epoch, false}).empty(), epoch >= safe)
          << "run " << run << ", epoch " << epoch;
    }
  }
}

TEST(PublishRule, AnInstanceMayActOnEverythingSinceItsEpoch) {
  const LiveStates live{{At(Stage::kDualWrite, 3), At(Stage::kShadowRead, 4), At(Stage::kDualWrite, 5)},
                        {{"a", "s", 3, false}}};
  EXPECT_EQ(FindWaits(At(Stage::kOff, 0), live).size(), 1u);  // because of epoch 4
  LiveStates remote = live;
  remote.holders = {{"remote decisions", "", 3, true}};
  EXPECT_TRUE(FindWaits(At(Stage::kOff, 0), remote).empty());
}

TEST(PublishRule, AnUnknownEpochIsCompatibleWithNothing) {
  const LiveStates live{{At(Stage::kDualWrite, 3)}, {{"a", "s", 1, false}}};
  const auto waits = FindWaits(At(Stage::kDualWrite, 0), live);
  ASSERT_EQ(waits.size(), 1u);
  EXPECT_THAT(waits[0].reason, ::testing::HasSubstr("not remembered"));
}

}  // namespace
}  // namespace lockstep::engine
