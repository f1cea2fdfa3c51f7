#include "client/examples/cities/oplog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "client/examples/cities/files.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

using ::testing::HasSubstr;

// `per_id` operations on each of `ids` ids, round by round; the name tells the round.
std::vector<Operation> MakeLog(int ids, int per_id) {
  std::vector<Operation> log;
  for (int round = 0; round < per_id; ++round) {
    for (int id = 1; id <= ids; ++id) {
      log.push_back({.sequence = static_cast<int64_t>(log.size()),
                     .kind = round == 0 ? OperationKind::kInsert : OperationKind::kUpdate,
                     .city = MakeCity(id, absl::StrCat(round))});
    }
  }
  return log;
}

void ExpectRoundsInOrder(const std::vector<Operation>& log) {
  std::map<int64_t, int> next_round;
  for (const Operation& operation : log) {
    EXPECT_EQ(operation.city.name, absl::StrCat(next_round[operation.city.id]++));
  }
}

TEST(ShuffleTest, KeepsTheOrderOfEachIdAndEverythingElse) {
  for (const uint64_t seed : {0, 1, 2, 77}) {
    SCOPED_TRACE(seed);
    const std::vector<Operation> log = MakeLog(50, 4);
    const std::vector<Operation> shuffled = ShuffleOperations(log, seed);
    ASSERT_EQ(shuffled.size(), log.size());
    ExpectRoundsInOrder(shuffled);
    for (size_t i = 0; i < shuffled.size(); ++i) EXPECT_EQ(shuffled[i].sequence, static_cast<int64_t>(i));
    EXPECT_NE(shuffled, log);
    EXPECT_EQ(ShuffleOperations(log, seed), shuffled) << "the seed decides all";
    EXPECT_NE(ShuffleOperations(log, seed + 1), shuffled);
  }
  EXPECT_TRUE(ShuffleOperations({}, 1).empty());
}

TEST(PartitionTest, EveryIdStaysWithOneShardInOrder) {
  const std::vector<Operation> log = ShuffleOperations(MakeLog(50, 3), 5);
  for (const int shards : {1, 2, 3, 7, 64}) {
    SCOPED_TRACE(shards);
    const auto parts = PartitionOperations(log, shards);
    ASSERT_EQ(parts.size(), static_cast<size_t>(shards));
    std::map<int64_t, size_t> home;
    std::vector<Operation> together;
    for (size_t shard = 0; shard < parts.size(); ++shard) {
      ExpectRoundsInOrder(parts[shard]);
      int64_t sequence = -1;
      for (const Operation& operation : parts[shard]) {
        EXPECT_EQ(home.emplace(operation.city.id, shard).first->second, shard);
        EXPECT_GT(operation.sequence, sequence);
        sequence = operation.sequence;
        together.push_back(operation);
      }
    }
    EXPECT_THAT(together, ::testing::UnorderedElementsAreArray(log));
  }
}

TEST(OperationLogTest, ComesBackAsItWent) {
  const TempDir dir;
  const std::string path = dir.File(ShardFileName(0, 3));
  EXPECT_THAT(path, HasSubstr("oplog-0-of-3.jsonl"));
  const std::vector<Operation> log = {
      {0, OperationKind::kInsert, MakeCity(1, "quo\"te\\ \n\xC3\xA0\x01")},
      {5, OperationKind::kUpdate, MakeCity(INT64_MAX, "", "", "", "", "", "")},
      {9, OperationKind::kDelete, MakeCity(3)}};
  ASSERT_TRUE(WriteOperationLog(path, log).ok());
  const auto read = ReadOperationLog(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, log);
  ASSERT_TRUE(WriteOperationLog(path, {}).ok());
  EXPECT_TRUE(ReadOperationLog(path)->empty());
}

TEST(OperationLogTest, ErrorsNameFileAndLine) {
  const TempDir dir;
  const std::string path = dir.File("log");
  const std::string good =
      R"({"seq":0,"op":"insert","id":1,"name":"","lat":"","lng":"","country":"","admin1":"","admin2":""})"
      "\n";
  struct Case {
    std::string line;
    const char* message;
  };
  for (const Case& c : {Case{"{", "line 2: byte 1: Missing a name"}, Case{"7", "line 2: not a JSON object"},
                        Case{"{\"seq\":0.5}", "\"seq\" is missing or no integer"},
                        Case{"{\"seq\":1}", "\"op\" is missing or no text"},
                        Case{R"({"seq":0,"op":"upsert","id":1,"name":"","lat":"","lng":"","country":"",)"
                             R"("admin1":"","admin2":""})",
                             "op is \"upsert\", want"}}) {
    ASSERT_TRUE(WriteFile(path, good + c.line + "\n" + good).ok());
    const absl::Status status = ReadOperationLog(path).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.line;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
  EXPECT_TRUE(absl::IsNotFound(ReadOperationLog(dir.File("none")).status()));
}

}  // namespace
}  // namespace lockstep::examples
