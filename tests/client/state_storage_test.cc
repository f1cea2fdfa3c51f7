// What every StateStorage promises, and what the directory on disk does beyond that.
#include "lockstep/state_storage.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/state_storage_memory.h"

namespace lockstep {
namespace {

using Failure = MemoryStateStorage::Failure;
using ::testing::HasSubstr;

class TempDir {
 public:
  TempDir() {
    std::string name = ::testing::TempDir() + "lockstep-state-XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~TempDir() { std::system(absl::StrCat("rm -rf ", path_).c_str()); }
  std::string operator/(const std::string& name) const { return absl::StrCat(path_, "/", name); }

 private:
  std::string path_;
};

std::string ReadOrDie(StateStorage& storage, absl::string_view name) {
  const absl::StatusOr<std::optional<std::string>> contents = storage.Read(name);
  EXPECT_TRUE(contents.ok()) << contents.status();
  return contents.ok() && contents->has_value() ? **contents : "(no file)";
}

struct StorageCase {
  const char* name;
  std::function<std::shared_ptr<StateStorage>(const TempDir&)> open;
};

class EveryStateStorageTest : public ::testing::TestWithParam<StorageCase> {};

TEST_P(EveryStateStorageTest, ReadsWhatWasWritten) {
  const TempDir dir;
  const std::shared_ptr<StateStorage> storage = GetParam().open(dir);
  EXPECT_EQ(ReadOrDie(*storage, "a"), "(no file)");
  ASSERT_TRUE(storage->Replace("a", "one").ok());
  EXPECT_EQ(ReadOrDie(*storage, "a"), "one");
  const std::string large(300'000, '\0');
  ASSERT_TRUE(storage->Replace("a", large).ok());
  EXPECT_EQ(ReadOrDie(*storage, "a"), large);
  ASSERT_TRUE(storage->Replace("a", "").ok());
  EXPECT_EQ(ReadOrDie(*storage, "a"), "");
  EXPECT_EQ(ReadOrDie(*storage, "b"), "(no file)");
}

TEST_P(EveryStateStorageTest, AppendsToTheEnd) {
  const TempDir dir;
  const std::shared_ptr<StateStorage> storage = GetParam().open(dir);
  ASSERT_TRUE(storage->Append("log", "ab", /*sync=*/false).ok());
  ASSERT_TRUE(storage->Append("log", "cd", /*sync=*/true).ok());
  EXPECT_EQ(ReadOrDie(*storage, "log"), "abcd");
  ASSERT_TRUE(storage->Replace("log", "x").ok());
  ASSERT_TRUE(storage->Append("log", "y", /*sync=*/false).ok());
  EXPECT_EQ(ReadOrDie(*storage, "log"), "xy") << "to the file that took its place";
}

INSTANTIATE_TEST_SUITE_P(
    All, EveryStateStorageTest,
    ::testing::Values(StorageCase{"Directory",
                                  [](const TempDir& dir) -> std::shared_ptr<StateStorage> {
                                    return *OpenStateDirectory(dir / "state");
                                  }},
                      StorageCase{"Memory",
                                  [](const TempDir&) -> std::shared_ptr<StateStorage> {
                                    return std::make_shared<MemoryStateStorage>(1);
                                  }}),
    [](const auto& info) { return info.param.name; });

mode_t ModeOf(const std::string& path) {
  struct stat info = {};
  EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

TEST(StateDirectoryTest, IsForItsOwnerOnlyAndKeepsItsFiles) {
  const TempDir dir;
  const std::string path = dir / "state";
  {
    const std::unique_ptr<StateStorage> storage = *OpenStateDirectory(path);
    ASSERT_TRUE(storage->Replace("a", "one").ok());
    ASSERT_TRUE(storage->Append("log", "two", /*sync=*/true).ok());
  }
  EXPECT_EQ(ModeOf(path), 0700u);
  EXPECT_EQ(ModeOf(path + "/a"), 0600u);
  EXPECT_EQ(ModeOf(path + "/log"), 0600u);
  const std::unique_ptr<StateStorage> storage = *OpenStateDirectory(path);
  EXPECT_EQ(ReadOrDie(*storage, "a"), "one");
  EXPECT_EQ(ReadOrDie(*storage, "log"), "two");
}

TEST(StateDirectoryTest, WhatACrashLeftAsideIsNeverRead) {
  const TempDir dir;
  const std::string path = dir / "state";
  ASSERT_TRUE((*OpenStateDirectory(path))->Replace("a", "old").ok());
  std::ofstream(path + "/a.new") << "ne";
  const std::unique_ptr<StateStorage> storage = *OpenStateDirectory(path);
  EXPECT_EQ(ReadOrDie(*storage, "a"), "old");
  ASSERT_TRUE(storage->Replace("a", "b").ok());
  EXPECT_EQ(ReadOrDie(*storage, "a"), "b");
}

TEST(StateDirectoryTest, HasOneUserAtATime) {
  const TempDir dir;
  const std::string path = dir / "state";
  std::unique_ptr<StateStorage> storage = *OpenStateDirectory(path);
  const absl::Status again = OpenStateDirectory(path).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(again)) << again;
  EXPECT_THAT(again.message(), HasSubstr(path));
  EXPECT_THAT(again.message(), HasSubstr("this process"));
  storage.reset();
  EXPECT_TRUE(OpenStateDirectory(path).ok());
}

// Runs `body` in a child of its own; its answer must be below 100.
int ExitCodeOf(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

TEST(StateDirectoryTest, AnotherProcessHasIt) {
  const TempDir dir;
  const std::string path = dir / "state";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  if (holder == 0) {
    const absl::StatusOr<std::unique_ptr<StateStorage>> storage = OpenStateDirectory(path);
    const char answer = storage.ok() ? 'y' : 'n';
    if (write(ready[1], &answer, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  const absl::Status taken = OpenStateDirectory(path).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(taken)) << taken;
  EXPECT_THAT(taken.message(), HasSubstr("another process"));
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  EXPECT_TRUE(OpenStateDirectory(path).ok()) << "a killed process gives it up";
  close(ready[0]);
  close(ready[1]);
}

TEST(StateDirectoryTest, AForkedChildDoesNotKeepItForItsParent) {
  const TempDir dir;
  const std::string path = dir / "state";
  std::unique_ptr<StateStorage> storage = *OpenStateDirectory(path);
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  storage.reset();
  EXPECT_EQ(ExitCodeOf([&] { return OpenStateDirectory(path).ok() ? 0 : 1; }), 0);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST(StateDirectoryTest, ErrorsSayWhichFile) {
  const TempDir dir;
  EXPECT_THAT(OpenStateDirectory(dir / "no/parent").status().message(), HasSubstr("no/parent"));
  std::ofstream(dir / "file") << "x";
  EXPECT_THAT(OpenStateDirectory(dir / "file").status().message(), HasSubstr("not a directory"));
  const std::unique_ptr<StateStorage> storage = *OpenStateDirectory(dir / "state");
  ASSERT_EQ(mkdir((dir / "state/a").c_str(), 0700), 0);
  EXPECT_THAT(storage->Replace("a", "x").message(), HasSubstr("state/a"));
  EXPECT_THAT(storage->Append("a", "x", false).message(), HasSubstr("state/a"));
  EXPECT_THAT(storage->Read("a").status().message(), HasSubstr("state/a"));
}

// A file-size limit stands for a full disk: a part is written, the rest is not.
TEST(StateDirectoryTest, AFullDiskLeavesNothingBehind) {
  const TempDir dir;
  const std::string path = dir / "state";
  const int failed_at = ExitCodeOf([&] {
    signal(SIGXFSZ, SIG_IGN);
    const std::unique_ptr<StateStorage> storage = *OpenStateDirectory(path);
    if (!storage->Append("log", "first", false).ok()) return 1;
    if (!storage->Replace("a", "old").ok()) return 2;
    const rlimit limit = {8, RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
    if (storage->Append("log", "second", false).ok()) return 4;
    if (storage->Replace("a", "much too long").ok()) return 5;
    if (ReadOrDie(*storage, "log") != "first") return 6;
    if (ReadOrDie(*storage, "a") != "old") return 7;
    const rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &more) != 0) return 8;
    if (!storage->Append("log", "third", false).ok()) return 9;
    return ReadOrDie(*storage, "log") == "firstthird" ? 0 : 10;
  });
  EXPECT_EQ(failed_at, 0);
}

TEST(MemoryStateStorageTest, ACrashOfTheMachineLosesAppendsThatWereNotSynced) {
  std::set<std::string> after;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    MemoryStateStorage storage(seed);
    ASSERT_TRUE(storage.Replace("a", "safe").ok());
    ASSERT_TRUE(storage.Append("log", "12", /*sync=*/true).ok());
    ASSERT_TRUE(storage.Append("log", "34", /*sync=*/false).ok());
    storage.Crash(Failure::kProcess);
    EXPECT_EQ(ReadOrDie(storage, "log"), "1234");
    storage.Crash(Failure::kMachine);
    EXPECT_EQ(ReadOrDie(storage, "a"), "safe");
    after.insert(ReadOrDie(storage, "log"));
    storage.Crash(Failure::kMachine);
    EXPECT_EQ(after.count(ReadOrDie(storage, "log")), 1u) << "what a crash has left is on the disk";
  }
  EXPECT_THAT(after, ::testing::ElementsAre("12", "123", "1234"));
}

TEST(MemoryStateStorageTest, FailsWhenTold) {
  MemoryStateStorage storage(1);
  ASSERT_TRUE(storage.Replace("a", "old").ok());
  storage.FailWrites(absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(absl::IsResourceExhausted(storage.Replace("a", "new")));
  EXPECT_TRUE(absl::IsResourceExhausted(storage.Append("a", "new", true)));
  EXPECT_EQ(ReadOrDie(storage, "a"), "old");
  storage.FailWrites(absl::OkStatus());
  EXPECT_TRUE(storage.Replace("a", "new").ok());
  EXPECT_EQ(storage.Syncs(), 2u);
}

}  // namespace
}  // namespace lockstep
