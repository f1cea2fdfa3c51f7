// Faults of a running store, made with real files: a failing sync of the log, a full disk. The mark's are in
// rocksdb_mark_sync_test.cc.
//
// A failing sync: the store's own descriptor is replaced by one on which fdatasync fails, in this process and
// without privileges; the full disk is a small tmpfs in a mount namespace of a child process, which ends with
// it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/store/rocksdb_test_util.h"

namespace lockstep::store {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class RocksDbFaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = MustOpen(path_);
    CommitKnown(store_.get(), 1, 10);
  }

  void ExpectUnknownThenStopped() {
    const absl::Status unknown = store_->Commit(KnownBatch(11), std::nullopt).status();
    EXPECT_EQ(unknown.code(), absl::StatusCode::kUnknown) << unknown;
    EXPECT_THAT(std::string(unknown.message()), AllOf(HasSubstr("outcome unknown"), HasSubstr(path_)));
    for (int i = 0; i < 3; ++i) {
      const absl::Status stopped = store_->Commit(KnownBatch(11), std::nullopt).status();
      EXPECT_EQ(stopped.code(), absl::StatusCode::kUnavailable) << stopped;
      EXPECT_THAT(std::string(stopped.message()), AllOf(HasSubstr(path_), HasSubstr("restart")));
    }
    EXPECT_EQ(store_->revision(), 10u);
    EXPECT_EQ(MustGet(*store_, Table::kAudit, AuditKey(10)), KnownValue(10)) << "reads go on";
  }
  // The store as a restart finds it.
  uint64_t CommitsAfterReopening() {
    store_.reset();
    store_ = MustOpen(path_);
    return KnownCommits(*store_).value_or(~uint64_t{0});
  }

  const TempDirectory directory_;
  const std::string path_ = directory_.path() + "/data";
  std::unique_ptr<Store> store_;
};

TEST_F(RocksDbFaultTest, AFailedSyncIsAnUnknownOutcomeAndStopsTheStore) {
  // Writing to a pipe works, syncing it does not.
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  ASSERT_GE(dup2(ends[1], DescriptorOf(DatabaseFiles(path_, ".log").back())), 0);
  ExpectUnknownThenStopped();
  EXPECT_EQ(CommitsAfterReopening(), 10u) << "what went into the pipe is gone; what was acknowledged is not";
  MustCommit(store_.get(), KnownBatch(11));
  close(ends[0]);
  close(ends[1]);
}

// The full disk
// ------------------------------------------------------------------------------------------------

constexpr char kSmallDiskVariable[] = "LOCKSTEP_TEST_SMALL_DISK";
constexpr int kCannotMount = 77;

// Gives this process, which must have one thread, a tmpfs of its own at `path`.
bool MountSmallDisk(const std::string& path) {
  const uid_t user = getuid();
  if (unshare(CLONE_NEWNS) != 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    const int map = open("/proc/self/uid_map", O_WRONLY);
    const std::string line = absl::StrCat("0 ", user, " 1");
    const bool mapped = map >= 0 && write(map, line.data(), line.size()) == static_cast<ssize_t>(line.size());
    if (map >= 0) close(map);
    if (!mapped) return false;
  }
  return mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", path.c_str(), "tmpfs", 0, "size=160m") == 0;
}

// Runs the test of this name again in a child process on a small disk.
int RunOnSmallDisk(const std::string& path) {
  const ::testing::TestInfo* const test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string filter = absl::StrCat("--gtest_filter=", test->test_suite_name(), ".", test->name());
  const std::string variable = absl::StrCat(kSmallDiskVariable, "=", path);
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  environment.push_back(const_cast<char*>(variable.c_str()));
  environment.push_back(nullptr);
  const char* const arguments[] = {"small_disk", filter.c_str(), nullptr};
  const pid_t child = fork();
  if (child == 0) {
    execve("/proc/self/exe", const_cast<char* const*>(arguments), environment.data());
    _exit(126);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Takes what space is left on the disk of `path`, down to about `leave_bytes`.
void FillDisk(const std::string& path, size_t leave_bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  const std::string block(4096, 'x');
  off_t size = 0;
  while (write(fd, block.data(), block.size()) > 0) size += static_cast<off_t>(block.size());
  ASSERT_EQ(errno, ENOSPC);
  ASSERT_EQ(ftruncate(fd, std::max<off_t>(0, size - static_cast<off_t>(leave_bytes))), 0);
  close(fd);
}

// One store among several on the same disk, and how much of it is known to be there.
struct SmallDiskStore {
  std::string path;
  size_t flush_bytes;
  uint64_t commits_before;
  std::unique_ptr<Store> store;
  uint64_t acknowledged = 0;
};

constexpr size_t kLargeBytes = 100'000;
WriteBatch LargeBatch(uint64_t i) {
  WriteBatch batch =
      PutBatch(Table::kSamples, AuditKey(i), std::string(kLargeBytes, static_cast<char>('a' + i % 26)));
  batch.Put(Table::kMeta, "last", AuditKey(i));
  return batch;
}

void ExpectExactly(const SmallDiskStore& small, uint64_t commits) {
  EXPECT_EQ(small.store->revision(), commits) << small.path;
  const Rows rows = ScanAll(*small.store, Table::kSamples);
  ASSERT_EQ(rows.size(), commits) << small.path;
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i].second, LargeBatch(i + 1).operations()[0].value);
}

void FillUntilRefused(SmallDiskStore* small) {
  for (;;) {
    const absl::StatusOr<uint64_t> revision =
        small->store->Commit(LargeBatch(small->acknowledged + 1), std::nullopt);
    if (revision.ok()) {
      EXPECT_EQ(*revision, ++small->acknowledged);
      continue;
    }
    EXPECT_EQ(revision.status().code(), absl::StatusCode::kResourceExhausted) << revision.status();
    EXPECT_THAT(std::string(revision.status().message()),
                AllOf(HasSubstr(small->path), HasSubstr("free at least")));
    return;
  }
}

TEST(RocksDbDiskFullTest, CommitsResumeWhenSpaceReturns) {
  const char* const disk = std::getenv(kSmallDiskVariable);
  if (disk == nullptr) {
    const TempDirectory directory;
    const int exit_code = RunOnSmallDisk(directory.path());
    if (exit_code == kCannotMount) GTEST_SKIP() << "needs root or user namespaces, to mount a small tmpfs";
    EXPECT_EQ(exit_code, 0) << "see the child's output above";
    return;
  }
  if (!MountSmallDisk(disk)) std::exit(kCannotMount);

  // Freshly opened with nothing in memory; with unflushed data in memory; full in the middle of flushing.
  std::vector<SmallDiskStore> stores;
  stores.push_back({absl::StrCat(disk, "/fresh"), 32 << 20, 3, nullptr});
  stores.push_back({absl::StrCat(disk, "/in_memory"), 32 << 20, 20, nullptr});
  stores.push_back({absl::StrCat(disk, "/flushing"), 500'000, 20, nullptr});
  for (SmallDiskStore& small : stores) {
    small.store = MustOpen(small.path, small.flush_bytes);
    while (small.acknowledged < small.commits_before) {
      MustCommit(small.store.get(), LargeBatch(++small.acknowledged));
    }
  }
  stores[0].store.reset();
  stores[0].store = MustOpen(stores[0].path, stores[0].flush_bytes);

  const std::string filler = absl::StrCat(disk, "/filler");
  FillDisk(filler, 0);
  for (SmallDiskStore& small : stores) {
    FillUntilRefused(&small);
    FillUntilRefused(&small);
    ExpectExactly(small, small.acknowledged);
  }

  std::filesystem::remove(filler);
  for (SmallDiskStore& small : stores) {
    // Whoever reads keeps the database from being opened again, and a commit from inside a scan must not
    // wait.
    const absl::Status scanned =
        small.store->Scan(Table::kMeta, "", "", kNoLimit, [&](absl::string_view, absl::string_view) {
          EXPECT_EQ(small.store->Commit(LargeBatch(small.acknowledged + 1), std::nullopt).status().code(),
                    absl::StatusCode::kResourceExhausted);
          return true;
        });
    EXPECT_TRUE(scanned.ok()) << scanned;
    EXPECT_EQ(MustCommit(small.store.get(), LargeBatch(small.acknowledged + 1), small.acknowledged),
              small.acknowledged + 1);
    ++small.acknowledged;
    for (int i = 0; i < 10; ++i) {
      ++small.acknowledged;
      EXPECT_EQ(MustCommit(small.store.get(), LargeBatch(small.acknowledged)), small.acknowledged);
    }
    ExpectExactly(small, small.acknowledged);
    small.store.reset();
    small.store = MustOpen(small.path);
    ExpectExactly(small, small.acknowledged);
  }
}

// A full disk while the process dies before space returns: opening needs space, says so, and then finds
// everything.
TEST(RocksDbDiskFullTest, OpeningOnAFullDiskSaysSoAndLosesNothing) {
  const char* const disk = std::getenv(kSmallDiskVariable);
  if (disk == nullptr) {
    const TempDirectory directory;
    const int exit_code = RunOnSmallDisk(directory.path());
    if (exit_code == kCannotMount) GTEST_SKIP() << "needs root or user namespaces, to mount a small tmpfs";
    EXPECT_EQ(exit_code, 0) << "see the child's output above";
    return;
  }
  if (!MountSmallDisk(disk)) std::exit(kCannotMount);
  SmallDiskStore small{absl::StrCat(disk, "/data"), 32 << 20, 0, nullptr};
  small.store = MustOpen(small.path, small.flush_bytes);
  const std::string filler = absl::StrCat(disk, "/filler");
  FillDisk(filler, 2'000'000);
  FillUntilRefused(&small);
  EXPECT_GT(small.acknowledged, 5u);
  small.store.reset();

  FillDisk(filler, 0);
  const absl::Status refused = OpenRocksDbStore({.path = small.path}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  std::filesystem::remove(filler);
  small.store = MustOpen(small.path);
  ExpectExactly(small, small.acknowledged);
}

}  // namespace
}  // namespace lockstep::store
