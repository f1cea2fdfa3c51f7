#include "server/engine/snapshot_hub.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace lockstep::engine {
namespace {

std::shared_ptr<const PublishedRoutings> SnapshotAt(uint64_t revision, std::vector<std::string> names) {
  auto snapshot = std::make_shared<PublishedRoutings>();
  snapshot->revision = revision;
  for (std::string& name : names) {
    auto routing = std::make_shared<domain::MigrationRouting>();
    routing->name = name;
    routing->state.epoch = revision;
    snapshot->migrations.Set(name, std::move(routing));
  }
  return snapshot;
}

TEST(SnapshotHub, EveryStreamGetsItsSubset) {
  SnapshotHub hub;
  int woken = 0;
  const auto stream = hub.Subscribe({"b", "later", "b"}, [&] { ++woken; });
  EXPECT_TRUE(stream->TakeLatest().snapshot->migrations.empty());
  EXPECT_EQ(stream->TakeLatest().snapshot, nullptr);
  hub.Publish(SnapshotAt(1, {"a", "b"}), "a", false).WakeAll();
  EXPECT_EQ(woken, 0);
  hub.Publish(SnapshotAt(2, {"a", "b"}), "b", false).WakeAll();
  hub.Publish(SnapshotAt(3, {"a", "b", "later"}), "later", false).WakeAll();
  EXPECT_EQ(woken, 1) << "woken once, until it reads";
  const auto snapshot = stream->TakeLatest().snapshot;
  EXPECT_EQ(snapshot->revision, 3u);
  ASSERT_EQ(snapshot->migrations.size(), 2u);
  EXPECT_EQ(snapshot->migrations[0].name, "b");
  EXPECT_EQ(snapshot->migrations[1].name, "later");
  EXPECT_EQ(stream->TakeLatest().snapshot, nullptr);
}

TEST(SnapshotHub, NewestWinsUnderThreads) {
  SnapshotHub hub;
  constexpr uint64_t kLast = 2000;
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      uint64_t seen = 0;
      while (seen < kLast) {
        // Streams come and go while others read.
        std::atomic<int> wakes{0};
        const auto stream = hub.Subscribe({"m"}, [&] { ++wakes; });
        for (int reads = 0; reads < 50 && seen < kLast; ++reads) {
          const auto snapshot = stream->TakeLatest().snapshot;
          if (snapshot == nullptr) {
            std::this_thread::yield();
            continue;
          }
          ASSERT_GE(snapshot->revision, seen);
          seen = snapshot->revision;
        }
      }
    });
  }
  for (uint64_t revision = 1; revision <= kLast; ++revision) {
    hub.Publish(SnapshotAt(revision, {"m"}), "m", false).WakeAll();
  }
  for (std::thread& reader : readers) reader.join();
}

TEST(ChangeNotifier, NoWakeAfterTheListenerIsGone) {
  ChangeNotifier notifier;
  int woken = 0;
  auto listener = notifier.Listen({"x"}, [&] { ++woken; });
  EXPECT_TRUE(listener->TakeChanged());
  WakeList list = notifier.Changed("x");
  listener.reset();
  list.WakeAll();
  EXPECT_EQ(woken, 0);
}

TEST(ChangeNotifier, AWakeMayRead) {
  ChangeNotifier notifier;
  std::unique_ptr<Listener> listener;
  int changes = 0;
  listener = notifier.Listen({"x"}, [&] { changes += listener->TakeChanged() ? 1 : 0; });
  EXPECT_TRUE(listener->TakeChanged());
  notifier.Changed("x").WakeAll();
  notifier.Changed("x").WakeAll();
  EXPECT_EQ(changes, 2);
}

}  // namespace
}  // namespace lockstep::engine
