// Everything at once, for ThreadSanitizer: administration, streams, remote decisions, telemetry and ticks.
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "tests/engine/engine_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;

class ThreadsTest : public EngineTest {
 protected:
  ThreadsTest() { SetLogLevel(LogLevel::kError); }

  void Administer(uint64_t seed) {
    Prng prng(seed);
    for (int i = 0; i < 150; ++i) {
      const CommandKind kind = domain::kAllCommands[prng.Below(domain::kAllCommands.size())];
      Do(kind, By("user:ann"), kind == CommandKind::kAdvance).IgnoreError();
      registry().List("", "", 10);
      registry().ListDecisions(kName, 0, 3).IgnoreError();
      EXPECT_TRUE(registry().Get(kName).ok());
    }
  }
  void BeAnInstance(int number) {
    const std::string id = absl::StrCat("i", number);
    for (int round = 0; round < 5; ++round) {
      std::atomic<int> wakes{0};
      auto opened = InstanceSession::Open(engine_.get(), RequestOf(id), [&] { ++wakes; });
      ASSERT_TRUE(opened.ok()) << opened.status();
      InstanceSession& session = **opened;
      uint64_t epoch = 0;
      for (int i = 0; i < 50; ++i) {
        while (const std::optional<InstanceMessage> message = session.Next()) {
          uint64_t revision = 0;
          uint64_t next = epoch;
          if (const auto* snapshot = std::get_if<SnapshotMessage>(&*message)) {
            revision = snapshot->snapshot->revision;
            next = snapshot->snapshot->Find(kName)->state.epoch;
          } else if (const auto* delta = std::get_if<DeltaMessage>(&*message)) {
            revision = delta->delta->revision;
            if (!delta->delta->changed.empty()) next = delta->delta->changed[0].state.epoch;
          } else {
            continue;
          }
          EXPECT_GE(next, epoch);
          epoch = next;
          EXPECT_TRUE(session.OnAccept(revision).ok());
          EXPECT_TRUE(session.OnAck(revision, {{kName, epoch}}, {}).ok());
        }
        EXPECT_TRUE(session.OnHeartbeat(0, {}).ok());
        const auto routing = registry().RouteRemotely(kName);
        ASSERT_TRUE(routing.ok());
      }
      if (round % 2 == 0) {
        EXPECT_TRUE(session.OnLeave().ok());
      }
    }
  }
  uint64_t SendTelemetry(int number) {
    uint64_t counted = 0;
    for (uint64_t sequence = 1; sequence <= 60; ++sequence) {
      domain::TelemetryDelta delta = DeltaNow(sequence, 0);
      const auto receipt = Report({absl::StrCat("t", number), 1, sequence, {delta}});
      EXPECT_TRUE(receipt.ok()) << receipt.status();
      if (receipt.ok() && receipt->stale_deltas == 0) counted += sequence;
    }
    return counted;
  }
  void TickAndLook() {
    const auto listener = registry().Watch(kName, [] {});
    for (int i = 0; i < 60; ++i) {
      clock_.Advance(absl::Seconds(1));
      EXPECT_TRUE(engine_->Tick().ok());
      engine_->Metrics();
      listener->TakeChanged();
    }
  }
  // Whatever comes of it: the migration is often where nothing is evidence.
  void AskTheGate() {
    for (int i = 0; i < 60; ++i) {
      engine_->gate().Explain(kName, std::nullopt).status().IgnoreError();
      engine_->gate().Explain(kName, clock_.Now() - absl::Seconds(i % 7)).status().IgnoreError();
      engine_->gate().ObservedReadRatio(kName);
      const auto reader = engine_->gate().Export(kName);
      if (reader.ok()) {
        EXPECT_TRUE((*reader)->Next(10).ok());
      }
    }
  }
};

TEST_F(ThreadsTest, EverythingAtOnce) {
  Create();
  std::atomic<uint64_t> counted{0};
  std::vector<std::thread> threads;
  threads.emplace_back([&] { Administer(1); });
  threads.emplace_back([&] { TickAndLook(); });
  threads.emplace_back([&] { AskTheGate(); });
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] { BeAnInstance(i); });
    threads.emplace_back([&, i] { counted += SendTelemetry(i); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(engine_->telemetry().LifetimeTotals(kName).comparison(domain::ComparisonOutcome::kMatch),
            counted);
  EXPECT_TRUE(engine_->health().ok());
}

}  // namespace
}  // namespace lockstep::engine
