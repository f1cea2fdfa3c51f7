#include "lockstep/internal/snapshot_ring.h"

#include <deque>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "gtest/gtest.h"

namespace lockstep::internal {
namespace {

domain::Snapshot SnapshotAt(uint64_t epoch) {
  domain::Snapshot snapshot{.revision = epoch, .migrations = {{.name = "m", .state = {}, .contract = {}}}};
  snapshot.migrations[0].state.epoch = epoch;
  snapshot.migrations[0].state.generation = epoch;  // read back together: a torn slot would show
  return snapshot;
}

bool Publish(SnapshotRing& ring, uint64_t epoch) {
  domain::Snapshot snapshot = SnapshotAt(epoch);
  return ring.TryPublish(snapshot, absl::Seconds(epoch));
}

TEST(SnapshotRingTest, EmptyUntilPublishedAndAfterClose) {
  SnapshotRing ring({"m"});
  EXPECT_EQ(ring.PinCurrent().slot(), nullptr);
  ASSERT_TRUE(Publish(ring, 1));
  EXPECT_NE(ring.PinCurrent().slot(), nullptr);
  ring.Close();
  EXPECT_EQ(ring.PinCurrent().slot(), nullptr);
}

TEST(SnapshotRingTest, OldestEpochIsThatOfTheOldestPin) {
  SnapshotRing ring({"m", "absent"});
  ASSERT_TRUE(Publish(ring, 1));
  SnapshotPin first = ring.PinCurrent();
  EXPECT_FALSE(ring.OlderPinned());
  ASSERT_TRUE(Publish(ring, 2));
  SnapshotPin second = ring.PinCurrent();
  ASSERT_TRUE(Publish(ring, 3));
  EXPECT_TRUE(ring.OlderPinned());
  EXPECT_EQ(ring.OldestEpochs()[0], 1u);
  EXPECT_FALSE(ring.OldestEpochs()[1].has_value());
  EXPECT_EQ(first.slot()->Of(0).routing->state.epoch, 1u);
  first.Release();
  EXPECT_EQ(ring.OldestEpochs()[0], 2u);
  SnapshotPin moved = std::move(second);
  EXPECT_EQ(ring.PinCount(), 1u);
  moved = SnapshotPin();
  EXPECT_FALSE(ring.OlderPinned());
  EXPECT_EQ(ring.OldestEpochs()[0], 3u);
  EXPECT_EQ(ring.PinCount(), 0u);
}

TEST(SnapshotRingTest, AnOperationKeepsTheEpochOfItsOwnMigration) {
  std::vector<std::string> names;
  for (uint32_t i = 0; i <= kPinLanes; ++i) names.push_back(absl::StrCat("m", 100 + i));
  SnapshotRing ring(names);
  const auto publish = [&](uint64_t epoch) {
    domain::Snapshot snapshot{.revision = epoch, .store_epoch = 1, .migrations = {}};
    for (const std::string& name : names) snapshot.migrations.push_back({.name = name, .state = {}});
    for (domain::MigrationRouting& routing : snapshot.migrations) routing.state.epoch = epoch;
    return ring.TryPublish(snapshot, absl::ZeroDuration());
  };
  ASSERT_TRUE(publish(1));
  const SnapshotPin operation = ring.PinCurrent(/*migration_index=*/0);
  ASSERT_TRUE(publish(2));
  EXPECT_EQ(ring.OldestEpochs()[0], 1u);
  EXPECT_EQ(ring.OldestEpochs()[1], 2u);
  EXPECT_EQ(ring.OldestEpochs()[kPinLanes - 1], 2u);
  EXPECT_EQ(ring.OldestEpochs()[kPinLanes], 1u) << "it shares the counter";
  EXPECT_TRUE(ring.OlderPinned());
}

TEST(SnapshotRingTest, NewestWaitsWhenEverySlotIsPinned) {
  SnapshotRing ring({"m"});
  std::deque<SnapshotPin> pins;
  for (uint64_t epoch = 1; epoch <= SnapshotRing::kSlots; ++epoch) {
    ASSERT_TRUE(Publish(ring, epoch));
    pins.push_back(ring.PinCurrent());
  }
  domain::Snapshot waiting = SnapshotAt(100);
  EXPECT_FALSE(ring.TryPublish(waiting, absl::Seconds(100)));
  EXPECT_EQ(waiting.revision, 100u);
  pins.erase(pins.begin() + 10);
  EXPECT_TRUE(ring.TryPublish(waiting, absl::Seconds(100)));
  EXPECT_EQ(ring.current()->revision, 100u);
  EXPECT_EQ(pins[10].slot()->Of(0).routing->state.epoch, 12u) << "pinned slots stay as they were";
}

// Readers pin, read, hand their pins to other threads and drop them while the writer publishes. Each pinned
// slot must stay whole, and what the writer believes to have drained must never be seen again.
class SnapshotRingFencesTest : public ::testing::TestWithParam<FenceKind> {};

TEST_P(SnapshotRingFencesTest, ReadersAndWriterInParallel) {
  if (GetParam() == FenceKind::kAsymmetric && BestFenceKind() != FenceKind::kAsymmetric) {
    GTEST_SKIP() << "this kernel offers no membarrier(2)";
  }
  SnapshotRing ring({"m"}, GetParam());
  ASSERT_TRUE(Publish(ring, 1));
  constexpr uint64_t kEpochs = 3000;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> drained{0};  // every operation of an epoch up to this one has ended
  std::atomic<int> violations{0};
  Mutex mutex;
  std::deque<SnapshotPin> handed_over;

  std::vector<std::thread> readers;
  for (int r = 0; r < 3; ++r) {
    readers.emplace_back([&, r] {
      for (uint64_t i = 0; !stop.load(); ++i) {
        const uint64_t drained_before = drained.load();
        SnapshotPin pin = ring.PinCurrent();
        const domain::RoutingState& state = pin.slot()->Of(0).routing->state;
        if (state.epoch <= drained_before || state.epoch != state.generation) ++violations;
        if (i % 3 == static_cast<uint64_t>(r)) {
          MutexLock lock(&mutex);
          handed_over.push_back(std::move(pin));
          if (handed_over.size() > 4) handed_over.pop_front();
        } else {
          std::this_thread::yield();
          if (state.epoch <= drained.load() || state.epoch != state.generation) ++violations;
        }
      }
    });
  }
  for (uint64_t epoch = 2; epoch <= kEpochs; ++epoch) {
    while (!Publish(ring, epoch)) std::this_thread::yield();
    const std::optional<uint64_t> oldest = ring.OldestEpochs()[0];
    ASSERT_TRUE(oldest.has_value());
    drained.store(*oldest - 1);
    if (epoch % 16 == 0) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  handed_over.clear();
  EXPECT_EQ(violations.load(), 0);
  EXPECT_EQ(ring.PinCount(), 0u);
  EXPECT_FALSE(ring.OlderPinned());
}

INSTANTIATE_TEST_SUITE_P(All, SnapshotRingFencesTest,
                         ::testing::Values(FenceKind::kSymmetric, FenceKind::kAsymmetric));

// The rule is laid out when a snapshot is published, and read instead of it.
TEST(SnapshotRingTest, RulesFollowTheirSnapshot) {
  SnapshotRing ring({"absent", "m"});
  ASSERT_TRUE(Publish(ring, 7));
  const SnapshotPin pin = ring.PinCurrent();
  EXPECT_EQ(pin.slot()->Of(0).routing, nullptr);
  EXPECT_EQ(pin.slot()->Of(1).routing->state.epoch, 7u);
  EXPECT_EQ(pin.slot()->Of(1).rule.epoch, 7u);
  EXPECT_EQ(pin.slot()->Of(1).index, 1u);
}

}  // namespace
}  // namespace lockstep::internal
