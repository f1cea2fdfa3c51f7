#include "server/store/mark_file.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <utility>

#include "tests/store/rocksdb_test_util.h"
#include "tests/store/sync_hook.h"

namespace lockstep::store {
namespace {

constexpr size_t kSlotBytes = 40, kSecondSlot = 4096;

class MarkFileTest : public ::testing::Test {
 protected:
  uint64_t Reopen() {
    absl::StatusOr<MarkFile> mark = MarkFile::Open(path_);
    EXPECT_TRUE(mark.ok()) << mark.status();
    if (!mark.ok()) return ~uint64_t{0};
    EXPECT_EQ(mark->store_id(), id_);
    return mark->revision();
  }
  void Flip(size_t offset) {
    std::string bytes = ReadFile(path_);
    bytes[offset] = static_cast<char>(bytes[offset] ^ 1);
    WriteFile(path_, bytes);
  }

  const TempDirectory directory_;
  const std::string path_ = directory_.path() + "/mark";
  const std::string id_ = "0123456789abcdef";
};

TEST_F(MarkFileTest, MissingIsNotFound) {
  EXPECT_EQ(MarkFile::Open(path_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(MarkFileTest, TheLastWriteIsRead) {
  absl::StatusOr<MarkFile> mark = MarkFile::Create(path_, id_, 5);
  ASSERT_TRUE(mark.ok()) << mark.status();
  EXPECT_EQ(Reopen(), 5u);
  for (const uint64_t revision : {6, 7, 300, 301, 302}) {
    ASSERT_TRUE(mark->Write(revision).ok());
    EXPECT_EQ(mark->revision(), revision);
    EXPECT_EQ(Reopen(), revision) << "before it is synced";
    ASSERT_TRUE(mark->Sync().ok());
    EXPECT_EQ(Reopen(), revision);
  }
}

// A crash while writing n leaves n-1 or n, whichever byte of the slot it tears.
TEST_F(MarkFileTest, ATornWriteLeavesTheMarkBefore) {
  for (size_t i = 0; i < kSlotBytes; ++i) {
    for (const size_t newest : {size_t{0}, kSecondSlot}) {
      absl::StatusOr<MarkFile> mark = MarkFile::Create(path_, id_, 5);
      ASSERT_TRUE(mark.ok()) << mark.status();
      // After creation slot 0 counts as the newest: the first write goes to the second slot.
      ASSERT_TRUE(mark->Write(6).ok());
      if (newest == 0) {
        ASSERT_TRUE(mark->Write(7).ok());
      }
      Flip(newest + i);
      EXPECT_EQ(Reopen(), newest == 0 ? 6u : 5u) << "byte " << newest + i;
      // And the next write goes to the torn slot, not over the good one.
      absl::StatusOr<MarkFile> again = MarkFile::Open(path_);
      ASSERT_TRUE(again->Write(9).ok());
      EXPECT_EQ(Reopen(), 9u);
      Flip(newest + i);
      EXPECT_EQ(Reopen(), newest == 0 ? 6u : 5u);
    }
  }
}

// Else a crash could tear both: a slot is overwritten only when the other one is durable.
TEST_F(MarkFileTest, AWriteComesAfterTheSyncOfTheOneBefore) {
  ASSERT_TRUE(MarkFile::Create(path_, id_, 5).ok());
  int syncs = 0;
  uint64_t last_synced = 0;
  bool fails = false;
  const SyncHook hook([&](const std::string&, const std::function<int()>& sync) {
    if (std::exchange(fails, false)) return errno = EIO, -1;
    ++syncs;
    last_synced = Reopen();
    return sync();
  });
  absl::StatusOr<MarkFile> mark = MarkFile::Open(path_);
  ASSERT_TRUE(mark.ok()) << mark.status();
  ASSERT_TRUE(mark->Write(6).ok());
  EXPECT_EQ(syncs, 1) << "whoever wrote 5 may have been killed before syncing it";
  EXPECT_EQ(last_synced, 5u);
  ASSERT_TRUE(mark->Sync().ok());
  ASSERT_TRUE(mark->Write(7).ok());
  EXPECT_EQ(syncs, 2);
  EXPECT_EQ(last_synced, 6u);
  ASSERT_TRUE(mark->Write(8).ok());
  EXPECT_EQ(syncs, 3);
  EXPECT_EQ(last_synced, 7u);
  fails = true;
  EXPECT_EQ(mark->Write(9).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Reopen(), 8u);
  EXPECT_EQ(mark->revision(), 8u);
}

TEST_F(MarkFileTest, NoIntactSlotIsDataLoss) {
  ASSERT_TRUE(MarkFile::Create(path_, id_, 5).ok());
  Flip(0);
  Flip(kSecondSlot + kSlotBytes - 1);
  EXPECT_EQ(MarkFile::Open(path_).status().code(), absl::StatusCode::kDataLoss);
  for (const size_t size : {0, 1, 39}) {
    ASSERT_TRUE(MarkFile::Create(path_, id_, 5).ok());
    std::filesystem::resize_file(path_, size);
    EXPECT_EQ(MarkFile::Open(path_).status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

}  // namespace
}  // namespace lockstep::store
