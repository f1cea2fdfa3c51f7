#include "core/domain/decision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "tests/support/allocation_counter.h"

namespace lockstep::domain {
namespace {

constexpr uint32_t kWriteWeight = 20'000, kDrainWeight = 40'000, kReadWeight = 60'000;

// A key whose bucket is in [low, high).
std::string KeyIn(uint64_t salt_seed, uint32_t low, uint32_t high) {
  for (int i = 0;; ++i) {
    const std::string key = absl::StrCat("key-", i);
    const uint32_t bucket = BucketOfHash(KeyHash(salt_seed, key));
    if (bucket >= low && bucket < high) return key;
  }
}

struct Position {
  const char* name;
  uint32_t low, high;
};
constexpr Position kPositions[] = {{"moved", 0, kWriteWeight},
                                   {"held", kWriteWeight, kDrainWeight},
                                   {"read", kDrainWeight, kReadWeight},
                                   {"out", kReadWeight, kBucketCount}};

enum class Pinning {
  kNone,
  kKeyOld,
  kKeyNew,
  kRuleOld,
  kRuleNew,
  kKeyOldRuleNew,
  kKeyNewRuleOld,
  kRuleOfOtherValue
};
constexpr Pinning kPinnings[] = {Pinning::kNone,          Pinning::kKeyOld,          Pinning::kKeyNew,
                                 Pinning::kRuleOld,       Pinning::kRuleNew,         Pinning::kKeyOldRuleNew,
                                 Pinning::kKeyNewRuleOld, Pinning::kRuleOfOtherValue};

std::shared_ptr<const Pins> MakePins(Pinning pinning, const std::string& key) {
  auto pins = std::make_shared<Pins>();
  const auto rule = [&](const char* value, Side side) {
    pins->rules.push_back({"tenant", {"other", value}, side});
  };
  switch (pinning) {
    case Pinning::kNone:
      return nullptr;
    case Pinning::kKeyOld:
      pins->keys[key] = Side::kOld;
      break;
    case Pinning::kKeyNew:
      pins->keys[key] = Side::kNew;
      break;
    case Pinning::kRuleOld:
      rule("internal", Side::kOld);
      rule("internal", Side::kNew);  // never reached: the first match wins
      break;
    case Pinning::kRuleNew:
      rule("internal", Side::kNew);
      rule("internal", Side::kOld);
      break;
    case Pinning::kKeyOldRuleNew:
      pins->keys[key] = Side::kOld;
      rule("internal", Side::kNew);
      break;
    case Pinning::kKeyNewRuleOld:
      pins->keys[key] = Side::kNew;
      rule("internal", Side::kOld);
      break;
    case Pinning::kRuleOfOtherValue:
      rule("external", Side::kNew);
      break;
  }
  return pins;
}

struct Expected {
  Side read_side;
  DecisionReason reason;
};

// What CANARY_READ reads, by pin and position; the only stage in which either has a say.
Expected CanaryRead(Pinning pinning, bool in) {
  switch (pinning) {
    case Pinning::kKeyOld:
    case Pinning::kKeyOldRuleNew:
      return {Side::kOld, DecisionReason::kKeyPin};
    case Pinning::kKeyNew:
    case Pinning::kKeyNewRuleOld:
      return {Side::kNew, DecisionReason::kKeyPin};
    case Pinning::kRuleOld:
      return {Side::kOld, DecisionReason::kAttributeRule};
    case Pinning::kRuleNew:
      return {Side::kNew, DecisionReason::kAttributeRule};
    case Pinning::kNone:
    case Pinning::kRuleOfOtherValue:
      break;
  }
  return in ? Expected{Side::kNew, DecisionReason::kBucketIn}
            : Expected{Side::kOld, DecisionReason::kBucketOut};
}

struct StageRow {
  Stage stage;
  WriteMode moved, held, rest;
  std::optional<Side> reads;  // nothing: CanaryRead()
  bool compares;
};
constexpr StageRow kStageRows[] = {
    {Stage::kOff, WriteMode::kOldOnly, WriteMode::kOldOnly, WriteMode::kOldOnly, Side::kOld, false},
    {Stage::kDualWrite, WriteMode::kOldThenNew, WriteMode::kOldThenNew, WriteMode::kOldThenNew, Side::kOld,
     false},
    {Stage::kShadowRead, WriteMode::kOldThenNew, WriteMode::kOldThenNew, WriteMode::kOldThenNew, Side::kOld,
     true},
    {Stage::kCanaryRead, WriteMode::kOldThenNew, WriteMode::kOldThenNew, WriteMode::kOldThenNew, std::nullopt,
     true},
    {Stage::kCutover, WriteMode::kNewThenOld, WriteMode::kHeld, WriteMode::kOldThenNew, Side::kNew, true},
    {Stage::kNewOnly, WriteMode::kNewOnly, WriteMode::kNewOnly, WriteMode::kNewOnly, Side::kNew, false},
    {Stage::kComplete, WriteMode::kNewOnly, WriteMode::kNewOnly, WriteMode::kNewOnly, Side::kNew, false},
};

TEST(DecideTest, EveryStagePinAndPosition) {
  for (const StageRow& row : kStageRows) {
    RoutingState state = StateOfStage(row.stage, kReadWeight);
    if (row.stage == Stage::kCutover) {
      state.write_weight = kWriteWeight;
      state.drain_weight = kDrainWeight;
    }
    state.salt_seed = SaltSeed("salt");
    state.epoch = 17;
    for (const Position& position : kPositions) {
      const std::string key = KeyIn(state.salt_seed, position.low, position.high);
      for (const Pinning pinning : kPinnings) {
        SCOPED_TRACE(
            absl::StrCat(StageName(row.stage), ", ", position.name, ", pinning ", static_cast<int>(pinning)));
        state.pins = MakePins(pinning, key);
        const Attributes attributes = {{"region", "eu"}, {"tenant", "internal"}};
        const Decision decision = Decide(state, key, &attributes);
        const Expected canary = CanaryRead(pinning, position.high <= kReadWeight);
        EXPECT_EQ(decision.read_side, row.reads.value_or(canary.read_side));
        EXPECT_EQ(decision.reason, row.reads.has_value() ? DecisionReason::kStage : canary.reason);
        // Pins never enter here: they may not move write authority.
        EXPECT_EQ(decision.write_mode, position.high <= kWriteWeight   ? row.moved
                                       : position.high <= kDrainWeight ? row.held
                                                                       : row.rest);
        EXPECT_EQ(decision.compare, row.compares);
        EXPECT_EQ(decision.bucket, Bucket("salt", key));
        EXPECT_EQ(decision.epoch, 17u);
      }
    }
  }
}

TEST(DecideTest, RulesNeedAttributes) {
  RoutingState state = StateOfStage(Stage::kCanaryRead, 0);
  state.pins = MakePins(Pinning::kRuleNew, "");
  const Attributes without = {{"region", "internal"}};
  EXPECT_EQ(Decide(state, "k", nullptr).reason, DecisionReason::kBucketOut);
  EXPECT_EQ(Decide(state, "k", &without).reason, DecisionReason::kBucketOut);
}

TEST(DecideTest, BoundsOfTheWeight) {
  RoutingState state = StateOfStage(Stage::kCanaryRead, 0);
  for (int i = 0; i < 1000; ++i) {
    const std::string key = absl::StrCat(i);
    const uint32_t bucket = BucketOfHash(KeyHash(state.salt_seed, key));
    for (const auto& [weight, side] : std::vector<std::pair<uint32_t, Side>>{
             {0, Side::kOld}, {bucket, Side::kOld}, {bucket + 1, Side::kNew}, {kBucketCount, Side::kNew}}) {
      state.read_weight = weight;
      ASSERT_EQ(Decide(state, key, nullptr).read_side, side) << key << " at " << weight;
    }
  }
}

TEST(DecideTest, RaisingTheWeightOnlyAddsKeysAndLoweringEvictsTheNewestFirst) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng prng(seed);
  RoutingState state = StateOfStage(Stage::kCanaryRead, 0);
  for (int i = 0; i < 10'000; ++i) {
    const std::string key = absl::StrCat(prng.Next());
    uint32_t weights[3];
    for (uint32_t& weight : weights) weight = static_cast<uint32_t>(prng.Below(kBucketCount + 1));
    std::sort(std::begin(weights), std::end(weights));
    bool in = false;
    for (const uint32_t weight : weights) {
      state.read_weight = weight;
      const bool in_now = Decide(state, key, nullptr).read_side == Side::kNew;
      ASSERT_TRUE(in_now || !in) << key << " is in below " << weight << ", but not at it";
      in = in_now;
    }
  }
}

TEST(DecideTest, ComparesTheSameShareOfBothArms) {
  RoutingState state = StateOfStage(Stage::kCanaryRead, 5'000);
  state.comparison_weight = 20'000;
  int compared[2] = {}, total[2] = {};
  for (int i = 0; i < 200'000; ++i) {
    const Decision decision = Decide(state, absl::StrCat("order-", i), nullptr);
    const int arm = decision.read_side == Side::kNew ? 1 : 0;
    ++total[arm];
    compared[arm] += decision.compare ? 1 : 0;
  }
  for (int arm = 0; arm < 2; ++arm) {
    const double deviation = std::sqrt(total[arm] * 0.2 * 0.8);
    EXPECT_NEAR(compared[arm], total[arm] * 0.2, 5 * deviation) << "arm " << arm;
  }
  for (const uint32_t weight : {0u, kBucketCount}) {
    state.comparison_weight = weight;
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(Decide(state, absl::StrCat(i), nullptr).compare, weight != 0);
  }
}

TEST(DecideTest, AllocatesNothing) {
  RoutingState state = StateOfStage(Stage::kCanaryRead, 50'000);
  auto pins = std::make_shared<Pins>();
  for (int i = 0; i < 1000; ++i)
    pins->keys[absl::StrCat("a pinned key that is too long to be stored inline ", i)] = Side::kNew;
  pins->rules.push_back({"an attribute with a long name, too long to be stored inline", {"x"}, Side::kNew});
  state.pins = pins;
  const Attributes attributes = {{"an attribute with a long name, too long to be stored inline", "y"}};
  const std::string key = "a pinned key that is too long to be stored inline 999";
  const std::string other_key = std::string(kMaxKeyBytes, 'k');
  const uint64_t before = ThreadAllocations();
  const Decision pinned = Decide(state, key, &attributes);
  const Decision by_bucket = Decide(state, other_key, &attributes);
  const uint64_t allocated = ThreadAllocations() - before;
  EXPECT_EQ(allocated, 0u);
  EXPECT_EQ(pinned.reason, DecisionReason::kKeyPin);
  EXPECT_NE(by_bucket.reason, DecisionReason::kKeyPin);
  EXPECT_GT(before, 1000u);  // the counter does count
}

}  // namespace
}  // namespace lockstep::domain
