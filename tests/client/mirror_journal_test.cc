// The journal against damage at every byte, a disk that fails, crashes of process and machine, and a model.
#include "lockstep/internal/mirror_journal.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "gtest/gtest.h"
#include "lockstep/executor.h"
#include "lockstep/state_storage_memory.h"

namespace lockstep::internal {
namespace {

constexpr char kName[] = "namespaces/shop/migrations/orders";
constexpr char kFile[] = "mirrors.shop.orders";

JournalEntry EntryOf(absl::string_view key, absl::string_view kind = "") {
  JournalEntry entry;
  entry.generation = 2;
  entry.epoch = 17;
  entry.contract_revision = 3;
  entry.store_epoch = 99;
  entry.authoritative = domain::Side::kNew;
  entry.kind = std::string(kind);
  entry.routing_key = absl::StrCat("tenant of ", key);
  entry.key = std::string(key);
  entry.idempotency_key = absl::StrCat("once-", key);
  return entry;
}

std::unique_ptr<MirrorJournal> Opened(const std::shared_ptr<StateStorage>& disk, bool sync = false) {
  absl::StatusOr<std::unique_ptr<MirrorJournal>> journal = MirrorJournal::Open(disk, kName, sync);
  EXPECT_TRUE(journal.ok()) << journal.status();
  return journal.ok() ? *std::move(journal) : nullptr;
}

std::set<std::string> KeysOf(const std::vector<JournalEntry>& entries) {
  std::set<std::string> keys;
  for (const JournalEntry& entry : entries) keys.insert(entry.key);
  return keys;
}

std::set<std::string> KeysIn(absl::string_view bytes) {
  std::set<std::string> keys;
  for (const auto& [id, entry] : ReadJournal(bytes).open) keys.insert(entry.key);
  return keys;
}

TEST(MirrorJournalTest, WhatIsOpenComesBackAsItWas) {
  const auto disk = std::make_shared<MemoryStateStorage>(1);
  uint64_t a = 0;
  uint64_t b = 0;
  {
    const std::unique_ptr<MirrorJournal> journal = Opened(disk);
    EXPECT_TRUE(journal->recovered().empty());
    a = *journal->Note(EntryOf("a"));
    b = *journal->Note(EntryOf("b", "table"));
    const uint64_t c = *journal->Note(EntryOf("c"));
    journal->MarkCounted(a);
    journal->Strike(c);
    EXPECT_EQ(journal->open(), 2u);
  }
  const std::unique_ptr<MirrorJournal> journal = Opened(disk);
  ASSERT_EQ(journal->recovered().size(), 2u);
  JournalEntry expected = EntryOf("a");
  expected.id = a;
  expected.counted = true;
  EXPECT_EQ(journal->recovered()[0], expected);
  EXPECT_EQ(KeysOf(journal->Unclaimed("")), std::set<std::string>{"a"});
  EXPECT_EQ(KeysOf(journal->Unclaimed("table")), std::set<std::string>{"b"});
  EXPECT_TRUE(journal->Claim(b));
  EXPECT_FALSE(journal->Claim(b));
  EXPECT_TRUE(journal->Unclaimed("table").empty());
  EXPECT_GT(*journal->Note(EntryOf("d")), b) << "numbers are not used twice";
  journal->Strike(b);
  journal->Strike(b);
  EXPECT_EQ(journal->open(), 2u);
}

// A file with a note of every sort, and where its records end.
std::string SampleFile(std::vector<size_t>* ends) {
  const auto disk = std::make_shared<MemoryStateStorage>(1);
  const std::unique_ptr<MirrorJournal> journal = Opened(disk);
  const auto note_end = [&] { ends->push_back((*disk->Read(kFile))->size()); };
  const uint64_t a = *journal->Note(EntryOf("a"));
  note_end();
  EXPECT_TRUE(journal->Note(EntryOf("b")).ok());
  note_end();
  journal->Strike(a);
  EXPECT_TRUE(journal->Note(EntryOf("c")).ok());  // takes the strike along
  note_end();
  return **disk->Read(kFile);
}

TEST(MirrorJournalTest, TornAtEveryByteItKeepsWhatWasWhole) {
  std::vector<size_t> ends;
  const std::string file = SampleFile(&ends);
  for (size_t length = 0; length <= file.size(); ++length) {
    SCOPED_TRACE(length);
    const JournalContents contents = ReadJournal(file.substr(0, length));
    EXPECT_EQ(contents.damaged_bytes, 0u);
    std::set<std::string> keys;
    for (const auto& [id, entry] : contents.open) keys.insert(entry.key);
    if (length >= ends[0] && length < ends[1]) {
      EXPECT_EQ(keys, std::set<std::string>{"a"});
    }
    if (length == file.size()) {
      EXPECT_EQ(keys, (std::set<std::string>{"b", "c"}));
    }
    if (length >= ends[1]) {
      EXPECT_TRUE(keys.count("b") == 1);
    }
    // The journal goes on from there.
    const auto disk = std::make_shared<MemoryStateStorage>(1);
    disk->Put(kFile, file.substr(0, length));
    {
      const std::unique_ptr<MirrorJournal> journal = Opened(disk);
      EXPECT_EQ(KeysOf(journal->recovered()), keys);
      EXPECT_TRUE(journal->Note(EntryOf("later")).ok());
    }
    keys.insert("later");
    EXPECT_EQ(KeysOf(Opened(disk)->recovered()), keys);
  }
}

TEST(MirrorJournalTest, DamageAtEveryByteCostsTheRecordItHits) {
  std::vector<size_t> ends;
  const std::string file = SampleFile(&ends);
  for (size_t at = 0; at < file.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = file;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      const std::set<std::string> keys = KeysIn(damaged);
      SCOPED_TRACE(absl::StrCat("byte ", at, ", bit ", bit));
      for (const std::string& key : keys) EXPECT_TRUE(key == "a" || key == "b" || key == "c") << key;
      // The header and 'a' come first, then 'b', then the strike of 'a' and 'c'.
      EXPECT_EQ(keys.count("b"), at >= ends[0] && at < ends[1] ? 0u : 1u);
      if (at < ends[1]) {
        EXPECT_EQ(keys.count("c"), 1u);
      }
      if (at >= ends[1]) {
        EXPECT_EQ(keys.count("a") + (1 - keys.count("c")), 1u) << "the strike or the note";
      }
      const JournalContents contents = ReadJournal(damaged);
      EXPECT_GT(contents.damaged_bytes + contents.torn_bytes, 0u);
    }
  }
}

TEST(MirrorJournalTest, RandomBytesAreNoRecords) {
  Prng prng(5);
  for (int round = 0; round < 200; ++round) {
    std::string bytes(prng.Below(400), '\0');
    for (char& c : bytes) c = static_cast<char>(prng.Below(round % 2 == 0 ? 256 : 4));
    const JournalContents contents = ReadJournal(bytes);
    EXPECT_TRUE(contents.open.empty());
    EXPECT_EQ(contents.torn_bytes, bytes.size());
  }
}

TEST(MirrorJournalTest, FilesOfOthersAreRefused) {
  const auto disk = std::make_shared<MemoryStateStorage>(1);
  ASSERT_TRUE(Opened(disk)->Note(EntryOf("a")).ok());
  disk->Put("mirrors.shop.users", **disk->Read(kFile));
  const absl::Status other = MirrorJournal::Open(disk, "namespaces/shop/migrations/users", false).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(other));
  EXPECT_TRUE(absl::StrContains(other.message(), kName)) << other;
}

TEST(MirrorJournalTest, WhatTheDiskRefusesIsNotNoted) {
  const auto disk = std::make_shared<MemoryStateStorage>(1);
  const std::unique_ptr<MirrorJournal> journal = Opened(disk);
  const uint64_t a = *journal->Note(EntryOf("a"));
  disk->FailWrites(absl::ResourceExhaustedError("disk full"));
  EXPECT_TRUE(absl::IsResourceExhausted(journal->Note(EntryOf("b")).status()));
  EXPECT_EQ(journal->open(), 1u);
  journal->Strike(a);  // lost
  disk->FailWrites(absl::OkStatus());
  ASSERT_TRUE(journal->Note(EntryOf("c")).ok());
  EXPECT_EQ(KeysIn(**disk->Read(kFile)), (std::set<std::string>{"a", "c"}))
      << "a lost strike is a repair too many";
  const absl::Status long_key =
      journal->Note(EntryOf(std::string(MirrorJournal::kMaxEntryBytes, 'x'))).status();
  EXPECT_TRUE(absl::IsInvalidArgument(long_key));
}

TEST(MirrorJournalTest, ShortenedWhenMostIsStruck) {
  const auto disk = std::make_shared<MemoryStateStorage>(1);
  const std::string filler(1000, 'k');
  size_t longest = 0;
  {
    const std::unique_ptr<MirrorJournal> journal = Opened(disk);
    ASSERT_TRUE(journal->Note(EntryOf("stays")).ok());
    for (int i = 0; i < 3000; ++i) {
      journal->Strike(*journal->Note(EntryOf(absl::StrCat(filler, i))));
      longest = std::max(longest, (*disk->Read(kFile))->size());
    }
    EXPECT_LT(longest, MirrorJournal::kCompactBytes + 100'000);
    EXPECT_EQ(journal->open(), 1u);
  }
  EXPECT_EQ(KeysOf(Opened(disk)->recovered()), std::set<std::string>{"stays"});
}

// Against a model: whatever was noted and not struck is found after a crash of the process, and with `sync`
// after one of the machine; nothing is found that was never noted.
TEST(MirrorJournalTest, CrashesAgainstAModel) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    const bool sync = seed % 2 == 0;
    Prng prng(seed);
    const auto disk = std::make_shared<MemoryStateStorage>(seed);
    std::map<std::string, uint64_t> open;
    std::set<std::string> ever;
    for (int life = 0; life < 6; ++life) {
      const std::unique_ptr<MirrorJournal> journal = Opened(disk, sync);
      const std::set<std::string> found = KeysOf(journal->recovered());
      for (const auto& [key, id] : open) EXPECT_EQ(found.count(key), 1u) << key;
      for (const std::string& key : found) EXPECT_EQ(ever.count(key), 1u) << key;
      open.clear();
      for (const JournalEntry& entry : journal->recovered()) open[entry.key] = entry.id;
      for (int i = 0; i < 40; ++i) {
        if (open.empty() || prng.Below(2) == 0) {
          const std::string key = absl::StrCat(life, "-", i);
          ever.insert(key);
          open[key] = *journal->Note(EntryOf(key));
        } else {
          const auto victim = std::next(open.begin(), static_cast<int>(prng.Below(open.size())));
          journal->Strike(victim->second);
          open.erase(victim);
        }
      }
      disk->Crash(sync ? MemoryStateStorage::Failure::kMachine : MemoryStateStorage::Failure::kProcess);
    }
  }
}

TEST(MirrorJournalTest, ThreadsNoteAndStrike) {
  const auto disk = std::make_shared<MemoryStateStorage>(1);
  {
    const std::unique_ptr<MirrorJournal> journal = Opened(disk);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 300; ++i) {
          const uint64_t id = *journal->Note(EntryOf(absl::StrCat(t, "-", i)));
          if (i % 10 == 0) journal->MarkCounted(id);
          if (i % 50 != 0) journal->Strike(id);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(journal->open(), 24u);
  }
  EXPECT_EQ(Opened(disk)->recovered().size(), 24u);
}

TEST(MirrorJournalsTest, HoldsTheEpochsOfWhatWasLeftOpen) {
  const auto disk = std::make_shared<MemoryStateStorage>(1);
  ASSERT_TRUE(Opened(disk)->Note(EntryOf("a")).ok());
  ThreadPoolExecutor executor(1);
  TelemetryRecorder telemetry({.migrations = {"namespaces/shop/migrations/accounts", kName}},
                              SystemClock::Get());
  RepairQueue queue(10, &executor, SystemClock::Get(), &telemetry, 1);
  const auto journals =
      MirrorJournals::Open(disk, {"namespaces/shop/migrations/accounts", kName}, false, &queue);
  ASSERT_TRUE(journals.ok()) << journals.status();
  EXPECT_FALSE(queue.OldestEpoch(0, 99).has_value());
  EXPECT_EQ(queue.OldestEpoch(1, 99), 17u);
  EXPECT_EQ(queue.OldestEpoch(1, 100), 0u) << "a number of another store";
  EXPECT_EQ(queue.Counts().repairs, 1u);
  const JournalEntry entry = (*journals)->of(1)->recovered()[0];
  queue.ReleaseHold(AttributionOf(entry, 1), entry.store_epoch);
  EXPECT_FALSE(queue.OldestEpoch(1, 99).has_value());
}

}  // namespace
}  // namespace lockstep::internal
