// What streams of the same migrations are sent is made once.
#include "server/engine/snapshot_group.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/engine/engine_fixture.h"

namespace lockstep::engine {
namespace {

constexpr char kOther[] = "namespaces/shop/migrations/customers";

class SnapshotGroupTest : public EngineTest {
 protected:
  SnapshotGroupTest() { Create(); }

  void Change(const std::string& name = kName) {
    MigrationUpdate update;
    update.pins = domain::Pins{{{absl::StrCat("key-", ++changes_), domain::Side::kNew}}, {}};
    ASSERT_TRUE(registry().Update(name, update, By("user:ann")).ok());
  }
  // A subscription from before, so that its group lives on between others.
  std::unique_ptr<Subscription> Subscribe(std::vector<std::string> migrations) {
    return engine_->hub().Subscribe(std::move(migrations), [] {});
  }

  int changes_ = 0;
};

TEST_F(SnapshotGroupTest, OneMessageForEveryRevisionHoweverManyFollow) {
  const auto observer = Subscribe({kName});
  constexpr int kInstances = 50;
  for (int i = 0; i < kInstances; ++i) Enrol(absl::StrCat("i", i));
  for (int i = 0; i < kInstances; ++i) EXPECT_NE(Take(absl::StrCat("i", i)), nullptr);
  EXPECT_EQ(observer->group().messages_made(), 1u) << "the whole snapshot";
  for (uint64_t change = 1; change <= 10; ++change) {
    Change();
    const auto first = Take("i0");
    ASSERT_NE(first, nullptr);
    for (int i = 1; i < kInstances; ++i) EXPECT_EQ(Take(absl::StrCat("i", i))->revision, first->revision);
    EXPECT_EQ(observer->group().messages_made(), 1 + change);
  }
}

TEST_F(SnapshotGroupTest, ARollbackThatOvertakesIsSharedToo) {
  const auto observer = Subscribe({kName});
  ASSERT_TRUE(Do(domain::CommandKind::kStart).ok());
  for (const char* id : {"a", "b", "c"}) Enrol(id);
  for (const char* id : {"a", "b", "c"}) ASSERT_NE(Take(id), nullptr);
  Change();
  for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(streams_.at(id).session->Next().has_value());
  ASSERT_TRUE(registry().Drill(kName, By("user:ann")).ok());
  EXPECT_EQ(observer->group().messages_made(), 2u);
  std::shared_ptr<const TransportForm> form;
  for (const char* id : {"a", "b", "c"}) {
    const auto message = streams_.at(id).session->Next();
    ASSERT_TRUE(message && std::holds_alternative<SnapshotMessage>(*message)) << "in full, and at once";
    if (form == nullptr) form = std::get<SnapshotMessage>(*message).form;
    EXPECT_EQ(std::get<SnapshotMessage>(*message).form, form);
  }
  EXPECT_EQ(observer->group().messages_made(), 3u);
}

TEST_F(SnapshotGroupTest, WhoLagsGetsADeltaOfItsOwn) {
  Enrol("follows");
  Enrol("lags");
  ASSERT_NE(Take("follows"), nullptr);
  ASSERT_NE(Take("lags"), nullptr);
  for (int i = 0; i < 3; ++i) {
    Change();
    ASSERT_NE(Take("follows"), nullptr);
  }
  // Checked by the fixture: the digest is that of what results.
  const auto caught_up = Take("lags");
  ASSERT_NE(caught_up, nullptr);
  EXPECT_EQ(caught_up->revision, streams_.at("follows").in_force->revision);
}

TEST_F(SnapshotGroupTest, ManyBasesAreServedRightThoughNotAllAreKept) {
  const auto observer = Subscribe({kName});
  std::vector<std::shared_ptr<const domain::Snapshot>> bases;
  for (int i = 0; i < 40; ++i) {
    bases.push_back(observer->TakeLatest().snapshot);
    Change();
  }
  const auto newest = observer->TakeLatest().snapshot;
  for (int pass = 0; pass < 2; ++pass) {
    for (const auto& base : bases) {
      const DeltaMessage message = observer->group().Since(base, newest);
      const auto applied = domain::ApplyDelta(*base, *message.delta);
      ASSERT_TRUE(applied.ok()) << applied.status();
      EXPECT_EQ(domain::SnapshotDigest(*applied), message.digest);
      EXPECT_EQ(observer->group().Since(base, newest).form, message.form);
    }
  }
  // To one that is not the newest: right, and made anew.
  const DeltaMessage outdated = observer->group().Since(bases[0], bases[1]);
  EXPECT_EQ(outdated.delta->revision, bases[1]->revision);
  EXPECT_NE(observer->group().Since(bases[0], bases[1]).form, outdated.form);
}

TEST_F(SnapshotGroupTest, GroupsAreBySetOfMigrationsAndGoWithTheirLastStream) {
  Create(kOther);
  SnapshotHub& hub = engine_->hub();
  EXPECT_EQ(hub.groups(), 0u);
  auto one = Subscribe({kName, kOther});
  auto same = Subscribe({kOther, kName, kOther});
  auto less = Subscribe({kOther});
  EXPECT_EQ(hub.groups(), 2u);
  EXPECT_EQ(&one->group(), &same->group());
  EXPECT_NE(&one->group(), &less->group());
  EXPECT_EQ(one->TakeLatest().snapshot, same->TakeLatest().snapshot);
  EXPECT_EQ(less->TakeLatest().snapshot->migrations.size(), 1u);
  Change();
  EXPECT_EQ(less->TakeLatest().snapshot, nullptr) << "nothing that it asked for has changed";
  EXPECT_EQ(one->TakeLatest().snapshot->migrations.size(), 2u);
  one.reset();
  EXPECT_EQ(hub.groups(), 2u);
  same.reset();
  less.reset();
  EXPECT_EQ(hub.groups(), 0u);
}

TEST(SnapshotGroup, AnOlderViewNeverReplacesANewerOne) {
  const auto at = [](uint64_t revision) {
    auto all = std::make_shared<PublishedRoutings>();
    all->revision = revision;
    return all;
  };
  SnapshotGroup group({"m"});
  const auto old = at(1);
  const auto now = at(2);
  EXPECT_EQ(group.ViewOf(old, [] { return 0; }).snapshot->revision, 1u);
  EXPECT_EQ(group.ViewOf(now, [] { return 2; }).urgent_revision, 2u);
  EXPECT_EQ(group.ViewOf(old, [] { return 0; }).snapshot->revision, 2u);
  EXPECT_EQ(group.ViewOf(now, [] { return 0; }).urgent_revision, 2u) << "known already";
}

TEST(TransportForm, IsMadeOnce) {
  const TransportForm form;
  int made = 0;
  const auto make = [&] { return absl::StrCat("bytes ", ++made); };
  const std::string& first = form.GetOrMake<std::string>(make);
  EXPECT_EQ(first, "bytes 1");
  EXPECT_EQ(&form.GetOrMake<std::string>(make), &first);
}

}  // namespace
}  // namespace lockstep::engine
