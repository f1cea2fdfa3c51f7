// Definitions that are refused: for each the field that is wrong, and nothing is created.
#include <cmath>
#include <functional>

#include "absl/strings/match.h"
#include "tests/service/service_fixture.h"

namespace lockstep::service {
namespace {

struct BadDefinition {
  std::string what;
  std::function<void(v1::CreateMigrationRequest*)> spoil;
  std::string field;    // as in the violation
  std::string message;  // part of its description
};

v1::Plan* PlanOf(v1::CreateMigrationRequest* request) { return request->mutable_migration()->mutable_plan(); }
v1::Check* AddCheck(v1::CreateMigrationRequest* request, int step) {
  v1::Check* check = PlanOf(request)->mutable_steps(step)->add_checks();
  check->set_name("mismatches");
  check->set_metric(v1::METRIC_MISMATCH_RATIO);
  check->set_budget(0.01);
  return check;
}

const std::vector<BadDefinition>& BadDefinitions() {
  using Request = v1::CreateMigrationRequest;
  static const auto* const table = new std::vector<BadDefinition>{
      {"no steps", [](Request* r) { PlanOf(r)->clear_steps(); }, "plan.steps", "at least one step"},
      {"skips DUAL_WRITE", [](Request* r) { PlanOf(r)->mutable_steps()->DeleteSubrange(0, 1); },
       "plan.steps[0].stage", "skips DUAL_WRITE"},
      {"skips SHADOW_READ", [](Request* r) { PlanOf(r)->mutable_steps()->DeleteSubrange(1, 1); },
       "plan.steps[1].stage", "skips SHADOW_READ"},
      {"goes back", [](Request* r) { PlanOf(r)->mutable_steps(3)->set_stage(v1::STAGE_SHADOW_READ); },
       "plan.steps[3].stage", "never goes back"},
      {"no such stage",
       [](Request* r) { PlanOf(r)->mutable_steps(1)->set_stage(static_cast<v1::Stage>(99)); },
       "plan.steps[1].stage", "99 is not a Stage"},
      {"authority before all reads",
       [](Request* r) { PlanOf(r)->mutable_steps(3)->set_stage(v1::STAGE_CUTOVER); }, "plan.steps[3].stage",
       "all reads come from the new side"},
      {"weights fall", [](Request* r) { PlanOf(r)->mutable_steps(3)->set_weight(500); },
       "plan.steps[3].weight", "weights never fall"},
      {"weight over 100 %", [](Request* r) { PlanOf(r)->mutable_steps(3)->set_weight(100001); },
       "plan.steps[3].weight", "more than 100000"},
      {"canary without weight", [](Request* r) { PlanOf(r)->mutable_steps(2)->set_weight(0); },
       "plan.steps[2].weight", "some share"},
      {"weight without canary", [](Request* r) { PlanOf(r)->mutable_steps(0)->set_weight(1); },
       "plan.steps[0].weight", "only CANARY_READ"},
      {"negative bake", [](Request* r) { PlanOf(r)->mutable_steps(0)->mutable_min_bake()->set_seconds(-1); },
       "plan.steps[0].min_bake", "negative"},
      {"budget 0", [](Request* r) { AddCheck(r, 1)->set_budget(0); }, "plan.steps[1].checks[0].budget",
       "cannot be certified"},
      {"budget 1", [](Request* r) { AddCheck(r, 1)->set_budget(1); }, "plan.steps[1].checks[0].budget",
       "not in (0, 1)"},
      {"budget NaN", [](Request* r) { AddCheck(r, 1)->set_budget(std::nan("")); },
       "plan.steps[1].checks[0].budget", "not in (0, 1)"},
      {"two checks of one name", [](Request* r) { AddCheck(r, 1), AddCheck(r, 1); },
       "plan.steps[1].checks[1].name", "used twice"},
      {"check of an undeclared field", [](Request* r) { AddCheck(r, 1)->set_field("nmae"); },
       "plan.steps[1].checks[0].field", "not a field of the contract"},
      {"check that can't pass", [](Request* r) { AddCheck(r, 0); }, "plan.steps[0].checks[0].metric",
       "nothing to measure"},
      {"metric missing", [](Request* r) { AddCheck(r, 1)->clear_metric(); }, "plan.steps[1].checks[0].metric",
       "is not set"},
      {"alpha", [](Request* r) { PlanOf(r)->set_alpha_advance(0.6); }, "plan.alpha_advance", "(0, 0.5]"},
      {"65 steps",
       [](Request* r) {
         while (PlanOf(r)->steps_size() <= 64) *PlanOf(r)->add_steps() = PlanOf(r)->steps(3);
       },
       "plan.steps", "at most 64"},
      {"field twice",
       [](Request* r) { r->mutable_migration()->mutable_contract()->add_fields()->set_path("name"); },
       "contract.fields[1].path", "name"},
      {"tolerance NaN",
       [](Request* r) {
         r->mutable_migration()->mutable_contract()->mutable_fields(0)->set_tolerance(std::nan(""));
       },
       "contract.fields[0].tolerance", ""},
      {"pin twice",
       [](Request* r) {
         r->mutable_migration()->mutable_pins()->add_old_keys("k");
         r->mutable_migration()->mutable_pins()->add_new_keys("k");
       },
       "pins", ""},
      {"oversize pin",
       [](Request* r) { r->mutable_migration()->mutable_pins()->add_old_keys(std::string(1025, 'k')); },
       "pins.old_keys[0]", "1024"},
      {"oversize description",
       [](Request* r) { r->mutable_migration()->set_description(std::string(4097, 'd')); }, "description",
       "4096"},
      {"oversize label",
       [](Request* r) { (*r->mutable_migration()->mutable_labels())["team"] = std::string(64, 'l'); },
       "labels[\"team\"]", "63"},
      {"65 owners",
       [](Request* r) {
         for (int i = 0; i < 65; ++i) r->mutable_migration()->add_owners("o");
       },
       "owners", "64"},
      {"malformed id", [](Request* r) { r->set_migration_id("Big Orders"); }, "migration_id", ""},
      {"malformed parent", [](Request* r) { r->set_parent("shop"); }, "parent", "namespaces/"},
      {"name of another", [](Request* r) { r->mutable_migration()->set_name(NameOf("other")); }, "name", ""},
      {"request id that is none", [](Request* r) { r->set_request_id("42"); }, "request_id", "UUID"},
  };
  return *table;
}

class BadDefinitionTest : public ServiceTest {};

TEST_F(BadDefinitionTest, EachIsRefusedNamingTheField) {
  for (const BadDefinition& bad : BadDefinitions()) {
    SCOPED_TRACE(bad.what);
    v1::CreateMigrationRequest request;
    request.set_parent("namespaces/test");
    request.set_migration_id("orders");
    *request.mutable_migration() = SampleMigration();
    bad.spoil(&request);
    const auto created = api_.Call(&v1::MigrationService::Stub::CreateMigration, request);
    ASSERT_TRUE(Fails(created, absl::StatusCode::kInvalidArgument, "INVALID_ARGUMENT"));
    const auto info = GetErrorInfo(created.status());
    bool found = false;
    for (const FieldViolation& violation : info->field_violations) {
      found |= absl::StrContains(violation.field, bad.field) &&
               absl::StrContains(violation.description, bad.message);
    }
    EXPECT_TRUE(found) << testing::Describe(created.status());
    // A dry run fails in the same way.
    request.set_validate_only(true);
    EXPECT_EQ(api_.Call(&v1::MigrationService::Stub::CreateMigration, request).status().ToString(),
              created.status().ToString());
  }
  v1::ListMigrationsRequest list;
  list.set_parent("namespaces/-");
  const auto listed = api_.Call(&v1::MigrationService::Stub::ListMigrations, list);
  ASSERT_TRUE(IsOk(listed));
  EXPECT_EQ(listed->migrations_size(), 0);
}

TEST_F(BadDefinitionTest, OneAnswerNamesEverythingThatIsWrong) {
  v1::Migration migration = SampleMigration();
  migration.mutable_plan()->mutable_steps(3)->set_weight(500);
  migration.mutable_plan()->mutable_steps(2)->set_weight(100001);
  migration.set_description(std::string(5000, 'd'));
  const auto fields = BadFields(api_.Create("orders", migration).status());
  EXPECT_THAT(fields, ::testing::IsSupersetOf({::testing::HasSubstr("plan.steps[2].weight"),
                                               ::testing::HasSubstr("plan.steps[3].weight"),
                                               ::testing::HasSubstr("description")}));
}

TEST_F(BadDefinitionTest, AMessageOverFourMegabytesIsRefusedByTheTransport) {
  v1::Migration migration = SampleMigration();
  migration.set_description(std::string(5 << 20, 'd'));
  EXPECT_EQ(api_.Create("orders", migration).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace lockstep::service
