#include "server/engine/publish_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
      const auto bridge = BridgeState(At(from, 1), At(to, 0));
      if (!bridge) continue;
      EXPECT_TRUE(domain::MayCoexist(*bridge, At(from, 1)));
      EXPECT_TRUE(domain::MayCoexist(*bridge, At(to, 0)));
    }
  }
  EXPECT_EQ(BridgeState(At(Stage::kCanaryRead, 1), At(Stage::kOff, 0))->stage, Stage::kDualWrite);
  EXPECT_EQ(BridgeState(At(Stage::kShadowRead, 1), At(Stage::kOff, 0))->stage, Stage::kDualWrite);
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
