#include "core/domain/snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

MigrationRouting Entry(const std::string& name, uint64_t epoch = 5, uint64_t generation = 2) {
  MigrationRouting entry;
  entry.name = name;
  entry.state = StateOfStage(Stage::kShadowRead, 0);
  entry.state.epoch = epoch;
  entry.state.generation = generation;
  entry.state.salt_seed = 1;
  return entry;
}

TEST(SnapshotTest, FindsByName) {
  const Snapshot snapshot = {7, 0, {Entry("a"), Entry("b"), Entry("d")}};
  for (const char* name : {"a", "b", "d"}) {
    ASSERT_NE(snapshot.Find(name), nullptr) << name;
    EXPECT_EQ(snapshot.Find(name)->name, name);
  }
  for (const char* name : {"", "0", "c", "e"}) EXPECT_EQ(snapshot.Find(name), nullptr) << name;
  EXPECT_EQ(Snapshot().Find("a"), nullptr);
}

TEST(SnapshotTest, AcceptsWhatFollowsTheLastGoodOne) {
  const Snapshot last_good = {7, 0, {Entry("a"), Entry("b")}};
  EXPECT_TRUE(ValidateSnapshot(last_good, nullptr).ok());
  EXPECT_TRUE(ValidateSnapshot(last_good, &last_good).ok());
  EXPECT_TRUE(ValidateSnapshot({8, 0, {Entry("a", 6), Entry("b", 6, 3), Entry("c", 1, 1)}}, &last_good).ok());
  EXPECT_TRUE(ValidateSnapshot({8, 0, {}}, &last_good).ok());
  MigrationRouting recreated = Entry("a", 1, 1);
  recreated.state.salt_seed = 2;
  EXPECT_TRUE(ValidateSnapshot({8, 0, {recreated}}, &last_good).ok());
}

// Another store counts anew; nothing of the last good one is compared with it.
TEST(SnapshotTest, NumbersOfAnotherStoreCountAnew) {
  const Snapshot last_good = {7, 11, {Entry("a")}};
  MigrationRouting other = Entry("a");
  other.state.stage = Stage::kDualWrite;
  for (const Snapshot& snapshot :
       {Snapshot{6, 12, {Entry("a")}}, Snapshot{6, 12, {Entry("a", 1, 1)}}, Snapshot{7, 12, {other}}}) {
    EXPECT_TRUE(ValidateSnapshot(snapshot, &last_good).ok());
    Snapshot same_store = snapshot;
    same_store.store_epoch = 11;
    EXPECT_FALSE(ValidateSnapshot(same_store, &last_good).ok());
  }
  EXPECT_THAT(std::string(ValidateSnapshot({6, 11, {}}, &last_good).message()),
              HasSubstr("the server's data is older"));
  MigrationRouting invalid = Entry("a");
  invalid.state.read_weight = 1;
  EXPECT_FALSE(ValidateSnapshot({8, 12, {invalid}}, &last_good).ok());
}

TEST(SnapshotTest, RefusesWithMigrationAndReason) {
  const Snapshot last_good = {7, 0, {Entry("a"), Entry("b")}};
  MigrationRouting invalid_state = Entry("b");
  invalid_state.state.read_weight = 1;
  MigrationRouting invalid_contract = Entry("b");
  invalid_contract.contract.fields.push_back({.path = "x", .tolerance = std::nan("")});
  MigrationRouting other_content = Entry("b");
  other_content.state.stage = Stage::kDualWrite;
  struct Case {
    const char* message;
    Snapshot snapshot;
  };
  const std::vector<Case> kCases = {
      {"revision 6 is older than 7", {6, 0, {Entry("a")}}},
      {"a follows b: not sorted", {8, 0, {Entry("b"), Entry("a")}}},
      {"a follows a: not sorted, or listed twice", {8, 0, {Entry("a"), Entry("a")}}},
      {"b: SHADOW_READ with read_weight 1", {8, 0, {Entry("a"), invalid_state}}},
      {"b: contract.fields[0].tolerance", {8, 0, {Entry("a"), invalid_contract}}},
      {"b: epoch 4 is older than 5", {8, 0, {Entry("a"), Entry("b", 4)}}},
      {"b: generation 1 is older than 2", {8, 0, {Entry("a"), Entry("b", 6, 1)}}},
      {"b: epoch 5 is in use and routes differently", {8, 0, {Entry("a"), other_content}}},
  };
  for (const Case& c : kCases) {
    const absl::Status status = ValidateSnapshot(c.snapshot, &last_good);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace lockstep::domain
