#include "server/engine/publish_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <utility>

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
      EXPECT_EQ(FirstSafeEpoch(At(to, 0), live.history) <= 1, compatible);
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

// Going down from CANARY_READ to DUAL_WRITE makes no bucket incompatible that was not, whoever else is there:
// what the rule for rollbacks rests on.
TEST(PublishRule, GoingDownAmongMirrorsMakesNoBucketWorse) {
  constexpr domain::BucketMode kDown[] = {domain::BucketMode::kDual, domain::BucketMode::kShadow,
                                          domain::BucketMode::kCanary};
  for (size_t to = 0; to < std::size(kDown); ++to) {
    for (size_t from = to; from < std::size(kDown); ++from) {
      for (int other = 0; other < domain::kBucketModeCount; ++other) {
        const auto mode = static_cast<domain::BucketMode>(other);
        EXPECT_TRUE(domain::MayCoexist(kDown[to], mode) || !domain::MayCoexist(kDown[from], mode))
            << domain::BucketModeName(kDown[from]) << " to " << domain::BucketModeName(kDown[to])
            << " beside " << domain::BucketModeName(mode);
      }
    }
  }
}

TEST(PublishRule, ARollbackAmongMirrorsWaitsForNobody) {
  for (const Stage live : domain::kAllStages) {
    for (const auto& [from, to] : {std::pair{Stage::kCanaryRead, Stage::kShadowRead},
                                   {Stage::kCanaryRead, Stage::kDualWrite},
                                   {Stage::kShadowRead, Stage::kDualWrite}}) {
      const LiveStates states{{At(live, 1), At(from, 2)}, {{"a", "s", 1, false}, {"b", "s", 0, false}}};
      EXPECT_TRUE(FindWaits(At(to, 0), states).empty()) << domain::StageName(live);
      EXPECT_EQ(FirstSafeEpoch(At(to, 0), states.history), 0u);
      // Up again, or to OFF, it does.
      EXPECT_FALSE(FindWaits(At(Stage::kOff, 0), states).empty()) << domain::StageName(live);
    }
  }
  domain::RoutingState half = At(Stage::kCanaryRead, 2);
  half.read_weight = 50000;
  const LiveStates states{{At(Stage::kOff, 1), half}, {{"a", "s", 1, false}}};
  half.read_weight = 40000;
  EXPECT_TRUE(FindWaits(half, states).empty());
  half.read_weight = 60000;
  EXPECT_FALSE(FindWaits(half, states).empty());
}

TEST(PublishRule, AnUnknownEpochIsCompatibleWithNothing) {
  const LiveStates live{{At(Stage::kDualWrite, 3)}, {{"a", "s", 1, false}}};
  const auto waits = FindWaits(At(Stage::kDualWrite, 0), live);
  ASSERT_EQ(waits.size(), 1u);
  EXPECT_THAT(waits[0].reason, ::testing::HasSubstr("not remembered"));
}

}  // namespace
}  // namespace lockstep::engine
