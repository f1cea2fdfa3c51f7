#include "tests/support/faulty_store.h"

#include <thread>

#include "server/store/memory_store.h"
#include "tests/store/store_conformance.h"

namespace lockstep::store {
namespace {

// Without faults the decorator, and with it ForwardingStore, is the store it wraps.
class FaultyUnderTest final : public StoreUnderTest {
 public:
  Store* store() override { return &store_; }

 private:
  const std::unique_ptr<Store> target_ = NewMemoryStore();
  FaultyStore store_{target_.get()};
};

std::unique_ptr<StoreUnderTest> NewFaultyUnderTest() { return std::make_unique<FaultyUnderTest>(); }

INSTANTIATE_TEST_SUITE_P(Faulty, StoreConformanceTest, ::testing::Values(&NewFaultyUnderTest));

TEST(FaultyStoreTest, FailsTheNthCommitBeforeOrAfterApplying) {
  for (const FaultyStore::Moment moment :
       {FaultyStore::Moment::kBeforeApply, FaultyStore::Moment::kAfterApply}) {
    const std::unique_ptr<Store> target = NewMemoryStore();
    FaultyStore store(target.get());
    MustCommit(&store, PutBatch(Table::kMeta, "0", ""));
    store.FailCommit(2, moment, absl::UnknownError("sync failed"));
    MustCommit(&store, PutBatch(Table::kMeta, "1", ""));
    EXPECT_EQ(store.Commit(PutBatch(Table::kMeta, "2", ""), std::nullopt).status(),
              absl::UnknownError("sync failed"));
    const bool applied = moment == FaultyStore::Moment::kAfterApply;
    EXPECT_EQ(MustGet(store, Table::kMeta, "2").has_value(), applied);
    EXPECT_EQ(MustCommit(&store, PutBatch(Table::kMeta, "3", "")), applied ? 4u : 3u);
    EXPECT_EQ(store.commits(), 4u);
  }
}

TEST(FaultyStoreTest, BlocksUntilReleased) {
  for (const FaultyStore::Moment moment :
       {FaultyStore::Moment::kBeforeApply, FaultyStore::Moment::kAfterApply}) {
    const std::unique_ptr<Store> target = NewMemoryStore();
    FaultyStore store(target.get());
    store.BlockCommit(1, moment);
    std::thread writer([&] { MustCommit(&store, PutBatch(Table::kMeta, "a", "")); });
    store.WaitUntilBlocked();
    EXPECT_EQ(MustGet(store, Table::kMeta, "a").has_value(), moment == FaultyStore::Moment::kAfterApply);
    store.Release();
    writer.join();
    EXPECT_EQ(store.revision(), 1u);
  }
}

}  // namespace
}  // namespace lockstep::store
