#include "client/examples/cities/backfill.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "client/examples/cities/verify.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kRows = 25;

class BackfillTest : public ::testing::Test {
 protected:
  void SetUp() override {
    legacy_ = *LegacyStore::Open(dir_.File("legacy.db"));
    modern_ = *ModernStore::Open(dir_.File("modern.db"));
    for (int64_t id = 1; id <= kRows; ++id) cities_.push_back(MakeCity(id, absl::StrCat("City ", id)));
    ASSERT_TRUE(legacy_->Load(cities_).ok());
    options_.batch_rows = 10;
  }

  BackfillProgress Run() {
    const auto progress = Backfill(*legacy_, *modern_, options_);
    EXPECT_TRUE(progress.ok()) << progress.status();
    return progress.value_or(BackfillProgress());
  }

  // One mirrored write, as a service makes it.
  void WriteLive(const City& city, const std::string& key) {
    const auto row = legacy_->Put(city, key);
    ASSERT_TRUE(row.ok());
    ASSERT_TRUE(modern_->ApplyIfNewer(row->id, MakeCanonical(city), {row->version, options_.mapper}).ok());
    if (city.id > static_cast<int64_t>(cities_.size())) cities_.resize(static_cast<size_t>(city.id));
    cities_[static_cast<size_t>(city.id) - 1] = city;
  }

  const TempDir dir_;
  std::vector<City> cities_;  // cities_[i].id == i + 1
  std::unique_ptr<LegacyStore> legacy_;
  std::unique_ptr<ModernStore> modern_;
  BackfillOptions options_;
};

TEST_F(BackfillTest, CopiesEverythingOnceAndReportsEachBatch) {
  std::vector<int64_t> reported;
  options_.on_progress = [&](const BackfillProgress& progress) { reported.push_back(progress.last_id); };
  const BackfillProgress first = Run();
  EXPECT_EQ(first.rows_read, kRows);
  EXPECT_EQ(first.rows_applied, kRows);
  EXPECT_EQ(first.last_id, kRows);
  EXPECT_FALSE(first.stopped);
  EXPECT_THAT(reported, ElementsAre(10, 20, 25));
  EXPECT_TRUE(VerifyModern(*modern_, cities_)->Clean());

  const BackfillProgress again = Run();
  EXPECT_EQ(again.rows_applied, 0);
  EXPECT_EQ(again.rows_newer, kRows);
}

TEST_F(BackfillTest, CopiesOnlyItsRange) {
  options_.first_id = 5;
  options_.last_id = 14;
  EXPECT_EQ(Run().rows_applied, 10);
  EXPECT_EQ(*modern_->Read(4), std::nullopt);
  EXPECT_NE(*modern_->Read(5), std::nullopt);
  EXPECT_NE(*modern_->Read(14), std::nullopt);
  EXPECT_EQ(*modern_->Read(15), std::nullopt);
}

// Live writes between the batches, behind and before the loop: none is undone, no deleted row comes back.
TEST_F(BackfillTest, IsSafeBesideLiveWrites) {
  int batches = 0;
  options_.on_progress = [&](const BackfillProgress&) {
    if (++batches != 1) return;
    WriteLive(MakeCity(3, "behind"), "a");
    WriteLive(MakeCity(18, "before"), "b");
    WriteLive(MakeCity(26, "new"), "c");
    for (const int64_t id : {4, 19}) {
      const auto row = legacy_->Delete(id, absl::StrCat("delete ", id));
      ASSERT_TRUE(row.ok());
      ASSERT_TRUE(modern_->ApplyIfNewer(id, std::nullopt, {row->version, options_.mapper}).ok());
    }
  };
  const BackfillProgress progress = Run();
  EXPECT_EQ(progress.rows_newer, 3) << "18, 19 and 26";
  cities_.erase(cities_.begin() + 18);
  cities_.erase(cities_.begin() + 3);
  EXPECT_TRUE(VerifyModern(*modern_, cities_)->Clean());
  EXPECT_TRUE(VerifyLegacy(*legacy_, cities_)->Clean());
}

// A row read by the loop, then changed or deleted by a live write before the loop writes it.
TEST_F(BackfillTest, AStaleBatchIsIgnored) {
  const auto stale = legacy_->Read(1);
  ASSERT_TRUE(stale.ok());
  WriteLive(MakeCity(1, "changed"), "a");
  const auto late =
      modern_->ApplyIfNewer(1, MakeCanonical(*(*stale)->city), {(*stale)->version, options_.mapper});
  EXPECT_EQ(*late, ApplyResult::kOlderIgnored);
  Run();
  EXPECT_TRUE(VerifyModern(*modern_, cities_)->Clean());
}

TEST_F(BackfillTest, StopsAndGoesOn) {
  std::atomic<bool> stop = false;
  options_.stop = &stop;
  options_.on_progress = [&](const BackfillProgress&) { stop = true; };
  const BackfillProgress first = Run();
  EXPECT_TRUE(first.stopped);
  EXPECT_EQ(first.last_id, 10);
  EXPECT_TRUE(Run().stopped) << "before the first batch";

  options_.stop = nullptr;
  options_.first_id = first.last_id + 1;
  EXPECT_EQ(Run().rows_applied, 15);
  EXPECT_TRUE(VerifyModern(*modern_, cities_)->Clean());
}

TEST_F(BackfillTest, KeepsToTheRateAndStopsWhileWaiting) {
  FakeClock clock(absl::UnixEpoch());
  const absl::Duration start = clock.SinceBoot();
  options_.clock = &clock;
  options_.rows_per_second = 10;
  options_.sleep = [&](absl::Duration nap) { clock.Advance(nap); };
  Run();
  EXPECT_EQ(clock.SinceBoot() - start, absl::Milliseconds(2500));

  std::atomic<bool> stop = false;
  options_.stop = &stop;
  int naps = 0;
  options_.sleep = [&](absl::Duration nap) {
    clock.Advance(nap);
    stop = ++naps == 3;
  };
  EXPECT_EQ(Run().rows_read, 10);
  EXPECT_EQ(naps, 3);
}

TEST_F(BackfillTest, TheFixedMapperRewritesWhatTheBrokenOneWrote) {
  options_.mapper = MapperVersion::kLosesLeadingZeros;
  Run();
  EXPECT_EQ(VerifyModern(*modern_, cities_)->rows_different, kRows);
  options_.mapper = MapperVersion::kCorrect;
  EXPECT_EQ(Run().rows_applied, kRows);
  EXPECT_TRUE(VerifyModern(*modern_, cities_)->Clean());
  options_.mapper = MapperVersion::kLosesLeadingZeros;
  EXPECT_EQ(Run().rows_applied, 0) << "a straggler changes nothing back";
}

TEST_F(BackfillTest, RowsThatCannotBeMappedAreCountedAndLeftOut) {
  for (int64_t id = 1; id <= 7; ++id) {
    ASSERT_TRUE(legacy_->Put(MakeCity(id, "x", "north"), absl::StrCat(id)).ok());
  }
  const BackfillProgress progress = Run();
  EXPECT_EQ(progress.rows_refused, 7);
  EXPECT_EQ(progress.rows_applied, kRows - 7);
  ASSERT_EQ(progress.first_refusals.size(), 5u);
  EXPECT_THAT(progress.first_refusals[0], HasSubstr("city 1: lat is \"north\""));
}

}  // namespace
}  // namespace lockstep::examples
