// Each rule, broken at a seam of the real thing, is noticed by the simulator within a stated number of seeds;
// the healthy system passes all of them.
#include <gtest/gtest.h>

#include <iostream>
#include <map>
#include <string>

#include "core/base/log.h"
#include "tests/sim/options.h"

namespace lockstep::sim {
namespace {

struct BrokenRule {
  Broken broken;
  uint64_t seeds;  // within which it is found
};

// About three times what it takes.
constexpr BrokenRule kTable[] = {
    {Broken::kNoFence, 10},           {Broken::kAckBeforeDrain, 10}, {Broken::kClaimsTooMuch, 600},
    {Broken::kNoVersionGuard, 20},    {Broken::kMirrorLies, 10},     {Broken::kSlowLeaseClock, 1500},
    {Broken::kIgnoresDeadlines, 250}, {Broken::kStorageLies, 50},    {Broken::kJournalLost, 40},
    {Broken::kSharedId, 10},          {Broken::kEvictsLive, 10},     {Broken::kServerLosesCommits, 50},
    {Broken::kIgnoresHold, 100},      {Broken::kStaleReplica, 5},    {Broken::kExecutorDropsTasks, 5},
    {Broken::kVersionsFromClock, 5},  {Broken::kOtherBuckets, 10},   {Broken::kBackfillBeforeFence, 150},
    {Broken::kAcksLost, 5},           {Broken::kMirrorFirst, 5},     {Broken::kLeaseFromReceipt, 30},
    {Broken::kNoDigestCheck, 5},      {Broken::kCountsTwice, 5},     {Broken::kGateForgets, 20},
};

class BrokenRules : public ::testing::TestWithParam<BrokenRule> {
 protected:
  static void SetUpTestSuite() { SetLogLevel(static_cast<LogLevel>(static_cast<int>(LogLevel::kError) + 1)); }
};

TEST_P(BrokenRules, IsNoticed) {
  SimOptions options;
  options.broken = GetParam().broken;
  for (options.seed = 1; options.seed <= GetParam().seeds; ++options.seed) {
    const SimResult result = Simulate(options);
    if (result.violation.empty()) continue;
    std::cout << BrokenName(options.broken) << ": seed " << options.seed << ", " << result.violation << "\n";
    return;
  }
  ADD_FAILURE() << "not noticed in " << GetParam().seeds << " seeds";
}

INSTANTIATE_TEST_SUITE_P(Table, BrokenRules, ::testing::ValuesIn(kTable), [](const auto& test) {
  std::string name(BrokenName(test.param.broken));
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
});

TEST(BrokenRulesTable, HasEveryRule) {
  std::map<Broken, int> listed;
  for (const BrokenRule& rule : kTable) ++listed[rule.broken];
  for (const Broken broken : kAllBroken) EXPECT_EQ(listed[broken], 1) << BrokenName(broken);
}

}  // namespace
}  // namespace lockstep::sim
