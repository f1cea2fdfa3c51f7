// Administration over gRPC: what is granted, what is refused and how the refusal reads.
#include <functional>
#include <set>

#include "absl/strings/match.h"
#include "tests/service/service_fixture.h"

namespace lockstep::service {
namespace {

using Stub = v1::MigrationService::Stub;
using Code = absl::StatusCode;

template <typename Request>
Request Named(const std::string& id) {
  Request request;
  request.set_name(NameOf(id));
  return request;
}

class MigrationServiceTest : public ServiceTest {
 protected:
  int CountDecisions(const std::string& id) {
    v1::ListDecisionsRequest request;
    request.set_parent(NameOf(id));
    const auto listed = api_.Call(&Stub::ListDecisions, request);
    return listed.ok() ? listed->decisions_size() : -1;
  }
};

TEST_F(MigrationServiceTest, ClimbsThePlanAndEveryChangeLeavesARecord) {
  api_.set_principal("user:ann@host");
  CreateSampleAt("orders", 3);
  const auto migration = api_.Get("orders");
  ASSERT_TRUE(IsOk(migration));
  EXPECT_EQ(migration->routing().stage(), v1::STAGE_CANARY_READ);
  EXPECT_EQ(migration->routing().read_weight(), 100000u);
  EXPECT_EQ(migration->run_state(), v1::RUN_STATE_RUNNING);
  EXPECT_EQ(migration->step(), 3u);
  EXPECT_FALSE(migration->uid().empty());

  v1::ListDecisionsRequest request;
  request.set_parent(NameOf("orders"));
  const auto decisions = api_.Call(&Stub::ListDecisions, request);
  ASSERT_TRUE(IsOk(decisions));
  ASSERT_EQ(decisions->decisions_size(), 5);
  const std::vector<std::string> actions = {"advance", "advance", "advance", "start", "create"};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(decisions->decisions(i).action(), actions[static_cast<size_t>(i)]);
    EXPECT_EQ(decisions->decisions(i).actor(), "user:ann@host");
  }
  EXPECT_TRUE(absl::StrContains(decisions->decisions(0).reason(), "the test says so"));
}

// Every command at every place of the sample plan: what is refused says from where, and what is allowed
// instead.
TEST_F(MigrationServiceTest, IllegalTransitionsSayWhereItIsAndWhatIsAllowed) {
  struct Case {
    int step;  // -1: OFF
    std::string command;
    std::vector<std::string> parts;
  };
  const std::vector<Case> cases = {
      {-1, "advance", {"DRAFT", "OFF", "Allowed now: start."}},
      {-1, "pause", {"DRAFT", "OFF", "Allowed now: start."}},
      {-1, "resume", {"DRAFT", "OFF", "Allowed now: start."}},
      {-1, "rollback", {"OFF", "nothing to undo", "Allowed now: start."}},
      {-1, "abort", {"OFF", "Allowed now: start."}},
      {-1, "set-weight", {"OFF", "only CANARY_READ", "Allowed now: start."}},
      {0, "start", {"RUNNING", "DUAL_WRITE", "Allowed now: pause, rollback, abort."}},
      {0, "resume", {"RUNNING", "DUAL_WRITE", "pause, rollback, abort"}},
      {1, "set-weight", {"SHADOW_READ", "only CANARY_READ"}},
      {2, "start", {"CANARY_READ with 1 %", "Allowed now: pause, rollback, abort, set-weight."}},
  };
  for (int step = -1; step <= 2; ++step) {
    const std::string id = absl::StrCat("at-", step + 1);
    step < 0 ? CreateSample(id) : CreateSampleAt(id, step);
  }
  for (const Case& c : cases) {
    const std::string id = absl::StrCat("at-", c.step + 1);
    SCOPED_TRACE(absl::StrCat(c.command, " at step ", c.step));
    const auto before = api_.Get(id);
    const auto send = [&]() -> absl::StatusOr<v1::Migration> {
      if (c.command == "start") return api_.Start(id);
      if (c.command == "advance") return api_.Advance(id);
      if (c.command == "pause") return api_.Call(&Stub::PauseMigration, Named<v1::PauseMigrationRequest>(id));
      if (c.command == "resume")
        return api_.Call(&Stub::ResumeMigration, Named<v1::ResumeMigrationRequest>(id));
      if (c.command == "abort") return api_.Call(&Stub::AbortMigration, Named<v1::AbortMigrationRequest>(id));
      if (c.command == "rollback") {
        return api_.Call(&Stub::RollbackMigration, Named<v1::RollbackMigrationRequest>(id));
      }
      auto request = Named<v1::SetMigrationWeightRequest>(id);
      request.set_weight(7);
      return api_.Call(&Stub::SetMigrationWeight, request);
    };
    const auto refused = send();
    EXPECT_TRUE(Fails(refused, Code::kFailedPrecondition, "ILLEGAL_TRANSITION", c.parts));
    const auto info = GetErrorInfo(refused.status());
    ASSERT_TRUE(info);
    EXPECT_EQ(info->metadata.at("command"), c.command);
    EXPECT_EQ(info->metadata.at("migration"), NameOf(id));
    EXPECT_FALSE(info->precondition_violations.empty());
    EXPECT_EQ(api_.Get(id)->etag(), before->etag());
  }
}

TEST_F(MigrationServiceTest, TheGateHoldsAnAdvanceThatDoesNotOverrideIt) {
  CreateSampleAt("orders", 0);
  EXPECT_TRUE(Fails(api_.Call(&Stub::AdvanceMigration, Named<v1::AdvanceMigrationRequest>("orders")),
                    Code::kFailedPrecondition, "GATE_HOLDS", {"has not evaluated"}));
  auto request = Named<v1::AdvanceMigrationRequest>("orders");
  request.set_override_gate(true);
  EXPECT_TRUE(Fails(api_.Call(&Stub::AdvanceMigration, request), Code::kInvalidArgument, "REASON_REQUIRED",
                    {"reason"}));
}

TEST_F(MigrationServiceTest, WeightsOutOfRangeAreRefusedAndLoweringIsGranted) {
  CreateSampleAt("orders", 3);
  auto request = Named<v1::SetMigrationWeightRequest>("orders");
  request.set_weight(100001);
  EXPECT_TRUE(Fails(api_.Call(&Stub::SetMigrationWeight, request), Code::kInvalidArgument, "INVALID_ARGUMENT",
                    {"100000"}));
  request.set_weight(2500);
  const auto lowered = api_.Call(&Stub::SetMigrationWeight, request);
  ASSERT_TRUE(IsOk(lowered));
  EXPECT_EQ(lowered->routing().read_weight(), 2500u);
  EXPECT_EQ(lowered->run_state(), v1::RUN_STATE_PAUSED);
}

TEST_F(MigrationServiceTest, UnknownMigrationsAreNotFoundByEveryMethod) {
  const std::string id = "ghost";
  const std::vector<std::pair<std::string, absl::Status>> answers = {
      {"get", api_.Get(id).status()},
      {"start", api_.Start(id).status()},
      {"advance", api_.Advance(id).status()},
      {"pause", api_.Call(&Stub::PauseMigration, Named<v1::PauseMigrationRequest>(id)).status()},
      {"resume", api_.Call(&Stub::ResumeMigration, Named<v1::ResumeMigrationRequest>(id)).status()},
      {"rollback", api_.Call(&Stub::RollbackMigration, Named<v1::RollbackMigrationRequest>(id)).status()},
      {"abort", api_.Call(&Stub::AbortMigration, Named<v1::AbortMigrationRequest>(id)).status()},
      {"set-weight", api_.Call(&Stub::SetMigrationWeight, Named<v1::SetMigrationWeightRequest>(id)).status()},
      {"delete", api_.Call(&Stub::DeleteMigration, Named<v1::DeleteMigrationRequest>(id)).status()},
      {"update",
       [&] {
         v1::UpdateMigrationRequest request;
         *request.mutable_migration() = SampleMigration();
         request.mutable_migration()->set_name(NameOf(id));
         return api_.Call(&Stub::UpdateMigration, request).status();
       }()},
      {"decisions",
       [&] {
         v1::ListDecisionsRequest request;
         request.set_parent(NameOf(id));
         return api_.Call(&Stub::ListDecisions, request).status();
       }()},
      {"instances",
       [&] {
         v1::ListInstancesRequest request;
         request.set_parent(NameOf(id));
         return api_.Call(&Stub::ListInstances, request).status();
       }()},
      {"samples",
       [&] {
         v1::ListMismatchSamplesRequest request;
         request.set_parent(NameOf(id));
         return api_.Call(&Stub::ListMismatchSamples, request).status();
       }()},
  };
  for (const auto& [method, status] : answers) {
    EXPECT_TRUE(Fails(status, Code::kNotFound, "MIGRATION_NOT_FOUND", {NameOf(id)})) << method;
  }
}

TEST_F(MigrationServiceTest, MalformedNamesAreRefusedNamingTheField) {
  v1::GetMigrationRequest get;
  for (const char* name :
       {"", "orders", "test/orders", "namespaces/test/migrations/", "namespaces//migrations/a"}) {
    get.set_name(name);
    const auto refused = api_.Call(&Stub::GetMigration, get);
    EXPECT_TRUE(Fails(refused, Code::kInvalidArgument, "INVALID_ARGUMENT", {"name"})) << name;
    EXPECT_THAT(BadFields(refused.status()), ::testing::ElementsAre("name")) << name;
  }
}

TEST_F(MigrationServiceTest, AStaleEtagIsAbortedAndNothingIsWritten) {
  CreateSample("orders");
  const std::string stale = api_.Get("orders")->etag();
  ASSERT_TRUE(IsOk(api_.Start("orders")));
  const auto present = api_.Get("orders");
  const int decisions = CountDecisions("orders");

  auto pause = Named<v1::PauseMigrationRequest>("orders");
  pause.mutable_change()->set_etag(stale);
  const auto refused = api_.Call(&Stub::PauseMigration, pause);
  EXPECT_TRUE(Fails(refused, Code::kAborted, "ETAG_MISMATCH", {NameOf("orders")}));
  EXPECT_EQ(GetErrorInfo(refused.status())->metadata.at("etag"), present->etag());

  v1::UpdateMigrationRequest update;
  *update.mutable_migration() = *present;
  update.mutable_migration()->set_etag(stale);
  EXPECT_TRUE(Fails(api_.Call(&Stub::UpdateMigration, update), Code::kAborted, "ETAG_MISMATCH"));

  auto drop = Named<v1::DeleteMigrationRequest>("orders");
  drop.set_etag(stale);
  EXPECT_TRUE(Fails(api_.Call(&Stub::DeleteMigration, drop), Code::kAborted, "ETAG_MISMATCH"));

  EXPECT_EQ(api_.Get("orders")->SerializeAsString(), present->SerializeAsString());
  EXPECT_EQ(CountDecisions("orders"), decisions);
  pause.mutable_change()->set_etag("not an etag");
  EXPECT_TRUE(Fails(api_.Call(&Stub::PauseMigration, pause), Code::kInvalidArgument, "INVALID_ARGUMENT"));
  pause.mutable_change()->set_etag(present->etag());
  EXPECT_TRUE(IsOk(api_.Call(&Stub::PauseMigration, pause)));
}

TEST_F(MigrationServiceTest, ARepeatedRequestIdReturnsTheFirstSuccess) {
  CreateSample("orders");
  auto start = Named<v1::StartMigrationRequest>("orders");
  start.mutable_change()->set_request_id(RequestId(1));
  const auto first = api_.Call(&Stub::StartMigration, start);
  ASSERT_TRUE(IsOk(first));
  ASSERT_TRUE(IsOk(api_.Advance("orders")));
  const int decisions = CountDecisions("orders");
  const auto repeat = api_.Call(&Stub::StartMigration, start);
  ASSERT_TRUE(IsOk(repeat));
  EXPECT_EQ(repeat->etag(), first->etag());
  EXPECT_EQ(repeat->routing().stage(), v1::STAGE_DUAL_WRITE);
  EXPECT_EQ(CountDecisions("orders"), decisions);
  EXPECT_EQ(api_.Get("orders")->routing().stage(), v1::STAGE_SHADOW_READ);

  auto pause = Named<v1::PauseMigrationRequest>("orders");
  pause.mutable_change()->set_request_id(RequestId(1));
  EXPECT_TRUE(Fails(api_.Call(&Stub::PauseMigration, pause), Code::kInvalidArgument, "REQUEST_ID_REUSED"));

  // Create and delete, too.
  v1::CreateMigrationRequest create;
  create.set_parent("namespaces/test");
  create.set_migration_id("other");
  create.set_request_id(RequestId(2));
  *create.mutable_migration() = SampleMigration();
  const auto created = api_.Call(&Stub::CreateMigration, create);
  ASSERT_TRUE(IsOk(created));
  EXPECT_EQ(api_.Call(&Stub::CreateMigration, create)->uid(), created->uid());
  create.clear_request_id();
  EXPECT_TRUE(Fails(api_.Call(&Stub::CreateMigration, create), Code::kAlreadyExists,
                    "MIGRATION_ALREADY_EXISTS", {NameOf("other")}));
  auto drop = Named<v1::DeleteMigrationRequest>("other");
  drop.set_request_id(RequestId(3));
  EXPECT_TRUE(IsOk(api_.Call(&Stub::DeleteMigration, drop)));
  EXPECT_TRUE(IsOk(api_.Call(&Stub::DeleteMigration, drop)));
}

TEST_F(MigrationServiceTest, ADryRunAnswersAsTheRealCallAndChangesNothing) {
  CreateSample("orders");
  const auto before = api_.Get("orders");
  const int decisions = CountDecisions("orders");
  auto start = Named<v1::StartMigrationRequest>("orders");
  start.mutable_change()->set_validate_only(true);
  start.mutable_change()->set_request_id(RequestId(9));
  const auto dry = api_.Call(&Stub::StartMigration, start);
  ASSERT_TRUE(IsOk(dry));
  EXPECT_EQ(dry->routing().stage(), v1::STAGE_DUAL_WRITE);
  EXPECT_EQ(api_.Get("orders")->SerializeAsString(), before->SerializeAsString());
  EXPECT_EQ(CountDecisions("orders"), decisions);

  // The id is not used up, and the real call gives what was promised.
  start.mutable_change()->set_validate_only(false);
  const auto real = api_.Call(&Stub::StartMigration, start);
  ASSERT_TRUE(IsOk(real));
  EXPECT_EQ(real->etag(), dry->etag());
  EXPECT_EQ(real->routing().SerializeAsString(), dry->routing().SerializeAsString());

  // A refusal is the same, word for word.
  start.clear_change();
  const absl::Status refused = api_.Call(&Stub::StartMigration, start).status();
  start.mutable_change()->set_validate_only(true);
  EXPECT_EQ(api_.Call(&Stub::StartMigration, start).status(), refused);
  EXPECT_TRUE(Fails(refused, Code::kFailedPrecondition, "ILLEGAL_TRANSITION"));

  auto drop = Named<v1::DeleteMigrationRequest>("orders");
  const absl::Status active = api_.Call(&Stub::DeleteMigration, drop).status();
  EXPECT_TRUE(Fails(active, Code::kFailedPrecondition, "MIGRATION_ACTIVE", {"DUAL_WRITE", "abort"}));
  drop.set_validate_only(true);
  EXPECT_EQ(api_.Call(&Stub::DeleteMigration, drop).status(), active);
  CreateSample("idle");
  drop.set_name(NameOf("idle"));
  EXPECT_TRUE(IsOk(api_.Call(&Stub::DeleteMigration, drop)));
  EXPECT_TRUE(IsOk(api_.Get("idle")));

  v1::CreateMigrationRequest create;
  create.set_parent("namespaces/test");
  create.set_migration_id("new");
  create.set_validate_only(true);
  *create.mutable_migration() = SampleMigration();
  EXPECT_TRUE(IsOk(api_.Call(&Stub::CreateMigration, create)));
  EXPECT_TRUE(Fails(api_.Get("new"), Code::kNotFound, "MIGRATION_NOT_FOUND"));
}

TEST_F(MigrationServiceTest, ListsArePagedByTokensThatBelongToThem) {
  std::set<std::string> expected;
  for (int i = 0; i < 7; ++i) {
    CreateSample(absl::StrCat("m-", i));
    expected.insert(NameOf(absl::StrCat("m-", i)));
  }
  v1::ListMigrationsRequest request;
  request.set_parent("namespaces/test");
  request.set_page_size(3);
  std::vector<int> sizes;
  std::set<std::string> seen;
  std::string some_token;
  do {
    const auto page = api_.Call(&Stub::ListMigrations, request);
    ASSERT_TRUE(IsOk(page));
    sizes.push_back(page->migrations_size());
    for (const v1::Migration& migration : page->migrations()) seen.insert(migration.name());
    request.set_page_token(page->next_page_token());
    if (!page->next_page_token().empty()) some_token = page->next_page_token();
  } while (!request.page_token().empty() && sizes.size() < 10);
  EXPECT_THAT(sizes, ::testing::ElementsAre(3, 3, 1));
  EXPECT_EQ(seen, expected);

  const auto refused = [&](int size, const std::string& token, const std::string& parent) {
    v1::ListMigrationsRequest bad;
    bad.set_parent(parent);
    bad.set_page_size(size);
    bad.set_page_token(token);
    return BadFields(api_.Call(&Stub::ListMigrations, bad).status());
  };
  EXPECT_THAT(refused(1001, "", "namespaces/test"), ::testing::ElementsAre("page_size"));
  EXPECT_THAT(refused(-1, "", "namespaces/test"), ::testing::ElementsAre("page_size"));
  EXPECT_THAT(refused(3, "nonsense", "namespaces/test"), ::testing::ElementsAre("page_token"));
  EXPECT_THAT(refused(3, some_token, "namespaces/other"), ::testing::ElementsAre("page_token"));
  EXPECT_THAT(refused(3, "", "test"), ::testing::ElementsAre("parent"));

  // Decisions: newest first, none twice.
  ASSERT_TRUE(IsOk(api_.Start("m-0")));
  ASSERT_TRUE(IsOk(api_.Advance("m-0")));
  v1::ListDecisionsRequest decisions;
  decisions.set_parent(NameOf("m-0"));
  decisions.set_page_size(2);
  const auto first = api_.Call(&Stub::ListDecisions, decisions);
  ASSERT_TRUE(IsOk(first));
  decisions.set_page_token(first->next_page_token());
  const auto second = api_.Call(&Stub::ListDecisions, decisions);
  ASSERT_TRUE(IsOk(second));
  ASSERT_EQ(first->decisions_size() + second->decisions_size(), 3);
  EXPECT_EQ(second->decisions(0).action(), "create");
  EXPECT_TRUE(second->next_page_token().empty());
  decisions.set_parent(NameOf("m-1"));
  EXPECT_THAT(BadFields(api_.Call(&Stub::ListDecisions, decisions).status()),
              ::testing::ElementsAre("page_token"));
}

TEST_F(MigrationServiceTest, UpdatesReplaceWhatTheMaskNames) {
  CreateSample("orders");
  v1::UpdateMigrationRequest update;
  update.mutable_migration()->set_name(NameOf("orders"));
  update.mutable_migration()->set_description("changed");
  update.mutable_migration()->add_owners("ann");
  update.mutable_update_mask()->add_paths("description");
  auto updated = api_.Call(&Stub::UpdateMigration, update);
  ASSERT_TRUE(IsOk(updated));
  EXPECT_EQ(updated->description(), "changed");
  EXPECT_EQ(updated->owners_size(), 0);
  EXPECT_EQ(updated->plan().steps_size(), 4);

  struct Case {
    std::string path;
    std::string part;
  };
  const std::vector<Case> bad = {{"nonsense", "nonsense"},
                                 {"plan.steps", ""},
                                 {"routing", "output"},
                                 {"salt", ""},
                                 {"name", ""},
                                 {"etag", ""},
                                 {"labels.team", ""}};
  for (const Case& c : bad) {
    update.mutable_update_mask()->clear_paths();
    update.mutable_update_mask()->add_paths(c.path);
    const auto refused = api_.Call(&Stub::UpdateMigration, update);
    EXPECT_TRUE(Fails(refused, Code::kInvalidArgument, "INVALID_ARGUMENT", {"update_mask", c.part}))
        << c.path;
  }

  // A bad plan is refused, a good one counts under a new revision.
  update.mutable_update_mask()->clear_paths();
  update.mutable_update_mask()->add_paths("plan");
  *update.mutable_migration()->mutable_plan() = SampleMigration().plan();
  update.mutable_migration()->mutable_plan()->mutable_steps(3)->set_weight(5);
  const auto refused = api_.Call(&Stub::UpdateMigration, update);
  EXPECT_TRUE(Fails(refused, Code::kInvalidArgument, "INVALID_ARGUMENT", {"weights never fall"}));
  update.mutable_migration()->mutable_plan()->mutable_steps(3)->set_weight(5000);
  EXPECT_TRUE(IsOk(api_.Call(&Stub::UpdateMigration, update)));

  // Under way the present step has to stay.
  ASSERT_TRUE(IsOk(api_.Start("orders")));
  ASSERT_TRUE(IsOk(api_.Advance("orders")));
  ASSERT_TRUE(IsOk(api_.Advance("orders")));
  update.mutable_migration()->mutable_plan()->mutable_steps(2)->set_weight(10);
  EXPECT_TRUE(Fails(api_.Call(&Stub::UpdateMigration, update), Code::kFailedPrecondition, "PLAN_IN_USE",
                    {"CANARY_READ"}));
}

TEST_F(MigrationServiceTest, PrincipalsAreCleanedAndAnonymousOnesNamedByTheirAddress) {
  // Header values can't hold control characters, so the transport refuses those itself.
  api_.set_principal(std::string(1000, 'p'));
  CreateSample("orders");
  api_.set_principal("");
  ASSERT_TRUE(IsOk(api_.Start("orders")));
  v1::ListDecisionsRequest request;
  request.set_parent(NameOf("orders"));
  const auto decisions = api_.Call(&Stub::ListDecisions, request);
  ASSERT_TRUE(IsOk(decisions));
  EXPECT_EQ(decisions->decisions(1).actor(), std::string(256, 'p'));
  EXPECT_TRUE(absl::StartsWith(decisions->decisions(0).actor(), "anonymous@ipv4:127.0.0.1:"));
}

TEST_F(MigrationServiceTest, AWatchDeliversTheStateAndEveryNewest) {
  CreateSample("orders");
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + testing::kPatience));
  v1::WatchMigrationRequest request;
  request.set_name(NameOf("orders"));
  const auto stream = api_.migrations()->WatchMigration(&context, request);
  v1::Migration seen;
  ASSERT_TRUE(stream->Read(&seen));
  EXPECT_EQ(seen.routing().stage(), v1::STAGE_OFF);
  ASSERT_TRUE(IsOk(api_.Start("orders")));
  while (seen.routing().stage() != v1::STAGE_DUAL_WRITE) ASSERT_TRUE(stream->Read(&seen));

  // While nobody reads, changes pile up nowhere: what comes in the end is the newest.
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(IsOk(api_.Call(&Stub::PauseMigration, Named<v1::PauseMigrationRequest>("orders"))));
    ASSERT_TRUE(IsOk(api_.Call(&Stub::ResumeMigration, Named<v1::ResumeMigrationRequest>("orders"))));
  }
  const std::string newest = api_.Get("orders")->etag();
  int messages = 0;
  while (seen.etag() != newest && ++messages < 200) ASSERT_TRUE(stream->Read(&seen));
  EXPECT_EQ(seen.etag(), newest);

  // Deleting ends it.
  ASSERT_TRUE(IsOk(api_.Call(&Stub::AbortMigration, Named<v1::AbortMigrationRequest>("orders"))));
  ASSERT_TRUE(IsOk(api_.Call(&Stub::DeleteMigration, Named<v1::DeleteMigrationRequest>("orders"))));
  while (stream->Read(&seen)) {
  }
  EXPECT_TRUE(Fails(testing::Decode(stream->Finish()), Code::kNotFound, "MIGRATION_NOT_FOUND"));
}

TEST_F(MigrationServiceTest, WatchingWhatDoesNotExistIsRefused) {
  const auto watch = [&](const std::string& name) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + testing::kPatience));
    v1::WatchMigrationRequest request;
    request.set_name(name);
    const auto stream = api_.migrations()->WatchMigration(&context, request);
    v1::Migration ignored;
    EXPECT_FALSE(stream->Read(&ignored));
    return testing::Decode(stream->Finish());
  };
  EXPECT_TRUE(Fails(watch(NameOf("ghost")), Code::kNotFound, "MIGRATION_NOT_FOUND"));
  EXPECT_TRUE(Fails(watch("ghost"), Code::kInvalidArgument, "INVALID_ARGUMENT", {"name"}));
}

TEST_F(MigrationServiceTest, ARecreatedMigrationIsAnotherOne) {
  CreateSample("orders");
  const auto first = api_.Get("orders");
  ASSERT_TRUE(IsOk(api_.Call(&Stub::DeleteMigration, Named<v1::DeleteMigrationRequest>("orders"))));
  CreateSample("orders");
  const auto second = api_.Get("orders");
  EXPECT_NE(first->uid(), second->uid());
  EXPECT_GT(second->routing().epoch(), first->routing().epoch());
  EXPECT_GT(second->routing().generation(), first->routing().generation());
}

}  // namespace
}  // namespace lockstep::service
