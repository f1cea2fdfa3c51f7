// Unary decisions and the enrol/watch stream.
#include <functional>

#include "absl/strings/match.h"
#include "core/domain/bucketing.h"
#include "core/domain/records.h"
#include "tests/service/service_fixture.h"
#include "tests/support/http_client.h"

namespace lockstep::service {
namespace {

using Code = absl::StatusCode;
using Stub = v1::RoutingService::Stub;

class RoutingServiceTest : public ServiceTest {
 protected:
  std::vector<v1::Instance> Instances(const std::string& id) {
    v1::ListInstancesRequest request;
    request.set_parent(NameOf(id));
    const auto listed = api_.Call(&v1::MigrationService::Stub::ListInstances, request);
    if (!listed.ok()) return {};
    return {listed->instances().begin(), listed->instances().end()};
  }
  // Sends one request as the first of a stream and returns how the stream ended.
  absl::Status EndOf(const v1::WatchRequest& request) {
    WatchClient watch(&api_);
    watch.Send(request);
    v1::WatchResponse ignored;
    while (watch.Read(&ignored)) {
    }
    return watch.Finish();
  }
};

TEST_F(RoutingServiceTest, DecidesAsTheLibraryDoes) {
  CreateSampleAt("orders", 2);
  const auto migration = api_.Get("orders");
  v1::BatchRouteRequest batch;
  batch.set_migration(NameOf("orders"));
  for (int i = 0; i < 1000; ++i) batch.add_keys(absl::StrCat("key-", i));
  const auto answers = api_.Call(&Stub::BatchRoute, batch);
  ASSERT_TRUE(IsOk(answers));
  ASSERT_EQ(answers->decisions_size(), 1000);
  EXPECT_EQ(answers->epoch(), migration->routing().epoch());
  EXPECT_EQ(answers->stage(), v1::STAGE_CANARY_READ);
  EXPECT_GT(answers->valid_for().seconds(), 0);
  int served_by_new = 0;
  for (int i = 0; i < 1000; ++i) {
    const v1::Decision& decision = answers->decisions(i);
    EXPECT_EQ(decision.read_side() == v1::SIDE_NEW, decision.bucket() < 1000) << batch.keys(i);
    EXPECT_EQ(decision.write_mode(), v1::WRITE_MODE_OLD_THEN_NEW);
    served_by_new += decision.read_side() == v1::SIDE_NEW ? 1 : 0;

    v1::RouteRequest one;
    one.set_migration(NameOf("orders"));
    one.set_key(batch.keys(i));
    one.set_explain_only(true);
    if (i % 100 == 0) {
      EXPECT_EQ(api_.Call(&Stub::Route, one)->decision().SerializeAsString(), decision.SerializeAsString());
    }
  }
  EXPECT_GT(served_by_new, 0);
  EXPECT_LT(served_by_new, 50);
}

TEST_F(RoutingServiceTest, BadRequestsNameTheField) {
  CreateSample("orders");
  struct Case {
    std::string what;
    std::function<void(v1::RouteRequest*)> spoil;
    std::string field;
  };
  const std::vector<Case> cases = {
      {"empty key", [](auto* r) { r->clear_key(); }, "key"},
      {"oversize key", [](auto* r) { r->set_key(std::string(1025, 'k')); }, "key"},
      {"malformed name", [](auto* r) { r->set_migration("orders"); }, "migration"},
      {"65 attributes",
       [](auto* r) {
         for (int i = 0; i < 65; ++i) (*r->mutable_attributes())[absl::StrCat("a", i)] = "v";
       },
       "attributes"},
      {"oversize attributes", [](auto* r) { (*r->mutable_attributes())["a"] = std::string(9000, 'v'); },
       "attributes"},
  };
  for (const Case& c : cases) {
    v1::RouteRequest request;
    request.set_migration(NameOf("orders"));
    request.set_key("k");
    c.spoil(&request);
    const auto refused = api_.Call(&Stub::Route, request);
    EXPECT_TRUE(Fails(refused, Code::kInvalidArgument, "INVALID_ARGUMENT")) << c.what;
    EXPECT_THAT(BadFields(refused.status()), ::testing::ElementsAre(::testing::HasSubstr(c.field))) << c.what;
  }
  v1::RouteRequest longest;
  longest.set_migration(NameOf("orders"));
  longest.set_key(std::string(1024, 'k'));
  EXPECT_TRUE(IsOk(api_.Call(&Stub::Route, longest)));
  longest.set_migration(NameOf("ghost"));
  EXPECT_TRUE(Fails(api_.Call(&Stub::Route, longest), Code::kNotFound, "MIGRATION_NOT_FOUND"));

  v1::BatchRouteRequest batch;
  batch.set_migration(NameOf("orders"));
  EXPECT_THAT(BadFields(api_.Call(&Stub::BatchRoute, batch).status()), ::testing::ElementsAre("keys"));
  for (int i = 0; i < 1001; ++i) batch.add_keys("k");
  EXPECT_THAT(BadFields(api_.Call(&Stub::BatchRoute, batch).status()), ::testing::ElementsAre("keys"));
  batch.mutable_keys()->RemoveLast();
  EXPECT_TRUE(IsOk(api_.Call(&Stub::BatchRoute, batch)));
  batch.set_keys(7, "");
  EXPECT_THAT(BadFields(api_.Call(&Stub::BatchRoute, batch).status()), ::testing::ElementsAre("keys[7]"));
}

TEST_F(RoutingServiceTest, AnInstanceEnrolsIsSentEveryNewestStateAndAcknowledges) {
  CreateSample("orders");
  WatchClient watch(&api_);
  ASSERT_TRUE(watch.Enrol("i-1", {"orders", "not-yet"}));
  v1::Snapshot snapshot = watch.ReadSnapshot();
  ASSERT_EQ(snapshot.migrations_size(), 1);
  EXPECT_EQ(snapshot.migrations(0).state().stage(), v1::STAGE_OFF);
  EXPECT_EQ(snapshot.migrations(0).contract().fields_size(), 1);
  ASSERT_TRUE(watch.Acknowledge(snapshot));

  CreateSample("not-yet");
  snapshot = watch.ReadSnapshot();
  EXPECT_EQ(snapshot.migrations_size(), 2);
  ASSERT_TRUE(watch.Acknowledge(snapshot));

  ASSERT_TRUE(IsOk(api_.Start("orders")));
  const v1::Snapshot started = watch.ReadSnapshot();
  EXPECT_GT(started.revision(), snapshot.revision());
  ASSERT_EQ(started.migrations_size(), 2);
  EXPECT_EQ(started.migrations(1).state().stage(), v1::STAGE_DUAL_WRITE);
  const uint64_t epoch = started.migrations(1).state().epoch();
  EXPECT_TRUE(Eventually([&] { return Instances("orders")[0].sent_epoch() == epoch; }));
  EXPECT_EQ(Instances("orders")[0].lag(), 1u);
  ASSERT_TRUE(watch.Acknowledge(started));
  EXPECT_TRUE(Eventually([&] { return Instances("orders")[0].acknowledged_epoch() == epoch; }));
  const v1::Instance instance = Instances("orders")[0];
  EXPECT_TRUE(instance.connected());
  EXPECT_EQ(instance.instance_id(), "i-1");
  EXPECT_EQ(instance.service(), "tests");
  EXPECT_EQ(instance.lag(), 0u);

  // A heartbeat is answered with what was sent last.
  v1::WatchRequest heartbeat;
  heartbeat.mutable_heartbeat()->set_revision(started.revision());
  ASSERT_TRUE(watch.Send(heartbeat));
  v1::WatchResponse response;
  ASSERT_TRUE(watch.Read(&response));
  EXPECT_EQ(response.heartbeat().revision(), started.revision());

  // Leaving gives the enrolment up and ends the stream.
  v1::WatchRequest leave;
  leave.mutable_leave();
  ASSERT_TRUE(watch.Send(leave));
  EXPECT_TRUE(IsOk(watch.Finish()));
  EXPECT_TRUE(Instances("orders").empty());
}

TEST_F(RoutingServiceTest, AFenceWaitsForASilentInstanceAndNamesIt) {
  CreateSample("orders");
  WatchClient silent(&api_);
  ASSERT_TRUE(silent.Enrol("silent-1", {"orders"}));
  const v1::Snapshot off = silent.ReadSnapshot();
  ASSERT_EQ(off.migrations_size(), 1);
  ASSERT_TRUE(IsOk(api_.Start("orders")));  // OFF and DUAL_WRITE may coexist
  const auto waiting = api_.Advance("orders");
  ASSERT_TRUE(IsOk(waiting));
  EXPECT_EQ(waiting->routing().stage(), v1::STAGE_DUAL_WRITE);
  EXPECT_EQ(waiting->pending_routing().stage(), v1::STAGE_SHADOW_READ);
  ASSERT_EQ(waiting->waiting_for_size(), 1);
  EXPECT_EQ(waiting->waiting_for(0).instance_id(), "silent-1");
  EXPECT_EQ(waiting->waiting_for(0).service(), "tests");
  EXPECT_EQ(waiting->waiting_for(0).epoch(), off.migrations(0).state().epoch());
  EXPECT_FALSE(waiting->waiting_for(0).reason().empty());
  EXPECT_TRUE(Fails(api_.Advance("orders"), Code::kFailedPrecondition, "FENCE_WAITS", {"SHADOW_READ"}));

  // Losing the connection changes nothing: the data plane outlives the control plane.
  silent.Cancel();
  EXPECT_TRUE(Eventually([&] { return !Instances("orders")[0].connected(); }));
  EXPECT_EQ(api_.Get("orders")->waiting_for_size(), 1);

  // It comes back, still acting on OFF; then it acknowledges what it is sent.
  WatchClient again(&api_);
  ASSERT_TRUE(again.Enrol("silent-1", {"orders"}, {{"orders", off.migrations(0).state().epoch()}},
                          off.store_epoch()));
  const v1::Snapshot dual = again.ReadSnapshot();
  ASSERT_EQ(dual.migrations_size(), 1);
  EXPECT_EQ(api_.Get("orders")->waiting_for_size(), 1);
  ASSERT_TRUE(again.Acknowledge(dual));
  EXPECT_TRUE(Eventually([&] { return api_.Get("orders")->routing().stage() == v1::STAGE_SHADOW_READ; }));
  EXPECT_FALSE(api_.Get("orders")->has_pending_routing());
  EXPECT_EQ(again.ReadSnapshot().migrations(0).state().stage(), v1::STAGE_SHADOW_READ);
}

TEST_F(RoutingServiceTest, ANackIsShownUntilASnapshotIsAccepted) {
  CreateSample("orders");
  WatchClient watch(&api_);
  ASSERT_TRUE(watch.Enrol("i-1", {"orders"}));
  const v1::Snapshot snapshot = watch.ReadSnapshot();
  v1::WatchRequest nack;
  nack.mutable_nack()->set_revision(snapshot.revision());
  nack.mutable_nack()->set_reason("orders: read_weight 7 at OFF");
  ASSERT_TRUE(watch.Send(nack));
  EXPECT_TRUE(
      Eventually([&] { return Instances("orders")[0].last_nack() == "orders: read_weight 7 at OFF"; }));
  nack.mutable_nack()->set_reason(std::string(100000, 'r'));
  ASSERT_TRUE(watch.Send(nack));
  EXPECT_TRUE(Eventually([&] { return Instances("orders")[0].last_nack().size() == 1024; }));
  ASSERT_TRUE(watch.Acknowledge(snapshot));
  EXPECT_TRUE(Eventually([&] { return Instances("orders")[0].last_nack().empty(); }));
}

TEST_F(RoutingServiceTest, ViolationsOfTheProtocolEndTheStreamAndSayWhy) {
  CreateSample("orders");
  v1::WatchRequest request;
  request.mutable_heartbeat();
  absl::Status end = EndOf(request);
  EXPECT_EQ(end.code(), Code::kFailedPrecondition) << end;
  EXPECT_TRUE(absl::StrContains(end.message(), "first message")) << end;
  EXPECT_EQ(EndOf(v1::WatchRequest()).code(), Code::kFailedPrecondition);

  struct Case {
    std::string what;
    std::function<void(v1::Enrol*)> spoil;
    std::string field;
  };
  const std::vector<Case> cases = {
      {"no id", [](auto* e) { e->clear_instance_id(); }, "instance_id"},
      {"id with a slash", [](auto* e) { e->set_instance_id("a/b"); }, "instance_id"},
      {"oversize id", [](auto* e) { e->set_instance_id(std::string(129, 'i')); }, "instance_id"},
      {"no service", [](auto* e) { e->clear_service(); }, "service"},
      {"no migrations", [](auto* e) { e->clear_migrations(); }, "migrations"},
      {"malformed migration", [](auto* e) { e->set_migrations(0, "orders"); }, "migrations[0]"},
      {"a migration twice", [](auto* e) { e->add_migrations(e->migrations(0)); }, "migrations[1]"},
      {"too many migrations",
       [](auto* e) {
         for (int i = 0; i < 1001; ++i) e->add_migrations(NameOf(absl::StrCat("m", i)));
       },
       "migrations"},
      {"holds what it does not ask for", [](auto* e) { e->add_held()->set_migration(NameOf("other")); },
       "held"},
  };
  for (const Case& c : cases) {
    v1::WatchRequest enrol;
    enrol.mutable_enrol()->set_instance_id("i-1");
    enrol.mutable_enrol()->set_service("tests");
    enrol.mutable_enrol()->add_migrations(NameOf("orders"));
    c.spoil(enrol.mutable_enrol());
    end = EndOf(enrol);
    EXPECT_TRUE(Fails(end, Code::kInvalidArgument, "INVALID_ARGUMENT")) << c.what;
    EXPECT_THAT(BadFields(end), ::testing::Contains(::testing::HasSubstr(c.field))) << c.what;
  }
  EXPECT_TRUE(Instances("orders").empty());

  uint64_t store_epoch = 0;
  {
    WatchClient somebody(&api_);
    ASSERT_TRUE(somebody.Enrol("i-0", {"orders"}));
    store_epoch = somebody.ReadSnapshot().store_epoch();
    ASSERT_NE(store_epoch, 0u);
  }
  CreateSample("behind");
  v1::WatchRequest ahead;
  ahead.mutable_enrol()->set_instance_id("i-1");
  ahead.mutable_enrol()->set_service("tests");
  ahead.mutable_enrol()->add_migrations(NameOf("behind"));
  ahead.mutable_enrol()->add_held()->set_migration(NameOf("behind"));
  ahead.mutable_enrol()->mutable_held(0)->set_epoch(99);
  ahead.mutable_enrol()->set_store_epoch(store_epoch);
  EXPECT_TRUE(
      Fails(EndOf(ahead), Code::kFailedPrecondition, "EPOCH_AHEAD", {"99", "older than the instance's"}));
  EXPECT_TRUE(Fails(api_.Start("behind"), Code::kFailedPrecondition, "DATA_BEHIND",
                    {"'i-1'", "--restored-from-backup"}));
  EXPECT_TRUE(absl::StrContains(api_.Get("behind")->run_state_reason(), "--restored-from-backup"));
  const testing::HttpAnswer ready = testing::HttpGet(server_->http_port(), "/readyz");
  EXPECT_EQ(ready.status, 200);
  EXPECT_TRUE(absl::StrContains(ready.body, "older than that of instance 'i-1'")) << ready.body;

  WatchClient twice(&api_);
  ASSERT_TRUE(twice.Enrol("i-1", {"orders"}));
  ASSERT_EQ(twice.ReadSnapshot().migrations_size(), 1);
  twice.Enrol("i-1", {"orders"});
  end = twice.Finish();
  EXPECT_EQ(end.code(), Code::kFailedPrecondition) << end;
  EXPECT_TRUE(absl::StrContains(end.message(), "once")) << end;

  // An acknowledgement of what never was.
  WatchClient liar(&api_);
  ASSERT_TRUE(liar.Enrol("i-2", {"orders"}));
  v1::Snapshot snapshot = liar.ReadSnapshot();
  ASSERT_EQ(snapshot.migrations_size(), 1);
  snapshot.mutable_migrations(0)->mutable_state()->set_epoch(99);
  liar.Acknowledge(snapshot);
  EXPECT_FALSE(liar.Finish().ok());
  for (const v1::Instance& instance : Instances("orders")) EXPECT_LE(instance.acknowledged_epoch(), 1u);
}

TEST_F(RoutingServiceTest, ASecondConnectionOfAnInstanceTakesOver) {
  CreateSample("orders");
  WatchClient first(&api_);
  ASSERT_TRUE(first.Enrol("i-1", {"orders"}));
  const v1::Snapshot snapshot = first.ReadSnapshot();
  WatchClient second(&api_);
  ASSERT_TRUE(second.Enrol("i-1", {"orders"}));
  ASSERT_EQ(second.ReadSnapshot().migrations_size(), 1);
  EXPECT_EQ(Instances("orders").size(), 1u);
  // The old one has no say any more.
  first.Acknowledge(snapshot);
  EXPECT_TRUE(Fails(first.Finish(), Code::kNotFound, "NOT_ENROLLED"));
  EXPECT_TRUE(Instances("orders")[0].connected());
  EXPECT_TRUE(second.Acknowledge(snapshot));
}

}  // namespace
}  // namespace lockstep::service
