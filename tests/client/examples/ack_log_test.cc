#include "client/examples/cities/ack_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "client/examples/cities/files.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

using ::testing::HasSubstr;

TEST(AckLogTest, LinesAreThereAtOnceAndAcrossReopening) {
  const TempDir dir;
  const std::string path = dir.File("acks");
  std::vector<Ack> want;
  for (int64_t run = 1; run <= 2; ++run) {
    auto log = AckLog::Open(path);
    ASSERT_TRUE(log.ok()) << log.status();
    for (int64_t i = 0; i < 3; ++i) {
      want.push_back({.id = i + 1, .version = run * 10 + i, .deleted = i == 1});
      ASSERT_TRUE((*log)->Append(want.back()).ok());
      const auto content = ReadAckLog(path);  // while it is still open
      ASSERT_TRUE(content.ok()) << content.status();
      EXPECT_EQ(content->acks, want);
      EXPECT_FALSE(content->torn);
    }
  }
  EXPECT_EQ(ReadFile(path)->substr(0, 21), "1 10 put\n2 11 delete\n");
}

TEST(AckLogTest, ATornLineIsLeftOutAndCutOff) {
  const TempDir dir;
  const std::string path = dir.File("acks");
  for (const char* torn : {"2 2", "2 2 put", "garbage"}) {
    ASSERT_TRUE(WriteFile(path, std::string("1 1 put\n") + torn).ok());
    const auto content = ReadAckLog(path);
    ASSERT_TRUE(content.ok());
    EXPECT_TRUE(content->torn);
    EXPECT_EQ(content->acks, (std::vector<Ack>{{1, 1, false}}));

    auto log = AckLog::Open(path);
    ASSERT_TRUE(log.ok());
    ASSERT_TRUE((*log)->Append({3, 3, true}).ok());
    EXPECT_EQ(*ReadFile(path), "1 1 put\n3 3 delete\n");
  }
}

TEST(AckLogTest, ThreadsAppendWholeLines) {
  const TempDir dir;
  auto log = AckLog::Open(dir.File("acks"));
  ASSERT_TRUE(log.ok());
  std::vector<std::thread> threads;
  for (int64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&log, thread] {
      for (int64_t i = 1; i <= 200; ++i) EXPECT_TRUE((*log)->Append({thread * 1000 + i, i, false}).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto content = ReadAckLog(dir.File("acks"));
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(content->acks.size(), 800u);
}

TEST(AckLogTest, ErrorsNameFileAndLine) {
  const TempDir dir;
  const std::string path = dir.File("acks");
  for (const char* line :
       {"", "1 1", "1 1 put ", "x 1 put", "1 0 put", "0 1 put", "1 1 upsert", "1 1 put 4"}) {
    ASSERT_TRUE(WriteFile(path, std::string("1 1 put\n") + line + "\n").ok());
    const absl::Status status = ReadAckLog(path).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << line;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path + ": line 2: "));
  }
  EXPECT_TRUE(absl::IsNotFound(ReadAckLog(dir.File("none")).status()));
  EXPECT_FALSE(AckLog::Open(dir.path()).ok());
}

}  // namespace
}  // namespace lockstep::examples
