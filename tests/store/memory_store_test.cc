#include "server/store/memory_store.h"

#include "tests/store/store_conformance.h"

namespace lockstep::store {
namespace {

class MemoryUnderTest final : public StoreUnderTest {
 public:
  Store* store() override { return store_.get(); }

 private:
  const std::unique_ptr<Store> store_ = NewMemoryStore();
};

std::unique_ptr<StoreUnderTest> NewMemoryUnderTest() { return std::make_unique<MemoryUnderTest>(); }

INSTANTIATE_TEST_SUITE_P(Memory, StoreConformanceTest, ::testing::Values(&NewMemoryUnderTest));

}  // namespace
}  // namespace lockstep::store
