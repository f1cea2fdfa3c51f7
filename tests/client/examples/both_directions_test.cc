// Write authority moves from the old side to the new one and back, record by record, while every mirror write
// is late, repeated and reordered: both sides end equal, in the last state that either authority gave the
// record.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/examples/cities/legacy_store.h"
#include "client/examples/cities/mapper.h"
#include "client/examples/cities/modern_store.h"
#include "core/base/prng.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

constexpr MapperVersion kMapper = MapperVersion::kCorrect;

// What a mirror still has to be told.
struct MirrorWrite {
  bool to_new = false;
  int64_t id = 0;
  int64_t version = 0;
  std::optional<CanonicalCity> city;
};

class BothDirectionsTest : public testing::TestWithParam<uint64_t> {
 protected:
  BothDirectionsTest()
      : prng_(GetParam()),
        legacy_(*LegacyStore::Open(dir_.File("legacy.db"), {.sqlite = kFast})),
        modern_(*ModernStore::Open(dir_.File("modern.db"), {.sqlite = kFast})) {}

  // One write with `new_first` as the authority; its mirror write is queued. Returns its version.
  int64_t Write(bool new_first, int64_t id, bool remove) {
    const std::string key = absl::StrCat("write ", ++writes_);
    std::optional<CanonicalCity> city;
    if (!remove) city = MakeCanonical(MakeCity(id, absl::StrCat("Name ", writes_)));
    MirrorWrite mirror{.to_new = !new_first, .id = id, .version = 0, .city = city};
    if (new_first) {
      const auto row = remove ? modern_->Delete(id, kMapper, key) : modern_->Put(*city, kMapper, key);
      EXPECT_TRUE(row.ok()) << row.status();
      mirror.version = row.ok() ? row->stamp.version : 0;
    } else {
      const auto row = remove ? legacy_->Delete(id, key) : legacy_->Put(ToLegacy(*city), key);
      EXPECT_TRUE(row.ok()) << row.status();
      mirror.version = row.ok() ? row->version : 0;
    }
    mirrors_.push_back(std::move(mirror));
    return mirrors_.back().version;
  }

  void Apply(const MirrorWrite& write) {
    if (write.to_new) {
      ASSERT_TRUE(modern_->ApplyIfNewer(write.id, write.city, {write.version, kMapper}).ok());
    } else {
      std::optional<City> city;
      if (write.city.has_value()) city = ToLegacy(*write.city);
      ASSERT_TRUE(legacy_->ApplyIfNewer(write.id, city, write.version).ok());
    }
  }

  // In any order, some twice; as before a slice moves, nothing is left.
  void DrainMirrors() {
    for (size_t i = mirrors_.size(); i > 1; --i) std::swap(mirrors_[i - 1], mirrors_[prng_.Below(i)]);
    for (const MirrorWrite& write : mirrors_) {
      Apply(write);
      if (prng_.Below(3) == 0) Apply(write);
    }
    mirrors_.clear();
  }

  void ExpectEqualAt(int64_t id, int64_t version) {
    const auto old_row = legacy_->Read(id);
    const auto new_row = modern_->Read(id);
    ASSERT_TRUE(old_row.ok() && new_row.ok());
    ASSERT_TRUE(old_row->has_value() && new_row->has_value());
    EXPECT_EQ((*old_row)->version, version);
    EXPECT_EQ((*new_row)->stamp.version, version);
    ASSERT_EQ((*old_row)->city.has_value(), (*new_row)->city.has_value());
    if (!(*old_row)->city.has_value()) return;
    EXPECT_EQ(*Canonicalize(*(*old_row)->city), *(*new_row)->city);
  }

  static inline const SqliteOptions kFast = {.durability = Durability::kProcessCrash};
  const TempDir dir_;
  Prng prng_;
  std::unique_ptr<LegacyStore> legacy_;
  std::unique_ptr<ModernStore> modern_;
  std::vector<MirrorWrite> mirrors_;
  int writes_ = 0;
};

TEST_P(BothDirectionsTest, AuthorityMovesThereAndBackWithoutLosingAWrite) {
  SCOPED_TRACE(absl::StrCat("seed ", GetParam()));
  constexpr int64_t kRecords = 5;
  std::vector<int64_t> version(kRecords + 1, 0);
  std::vector<bool> exists(kRecords + 1, false);
  std::vector<bool> new_first(kRecords + 1, false);
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 12; ++i) {
      const auto id = static_cast<int64_t>(1 + prng_.Below(kRecords));
      const bool remove = exists[id] && prng_.Below(3) == 0;
      const int64_t minted = Write(new_first[id], id, remove);
      EXPECT_GT(minted, version[id]) << "city " << id << " in round " << round;
      version[id] = minted;
      exists[id] = !remove;
    }
    DrainMirrors();
    for (int64_t id = 1; id <= kRecords; ++id) {
      if (version[id] > 0) ExpectEqualAt(id, version[id]);
      if (prng_.Below(2) == 0) new_first[id] = !new_first[id];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, BothDirectionsTest, testing::Range<uint64_t>(1, 9));

}  // namespace
}  // namespace lockstep::examples
