#include "client/examples/cities/modern_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

using ::testing::HasSubstr;

constexpr MapperVersion kV1 = MapperVersion::kLosesLeadingZeros;
constexpr MapperVersion kV2 = MapperVersion::kCorrect;

class ModernStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = ModernStore::Open(dir_.File("modern.db"));
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  ApplyResult Apply(const ModernRow& row) {
    const auto result = store_->ApplyIfNewer(row.id, row.city, row.stamp);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.value_or(ApplyResult::kOlderIgnored);
  }

  const TempDir dir_;
  std::unique_ptr<ModernStore> store_;
};

TEST_F(ModernStoreTest, ARowComesBackAsItWent) {
  const ModernRow row{7, {3, kV1}, MakeCanonical(MakeCity(7, "Sant Juli\xC3\xA0", "42.46372", "-1.49129"))};
  EXPECT_EQ(*store_->Read(7), std::nullopt);
  EXPECT_EQ(Apply(row), ApplyResult::kApplied);
  EXPECT_EQ(*store_->Read(7), row);
  EXPECT_EQ(Apply(row), ApplyResult::kOlderIgnored) << "a repeat";
}

// Every order of every two writes of one row ends in the newer one, and says which was ignored.
TEST_F(ModernStoreTest, EveryOrderOfTwoWritesEndsInTheNewer) {
  std::vector<ModernRow> writes;
  for (const int64_t version : {1, 2}) {
    for (const MapperVersion mapper : {kV1, kV2}) {
      for (const bool tombstone : {false, true}) {
        ModernRow row{0, {version, mapper}, std::nullopt};
        if (!tombstone) row.city = MakeCanonical(MakeCity(1, absl::StrCat("Name ", writes.size())));
        writes.push_back(row);
      }
    }
  }
  int64_t id = 0;
  for (ModernRow first : writes) {
    for (ModernRow second : writes) {
      ++id;
      for (ModernRow* row : {&first, &second}) {
        row->id = id;
        if (row->city.has_value()) row->city->id = id;
      }
      SCOPED_TRACE(absl::StrCat(first.stamp.version, "/", static_cast<int>(first.stamp.mapper), " then ",
                                second.stamp.version, "/", static_cast<int>(second.stamp.mapper)));
      const bool newer = std::pair(second.stamp.version, static_cast<int>(second.stamp.mapper)) >
                         std::pair(first.stamp.version, static_cast<int>(first.stamp.mapper));
      EXPECT_EQ(Apply(first), ApplyResult::kApplied);
      EXPECT_EQ(Apply(second), newer ? ApplyResult::kApplied : ApplyResult::kOlderIgnored);
      EXPECT_EQ(*store_->Read(id), newer ? second : first);
    }
  }
  EXPECT_EQ(id, 64);
}

// The authority over a row: it goes on from the version that the old side gave it.
TEST_F(ModernStoreTest, AuthoritativeWritesMintAboveTheRow) {
  const CanonicalCity first = MakeCanonical(MakeCity(1));
  CanonicalCity second = first;
  second.name = "Encamp";
  EXPECT_EQ(Apply({1, {50, kV1}, first}), ApplyResult::kApplied);
  EXPECT_EQ(*store_->Put(second, kV2, "a"), (ModernRow{1, {51, kV2}, second}));
  EXPECT_EQ(*store_->Read(1), (ModernRow{1, {51, kV2}, second}));
  const CanonicalCity other = MakeCanonical(MakeCity(2));
  EXPECT_EQ(store_->Put(other, kV2, "b")->stamp.version, 52) << "one counter, which never goes back";
  EXPECT_EQ(Apply({1, {51, kV2}, first}), ApplyResult::kOlderIgnored) << "a straggler of the old side";
  EXPECT_EQ(*store_->Delete(1, kV2, "c"), (ModernRow{1, {53, kV2}, std::nullopt}));
  EXPECT_EQ(*store_->Read(1), (ModernRow{1, {53, kV2}, std::nullopt}));
  EXPECT_EQ(store_->Put(first, kV2, "d")->stamp.version, 54) << "it lives again, and goes on upwards";
  EXPECT_EQ(store_->Stats()->latest_version, 54);
}

TEST_F(ModernStoreTest, ARepeatOfAnAuthoritativeWriteReturnsTheFirstResult) {
  const CanonicalCity city = MakeCanonical(MakeCity(1, "Sant Juli\xC3\xA0", "42.46372", "-1.49129"));
  CanonicalCity changed = city;
  changed.lat = 1.5;
  const auto first = store_->Put(city, kV2, "a");
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = store_->Put(changed, kV2, "b");
  const auto deleted = store_->Delete(1, kV2, "c");
  ASSERT_TRUE(second.ok() && deleted.ok());
  ASSERT_TRUE(store_->Put(city, kV2, "d").ok());
  const auto other = ModernStore::Open(dir_.File("modern.db"));  // as after a restart
  for (ModernStore* store : {store_.get(), other->get()}) {
    EXPECT_EQ(*store->Put(city, kV2, "a"), *first);
    EXPECT_EQ(*store->Put(changed, kV2, "b"), *second);
    EXPECT_EQ(*store->Delete(1, kV2, "c"), *deleted) << "the row lives again, the repeat must not kill it";
  }
  EXPECT_EQ(store_->Stats()->latest_version, 4) << "a repeat mints no version";
  for (const absl::Status& status :
       {store_->Put(changed, kV2, "a").status(), store_->Delete(1, kV2, "a").status()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"a\" was used for a different write of city 1"));
  }
}

TEST_F(ModernStoreTest, KeysAreForgottenAfterTheWindow) {
  store_ = *ModernStore::Open(dir_.File("modern.db"), {.idempotency_window = 2});
  const CanonicalCity city = MakeCanonical(MakeCity(1));
  EXPECT_EQ(Apply({1, {1000, kV2}, city}), ApplyResult::kApplied);
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(store_->Put(city, kV2, key).ok());
  EXPECT_EQ(store_->Put(city, kV2, "b")->stamp.version, 1002);
  EXPECT_EQ(store_->Put(city, kV2, "a")->stamp.version, 1004) << "forgotten, so it is a new write";
}

TEST_F(ModernStoreTest, RefusedAuthoritativeWritesChangeNothing) {
  CanonicalCity not_nfc = MakeCanonical(MakeCity(1));
  not_nfc.name = "Julia\xCC\x80";
  EXPECT_TRUE(absl::IsNotFound(store_->Delete(1, kV2, "a").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Put(not_nfc, kV2, "a").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Put(MakeCanonical(MakeCity(0)), kV2, "a").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Put(MakeCanonical(MakeCity(1)), kV2, "").status()));
  ASSERT_TRUE(store_->Put(MakeCanonical(MakeCity(1)), kV2, "a").ok()) << "a refused write uses no key up";
  ASSERT_TRUE(store_->Delete(1, kV2, "b").ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Delete(1, kV2, "c").status()));
  EXPECT_EQ(store_->Stats()->latest_version, 2);
}

// As backfill, mirror writes and retries do: any order, with repeats, converges on the latest state.
TEST_F(ModernStoreTest, AnyOrderOfALifeConverges) {
  std::vector<ModernRow> life = {{1, {1, kV2}, MakeCanonical(MakeCity(1))},
                                 {1, {2, kV2}, std::nullopt},
                                 {1, {3, kV2}, MakeCanonical(MakeCity(1, "Encamp"))},
                                 {1, {4, kV2}, std::nullopt}};
  std::vector<int> order = {0, 1, 2, 3};
  int64_t id = 0;
  do {
    ++id;
    for (ModernRow& row : life) {
      row.id = id;
      if (row.city.has_value()) row.city->id = id;
    }
    for (const int i : order) Apply(life[static_cast<size_t>(i)]);
    for (const int i : order) EXPECT_EQ(Apply(life[static_cast<size_t>(i)]), ApplyResult::kOlderIgnored);
    EXPECT_EQ(*store_->Read(id), life[3]);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(ModernStoreTest, RegionsAreSharedAndCounted) {
  Apply({1, {1, kV1}, MakeCanonical(MakeCity(1, "A", "1", "1", "AD", "6", ""))});
  Apply({2, {2, kV2}, MakeCanonical(MakeCity(2, "B", "1", "1", "AD", "06", ""))});
  Apply({3, {3, kV2}, MakeCanonical(MakeCity(3, "C", "1", "1", "AD", "06", ""))});
  Apply({4, {4, kV2}, MakeCanonical(MakeCity(4, "D", "1", "1", "FR", "06", "1"))});
  Apply({4, {5, kV2}, std::nullopt});
  Apply({1, {1, kV2}, MakeCanonical(MakeCity(1, "A", "1", "1", "AD", "06", ""))});
  const auto stats = store_->Stats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->rows, 3);
  EXPECT_EQ(stats->tombstones, 1);
  EXPECT_EQ(stats->countries, 2);
  EXPECT_EQ(stats->admin_regions, 3);
  EXPECT_EQ(stats->unused_admin_regions, 2) << "that of the wrong code and that of the deleted row";
  EXPECT_EQ(stats->rows_by_mapper_v1, 0);
  EXPECT_EQ(stats->rows_by_mapper_v2, 3);
}

TEST_F(ModernStoreTest, AnIgnoredWriteLeavesNoRegion) {
  Apply({1, {2, kV2}, MakeCanonical(MakeCity(1))});
  Apply({1, {1, kV2}, MakeCanonical(MakeCity(1, "A", "1", "1", "FR", "1", "1"))});
  EXPECT_EQ(store_->Stats()->admin_regions, 1);
}

TEST_F(ModernStoreTest, ABatchIsAllOrNothing) {
  const ModernRow good{1, {1, kV2}, MakeCanonical(MakeCity(1))};
  ModernRow other_id{2, {1, kV2}, MakeCanonical(MakeCity(3))};
  ModernRow not_nfc{2, {1, kV2}, MakeCanonical(MakeCity(2))};
  not_nfc.city->name = "a\xCC\x80";
  ModernRow not_a_number{2, {1, kV2}, MakeCanonical(MakeCity(2))};
  not_a_number.city->lat = std::nan("");  // SQLite stores it as NULL, which the schema refuses
  struct Case {
    ModernRow row;
    const char* message;
  };
  for (const Case& c :
       {Case{other_id, "the record says id 3"}, Case{not_nfc, "is not NFC"},
        Case{not_a_number, "CHECK constraint"}, Case{{0, {1, kV2}, std::nullopt}, "ids start"}}) {
    const absl::Status status = store_->ApplyBatchIfNewer({good, c.row}).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
    EXPECT_EQ(*store_->Read(1), std::nullopt);
  }
  EXPECT_EQ(*store_->ApplyBatchIfNewer({good, good}), 1);
}

TEST_F(ModernStoreTest, ScanPagesInOrderWithTombstones) {
  for (const int64_t id : {1, 4, 9}) Apply({id, {id, kV2}, MakeCanonical(MakeCity(id))});
  Apply({4, {10, kV2}, std::nullopt});
  std::vector<int64_t> ids;
  int64_t last_id = 0;
  while (true) {
    const auto page = store_->Scan(last_id, 2);
    ASSERT_TRUE(page.ok());
    if (page->empty()) break;
    for (const ModernRow& row : *page) {
      ids.push_back(row.id);
      EXPECT_EQ(row.city.has_value(), row.id != 4);
    }
    last_id = page->back().id;
  }
  EXPECT_EQ(ids, (std::vector<int64_t>{1, 4, 9}));
}

}  // namespace
}  // namespace lockstep::examples
