// Which records are checked when, in how many passes, and what is told of them.
#include "lockstep/internal/slice_checker.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lockstep/manual_executor.h"

namespace lockstep::internal {
namespace {

constexpr char kName[] = "namespaces/shop/migrations/orders";

domain::Snapshot Holding(uint64_t epoch, uint32_t write_weight, uint32_t drain_weight) {
  domain::Snapshot snapshot;
  snapshot.revision = epoch;
  snapshot.store_epoch = 1;
  domain::MigrationRouting routing;
  routing.name = kName;
  routing.state = domain::StateOfStage(domain::Stage::kCutover, 0);
  routing.state.epoch = epoch;
  routing.state.write_weight = write_weight;
  routing.state.drain_weight = drain_weight;
  snapshot.migrations.push_back(routing);
  return snapshot;
}

class SliceCheckerTest : public ::testing::Test {
 protected:
  // Answers one after the other, the last one for ever.
  void Note(const std::string& identity, uint32_t bucket,
            std::vector<RecordCheck> answers = {RecordCheck::kEqual}) {
    NotedRecord noted;
    noted.bucket = bucket;
    noted.identity = identity;
    noted.settle_delays = {absl::Milliseconds(10), absl::Milliseconds(20)};
    noted.check = [this, identity, answers, next = size_t{0}](bool repair) mutable {
      passes_.push_back(absl::StrCat(identity, repair ? "!" : ""));
      const RecordCheck answer = answers[std::min(next++, answers.size() - 1)];
      return RecordCheckResult{answer,
                               answer == RecordCheck::kDiffers ? absl::StrCat(identity, " differs") : ""};
    };
    checker_->Note(0, std::move(noted));
  }
  // Starts, runs everything, and returns the only result.
  domain::SliceCheck Check(const domain::Snapshot& snapshot) {
    checker_->Start(snapshot);
    executor_.RunAll();
    EXPECT_FALSE(checker_->Busy());
    EXPECT_EQ(checker_->Results().size(), 1u);
    return checker_->Results().empty() ? domain::SliceCheck() : checker_->Results()[0];
  }

  FakeClock clock_{absl::FromUnixSeconds(1000)};
  ManualExecutor executor_{&clock_};
  std::shared_ptr<SliceChecker> checker_ =
      std::make_shared<SliceChecker>(std::vector<std::string>{kName}, &executor_, &clock_);
  std::vector<std::string> passes_;
};

TEST_F(SliceCheckerTest, ChecksTheHeldBucketsAlone) {
  for (uint32_t bucket : {0u, 9u, 10u, 15u, 19u, 20u, 99999u}) Note(absl::StrCat("b", bucket), bucket);
  const domain::SliceCheck check = Check(Holding(7, 10, 20));
  EXPECT_EQ(check.migration, kName);
  EXPECT_EQ(check.epoch, 7u);
  EXPECT_EQ(check.checked, 3u);
  EXPECT_EQ(check.repaired + check.differing, 0u);
  EXPECT_EQ(passes_, (std::vector<std::string>{"b10", "b15", "b19"}));
}

TEST_F(SliceCheckerTest, PassesAndOutcomes) {
  using enum RecordCheck;
  struct Case {
    const char* name;
    std::vector<RecordCheck> answers;
    std::vector<std::string> passes;
    uint32_t repaired;
    uint32_t differing;
    uint32_t unchecked = 0;
  };
  const std::vector<Case> cases = {
      {"equal", {kEqual}, {"a"}, 0, 0},
      {"settles", {kDiffers, kEqual}, {"a", "a"}, 0, 0},
      {"repaired", {kDiffers, kDiffers, kRepaired}, {"a", "a", "a!"}, 1, 0},
      {"for good", {kDiffers}, {"a", "a", "a!"}, 0, 1},
      {"read at the second try", {kUnchecked, kEqual}, {"a", "a"}, 0, 0},
      {"never read", {kUnchecked}, {"a", "a", "a!"}, 0, 0, 1},
  };
  uint64_t epoch = 1;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    passes_.clear();
    Note("a", 5, c.answers);
    const absl::Duration start = clock_.SinceBoot();
    const domain::SliceCheck check = Check(Holding(++epoch, 0, 10));
    EXPECT_EQ(passes_, c.passes);
    EXPECT_EQ(check.checked, 1u - c.unchecked);
    EXPECT_EQ(check.unchecked, c.unchecked);
    EXPECT_EQ(check.repaired, c.repaired);
    EXPECT_EQ(check.differing, c.differing);
    EXPECT_EQ(check.example, c.differing > 0 ? "a differs" : "");
    const absl::Duration waits[] = {absl::ZeroDuration(), absl::Milliseconds(10), absl::Milliseconds(30)};
    EXPECT_EQ(clock_.SinceBoot() - start, waits[c.passes.size() - 1]);
  }
}

TEST_F(SliceCheckerTest, AnEpochIsCheckedOnceAndForgottenWhenItHoldsNoMore) {
  Note("a", 5);
  EXPECT_EQ(Check(Holding(7, 0, 10)).checked, 1u);
  Note("b", 5);
  EXPECT_EQ(Check(Holding(7, 0, 10)).checked, 1u) << "the same epoch";
  EXPECT_EQ(Check(Holding(8, 0, 10)).checked, 2u);
  domain::Snapshot restored = Holding(8, 0, 10);
  restored.store_epoch = 2;
  Note("c", 5);
  EXPECT_EQ(Check(restored).checked, 3u) << "the same number in another history";
  checker_->Start(Holding(9, 10, 10));
  EXPECT_FALSE(checker_->Busy());
  EXPECT_TRUE(checker_->Results().empty());
  checker_->Start(domain::Snapshot());
  EXPECT_TRUE(checker_->Results().empty());
}

TEST_F(SliceCheckerTest, BusyUntilTheLastOneHasEnded) {
  for (int i = 0; i < 20; ++i) Note(absl::StrCat(i), 5);
  checker_->Start(Holding(7, 0, 10));
  EXPECT_TRUE(checker_->Busy());
  EXPECT_EQ(executor_.waiting(), SliceChecker::kParallelChecks);
  executor_.RunAll(19);
  executor_.RunAll();
  EXPECT_FALSE(checker_->Busy());
  EXPECT_EQ(checker_->Results()[0].checked, 20u);
}

// A side that hangs costs every record its deadline. A hold doesn't last that long.
TEST_F(SliceCheckerTest, ASideThatHangsEndsTheCheckInTime) {
  for (int i = 0; i < 1000; ++i) {
    checker_->Note(0, {.bucket = 5,
                       .identity = absl::StrCat(i),
                       .check =
                           [this](bool) {
                             clock_.Advance(absl::Milliseconds(250));  // four at a time, of a second each
                             return RecordCheckResult{RecordCheck::kUnchecked, "timed out"};
                           },
                       .settle_delays = {absl::Milliseconds(20), absl::Milliseconds(60), absl::Seconds(1)}});
  }
  const absl::Duration start = clock_.SinceBoot();
  const domain::SliceCheck check = Check(Holding(7, 0, 10));
  EXPECT_EQ(check.unchecked, 1000u);
  EXPECT_EQ(check.checked + check.differing, 0u);
  EXPECT_EQ(check.example, "timed out");
  EXPECT_LT(clock_.SinceBoot() - start, absl::Seconds(5));
}

TEST_F(SliceCheckerTest, ACheckWhoseTimeIsUpEndsButForWhatIsBeingRepaired) {
  Note("a", 5);
  Note("b", 5, {RecordCheck::kDiffers});
  bool repaired = false;
  checker_->Note(0, {.bucket = 5, .identity = "c", .check = [&](bool repair) {
                       EXPECT_TRUE(repair);
                       clock_.Advance(SliceChecker::kCheckFor);
                       checker_->Start(Holding(7, 0, 10));
                       EXPECT_TRUE(checker_->Busy()) << "what is being written has to end";
                       EXPECT_TRUE(checker_->Results().empty());
                       repaired = true;
                       return RecordCheckResult{RecordCheck::kRepaired, ""};
                     }});
  checker_->Start(Holding(7, 0, 10));
  executor_.RunDue();
  EXPECT_TRUE(repaired);
  ASSERT_FALSE(checker_->Busy());
  domain::SliceCheck check = checker_->Results()[0];
  EXPECT_EQ(check.checked, 2u);
  EXPECT_EQ(check.repaired, 1u);
  EXPECT_EQ(check.unchecked, 1u) << "b, which was to be compared once more";
  executor_.RunAll();
  EXPECT_EQ(checker_->Results()[0], check) << "what comes later counts for nothing";
}

TEST_F(SliceCheckerTest, ANewerEpochOvertakesChecksUnderWay) {
  Note("a", 5, {RecordCheck::kDiffers, RecordCheck::kEqual});
  checker_->Start(Holding(7, 0, 10));
  executor_.RunDue();  // the first pass
  const domain::SliceCheck check = Check(Holding(8, 0, 10));
  EXPECT_EQ(check.epoch, 8u);
  EXPECT_EQ(check.checked, 1u) << "what was under way for epoch 7 doesn't count";
}

TEST_F(SliceCheckerTest, KeepsTheNewestOfEachRecord) {
  Note("hot", 5, {RecordCheck::kDiffers});
  for (size_t i = 0; i < 3 * SliceChecker::kRecentRecords; ++i) Note("hot", 5);
  for (size_t i = 0; i < SliceChecker::kRecentRecords; ++i) Note(absl::StrCat("r", i), 5);
  EXPECT_EQ(Check(Holding(7, 0, 10)).checked, SliceChecker::kRecentRecords)
      << "'hot' is the oldest, and is out";
  EXPECT_EQ(passes_.front(), "r0");
  Note("r0", 5);  // now the newest
  Note("one more", 5);
  passes_.clear();
  EXPECT_EQ(Check(Holding(8, 0, 10)).checked, SliceChecker::kRecentRecords);
  EXPECT_EQ(passes_.front(), "r2");
}

TEST_F(SliceCheckerTest, CloseDropsEverything) {
  Note("a", 5);
  checker_->Start(Holding(7, 0, 10));
  checker_->Close();
  EXPECT_FALSE(checker_->Busy());
  executor_.RunAll();
  EXPECT_TRUE(passes_.empty());
  Note("b", 5);
  checker_->Start(Holding(8, 0, 10));
  EXPECT_TRUE(checker_->Results().empty());
}

}  // namespace
}  // namespace lockstep::internal
