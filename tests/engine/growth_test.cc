// What the engine does not do however much there is: read the past at a start, commit where nothing changed.
#include <map>

#include "absl/strings/str_cat.h"
#include "server/engine/registry_keys.h"
#include "tests/engine/gate_fixture.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;

// Counts the rows that are read, by table.
class CountingStore final : public store::ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  absl::StatusOr<std::optional<std::string>> Get(store::Table table, absl::string_view key) const override {
    ++rows_[table];
    return ForwardingStore::Get(table, key);
  }
  absl::Status Scan(store::Table table, absl::string_view start_key, absl::string_view end_key, size_t limit,
                    Visitor visit) const override {
    return ForwardingStore::Scan(table, start_key, end_key, limit,
                                 [&](absl::string_view key, absl::string_view value) {
                                   ++rows_[table];
                                   return visit(key, value);
                                 });
  }
  int rows(store::Table table) const { return rows_[table]; }

 private:
  mutable std::map<store::Table, int> rows_;
};

class GrowthTest : public GateTest {
 protected:
  static constexpr int kMigrations = 5;
  static std::string NameOf(int number) { return absl::StrCat("namespaces/shop/migrations/m-", number); }

  void CreateAll() {
    for (int number = 0; number < kMigrations; ++number) {
      Create(NameOf(number));
      ASSERT_TRUE(Do(CommandKind::kStart, By("user:ann"), false, 0, NameOf(number)).ok());
    }
  }
  void PauseAndResumeAll(int times) {
    for (int number = 0; number < kMigrations; ++number) {
      for (int i = 0; i < times; ++i) {
        ASSERT_TRUE(Do(CommandKind::kPause, By("user:ann"), false, 0, NameOf(number)).ok());
        ASSERT_TRUE(Do(CommandKind::kResume, By("user:ann"), false, 0, NameOf(number)).ok());
      }
    }
  }
  // What is in the store now, as a start of the engine sees it.
  absl::Status StartAnother(CountingStore* counting, EvidenceTimeline* timeline = nullptr) {
    Engine other(counting, codec_.get(), &clock_, 99, {});
    const absl::Status started = other.Start();
    if (!started.ok() || timeline == nullptr) return started;
    const auto subject = other.registry().FindGateSubject(kName);
    if (subject.ok()) *timeline = subject->timeline;
    return subject.status();
  }
  void Put(store::Table table, std::string key, std::optional<std::string> value) {
    store::WriteBatch batch;
    if (value) {
      batch.Put(table, std::move(key), *std::move(value));
    } else {
      batch.Delete(table, std::move(key));
    }
    ASSERT_TRUE(memory_->Commit(std::move(batch), std::nullopt).ok());
  }
  std::optional<std::string> TimelineRow() {
    return *memory_->Get(store::Table::kMeta, store::MetaKey(TimelineKey(kName)));
  }
};

TEST_F(GrowthTest, AStartReadsTheMigrationsAndNoneOfTheirPast) {
  CreateAll();
  for (const int times : {0, 20}) {
    PauseAndResumeAll(times);
    CountingStore counting(memory_.get());
    ASSERT_TRUE(StartAnother(&counting).ok());
    EXPECT_EQ(counting.rows(store::Table::kMigrations), kMigrations);
    EXPECT_EQ(counting.rows(store::Table::kDecisions), 0);
    EXPECT_EQ(counting.rows(store::Table::kDefinitions), 0);
    EXPECT_EQ(counting.rows(store::Table::kAudit), 1) << "the newest";
    EXPECT_LE(counting.rows(store::Table::kMeta), 3 * kMigrations + 5);
  }
}

TEST_F(GrowthTest, ATimelineThatIsNotKeptIsReadFromTheRecords) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(2);
  ASSERT_TRUE(Do(CommandKind::kRollback, By("user:ann")).ok());
  const std::optional<std::string> behind = TimelineRow();
  ASSERT_TRUE(Do(CommandKind::kResume).ok());
  Seconds(30, 100, 0);
  const std::string kept = *TimelineRow();
  const auto decisions = static_cast<int>(Now().migration->decision_count);
  const std::string uid = Now().migration->uid;
  const EvidenceTimeline live = registry().FindGateSubject(kName)->timeline;
  ASSERT_GT(live.restarts(), 0u);

  const auto behind_by = static_cast<int>(decisions - EvidenceTimeline::FromRow(*behind)->decisions);
  const std::string of_another = live.ToRow("another-uid", static_cast<uint64_t>(decisions));
  const struct {
    const char* what;
    std::optional<std::string> row;
    int reads;
  } cases[] = {{"kept", kept, 0},
               {"absent", std::nullopt, decisions},
               {"behind", behind, behind_by},
               {"of an earlier migration of that name", of_another, decisions}};
  for (const auto& c : cases) {
    Put(store::Table::kMeta, store::MetaKey(TimelineKey(kName)), c.row);
    CountingStore counting(memory_.get());
    EvidenceTimeline timeline;
    ASSERT_TRUE(StartAnother(&counting, &timeline).ok()) << c.what;
    EXPECT_EQ(timeline.ToRow(uid, 1), live.ToRow(uid, 1)) << c.what;
    EXPECT_EQ(counting.rows(store::Table::kDecisions), c.reads) << c.what;
  }
}

TEST_F(GrowthTest, AStartRefusesATimelineThatCannotBe) {
  Create();
  const std::string uid = Now().migration->uid;
  for (const std::string& row : {std::string("nonsense"), absl::StrCat(uid, " 1 1 1 - x"),
                                 EvidenceTimeline().ToRow(uid, Now().migration->decision_count + 1)}) {
    Put(store::Table::kMeta, store::MetaKey(TimelineKey(kName)), row);
    CountingStore counting(memory_.get());
    EXPECT_TRUE(absl::IsDataLoss(StartAnother(&counting))) << row;
  }
}

TEST_F(GrowthTest, AStartRefusesAnAuditLogWithoutItsEnd) {
  Create();
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  const std::string end = store::AuditKey(2);
  const std::string newest = **memory_->Get(store::Table::kAudit, end);
  CountingStore counting(memory_.get());
  Put(store::Table::kAudit, end, **memory_->Get(store::Table::kAudit, store::AuditKey(1)));
  EXPECT_TRUE(absl::IsDataLoss(StartAnother(&counting))) << "another entry in its place";
  Put(store::Table::kAudit, end, std::nullopt);
  EXPECT_TRUE(absl::IsDataLoss(StartAnother(&counting)));
  Put(store::Table::kAudit, end, newest);
  EXPECT_TRUE(StartAnother(&counting).ok());
}

TEST_F(GrowthTest, ADeletedMigrationLeavesNoTimeline) {
  Create();
  ASSERT_TRUE(TimelineRow().has_value());
  ASSERT_TRUE(engine_->Delete(kName, By("user:ann")).ok());
  EXPECT_FALSE(TimelineRow().has_value());
}

TEST_F(GrowthTest, ATickThatChangesNothingCommitsNothing) {
  Create();
  Enrol("a");
  ASSERT_TRUE(Do(CommandKind::kStart).ok());
  WalkTo(1, 0);
  Seconds(2, 0, 0);  // the acknowledgement is on disk
  for (int i = 0; i < 20; ++i) {
    clock_.Advance(absl::Seconds(1));
    // Far too little for any verdict but HOLD; a bucket closes every five seconds.
    ASSERT_TRUE(Report({"a", 1, ++sequence_, {DeltaNow(1, 0)}}).ok());
    const uint64_t revision = memory_->revision();
    ASSERT_TRUE(engine_->Tick().ok());
    EXPECT_EQ(memory_->revision(), revision) << "second " << i;
  }
  EXPECT_GT(Gate().checks.at(0).total, 0u) << "and yet the gate has seen it";
}

}  // namespace
}  // namespace lockstep::engine
