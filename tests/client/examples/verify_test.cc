#include "client/examples/cities/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "absl/strings/str_cat.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr MapperVersion kMapper = MapperVersion::kCorrect;

class VerifyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    legacy_ = *LegacyStore::Open(dir_.File("legacy.db"));
    modern_ = *ModernStore::Open(dir_.File("modern.db"));
    ASSERT_TRUE(legacy_->Load(cities_).ok());
    for (const City& city : cities_) SetModern(city.id, city, city.id);
  }

  void SetModern(int64_t id, const std::optional<City>& city, int64_t version) {
    std::optional<CanonicalCity> canonical;
    if (city.has_value()) canonical = MakeCanonical(*city);
    ASSERT_TRUE(modern_->ApplyIfNewer(id, canonical, {version, kMapper}).ok());
  }

  const TempDir dir_;
  const std::vector<City> cities_ = {MakeCity(1), MakeCity(2), MakeCity(3), MakeCity(4)};
  std::unique_ptr<LegacyStore> legacy_;
  std::unique_ptr<ModernStore> modern_;
};

TEST_F(VerifyTest, EqualDatabasesAreClean) {
  for (const DatasetReport& report : {*VerifyModern(*modern_, cities_), *VerifyLegacy(*legacy_, cities_)}) {
    EXPECT_TRUE(report.Clean());
    EXPECT_EQ(report.rows_expected, 4);
    EXPECT_EQ(report.rows_equal, 4);
    EXPECT_THAT(report.first_differences, IsEmpty());
  }
}

struct Change {
  const char* what;
  int64_t id;
  std::optional<City> city;  // empty: deleted
  int64_t different, missing, unexpected;
  const char* line;
};

void PrintTo(const Change& change, std::ostream* out) { *out << change.what; }

std::vector<Change> EachKindOfDifference() {
  return {
      {"name", 2, MakeCity(2, "Encamp"), 1, 0, 0, "city 2: name is \"Encamp\", want \"Ordino\""},
      {"lat", 2, MakeCity(2, "Ordino", "42.55624"), 1, 0, 0, "city 2: lat is 42.55624, want 42.55623"},
      {"lng", 2, MakeCity(2, "Ordino", "42.55623", "-1"), 1, 0, 0, "city 2: lng is -1, want 1.53319"},
      {"country", 2, MakeCity(2, "Ordino", "42.55623", "1.53319", "FR"), 1, 0, 0,
       "city 2: country is \"FR\", want \"AD\""},
      {"admin1", 2, MakeCity(2, "Ordino", "42.55623", "1.53319", "AD", "5"), 1, 0, 0,
       "city 2: admin1 is \"5\", want \"05\""},
      {"admin2", 2, MakeCity(2, "Ordino", "42.55623", "1.53319", "AD", "05", "1"), 1, 0, 0,
       "city 2: admin2 is \"1\", want \"\""},
      {"two fields", 2, MakeCity(2, "A", "1"), 1, 0, 0,
       "city 2: name is \"A\", want \"Ordino\", lat is 1, want 42.55623"},
      {"deleted first", 1, std::nullopt, 0, 1, 0, "city 1: is missing"},
      {"deleted last", 4, std::nullopt, 0, 1, 0, "city 4: is missing"},
      {"one too many", 9, MakeCity(9), 0, 0, 1, "city 9: is there, want none"},
  };
}

class VerifyDifferenceTest : public VerifyTest, public ::testing::WithParamInterface<Change> {
 protected:
  void ExpectReport(const DatasetReport& report) {
    const Change& change = GetParam();
    EXPECT_FALSE(report.Clean());
    EXPECT_EQ(report.rows_equal, 4 - change.different - change.missing);
    EXPECT_EQ(report.rows_different, change.different);
    EXPECT_EQ(report.rows_missing, change.missing);
    EXPECT_EQ(report.rows_unexpected, change.unexpected);
    EXPECT_THAT(report.first_differences, ElementsAre(change.line));
  }
};

TEST_P(VerifyDifferenceTest, IsFoundInTheModernStore) {
  SetModern(GetParam().id, GetParam().city, 100);
  ExpectReport(*VerifyModern(*modern_, cities_));
}

TEST_P(VerifyDifferenceTest, IsFoundInTheLegacyStore) {
  const auto& city = GetParam().city;
  ASSERT_TRUE((city.has_value() ? legacy_->Put(*city, "k") : legacy_->Delete(GetParam().id, "k")).ok());
  ExpectReport(*VerifyLegacy(*legacy_, cities_));
}

INSTANTIATE_TEST_SUITE_P(Each, VerifyDifferenceTest, ::testing::ValuesIn(EachKindOfDifference()),
                         [](const auto& info) {
                           std::string name = info.param.what;
                           for (char& c : name) c = c == ' ' ? '_' : c;
                           return name;
                         });

TEST_F(VerifyTest, ARowThatNeverArrivedIsMissing) {
  std::vector<City> more = cities_;
  more.push_back(MakeCity(6));
  const auto report = VerifyModern(*modern_, more);
  EXPECT_EQ(report->rows_missing, 1);
  EXPECT_THAT(report->first_differences, ElementsAre("city 6: is missing"));
  EXPECT_EQ(VerifyModern(*modern_, {})->rows_unexpected, 4);
}

TEST_F(VerifyTest, TextThatMeansTheSameIsEqual) {
  ASSERT_TRUE(legacy_->Put(MakeCity(1, "Ordino", "42.556230"), "k").ok());
  EXPECT_TRUE(VerifyLegacy(*legacy_, cities_)->Clean());
}

TEST_F(VerifyTest, ALegacyRowWithoutCanonicalFormIsADifference) {
  ASSERT_TRUE(legacy_->Put(MakeCity(1, "Ordino", "north"), "k").ok());
  const auto report = VerifyLegacy(*legacy_, cities_);
  EXPECT_EQ(report->rows_different, 1);
  EXPECT_THAT(report->first_differences[0], HasSubstr("city 1: lat is \"north\""));
}

TEST_F(VerifyTest, TheListOfDifferencesIsBounded) {
  std::vector<City> many;
  for (int64_t id = 1; id <= 50; ++id) many.push_back(MakeCity(id));
  const auto report = VerifyModern(*modern_, many);
  EXPECT_EQ(report->rows_missing, 46);
  EXPECT_EQ(report->first_differences.size(), kMaxDifferences);
}

// What each side holds of row 1 against one acknowledgement at version 10. An empty state is no row at all.
TEST_F(VerifyTest, AcknowledgedWritesMustBeInBoth) {
  struct State {
    int64_t version;
    bool deleted;
  };
  struct Case {
    std::optional<State> modern;
    bool acked_delete;
    int64_t lost;
  };
  // The old side is brought to version 10 with what was acknowledged, the new side to `modern`.
  const Case cases[] = {
      {State{10, false}, false, 0}, {State{11, false}, false, 0}, {State{11, true}, false, 0},
      {State{9, false}, false, 1},  {State{10, true}, false, 1},  {std::nullopt, false, 1},
      {State{10, true}, true, 0},   {State{11, false}, true, 0},  {State{9, true}, true, 1},
      {State{10, false}, true, 1},  {std::nullopt, true, 1},
  };
  for (const Case& c : cases) {
    const TempDir dir;
    auto legacy = *LegacyStore::Open(dir.File("legacy.db"));
    auto modern = *ModernStore::Open(dir.File("modern.db"));
    for (int i = 1; i < 10; ++i) ASSERT_TRUE(legacy->Put(MakeCity(1), absl::StrCat(i)).ok());
    ASSERT_EQ((c.acked_delete ? legacy->Delete(1, "10") : legacy->Put(MakeCity(1), "10"))->version, 10);
    if (c.modern.has_value()) {
      std::optional<CanonicalCity> city;
      if (!c.modern->deleted) city = MakeCanonical(MakeCity(1));
      ASSERT_TRUE(modern->ApplyIfNewer(1, city, {c.modern->version, kMapper}).ok());
    }
    const auto report = VerifyAcks({{1, 10, c.acked_delete}}, *legacy, *modern);
    ASSERT_TRUE(report.ok());
    EXPECT_EQ(report->acked_writes, 1);
    EXPECT_EQ(report->lost_writes, c.lost) << (report->first_lost.empty() ? "" : report->first_lost[0]);
    EXPECT_EQ(report->first_lost.size(), static_cast<size_t>(c.lost));
  }
}

TEST_F(VerifyTest, AnAcknowledgedWriteLostByTheOldSideIsFound) {
  SetModern(2, MakeCity(2), 50);
  const auto report = VerifyAcks({{2, 50, false}, {2, 2, false}, {9, 51, true}}, *legacy_, *modern_);
  EXPECT_EQ(report->acked_writes, 3);
  EXPECT_THAT(
      report->first_lost,
      ElementsAre("city 2: acknowledged put at version 50; old side has version 2, new side has version 50",
                  "city 9: acknowledged delete at version 51; old side has no row, new side has no row"));
}

TEST_F(VerifyTest, ARepeatedAcknowledgementCountsOnceAndAContradictionIsRefused) {
  EXPECT_EQ(VerifyAcks({{1, 1, false}, {2, 2, false}, {1, 1, false}}, *legacy_, *modern_)->acked_writes, 2);
  EXPECT_EQ(VerifyAcks({}, *legacy_, *modern_)->acked_writes, 0);
  EXPECT_EQ(VerifyAcks({{1, 1, false}, {2, 1, false}}, *legacy_, *modern_)->acked_writes, 2)
      << "either side mints its own versions";
  const absl::Status status = VerifyAcks({{1, 1, false}, {1, 1, true}}, *legacy_, *modern_).status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("city 1: version 1 was acknowledged as put and as delete"));
}

TEST_F(VerifyTest, AfterNewOnlyTheOldSideMayBeBehind) {
  SetModern(2, MakeCity(2), 50);
  const std::vector<Ack> acks = {{2, 50, false}};
  EXPECT_EQ(VerifyAcks(acks, *legacy_, *modern_)->lost_writes, 1);
  EXPECT_EQ(VerifyAcks(acks, *legacy_, *modern_, WrittenTo::kNew)->lost_writes, 0);
  EXPECT_EQ(VerifyAcks({{2, 51, false}}, *legacy_, *modern_, WrittenTo::kNew)->lost_writes, 1);
}

}  // namespace
}  // namespace lockstep::examples
