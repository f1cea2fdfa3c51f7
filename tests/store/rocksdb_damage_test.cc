// Damage to the files of a closed store: opening refuses, or everything acknowledged is there. Never less.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/prng.h"
#include "tests/store/rocksdb_test_util.h"

namespace lockstep::store {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kCommits = 120;

class RocksDbDamageTest : public ::testing::Test {
 protected:
  // `good` holds kCommits commits, all of them in one log unless `flush_bytes` is small.
  void MakeGood(size_t flush_bytes = 32 << 20) {
    CommitKnown(MustOpen(good_, flush_bytes).get(), 1, kCommits);
  }
  // Every case damages a fresh copy.
  void CopyGood() { CopyDirectory(good_, bad_); }

  std::filesystem::path TheLog(const std::string& directory) {
    const std::vector<std::filesystem::path> logs = DatabaseFiles(directory, ".log");
    EXPECT_EQ(logs.size(), 1u);
    return logs.at(0);
  }

  absl::Status OpenBad() { return OpenRocksDbStore({.path = bad_}).status(); }

  void ExpectRefused(const std::string& what) {
    const absl::Status refused = OpenBad();
    EXPECT_EQ(refused.code(), absl::StatusCode::kDataLoss) << what << ": " << refused;
    EXPECT_THAT(std::string(refused.message()), AllOf(HasSubstr(bad_), HasSubstr("backup"))) << what;
    EXPECT_EQ(OpenBad().code(), absl::StatusCode::kDataLoss) << what << ", opened twice";
  }
  // Returns whether it was refused.
  bool ExpectRefusedOrComplete(const std::string& what) {
    absl::StatusOr<std::unique_ptr<Store>> store = OpenRocksDbStore({.path = bad_});
    if (!store.ok()) {
      EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << what << ": " << store.status();
      return true;
    }
    EXPECT_EQ(KnownCommits(**store), kCommits) << what;
    return false;
  }

  const TempDirectory directory_;
  const std::string good_ = directory_.path() + "/good";
  const std::string bad_ = directory_.path() + "/bad";
};

TEST_F(RocksDbDamageTest, ACutLogIsRefusedWhereverItIsCut) {
  MakeGood();
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng random(seed);
  const size_t size = std::filesystem::file_size(TheLog(good_));
  std::vector<size_t> cuts = {0, 1, 6, 7, 8, size / 2, size - 1};
  for (int i = 0; i < 60; ++i) cuts.push_back(random.Below(size));
  for (const size_t cut : cuts) {
    CopyGood();
    std::filesystem::resize_file(TheLog(bad_), cut);
    ExpectRefused(absl::StrCat("cut at ", cut, " of ", size));
  }
}

TEST_F(RocksDbDamageTest, TheRefusalNamesBothRevisions) {
  MakeGood();
  CopyGood();
  std::filesystem::resize_file(TheLog(bad_), std::filesystem::file_size(TheLog(bad_)) - 1);
  EXPECT_THAT(
      std::string(OpenBad().message()),
      AllOf(HasSubstr("lost acknowledged commits"), HasSubstr(absl::StrCat("revision ", kCommits - 1)),
            HasSubstr(absl::StrCat("revision ", kCommits, " were"))));
}

TEST_F(RocksDbDamageTest, AMissingLogIsRefused) {
  MakeGood();
  CopyGood();
  std::filesystem::remove(TheLog(bad_));
  ExpectRefused("log removed");
}

TEST_F(RocksDbDamageTest, ARefusedDatabaseStaysAsItWasFound) {
  MakeGood();
  CopyGood();
  const std::filesystem::path log = TheLog(bad_);
  std::filesystem::resize_file(log, std::filesystem::file_size(log) / 2);
  const std::string before = ReadFile(log);
  ExpectRefused("cut");
  EXPECT_EQ(TheLog(bad_), log);
  EXPECT_EQ(ReadFile(log), before);
  EXPECT_EQ(ReadFile(bad_ + "/mark"), ReadFile(good_ + "/mark"));
}

TEST_F(RocksDbDamageTest, AFlippedBitInTheLogNeverDropsACommit) {
  MakeGood();
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng random(seed);
  const size_t size = std::filesystem::file_size(TheLog(good_));
  std::vector<size_t> positions;
  for (size_t i = 0; i < 8; ++i) positions.push_back(i);           // the first record's header
  for (size_t i = 1; i <= 40; ++i) positions.push_back(size - i);  // the last record
  for (int i = 0; i < 150; ++i) positions.push_back(random.Below(size));
  int refused = 0;
  for (const size_t position : positions) {
    CopyGood();
    std::string bytes = ReadFile(TheLog(bad_));
    bytes[position] = static_cast<char>(bytes[position] ^ (1 << random.Below(8)));
    WriteFile(TheLog(bad_), bytes);
    if (ExpectRefusedOrComplete(absl::StrCat("flip at ", position, " of ", size))) ++refused;
  }
  EXPECT_EQ(refused, static_cast<int>(positions.size())) << "every byte of a log is covered by a checksum";
}

// With flushes in between, any file of the database may go missing or be damaged.
TEST_F(RocksDbDamageTest, AnyMissingFileIsRefusedOrNotNeeded) {
  MakeGood(4000);
  for (const auto& entry : std::filesystem::directory_iterator(good_ + "/db")) {
    CopyGood();
    const std::string name = entry.path().filename().string();
    std::filesystem::remove(bad_ + "/db/" + name);
    const bool refused = ExpectRefusedOrComplete(name + " removed");
    if (name == "CURRENT" || name.starts_with("MANIFEST") || name.ends_with(".sst")) {
      EXPECT_TRUE(refused) << name;
    }
  }
}

TEST_F(RocksDbDamageTest, AFlippedBitInATableFileIsNeverReadAsData) {
  MakeGood(4000);
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng random(seed);
  const std::vector<std::filesystem::path> tables = DatabaseFiles(good_, ".sst");
  ASSERT_FALSE(tables.empty());
  for (int i = 0; i < 60; ++i) {
    CopyGood();
    const std::string name = tables[random.Below(tables.size())].filename().string();
    std::string bytes = ReadFile(bad_ + "/db/" + name);
    const size_t position = random.Below(bytes.size());
    bytes[position] = static_cast<char>(bytes[position] ^ (1 << random.Below(8)));
    WriteFile(bad_ + "/db/" + name, bytes);
    const absl::StatusOr<std::unique_ptr<Store>> store = OpenRocksDbStore({.path = bad_});
    if (!store.ok()) {
      EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << store.status();
      continue;
    }
    // What is read is right, or an error.
    uint64_t next = 1;
    const absl::Status scanned =
        (*store)->Scan(Table::kAudit, "", "", kNoLimit, [&](absl::string_view key, absl::string_view value) {
          EXPECT_EQ(key, AuditKey(next)) << name << " flipped at " << position;
          EXPECT_EQ(value, KnownValue(next)) << name << " flipped at " << position;
          ++next;
          return true;
        });
    if (scanned.ok()) {
      EXPECT_EQ(next, kCommits + 1) << name << " flipped at " << position;
    } else {
      EXPECT_EQ(scanned.code(), absl::StatusCode::kDataLoss) << scanned;
    }
  }
}

TEST_F(RocksDbDamageTest, ATornTailThatNobodyWasToldOfIsAccepted) {
  MakeGood();
  CopyGood();
  // The header of a record of 200 bytes, and three of them.
  WriteFile(TheLog(bad_), ReadFile(TheLog(bad_)) + std::string("\1\2\3\4\xc8\0\1abc", 10));
  EXPECT_FALSE(ExpectRefusedOrComplete("torn tail"));
}

// A crash between the synced log and the synced mark: the last commits are there, though nobody was told.
TEST_F(RocksDbDamageTest, AnOlderMarkIsAccepted) {
  CommitKnown(MustOpen(good_).get(), 1, kCommits - 3);
  const std::string older = ReadFile(good_ + "/mark");
  CommitKnown(MustOpen(good_).get(), kCommits - 2, kCommits);
  CopyGood();
  WriteFile(bad_ + "/mark", older);
  EXPECT_FALSE(ExpectRefusedOrComplete("older mark"));
  EXPECT_EQ(KnownCommits(*MustOpen(bad_)), kCommits);
}

TEST_F(RocksDbDamageTest, TheMarkFile) {
  MakeGood();
  struct Case {
    const char* name;
    void (*damage)(const std::string& directory);
    const char* says;
  };
  const std::vector<Case> cases = {
      {"missing", [](const std::string& d) { std::filesystem::remove(d + "/mark"); }, "mark is missing"},
      {"empty", [](const std::string& d) { WriteFile(d + "/mark", ""); }, "is damaged"},
      {"zeros", [](const std::string& d) { WriteFile(d + "/mark", std::string(8192, '\0')); }, "is damaged"},
      {"another store's",
       [](const std::string& d) {
         MustOpen(d + "/other").reset();
         WriteFile(d + "/mark", ReadFile(d + "/other/mark"));
       },
       "belongs to another database"},
      {"without a database", [](const std::string& d) { std::filesystem::remove_all(d + "/db"); },
       "CURRENT is missing"},
      {"an older copy of the database",
       [](const std::string& d) {
         std::filesystem::remove_all(d + "/db");
         std::filesystem::copy(d + "/../old/db", d + "/db", std::filesystem::copy_options::recursive);
       },
       "lost acknowledged commits"},
  };
  const std::unique_ptr<Store> more = MustOpen(good_);
  CopyDirectory(good_, directory_.path() + "/old");
  MustCommit(more.get(), KnownBatch(kCommits + 1));
  for (const Case& c : cases) {
    CopyGood();
    c.damage(bad_);
    ExpectRefused(c.name);
    EXPECT_THAT(std::string(OpenBad().message()), HasSubstr(c.says)) << c.name;
  }
}

}  // namespace
}  // namespace lockstep::store
