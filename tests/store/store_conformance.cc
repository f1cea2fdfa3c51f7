#include "tests/store/store_conformance.h"

#include <gmock/gmock.h>

#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/prng.h"

namespace lockstep::store {

TEST_P(StoreConformanceTest, NewStoreIsEmptyAtRevisionZero) {
  EXPECT_EQ(store().revision(), 0u);
  for (const TableInfo& info : kTables) {
    EXPECT_EQ(MustGet(store(), info.table, "key"), std::nullopt) << info.name;
    EXPECT_THAT(ScanAll(store(), info.table), ::testing::IsEmpty()) << info.name;
  }
}

TEST_P(StoreConformanceTest, EveryCommitRaisesTheRevisionByOne) {
  EXPECT_EQ(MustCommit(&store(), PutBatch(Table::kMeta, "a", "1")), 1u);
  EXPECT_EQ(MustCommit(&store(), WriteBatch()), 2u) << "an empty batch is a commit too";
  EXPECT_EQ(MustCommit(&store(), PutBatch(Table::kMeta, "a", "2")), 3u);
  EXPECT_EQ(store().revision(), 3u);
  EXPECT_EQ(MustGet(store(), Table::kMeta, "a"), "2");
}

TEST_P(StoreConformanceTest, TablesAreSeparate) {
  WriteBatch batch;
  for (const TableInfo& info : kTables) batch.Put(info.table, "key", std::string(info.name));
  MustCommit(&store(), std::move(batch));
  for (const TableInfo& info : kTables)
    EXPECT_EQ(MustGet(store(), info.table, "key"), std::string(info.name));
}

TEST_P(StoreConformanceTest, LastOperationOnAKeyWins) {
  WriteBatch batch;
  batch.Put(Table::kMeta, "put twice", "1");
  batch.Put(Table::kMeta, "put twice", "2");
  batch.Put(Table::kMeta, "put, deleted", "1");
  batch.Delete(Table::kMeta, "put, deleted");
  batch.Delete(Table::kMeta, "deleted, put");
  batch.Put(Table::kMeta, "deleted, put", "");
  batch.Delete(Table::kMeta, "never there");
  MustCommit(&store(), std::move(batch));
  EXPECT_THAT(ScanAll(store(), Table::kMeta),
              ::testing::ElementsAre(std::make_pair("deleted, put", ""), std::make_pair("put twice", "2")));
}

TEST_P(StoreConformanceTest, AnyBytesAreKeptAsTheyAre) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  MustCommit(&store(), PutBatch(Table::kSamples, all, all));
  MustCommit(&store(), PutBatch(Table::kSamples, std::string(kMaxKeyBytes, 'k'), std::string(1 << 20, 'v')));
  EXPECT_EQ(MustGet(store(), Table::kSamples, all), all);
  EXPECT_EQ(MustGet(store(), Table::kSamples, std::string(kMaxKeyBytes, 'k')), std::string(1 << 20, 'v'));
}

TEST_P(StoreConformanceTest, ExpectedRevision) {
  MustCommit(&store(), PutBatch(Table::kMeta, "a", "1"), 0);
  for (uint64_t wrong : {0, 2, 100}) {
    const absl::StatusOr<uint64_t> refused = store().Commit(PutBatch(Table::kMeta, "a", "wrong"), wrong);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(refused.status().message()),
                ::testing::HasSubstr(absl::StrCat("expected store revision ", wrong, ", but it is 1")));
  }
  EXPECT_EQ(store().revision(), 1u);
  EXPECT_EQ(MustGet(store(), Table::kMeta, "a"), "1");
  EXPECT_EQ(MustCommit(&store(), PutBatch(Table::kMeta, "a", "2"), 1), 2u);
}

TEST_P(StoreConformanceTest, LimitsAreInvalidArgumentsAndWriteNothing) {
  struct Case {
    const char* name;
    std::string key;
    size_t value_bytes;
  };
  for (const Case& c : {Case{"empty key", "", 1}, Case{"long key", std::string(kMaxKeyBytes + 1, 'k'), 1},
                        Case{"large batch", "k", kMaxCommitBytes}}) {
    WriteBatch batch = PutBatch(Table::kMeta, "good", "1");
    batch.Put(Table::kMeta, c.key, std::string(c.value_bytes, 'v'));
    EXPECT_EQ(store().Commit(std::move(batch), std::nullopt).status().code(),
              absl::StatusCode::kInvalidArgument)
        << c.name;
  }
  EXPECT_EQ(store().revision(), 0u);
  EXPECT_EQ(MustGet(store(), Table::kMeta, "good"), std::nullopt);
}

TEST_P(StoreConformanceTest, ScanRangesAndLimits) {
  const std::string high("\xff", 1);
  WriteBatch batch;
  for (const std::string& key :
       {std::string("a"), std::string("a\0", 2), std::string("b"), std::string("c"), high}) {
    batch.Put(Table::kMeta, key, key);
  }
  MustCommit(&store(), std::move(batch));
  MustCommit(&store(), PutBatch(Table::kMigrations, "b", "of the next table"));

  struct Case {
    std::string start, end;
    size_t limit;
    std::vector<std::string> keys;
  };
  const std::string a0("a\0", 2);
  const std::vector<Case> cases = {
      {"", "", kNoLimit, {"a", a0, "b", "c", high}},
      {"a", "c", kNoLimit, {"a", a0, "b"}},
      {a0, "", kNoLimit, {a0, "b", "c", high}},
      {"aa", "bb", kNoLimit, {"b"}},
      {"", "", 2, {"a", a0}},
      {"", "", 0, {}},
      {"c", "a", kNoLimit, {}},
      {"b", "b", kNoLimit, {}},
      {"d", high, kNoLimit, {}},
      {high, "", kNoLimit, {high}},
  };
  for (const Case& c : cases) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : ScanAll(store(), Table::kMeta, c.start, c.end, c.limit)) {
      EXPECT_EQ(key, value);
      keys.push_back(key);
    }
    EXPECT_EQ(keys, c.keys) << "[" << c.start << ", " << c.end << ") limit " << c.limit;
  }
}

TEST_P(StoreConformanceTest, VisitorEndsTheScanAndMayCallTheStore) {
  for (const char* key : {"a", "b", "c"}) MustCommit(&store(), PutBatch(Table::kMeta, key, "old"));
  std::vector<std::string> seen;
  const absl::Status status =
      store().Scan(Table::kMeta, "", "", kNoLimit, [&](absl::string_view key, absl::string_view value) {
        MustCommit(&store(), PutBatch(Table::kMeta, "b", "new"));
        MustCommit(&store(), PutBatch(Table::kMeta, "aa", "new"));
        seen.push_back(absl::StrCat(key, "=", value));
        return key != "b";
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(seen, ::testing::ElementsAre("a=old", "b=old")) << "a scan shows one moment";
}

// The same random operations on the store and on a map.
TEST_P(StoreConformanceTest, BehavesLikeAMap) {
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng random(seed);
  std::map<std::string, std::string> model;
  for (int commit = 0; commit < 50; ++commit) {
    WriteBatch batch;
    for (uint64_t i = random.Below(8); i > 0; --i) {
      const std::string key = absl::StrCat("key", random.Below(20));
      if (random.Below(3) == 0) {
        batch.Delete(Table::kWindows, key);
        model.erase(key);
      } else {
        const std::string value = absl::StrCat(random.Next());
        batch.Put(Table::kWindows, key, value);
        model[key] = value;
      }
    }
    MustCommit(&store(), std::move(batch));
  }
  EXPECT_EQ(ScanAll(store(), Table::kWindows), Rows(model.begin(), model.end()));
}

TEST_P(StoreConformanceTest, ConcurrentCommitsGetDistinctRevisionsInOrderOfEffect) {
  constexpr uint64_t kThreads = 8, kCommits = 25;
  Mutex mutex;
  std::set<uint64_t> revisions;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      uint64_t last = 0;
      for (uint64_t i = 0; i < kCommits; ++i) {
        WriteBatch batch = PutBatch(Table::kAudit, AuditKey(t * kCommits + i), absl::StrCat(t));
        batch.Put(Table::kMeta, "last", AuditKey(t * kCommits + i));
        const uint64_t revision = MustCommit(&store(), std::move(batch));
        EXPECT_GT(revision, last);
        EXPECT_GE(store().revision(), revision);
        EXPECT_EQ(MustGet(store(), Table::kAudit, AuditKey(t * kCommits + i)), absl::StrCat(t));
        last = revision;
        MutexLock lock(&mutex);
        revisions.insert(revision);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(revisions.size(), kThreads * kCommits);
  EXPECT_EQ(*revisions.rbegin(), kThreads * kCommits);
  EXPECT_EQ(store().revision(), kThreads * kCommits);
  EXPECT_EQ(ScanAll(store(), Table::kAudit).size(), kThreads * kCommits);
}

// Optimistic increments of one counter: none may be lost.
TEST_P(StoreConformanceTest, ExpectedRevisionSerialisesWriters) {
  constexpr int kThreads = 4, kIncrements = 25;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int done = 0; done < kIncrements;) {
        const uint64_t revision = store().revision();
        const std::string old = MustGet(store(), Table::kMeta, "counter").value_or(AuditKey(0));
        WriteBatch batch = PutBatch(Table::kMeta, "counter", AuditKey(*ParseAuditKey(old) + 1));
        const absl::StatusOr<uint64_t> committed = store().Commit(std::move(batch), revision);
        if (committed.ok()) {
          EXPECT_EQ(*committed, revision + 1);
          ++done;
        } else {
          EXPECT_TRUE(absl::IsAborted(committed.status())) << committed.status();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(MustGet(store(), Table::kMeta, "counter"), AuditKey(kThreads * kIncrements));
  EXPECT_EQ(store().revision(), static_cast<uint64_t>(kThreads * kIncrements));
}

}  // namespace lockstep::store
