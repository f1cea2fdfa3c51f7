#include "server/store/rocksdb_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rocksdb/db.h"
#include "tests/store/rocksdb_test_util.h"

namespace lockstep::store {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class RocksDbUnderTest final : public StoreUnderTest {
 public:
  Store* store() override { return store_.get(); }

 private:
  const TempDirectory directory_;
  const std::unique_ptr<Store> store_ = MustOpen(directory_.path());
};

// Flushes all the time, so that what the tests read comes from table files.
class FlushingRocksDbUnderTest final : public StoreUnderTest {
 public:
  Store* store() override { return store_.get(); }

 private:
  const TempDirectory directory_;
  const std::unique_ptr<Store> store_ = MustOpen(directory_.path(), 2000);
};

template <typename T>
std::unique_ptr<StoreUnderTest> New() {
  return std::make_unique<T>();
}

INSTANTIATE_TEST_SUITE_P(RocksDb, StoreConformanceTest, ::testing::Values(&New<RocksDbUnderTest>));
INSTANTIATE_TEST_SUITE_P(FlushingRocksDb, StoreConformanceTest,
                         ::testing::Values(&New<FlushingRocksDbUnderTest>));

class RocksDbStoreTest : public ::testing::Test {
 protected:
  absl::Status OpenError() {
    const absl::StatusOr<std::unique_ptr<Store>> store = OpenRocksDbStore({.path = path_});
    EXPECT_FALSE(store.ok());
    return store.status();
  }
  // Writes into the database behind the store's back.
  void PutRaw(const std::string& key, const std::string& value) {
    std::vector<std::string> names;
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, path_ + "/db", &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names) families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open({}, path_ + "/db", families, &handles, &db).ok());
    if (key == "new table") {
      rocksdb::ColumnFamilyHandle* handle = nullptr;
      ASSERT_TRUE(db->CreateColumnFamily({}, value, &handle).ok());
      handles.push_back(handle);
    } else {
      ASSERT_TRUE(db->Put({}, key, value).ok());
    }
    for (rocksdb::ColumnFamilyHandle* handle : handles) db->DestroyColumnFamilyHandle(handle);
    delete db;
  }

  const TempDirectory directory_;
  const std::string path_ = directory_.path() + "/below/data";
};

TEST_F(RocksDbStoreTest, ReopenKeepsEverything) {
  for (uint64_t round = 0; round < 4; ++round) {
    // From the log alone, and from table files with a log behind them.
    const std::unique_ptr<Store> store = MustOpen(path_, round % 2 == 0 ? 32 << 20 : 3000);
    EXPECT_EQ(KnownCommits(*store), round * 50);
    EXPECT_EQ(store->revision(), round * 50);
    CommitKnown(store.get(), round * 50 + 1, round * 50 + 50);
    EXPECT_EQ(KnownCommits(*store), round * 50 + 50);
  }
}

TEST_F(RocksDbStoreTest, DeletesSurviveReopening) {
  CommitKnown(MustOpen(path_).get(), 1, 3);
  WriteBatch batch;
  batch.Delete(Table::kAudit, AuditKey(2));
  MustCommit(MustOpen(path_).get(), std::move(batch));
  EXPECT_EQ(MustGet(*MustOpen(path_), Table::kAudit, AuditKey(2)), std::nullopt);
}

TEST_F(RocksDbStoreTest, TheDirectoryIsOneStoresOnly) {
  const std::unique_ptr<Store> store = MustOpen(path_);
  const absl::Status refused = OpenError();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr(path_), HasSubstr(absl::StrCat("process ", getpid()))));
  MustCommit(store.get(), KnownBatch(1));
}

TEST_F(RocksDbStoreTest, AnotherProcessHoldsTheDirectory) {
  MustOpen(path_).reset();
  int ready[2], finish[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(finish), 0);
  const std::string lock_path = path_ + "/lock";
  const pid_t child = fork();
  if (child == 0) {  // async-signal-safe calls only: RocksDB has left threads in the parent
    const int fd = open(lock_path.c_str(), O_RDWR);
    char byte = flock(fd, LOCK_EX) == 0 ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1 || read(finish[0], &byte, 1) != 1) _exit(1);
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  EXPECT_EQ(OpenError().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_EQ(write(finish[1], &byte, 1), 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (const int fd : {ready[0], ready[1], finish[0], finish[1]}) close(fd);
  EXPECT_NE(MustOpen(path_), nullptr) << "the lock ends with its process";
}

TEST_F(RocksDbStoreTest, AnotherFormatIsRefusedByName) {
  CommitKnown(MustOpen(path_).get(), 1, 3);
  for (const char* format : {"2", "0"}) {
    PutRaw("format", format);
    const absl::Status refused = OpenError();
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
    EXPECT_THAT(
        std::string(refused.message()),
        AllOf(HasSubstr(path_), HasSubstr(absl::StrCat("has format ", format)), HasSubstr("reads format 1")));
  }
  PutRaw("format", "1");
  EXPECT_EQ(KnownCommits(*MustOpen(path_)), 3u);
}

TEST_F(RocksDbStoreTest, AnUnknownTableIsRefusedByName) {
  CommitKnown(MustOpen(path_).get(), 1, 3);
  PutRaw("new table", "from_the_future");
  const absl::Status refused = OpenError();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), AllOf(HasSubstr(path_), HasSubstr("from_the_future")));
}

TEST_F(RocksDbStoreTest, ADatabaseOfSomebodyElseIsRefused) {
  std::filesystem::create_directories(path_);
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* db = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(options, path_ + "/db", &db).ok());
  ASSERT_TRUE(db->Put({}, "k", "v").ok());
  delete db;
  EXPECT_EQ(OpenError().code(), absl::StatusCode::kDataLoss);
}

TEST_F(RocksDbStoreTest, AFirstStartThatDiedIsTakenUp) {
  std::filesystem::create_directories(path_ + "/db");
  // Died inside RocksDB, before CURRENT.
  WriteFile(path_ + "/db/MANIFEST-000001", "half");
  MustOpen(path_).reset();
  // Died between the header and the mark.
  std::filesystem::remove(path_ + "/mark");
  const std::unique_ptr<Store> store = MustOpen(path_);
  CommitKnown(store.get(), 1, 1);
}

TEST_F(RocksDbStoreTest, APathThatCannotBeADirectory) {
  WriteFile(directory_.path() + "/file", "");
  for (const std::string& path :
       {std::string(), directory_.path() + "/file", directory_.path() + "/file/below"}) {
    const absl::Status refused = OpenRocksDbStore({.path = path}).status();
    EXPECT_FALSE(refused.ok()) << path;
    EXPECT_FALSE(absl::IsDataLoss(refused)) << refused;
  }
}

}  // namespace
}  // namespace lockstep::store
