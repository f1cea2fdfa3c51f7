// Kills a committing process at random moments: each time the store opens, every commit that was acknowledged
// is there, and no commit is there in part.
//
// The program runs itself as the child: `store_crash_test --commit-loop DIRECTORY`. The child writes one line
// of fixed size to standard output for each commit that returned OK. LOCKSTEP_CRASH_COUNT is the number of
// kills (default 20), LOCKSTEP_SEED repeats a run's moments.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "absl/strings/numbers.h"
#include "core/base/prng.h"
#include "server/store/big_endian.h"
#include "tests/store/rocksdb_test_util.h"

namespace lockstep::store {
namespace {

constexpr uint64_t kWriters = 4;
// Small, so that kills also hit flushes and compactions.
constexpr size_t kFlushBytes = 100'000;

std::string WriterKey(uint64_t writer) { return absl::StrCat("writer", writer); }
// Commit `i` of `writer`, counted from 1.
uint64_t CommitNumber(uint64_t writer, uint64_t i) { return writer << 40 | i; }
std::string ValueOf(uint64_t number) { return absl::StrCat(number, std::string(number * 131 % 3000, 'v')); }

uint64_t CommitsOf(const Store& store, uint64_t writer) {
  const std::optional<std::string> count = MustGet(store, Table::kMeta, WriterKey(writer));
  return count ? ReadBigEndian64(*count) : 0;
}

// The child: commits until it is killed.
int CommitLoop(const std::string& directory) {
  const std::unique_ptr<Store> store = MustOpen(directory, kFlushBytes);
  if (store == nullptr) return 1;
  std::vector<std::thread> writers;
  for (uint64_t writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&store, writer] {
      for (uint64_t i = CommitsOf(*store, writer) + 1;; ++i) {
        const uint64_t number = CommitNumber(writer, i);
        WriteBatch batch = PutBatch(Table::kAudit, AuditKey(number), ValueOf(number));
        batch.Put(Table::kWindows, AuditKey(number), ValueOf(number + 1));
        batch.Put(Table::kMeta, WriterKey(writer), AuditKey(i));
        if (!store->Commit(std::move(batch), std::nullopt).ok()) std::abort();
        const std::string told = AuditKey(number);
        if (write(STDOUT_FILENO, told.data(), told.size()) != static_cast<ssize_t>(told.size())) std::abort();
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  return 1;
}

// A running child and what it has told us.
class CommittingProcess {
 public:
  explicit CommittingProcess(const std::string& directory) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const char* const arguments[] = {"store_crash_test", "--commit-loop", directory.c_str(), nullptr};
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      execv("/proc/self/exe", const_cast<char* const*>(arguments));
      _exit(126);
    }
    close(ends[1]);
    told_ = ends[0];
  }
  ~CommittingProcess() {
    KillAndDrain();
    close(told_);
  }

  // Reads what comes within `wait`, or until `bytes` have come in all. False when the child is gone.
  bool Listen(std::chrono::microseconds wait, size_t bytes) {
    const auto end = std::chrono::steady_clock::now() + wait;
    while (received_.size() < bytes) {
      const auto left =
          std::chrono::duration_cast<std::chrono::microseconds>(end - std::chrono::steady_clock::now());
      if (left.count() <= 0) return true;
      pollfd readable{told_, POLLIN, 0};
      const timespec timeout{left.count() / 1'000'000, left.count() % 1'000'000 * 1000};
      if (ppoll(&readable, 1, &timeout, nullptr) > 0 && !ReadSome()) return false;
    }
    return true;
  }

  void KillAndDrain() {
    if (pid_ < 0) return;
    kill(pid_, SIGKILL);
    int status = 0;
    waitpid(pid_, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        << "the child ended by itself: " << status;
    pid_ = -1;
    while (ReadSome()) {
    }
  }

  // Highest acknowledged commit of each writer; 0 when there was none.
  std::array<uint64_t, kWriters> acknowledged() const {
    std::array<uint64_t, kWriters> highest{};
    EXPECT_EQ(received_.size() % kBigEndian64Bytes, 0u);
    for (size_t at = 0; at + kBigEndian64Bytes <= received_.size(); at += kBigEndian64Bytes) {
      const uint64_t number = ReadBigEndian64(absl::string_view(received_).substr(at));
      highest.at(number >> 40) = number & ((uint64_t{1} << 40) - 1);
    }
    return highest;
  }

 private:
  bool ReadSome() {
    char buffer[4096];
    const ssize_t n = read(told_, buffer, sizeof(buffer));
    if (n > 0) received_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }

  pid_t pid_ = -1;
  int told_ = -1;
  std::string received_;
};

// What must hold after any crash. Returns the number of commits.
uint64_t CheckStore(const Store& store, const std::array<uint64_t, kWriters>& acknowledged) {
  uint64_t total = 0;
  Rows audit, windows;
  for (uint64_t writer = 0; writer < kWriters; ++writer) {
    const uint64_t commits = CommitsOf(store, writer);
    EXPECT_GE(commits, acknowledged[writer]) << "writer " << writer << " lost acknowledged commits";
    for (uint64_t i = 1; i <= commits; ++i) {
      const uint64_t number = CommitNumber(writer, i);
      audit.emplace_back(AuditKey(number), ValueOf(number));
      windows.emplace_back(AuditKey(number), ValueOf(number + 1));
    }
    total += commits;
  }
  EXPECT_TRUE(ScanAll(store, Table::kAudit) == audit) << "commits are missing, changed or there in part";
  EXPECT_TRUE(ScanAll(store, Table::kWindows) == windows) << "commits are missing, changed or there in part";
  EXPECT_EQ(store.revision(), total);
  return total;
}

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

TEST(StoreCrashTest, NoAcknowledgedCommitIsLostWhereverTheProcessIsKilled) {
  const uint64_t kills = FromEnvironment("LOCKSTEP_CRASH_COUNT", 20);
  const uint64_t seed = FromEnvironment("LOCKSTEP_SEED", SystemSeed());
  SCOPED_TRACE(absl::StrCat("LOCKSTEP_SEED=", seed));
  Prng random(seed);
  std::unique_ptr<TempDirectory> directory;
  uint64_t commits = 0, mid_commit = 0;
  for (uint64_t kill = 0; kill < kills; ++kill) {
    // The first start on an empty directory is hit now and then too.
    if (kill % 10 == 0) directory = std::make_unique<TempDirectory>();
    const std::string path = directory->path() + "/data";
    CommittingProcess child(path);
    // Mostly in the middle of commits; each fourth at any moment, opening included.
    if (kill % 4 != 3) {
      ASSERT_TRUE(child.Listen(std::chrono::seconds(60), 1)) << "the child never committed";
    }
    ASSERT_TRUE(child.Listen(std::chrono::microseconds(random.Below(60'000)), ~size_t{0}));
    child.KillAndDrain();

    absl::StatusOr<std::unique_ptr<Store>> store =
        OpenRocksDbStore({.path = path, .flush_bytes = kFlushBytes});
    ASSERT_TRUE(store.ok()) << "kill " << kill << ": " << store.status();
    const std::array<uint64_t, kWriters> acknowledged = child.acknowledged();
    commits = CheckStore(**store, acknowledged);
    ASSERT_FALSE(HasFailure()) << "kill " << kill;
    uint64_t told = 0;
    for (uint64_t writer = 0; writer < kWriters; ++writer) {
      told += std::min(acknowledged[writer], CommitsOf(**store, writer));
    }
    mid_commit += commits > told ? 1 : 0;
  }
  std::printf("%llu kills, %llu with commits that nobody was told of; %llu commits at the end\n",
              static_cast<unsigned long long>(kills), static_cast<unsigned long long>(mid_commit),
              static_cast<unsigned long long>(commits));
}

}  // namespace
}  // namespace lockstep::store

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--commit-loop") == 0) return lockstep::store::CommitLoop(argv[2]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
