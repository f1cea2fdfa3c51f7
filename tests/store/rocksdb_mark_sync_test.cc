// The order of a commit's steps: log synced, mark written, answer, mark synced, and only then the next
// commit's log. And what a kill or a power cut in between leaves.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "absl/strings/match.h"
#include "core/base/mutex.h"
#include "tests/store/rocksdb_test_util.h"
#include "tests/store/sync_hook.h"

namespace lockstep::store {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Matcher;

bool IsLog(const std::string& path) { return absl::EndsWith(path, ".log"); }
bool IsMark(const std::string& path) { return absl::EndsWith(path, "/mark"); }

// What becomes of the syncs of marks, and in which order they and those of logs come.
class MarkSyncs {
 public:
  enum class Mode { kPass, kHold, kFail };

  void Set(Mode mode) {
    MutexLock lock(&mutex_);
    mode_ = mode;
    changed_.SignalAll();
  }
  Mode mode() {
    MutexLock lock(&mutex_);
    return mode_;
  }
  // Counted over the whole life.
  void WaitUntilBegun(size_t marks) {
    MutexLock lock(&mutex_);
    while (begun_ < marks) changed_.Wait(&mutex_);
  }
  void WaitUntilFinished(size_t marks) {
    MutexLock lock(&mutex_);
    while (finished_ < marks) changed_.Wait(&mutex_);
  }

  // From now on "l" and "L", "m" and "M" are recorded when a sync of a log or a mark begins and ends, and "!"
  // when `log` grew while a mark was synced.
  void Record(std::filesystem::path log) {
    MutexLock lock(&mutex_);
    log_ = std::move(log);
  }
  std::string recorded() {
    MutexLock lock(&mutex_);
    return recorded_;
  }

 private:
  int Sync(const std::string& path, const std::function<int()>& sync) {
    if (IsLog(path)) {
      Add('l');
      const int result = sync();
      Add('L');
      return result;
    }
    if (!IsMark(path)) return sync();
    const uintmax_t log_bytes = Add('m');
    const bool fails = BeginMark() == Mode::kFail;
    const int result = fails ? -1 : sync();
    // Whoever doesn't wait for the end of this is given every chance to be seen.
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    if (Add('M') != log_bytes) Add('!');
    MutexLock lock(&mutex_);
    ++finished_;
    changed_.SignalAll();
    if (fails) errno = EIO;
    return result;
  }

  // Returns the size of the log.
  uintmax_t Add(char event) {
    MutexLock lock(&mutex_);
    if (log_.empty()) return 0;
    recorded_ += event;
    return std::filesystem::file_size(log_);
  }
  Mode BeginMark() {
    MutexLock lock(&mutex_);
    ++begun_;
    changed_.SignalAll();
    while (mode_ == Mode::kHold) changed_.Wait(&mutex_);
    return mode_;
  }

  Mutex mutex_;
  CondVar changed_;
  Mode mode_ ABSL_GUARDED_BY(mutex_) = Mode::kPass;
  size_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
  std::filesystem::path log_ ABSL_GUARDED_BY(mutex_);
  std::string recorded_ ABSL_GUARDED_BY(mutex_);
  const SyncHook hook_{
      [this](const std::string& path, const std::function<int()>& sync) { return Sync(path, sync); }};
};

using Mode = MarkSyncs::Mode;

class RocksDbMarkSyncTest : public ::testing::Test {
 protected:
  static constexpr size_t kBefore = 10;

  // Up to here everything is durable, the mark of each commit by one sync.
  void SetUp() override {
    store_ = MustOpen(path_);
    CommitKnown(store_.get(), 1, kBefore);
    marks_.WaitUntilFinished(kBefore);
  }
  // Commits, and leaves its mark without its sync.
  void CommitWithHeldMark() {
    marks_.Set(Mode::kHold);
    EXPECT_EQ(MustCommit(store_.get(), KnownBatch(kBefore + 1)), kBefore + 1);
    marks_.WaitUntilBegun(kBefore + 1);
  }
  // Commit `i` fails as `first` and `always` say, all further ones as `always` does.
  void ExpectStopped(uint64_t i, const Matcher<std::string>& first, const Matcher<std::string>& always) {
    for (const bool is_first : {true, false, false}) {
      const absl::Status stopped = store_->Commit(KnownBatch(i), std::nullopt).status();
      EXPECT_EQ(stopped.code(), is_first ? absl::StatusCode::kUnknown : absl::StatusCode::kUnavailable);
      EXPECT_THAT(std::string(stopped.message()), AllOf(HasSubstr(path_), HasSubstr("restart"), always));
      if (is_first) {
        EXPECT_THAT(std::string(stopped.message()), first);
      }
    }
  }
  std::filesystem::path TheLog(const std::string& directory) {
    const std::vector<std::filesystem::path> logs = DatabaseFiles(directory, ".log");
    EXPECT_EQ(logs.size(), 1u);
    return logs.at(0);
  }

  const TempDirectory directory_;
  const std::string path_ = directory_.path() + "/data";
  MarkSyncs marks_;
  std::unique_ptr<Store> store_;
};

TEST_F(RocksDbMarkSyncTest, TheAnswerDoesNotWaitForTheSyncOfTheMark) {
  CommitWithHeldMark();
  EXPECT_EQ(store_->revision(), 11u);
  EXPECT_EQ(KnownCommits(*store_), 11u);
  marks_.Set(Mode::kPass);
}

// Each sync of the log is followed by one of the mark, and until that has ended no byte reaches the log.
TEST_F(RocksDbMarkSyncTest, TheNextCommitIsWrittenWhenTheMarkIsDurable) {
  marks_.Record(TheLog(path_));
  std::vector<std::thread> writers;
  for (uint64_t writer = 1; writer <= 4; ++writer) {
    writers.emplace_back([this, writer] {
      for (uint64_t i = 0; i < 25; ++i) MustCommit(store_.get(), KnownBatch(writer * 1000 + i));
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(store_->revision(), kBefore + 100);
  store_.reset();
  const std::string recorded = marks_.recorded();
  EXPECT_FALSE(recorded.empty());
  for (size_t at = 0; at < recorded.size(); at += 4) {
    ASSERT_EQ(recorded.substr(at, 4), "lLmM") << "at " << at << " of " << recorded;
  }
}

TEST_F(RocksDbMarkSyncTest, ClosingWaitsForTheSyncAndKeepsOthersOut) {
  CommitWithHeldMark();
  std::thread closer([this] { store_.reset(); });
  EXPECT_EQ(OpenRocksDbStore({.path = path_}).status().code(), absl::StatusCode::kFailedPrecondition);
  marks_.Set(Mode::kPass);
  closer.join();
  marks_.WaitUntilFinished(kBefore + 1);
  EXPECT_EQ(KnownCommits(*MustOpen(path_)), 11u);
}

TEST_F(RocksDbMarkSyncTest, AMarkThatCannotBeWrittenIsAnUnknownOutcomeAndStopsTheStore) {
  const int full = open("/dev/full", O_RDWR | O_CLOEXEC);
  ASSERT_GE(dup2(full, DescriptorOf(path_ + "/mark")), 0);
  close(full);
  ExpectStopped(11, HasSubstr("outcome unknown"), HasSubstr("write"));
  EXPECT_EQ(store_->revision(), 10u);
  EXPECT_EQ(MustGet(*store_, Table::kAudit, AuditKey(10)), KnownValue(10)) << "reads go on";
  store_.reset();
  store_ = MustOpen(path_);
  EXPECT_EQ(KnownCommits(*store_), 11u) << "the log had it already; nobody was told so";
  EXPECT_EQ(MustCommit(store_.get(), KnownBatch(12)), 12u);
}

TEST_F(RocksDbMarkSyncTest, AFailedSyncOfTheMarkStopsTheStoreAtTheNextCommit) {
  marks_.Set(Mode::kFail);
  EXPECT_EQ(MustCommit(store_.get(), KnownBatch(11)), 11u) << "durable without its mark";
  ExpectStopped(12, HasSubstr("commits up to revision 11 were made"), HasSubstr("mark could not be synced"));
  EXPECT_EQ(store_->revision(), 11u);
  EXPECT_EQ(KnownCommits(*store_), 11u) << "reads go on";

  store_.reset();
  const absl::Status refused = OpenRocksDbStore({.path = path_}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable) << "while that lasts: " << refused;
  marks_.Set(Mode::kPass);
  store_ = MustOpen(path_);
  EXPECT_EQ(KnownCommits(*store_), 11u);
  EXPECT_EQ(MustCommit(store_.get(), KnownBatch(12)), 12u);
}

// Between the answer and the sync of the mark.
TEST_F(RocksDbMarkSyncTest, WhatAKillOrAPowerCutLeaves) {
  const std::string mark_before = ReadFile(path_ + "/mark");
  const size_t log_before = std::filesystem::file_size(TheLog(path_));
  CommitWithHeldMark();
  const std::string kept = directory_.path() + "/kept", copy = directory_.path() + "/copy";
  CopyDirectory(path_, kept);
  marks_.Set(Mode::kPass);  // opening a copy syncs a mark, too
  const size_t log_bytes = std::filesystem::file_size(TheLog(kept));
  struct Case {
    const char* name;
    bool has_mark;  // a kill keeps it, a power cut may not
    size_t log_bytes;
    std::optional<uint64_t> opens_with;
  };
  const std::vector<Case> cases = {
      {"kill", true, log_bytes, 11},
      {"kill, and the log is cut", true, log_bytes - 1, std::nullopt},
      {"power cut", false, log_bytes, 11},
      // What ADR 3 gives up: this one commit, and none before it.
      {"power cut, and the disk loses what it had synced", false, log_bytes - 1, 10},
      {"power cut, and the disk loses all of it", false, log_before, 10},
      {"power cut, and the disk loses more", false, log_before - 1, std::nullopt},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    CopyDirectory(kept, copy);
    if (!c.has_mark) WriteFile(copy + "/mark", mark_before);
    std::filesystem::resize_file(TheLog(copy), c.log_bytes);
    const absl::StatusOr<std::unique_ptr<Store>> store = OpenRocksDbStore({.path = copy});
    if (c.opens_with) {
      ASSERT_TRUE(store.ok()) << store.status();
      EXPECT_EQ(KnownCommits(**store), c.opens_with);
    } else {
      EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << store.status();
    }
  }
}

}  // namespace
}  // namespace lockstep::store
