#include "client/examples/cities/legacy_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

using ::testing::HasSubstr;

class LegacyStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { store_ = Open(); }

  std::unique_ptr<LegacyStore> Open(LegacyOptions options = {}) {
    auto store = LegacyStore::Open(dir_.File("legacy.db"), options);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

  LegacyRow MustRead(int64_t id) {
    const auto row = store_->Read(id);
    EXPECT_TRUE(row.ok() && row->has_value()) << id << ": " << row.status();
    return row.ok() ? row->value_or(LegacyRow()) : LegacyRow();
  }

  const TempDir dir_;
  std::unique_ptr<LegacyStore> store_;
};

TEST_F(LegacyStoreTest, VersionsRiseOverTheWholeLifeOfARow) {
  const City ordino = MakeCity(7);
  const City moved = MakeCity(7, "Ordino", "1", "2");
  struct Step {
    const City* put;  // null: delete
    LegacyRow want;
  };
  int key = 0;
  for (const Step& step :
       {Step{&ordino, {7, 1, ordino}}, Step{&moved, {7, 2, moved}}, Step{nullptr, {7, 3, std::nullopt}},
        Step{&ordino, {7, 4, ordino}}, Step{nullptr, {7, 5, std::nullopt}}}) {
    const std::string k = absl::StrCat("k", ++key);
    const auto row = step.put != nullptr ? store_->Put(*step.put, k) : store_->Delete(7, k);
    ASSERT_TRUE(row.ok()) << row.status();
    EXPECT_EQ(*row, step.want);
    EXPECT_EQ(MustRead(7), step.want);
  }
  EXPECT_EQ(*store_->Read(8), std::nullopt);
}

TEST_F(LegacyStoreTest, ARepeatReturnsTheFirstResultAndWritesNothing) {
  const auto first = store_->Put(MakeCity(1), "a");
  const auto second = store_->Put(MakeCity(1, "Encamp"), "b");
  ASSERT_TRUE(first.ok() && second.ok());
  // Also from another object, as after a restart of the service.
  const auto other = Open();
  for (LegacyStore* store : {store_.get(), other.get()}) {
    EXPECT_EQ(*store->Put(MakeCity(1), "a"), *first);
    EXPECT_EQ(*store->Put(MakeCity(1, "Encamp"), "b"), *second);
  }
  EXPECT_EQ(MustRead(1), *second);

  const auto deleted = store_->Delete(1, "c");
  ASSERT_TRUE(deleted.ok());
  EXPECT_EQ(*store_->Delete(1, "c"), *deleted);
  ASSERT_TRUE(store_->Put(MakeCity(1), "d").ok());
  EXPECT_EQ(*store_->Delete(1, "c"), *deleted) << "the row lives again, the repeat must not kill it";
  EXPECT_EQ(MustRead(1).version, 4);
  EXPECT_EQ(store_->Stats()->latest_version, 4) << "a repeat mints no version";
}

TEST_F(LegacyStoreTest, AKeyBelongsToOneWrite) {
  ASSERT_TRUE(store_->Put(MakeCity(1), "a").ok());
  ASSERT_TRUE(store_->Put(MakeCity(2), "b").ok());
  for (const absl::Status& status :
       {store_->Put(MakeCity(2), "a").status(), store_->Put(MakeCity(1, "Encamp"), "a").status(),
        store_->Delete(1, "a").status(), store_->Delete(2, "a").status()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"a\" was used for a different write of city 1"));
  }
  EXPECT_EQ(store_->Stats()->latest_version, 2);
}

TEST_F(LegacyStoreTest, KeysAreForgottenAfterTheWindow) {
  LegacyOptions options;
  options.idempotency_window = 2;
  store_ = Open(options);
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(store_->Put(MakeCity(1), key).ok());
  EXPECT_EQ(store_->Put(MakeCity(1), "b")->version, 2);
  EXPECT_EQ(store_->Put(MakeCity(1), "a")->version, 4) << "forgotten, so it is a new write";
}

TEST_F(LegacyStoreTest, RefusedWritesChangeNothing) {
  EXPECT_TRUE(absl::IsNotFound(store_->Delete(1, "a").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Put(MakeCity(0), "a").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Put(MakeCity(1), "").status()));
  ASSERT_TRUE(store_->Put(MakeCity(1), "a").ok()) << "a refused write does not use its key up";
  ASSERT_TRUE(store_->Delete(1, "b").ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Delete(1, "c").status()));
  EXPECT_EQ(store_->Stats()->latest_version, 2);
}

TEST_F(LegacyStoreTest, MirrorWritesApplyOnlyWhatIsNewer) {
  struct Case {
    int64_t version;
    bool tombstone;
    ApplyResult result;
  };
  // In this order, on one row.
  const Case cases[] = {{5, false, ApplyResult::kApplied},      {5, true, ApplyResult::kOlderIgnored},
                        {4, true, ApplyResult::kOlderIgnored},  {6, true, ApplyResult::kApplied},
                        {5, false, ApplyResult::kOlderIgnored}, {6, false, ApplyResult::kOlderIgnored},
                        {100, false, ApplyResult::kApplied}};
  LegacyRow want{.id = 1};
  for (const Case& c : cases) {
    std::optional<City> city;
    if (!c.tombstone) city = MakeCity(1, absl::StrCat("Name ", c.version));
    const auto result = store_->ApplyIfNewer(1, city, c.version);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, c.result) << c.version << (c.tombstone ? " tombstone" : "");
    if (c.result == ApplyResult::kApplied) want = {1, c.version, city};
    EXPECT_EQ(MustRead(1), want);
  }
  EXPECT_TRUE(absl::IsInvalidArgument(store_->ApplyIfNewer(0, std::nullopt, 1).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->ApplyIfNewer(2, MakeCity(3), 1).status()));
}

// As after a rollback from CUTOVER: the row's last write was the new side's.
TEST_F(LegacyStoreTest, AWriteAfterMirroredOnesGetsAHigherVersion) {
  ASSERT_TRUE(store_->Put(MakeCity(1), "a").ok());
  ASSERT_TRUE(store_->ApplyIfNewer(1, MakeCity(1, "Encamp"), 700).ok());
  EXPECT_EQ(store_->Put(MakeCity(1), "b")->version, 701);
  EXPECT_EQ(store_->Put(MakeCity(2), "c")->version, 702) << "one counter, which never goes back";
  ASSERT_TRUE(store_->ApplyIfNewer(1, std::nullopt, 900).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Delete(1, "d").status()));
  EXPECT_EQ(store_->Put(MakeCity(1), "e")->version, 901);
}

TEST_F(LegacyStoreTest, AJumpOfTheVersionForgetsNoKey) {
  LegacyOptions options;
  options.idempotency_window = 3;
  store_ = Open(options);
  ASSERT_TRUE(store_->Put(MakeCity(1), "a").ok());
  ASSERT_TRUE(store_->ApplyIfNewer(2, MakeCity(2), 1000).ok());
  ASSERT_EQ(store_->Put(MakeCity(2), "b")->version, 1001);
  EXPECT_EQ(store_->Put(MakeCity(1), "a")->version, 1);
}

TEST_F(LegacyStoreTest, LoadIsAllOrNothing) {
  for (const auto& bad : {std::vector<City>{MakeCity(1), MakeCity(1)}, {MakeCity(1), MakeCity(0)}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store_->Load(bad)));
    EXPECT_EQ(store_->Stats()->rows, 0);
  }
  ASSERT_TRUE(store_->Load({MakeCity(5), MakeCity(3, "Encamp")}).ok());
  EXPECT_EQ(MustRead(5).version, 1);
  EXPECT_EQ(MustRead(3), (LegacyRow{3, 2, MakeCity(3, "Encamp")}));
  EXPECT_EQ(store_->Put(MakeCity(5), "a")->version, 3);
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Load({MakeCity(9)})));
}

TEST_F(LegacyStoreTest, ScanPagesInOrderWithTombstones) {
  ASSERT_TRUE(store_->Load({MakeCity(1), MakeCity(2), MakeCity(5), MakeCity(9)}).ok());
  ASSERT_TRUE(store_->Delete(2, "a").ok());
  struct Case {
    int64_t after_id, last_id;
    int limit;
    std::vector<int64_t> want;
  };
  for (const Case& c : {Case{0, 100, 10, {1, 2, 5, 9}}, Case{0, 100, 2, {1, 2}}, Case{2, 100, 10, {5, 9}},
                        Case{0, 5, 10, {1, 2, 5}}, Case{5, 5, 10, {}}, Case{9, 100, 10, {}}}) {
    const auto rows = store_->Scan(c.after_id, c.last_id, c.limit);
    ASSERT_TRUE(rows.ok());
    std::vector<int64_t> ids;
    for (const LegacyRow& row : *rows) {
      ids.push_back(row.id);
      EXPECT_EQ(row.city.has_value(), row.id != 2);
    }
    EXPECT_EQ(ids, c.want);
  }
  const auto stats = store_->Stats();
  EXPECT_EQ(stats->rows, 3);
  EXPECT_EQ(stats->tombstones, 1);
}

TEST_F(LegacyStoreTest, ProcessesShareTheFileAndNoVersionIsMintedTwice) {
  store_.reset();
  ASSERT_EQ(unlink(dir_.File("legacy.db").c_str()), 0);  // so that the children also race to create it
  constexpr int kProcesses = 3;
  constexpr int kWrites = 60;
  std::vector<pid_t> children;
  for (int process = 0; process < kProcesses; ++process) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      LegacyOptions options;
      options.sqlite.busy_timeout = absl::Seconds(60);
      auto store = LegacyStore::Open(dir_.File("legacy.db"), options);
      bool ok = store.ok();
      for (int i = 0; ok && i < kWrites; ++i) {
        const int64_t id = 1 + process * kWrites + i;
        ok = (*store)->Put(MakeCity(id), absl::StrCat(process, "/", i)).ok();
      }
      _exit(ok ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  store_ = Open();
  const auto rows = store_->Scan(0, INT64_MAX, 1000);
  ASSERT_TRUE(rows.ok());
  std::set<int64_t> versions;
  for (const LegacyRow& row : *rows) versions.insert(row.version);
  EXPECT_EQ(versions.size(), static_cast<size_t>(kProcesses * kWrites));
  EXPECT_EQ(*versions.rbegin(), kProcesses * kWrites);
}

TEST_F(LegacyStoreTest, ThreadsShareOneObject) {
  constexpr int kThreads = 4;
  constexpr int kWrites = 30;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread] {
      for (int i = 0; i < kWrites; ++i) {
        const auto row = store_->Put(MakeCity(1 + i), absl::StrCat(thread, "/", i));
        ASSERT_TRUE(row.ok()) << row.status();
        const auto read = store_->Read(1 + i);
        ASSERT_TRUE(read.ok() && read->has_value());
        EXPECT_GE((*read)->version, row->version) << "a read sees the write that returned before it";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->Stats()->latest_version, kThreads * kWrites);
}

}  // namespace
}  // namespace lockstep::examples
