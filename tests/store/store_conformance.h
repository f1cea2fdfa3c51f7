// What every Store must do. A test program runs it for its store with one line,
// and store_conformance.cc among its sources:
//
//   INSTANTIATE_TEST_SUITE_P(Memory, StoreConformanceTest, ::testing::Values(&NewMemoryUnderTest));
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/store/store.h"

namespace lockstep::store {

// A store and whatever has to live as long as it does.
class StoreUnderTest {
 public:
  virtual ~StoreUnderTest() = default;
  virtual Store* store() = 0;
};

using Rows = std::vector<std::pair<std::string, std::string>>;

inline Rows ScanAll(const Store& store, Table table, absl::string_view start = "", absl::string_view end = "",
                    size_t limit = kNoLimit) {
  Rows rows;
  const absl::Status status =
      store.Scan(table, start, end, limit, [&rows](absl::string_view key, absl::string_view value) {
        rows.emplace_back(std::string(key), std::string(value));
        return true;
      });
  EXPECT_TRUE(status.ok()) << status;
  return rows;
}

inline std::optional<std::string> MustGet(const Store& store, Table table, absl::string_view key) {
  absl::StatusOr<std::optional<std::string>> value = store.Get(table, key);
  EXPECT_TRUE(value.ok()) << value.status();
  return value.ok() ? *value : std::nullopt;
}

inline WriteBatch PutBatch(Table table, std::string key, std::string value) {
  WriteBatch batch;
  batch.Put(table, std::move(key), std::move(value));
  return batch;
}

inline uint64_t MustCommit(Store* store, WriteBatch batch, std::optional<uint64_t> expected = std::nullopt) {
  absl::StatusOr<uint64_t> revision = store->Commit(std::move(batch), expected);
  EXPECT_TRUE(revision.ok()) << revision.status();
  return revision.value_or(0);
}

class StoreConformanceTest : public ::testing::TestWithParam<std::unique_ptr<StoreUnderTest> (*)()> {
 protected:
  Store& store() { return *under_test_->store(); }

 private:
  std::unique_ptr<StoreUnderTest> under_test_ = GetParam()();
};

}  // namespace lockstep::store
